"""Row 24: two workers against one, over memif with our own generator. A core for each worker, one for control and one for the generator: four. On a machine with two,
a generator inside the workers' threads (two_workers/) tells what the workers take from each other, without devices and control."""

import dataclasses
import json
import os
import subprocess

from tests.bench import generated, memif
from tests.bench.devices import OURS
from tests.bench.row import NotMeasured, Sample
from tests.lab.lab import LabError, program

CORES, FLOWS = 4, 64
CONTROL_CORE = 2
ENOUGH = (os.cpu_count() or 1) >= CORES
WHERE = "over memif with our own generator, control and generator on cores of their own" if ENOUGH else "generator inside the workers' threads, no device and no control"


@dataclasses.dataclass(frozen=True)
class Load:
    conditions = f"{WHERE}, no peer; {FLOWS} flows, 1 KB, TLS to TLS"

    @staticmethod
    def measure(bench, rows):
        if os.cpu_count() < 2:
            raise NotMeasured("it takes two cores")
        for number in bench.rounds():
            for row in rows:
                yield (sample if ENOUGH else sample_inside)(bench, row, number)


def sample_inside(bench, row, number):
    del bench   # it has no lab
    done = subprocess.run([program("two_workers_bench"), "1"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise LabError(f"two_workers_bench: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Sample(row, OURS, told["ratio"], number, {"k requests a core-second of one worker": told["one"] / 1e3, "of each of two": told["each"] / 1e3})


def rate(bench, row, workers):
    """Requests a second, and the share of its core that the generator was busy."""
    link = memif.between(bench.lab, FLOWS, cores=tuple(range(workers)), control_cores=[CONTROL_CORE])
    try:
        window = generated.told(row, *link.run(**generated.COMMON, connections=FLOWS, answer_size=1024, warm_up=generated.WARM_UP, duration=bench.arguments.seconds))["window"]
    finally:
        link.stop()
    return window["messages_per_second"], window["busy_share"]


def sample(bench, row, number):
    (one, _), (two, busy) = rate(bench, row, 1), rate(bench, row, 2)
    return Sample(row, OURS, two / one, number, {"k requests a second with one": one / 1e3, "with two": two / 1e3, "generator busy %": 100 * busy})
