"""Rows 19 and 20: latencies, with our own generator.

19, added latency: an open loop at half of what a closed loop of the same flows reaches with the same device, and at half of what it reaches with the slowest device, the same for all; its requests at random moments
(Poisson). What a device adds is the percentile with it less the percentile without it: the generator's clients on its own backends, at the same rate. Latency counts from when a request was due, and a percentile is the
median of those of slices of a fiftieth of a second: the host and the kernel stop the cores for up to milliseconds now and then, which is not the device's, and decides the 99th percentile of whatever is long
enough to have such a stop in it. Like for like: one generator speaks for clients and backends over af_packet on the veth links of core 1, whatever the device. Or ours over memif, peers on the veth links.
20, over memif: certificates and policy reloaded, twice a second, under row 5's load: the 99th percentile of slices of a second, in each of which there is a reload, against that of a run without.
"""

import contextlib
import dataclasses
import functools

from tests.bench import devices, generated, links, memif
from tests.bench.accounting import Looks
from tests.bench.devices import OURS
from tests.bench.row import Sample
from tests.lab import certificates, network
from tests.lab.between import MEMIF, VIRTIO, generator
from tests.lab.lab import LabError

FLOWS, SLICE = 64, 0.02
INTERVAL, SLICE_OF_RELOADS = 0.5, 1
PERCENTILES = ("p50", "p90", "p99", "p99.9")


def run(bench, row, run_through, **options):
    """A report of a run. `run_through(**options)`: of the generator."""
    return generated.told(row, *run_through(**generated.COMMON, **{"connections": FLOWS, "warm_up": generated.WARM_UP, "duration": bench.arguments.seconds, **options}))


def microseconds(latency, octet, percentile):
    return latency[f"{octet}_octet"][percentile] / 1000


@dataclasses.dataclass(frozen=True)
class Added:
    answer: int
    own: bool   # at half of each device's own load, or of the slowest's
    peers: tuple = ("nginx", "haproxy")

    over_links = True
    conditions = f"our own generator over af_packet on veth; {FLOWS} flows, open loop, TLS to TLS; of the last octet, median of slices of {SLICE} s"

    @classmethod
    def measure(cls, bench, rows):
        names = [name for name in bench.devices if name == OURS or name in rows[0].ways[0].peers]
        loads = {}   # half of what each device does, by its name and the answers' size
        for name in names:
            with cls.placed(bench, name) as run_through:
                for row in rows:
                    answer = row.ways[0].answer
                    if (name, answer) not in loads:
                        loads[name, answer] = round(run_through(row, answer_size=answer)["window"]["messages_per_second"] / 2)
        alone = functools.cache(lambda number, answer, rate: direct(bench, answer_size=answer, rate=rate, slice=SLICE))
        for number in bench.rounds():
            for name in names:
                with cls.placed(bench, name) as run_through:
                    for row in rows:
                        answer = row.ways[0].answer
                        rate = loads[name, answer] if row.ways[0].own else min(loads[each, answer] for each in names)
                        yield added(row, name, number, rate, run_through(row, answer_size=answer, rate=rate, slice=SLICE), alone(number, answer, rate))

    @staticmethod
    @contextlib.contextmanager
    def placed(bench, name):
        """A function that runs the generator through the device and returns its report."""
        device = devices.make(bench, name, **({"profile": "af_packet"} if name == OURS else {}))
        try:
            with network.together() as (place, interfaces):
                yield lambda row, **options: run(bench, row, functools.partial(links.run, bench, place, interfaces), **options)
        finally:
            device.stop()


@dataclasses.dataclass(frozen=True)
class AddedOverMemif(Added):
    over_links, over_memif = False, True
    conditions = f"one generator for all; ours: over memif, a peer: on the kernel's sockets over af_packet on veth; {FLOWS} flows, open loop, TLS to TLS; of the last octet, median of slices of {SLICE} s"
    wire = MEMIF

    @classmethod
    @contextlib.contextmanager
    def placed(cls, bench, name):
        if name == OURS:
            yield functools.partial(through, bench, wire=cls.wire)
        else:
            with Added.placed(bench, name) as run_through:
                yield run_through


class AddedOverVirtio(AddedOverMemif):
    over_memif, over_virtio = False, True
    conditions = AddedOverMemif.conditions.replace("memif", "virtio")
    wire = VIRTIO


def added(row, device, number, rate, there, without):
    """`there`, `without`: the generator's reports, through the device and alone."""
    whole = [report["latency"] for report in (there, without)]
    slices = [latency["slices"] for latency in whole]

    def more_than_without(latencies, octet, percentile):
        with_it, alone = (microseconds(latency, octet, percentile) for latency in latencies)
        return with_it - alone
    more = {f"{percentile} of the {octet} octet, us": more_than_without(slices, octet, percentile) for octet in ("first", "last") for percentile in PERCENTILES}
    return Sample(row, device, more["p99 of the last octet, us"], number,
                  {**more, "requests a second": rate, "unsent": there["unsent"], "p99 without us, us": microseconds(slices[1], "last", "p99"),
                   "p99 of the whole, us": more_than_without(whole, "last", "p99"),
                   "generator busy %": 100 * there["window"]["busy_share"]})


def through(bench, row, wire=MEMIF, **options):
    link = memif.between(bench.lab, FLOWS, wire=wire)
    try:
        return run(bench, row, link.run, **options)
    finally:
        link.stop()


def direct(bench, **options):
    """The generator's clients on its own backends."""
    certificate, key = bench.lab.certificates.backend
    common = {name: value for name, value in generated.COMMON.items() if name not in ("host", "settle")}
    done, report = generator(bench.lab, "--loopback", "--backend-certificate", certificate, "--backend-key", key, ca=bench.lab.certificates.backend_ca,
                             host=certificates.BACKEND_NAME, **common, **{"connections": FLOWS, "warm_up": generated.WARM_UP, "duration": bench.arguments.seconds, **options})
    if done.returncode != 0:
        raise LabError(f"the generator alone: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return report


@dataclasses.dataclass(frozen=True)
class Reloaded:
    conditions = f"over memif with our own generator, no peer; {FLOWS} flows, 1 KB, TLS to TLS, closed loop; reloaded every {INTERVAL} s; none failed"

    @staticmethod
    def measure(bench, rows):
        for number in bench.rounds():
            for row in rows:
                yield from bench.sample(row, OURS, lambda row=row: reloaded(bench, row, number))


class Reloader(generated.Beside):
    """Another certificate and another level of the policy, and back."""

    def __init__(self, link):
        super().__init__(link.appliance, FLOWS)
        self.link, self.times = link, 0

    def act(self):
        both = self.link.lab.certificates
        while not self.over.wait(INTERVAL):
            self.times += 1
            first = self.times % 2 == 0
            self.link.config.services[0].certificates = [both.ecdsa] if first else [both.rsa, both.ecdsa]
            self.link.reload(policy_level=1 if first else 2)


def reloaded(bench, row, number):
    seconds = bench.arguments.seconds + 2 * generated.WARM_UP   # the reloads begin when that is over
    looks = Looks()
    quiet = through(bench, row, answer_size=1024, duration=seconds, slice=SLICE_OF_RELOADS)
    link = memif.between(bench.lab, FLOWS)
    try:
        with Reloader(link) as reloader:
            busy = run(bench, row, link.run, answer_size=1024, duration=seconds, slice=SLICE_OF_RELOADS)
    finally:
        link.stop()
    if reloader.failure or reloader.times < 2:
        raise reloader.failure or LabError(f"row {row.number}: reloaded {reloader.times} times")
    if failed := busy["clients"]["failed"]:
        raise LabError(f"row {row.number}: {failed} flows failed under {reloader.times} reloads: {busy['clients']['first_failures']}")
    before, after = (microseconds(report["latency"]["slices"], "last", "p99") for report in (quiet, busy))
    return Sample(row, OURS, 100 * (after / before - 1), number, {
        "reloads": reloader.times, "p99 without, us": before, "p99 with, us": after, "p99 of the whole without, us": microseconds(quiet["latency"], "last", "p99"),
        "p99 of the whole with, us": microseconds(busy["latency"], "last", "p99"), "longest without, us": microseconds(quiet["latency"], "last", "max"),
        "longest with, us": microseconds(busy["latency"], "last", "max"), "k requests a second without": quiet["window"]["messages_per_second"] / 1000,
        "with": busy["window"]["messages_per_second"] / 1000}, cores=looks.over())
