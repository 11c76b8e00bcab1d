"""Row 24: two workers against one, over memif with our own generator. A core for each worker, one for control and one for the generator: four."""

import dataclasses
import os

from tests.bench import memif
from tests.bench.devices import OURS
from tests.bench.row import NotMeasured, Sample

CORES, FLOWS = 4, 64
CONTROL_CORE = 2


@dataclasses.dataclass(frozen=True)
class Load:
    conditions = f"over memif with our own generator, no peer; {FLOWS} flows, 1 KB, TLS to TLS; control and generator on cores of their own"

    @staticmethod
    def measure(bench, rows):
        if os.cpu_count() < CORES:
            raise NotMeasured(f"it takes {CORES} cores, two for workers and one each for control and the generator, and this machine has {os.cpu_count()}")
        for number in range(bench.arguments.rounds):
            for row in rows:
                yield sample(bench, row, number)


def rate(bench, row, workers):
    """Requests a second, and the share of its core that the generator was busy."""
    link = memif.between(bench.lab, FLOWS, cores=tuple(range(workers)), control_cores=[CONTROL_CORE])
    try:
        window = memif.told(row, *link.run(**memif.COMMON, connections=FLOWS, answer_size=1024, warm_up=memif.WARM_UP, duration=bench.arguments.seconds))["window"]
    finally:
        link.stop()
    return window["messages_per_second"], window["busy_share"]


def sample(bench, row, number):
    (one, _), (two, busy) = rate(bench, row, 1), rate(bench, row, 2)
    return Sample(row, OURS, two / one, number, {"k requests a second with one": one / 1e3, "with two": two / 1e3, "generator busy %": 100 * busy})
