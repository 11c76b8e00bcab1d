"""Rows 15 and 16, over memif with our own generator, TLS to TLS: idle flows held, each of which answers a probe at the end; and active ones beside them.

How many idle ones: `--flows`, else as many as are opened in a few minutes. A machine with the memory for a million needs `--flows 1000000` and the
better part of an hour, since each flow has two full handshakes on core 0 and two on core 1.
"""

import dataclasses
import itertools
import time

from tests.bench import generated, memif
from tests.bench.accounting import Watch, memory_kib
from tests.bench.devices import OURS, cost_of, sample_of
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


def spend(bench, row, idle):
    """What active flows have cost beside so many idle ones."""
    count = ACTIVE + idle
    between = memif.between(bench.lab, count)
    watch = Watch([between.appliance.control.pid, between.appliance.dataplane.pid])
    try:
        with generated.Record(lambda: sample_of(between.appliance), cost_of) as record:
            window = generated.told(row, *between.run(**generated.COMMON, **generated.MEASURED, **memif.many(count), answer_size=1024, active=ACTIVE, duration=bench.arguments.seconds,
                                                      patience=300 + count / 100))["window"]
        return generated.Spent.of(generated.Load(ACTIVE, 1024), window, record, watch, bench.nearness)
    finally:
        between.stop()


def beside(bench, row, number):
    count = bench.arguments.flows or DEFAULT
    alone, with_idle = spend(bench, row, 0), spend(bench, row, count)
    return Sample(row, OURS, 100 * (with_idle.cycles() / alone.cycles() - 1), number, {"idle flows": count, "cycles alone": alone.cycles(), "cycles with them": with_idle.cycles()},
                  alone.disturbed or with_idle.disturbed, alone.cores.worse(with_idle.cores))
