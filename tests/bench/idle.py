"""Rows 15 and 16, over memif with our own generator, TLS to TLS: idle flows held, each of which answers a probe at the end; and active ones beside them.

How many idle ones: `--flows`, else as many as are opened in a few minutes. A machine with the memory for a million needs `--flows 1000000` and the
better part of an hour, since each flow has two full handshakes on core 0 and two on core 1.
"""

import dataclasses
import itertools
import time

from tests.bench import generated, memif
from tests.bench.accounting import memory_kib
from tests.bench.devices import OURS
from tests.bench.row import Sample
from tests.lab.lab import LabError

DEFAULT = 20_000
ACTIVE = 1000
MOST_ROUNDS = 3   # opening takes minutes


@dataclasses.dataclass(frozen=True)
class Load:
    conditions = "over memif with our own generator, no peer; memory is that of all processes, huge pages or not"

    @staticmethod
    def measure(bench, rows):
        for row in rows:
            for number in itertools.islice(bench.rounds(), MOST_ROUNDS):
                yield sample(bench, row, number)


class Most(generated.Beside):
    """The most memory that an appliance has had, looked at twice a second as long as the block lasts."""

    def __init__(self, appliance):
        super().__init__(appliance)
        self.kib = 0

    def watch(self):
        while not self.over.wait(0.5):
            self.kib = max(self.kib, sum(memory_kib(process.pid) for process in (self.appliance.control, self.appliance.dataplane)))


def sample(bench, row, number):
    count = bench.arguments.flows or DEFAULT
    between = memif.between(bench.lab, count)
    begun = time.monotonic()
    try:
        with Most(between.appliance) as most:
            done, report = between.run(**generated.COMMON, **memif.many(count), answer_size=1024, mode="idle", probe_rate=20_000, most_failures=100,
                                       duration=bench.arguments.seconds, patience=300 + count / 100)
    finally:
        between.stop()
    if report is None:
        raise LabError(f"row {row.number}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    held = report["probed"]
    failed = report["clients"]["failed"] + report["not_probed"]
    return Sample(row, OURS, held / 1e6, number, {"flows asked for": count, "failed": failed, "KiB a flow in all": most.kib / max(held, 1),
                                                  "opened a second": report["most_ready"] / report["opening_seconds"], "seconds": time.monotonic() - begun})


@dataclasses.dataclass(frozen=True)
class Beside:
    """Row 16: what active flows cost with idle ones beside them, against the same flows alone."""
    conditions = f"over memif with our own generator, no peer; {ACTIVE:,} active flows in a closed loop, 1 KB, TLS to TLS; cycles of the worker a request"

    @staticmethod
    def measure(bench, rows):
        for row in rows:
            for number in itertools.islice(bench.rounds(), MOST_ROUNDS):
                yield beside(bench, row, number)


def cycles(bench, row, idle):
    """Of the worker a request."""
    count, seconds = ACTIVE + idle, bench.arguments.seconds
    between = memif.between(bench.lab, count)
    try:
        with generated.Sampler(between.appliance, seconds, count) as sampler:
            window = generated.told(row, *between.run(**generated.COMMON, **memif.many(count), answer_size=1024, active=ACTIVE, warm_up=generated.WARM_UP,
                                                  duration=seconds + 2 * generated.WARM_UP, patience=300 + count / 100))["window"]
        cost, elapsed = sampler.spent()
    finally:
        between.stop()
    return cost["worker_cycles"] / elapsed / window["messages_per_second"]


def beside(bench, row, number):
    count = bench.arguments.flows or DEFAULT
    alone, with_idle = cycles(bench, row, 0), cycles(bench, row, count)
    return Sample(row, OURS, 100 * (with_idle / alone - 1), number, {"idle flows": count, "cycles alone": alone, "cycles with them": with_idle})
