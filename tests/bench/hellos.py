"""Row 17's first half and row 18 of scripts/bench: connections of which nothing comes, from lab_hellos on core 1.

Row 17: each is opened and closed, nothing is said, 10,000 a second, which is less than any device here takes: what it spends on accepting.
Row 18: each says a ClientHello and is reset at the first octet of the answer, five times as many a second as the device answers when the next waits for the last (measured
just before). Beside them 1,000 kept flows, TLS to TLS, with an offered load as in row 17's other half: what they keep of their goodput, and whether one is lost.
"""

import dataclasses
import json
import time

from tests.bench import devices
from tests.bench.accounting import Watch
from tests.bench.devices import LISTEN, OURS, PLAIN_PORT, program_of
from tests.bench.flood import FLOWS, INTERVAL_MS, MESSAGE
from tests.bench.flows import Flows
from tests.bench.row import DEVICE_BUSY, Sample
from tests.lab import network
from tests.lab.lab import LabError, Process, program, tail, wait_for

ACCEPTED_A_SECOND = 10_000
TIMES_CAPACITY = 5


class Hellos:
    """lab_hellos against a device's service that leads to a plain backend, for as long as the block lasts; then `told` has what it says."""
    number = 0

    def __init__(self, lab, *options):
        Hellos.number += 1
        command = ["taskset", "-c", "1", program("lab_hellos"), "--to", f"{LISTEN}:{PLAIN_PORT}", "--name", "www.example.com", *options]
        self.lab, self.told = lab, None
        self.process = lab.track(Process("hellos", command, log=lab.directory / f"hellos-{Hellos.number}.log", namespace="client"))
        wait_for(lambda: f"the connections to begin: {tail(self.process.log)}", lambda: "ready" in self.process.log.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()
        self.lab.processes.remove(self.process)
        self.told = json.loads(self.process.log.read_text().splitlines()[-1])


def with_each_device(bench, rows, sample):
    for number in bench.rounds():
        for name in bench.devices:
            mine = [row for row in rows if name == OURS or program_of(name) in row.ways[0].peers]
            if not mine:
                continue
            device = devices.make(bench, name)
            try:
                for row in mine:
                    yield sample(bench, device, row, number)
            finally:
                device.stop()


@dataclasses.dataclass(frozen=True)
class Accepted:
    peers: tuple
    conditions = f"opened and closed by the kernel's client, nothing said, {ACCEPTED_A_SECOND:,} a second; af_xdp on veth against the kernel's sockets"

    @staticmethod
    def measure(bench, rows):
        yield from with_each_device(bench, rows, accepted)


def accepted(bench, device, row, number):
    watch = Watch(device.pids())
    with Hellos(bench.lab, "--silent", "--rate", ACCEPTED_A_SECOND) as hellos:
        time.sleep(1)
        before, begun = device.sample(), time.monotonic()
        time.sleep(bench.arguments.seconds)
        cost, elapsed = device.cost(before, device.sample()), time.monotonic() - begun
    told = hellos.told
    if told["refused"] + told["unanswered"] + told["left_out"] > max(1, told["begun"] * 1e-3):
        raise LabError(f"row {row.number}, {device.name}: {told}")
    rate = told["opened"] / told["seconds"] * 1e-3
    return Sample(row, device.name, rate * elapsed / max(cost["core_seconds"], 1e-9), number,
                  {"k connections a second raw": rate, DEVICE_BUSY: 100 * cost["core_seconds"] / elapsed}, *watch.over())


@dataclasses.dataclass(frozen=True)
class Flood:
    peers: tuple
    conditions = f"{FLOWS} flows with an offered load of {FLOWS * MESSAGE * 8e-3 / INTERVAL_MS:g} Mb/s each way; ClientHellos at {TIMES_CAPACITY} times what is answered, by the kernel's client; af_xdp on veth against the kernel's sockets"

    @staticmethod
    def measure(bench, rows):
        bench.echo()
        yield from with_each_device(bench, rows, flooded)


def goodput(seconds):
    """Octets a second that the flows' backend sends."""
    def octets():
        return json.loads(network.run("ip", "-n", "backend", "-s", "-j", "link", "show", "dev", "eth0").stdout)[0]["stats64"]["tx"]["bytes"]
    before, begun = octets(), time.monotonic()
    time.sleep(seconds)
    return (octets() - before) / (time.monotonic() - begun)


def flooded(bench, device, row, number):
    seconds = bench.arguments.seconds
    with Hellos(bench.lab, "--at-once", 64) as closed:
        time.sleep(seconds)
    capacity = closed.told["answered"] / closed.told["seconds"]
    if capacity == 0:
        raise LabError(f"{device.name} answers no ClientHello: {closed.told}")
    with Flows(bench.lab, FLOWS, "--octets", MESSAGE, "--interval-ms", INTERVAL_MS, "--duration-ms", (2 * seconds + 120) * 1000) as flows:
        time.sleep(2)
        quiet = goodput(seconds)
        with Hellos(bench.lab, "--rate", TIMES_CAPACITY * capacity) as hellos:
            time.sleep(0.5)
            kept = goodput(seconds)
        left = flows.established()
    told = hellos.told
    return Sample(row, device.name, 100 * kept / quiet, number, {
        "Mb/s without the flood": quiet * 8e-6, "k ClientHellos/s answered alone": capacity * 1e-3, "k connections/s in the flood": told["begun"] / told["seconds"] * 1e-3,
        "k of them answered/s": told["answered"] / told["seconds"] * 1e-3, "flows lost": FLOWS - left})
