"""CPU time: of processes, of cores, and what others took of a measurement."""

import contextlib
import dataclasses
import math
import os
import pathlib
import subprocess
import tempfile
import time

from tests.lab.lab import program

TICK = os.sysconf("SC_CLK_TCK")
MOST_STEAL, MOST_OTHERS = 0.01, 0.02   # shares of the machine; a measurement with more is disturbed
FAR = 3      # times: SMT siblings are half as far from each other as cores that share a cache, those that share none five times as far
SLOW = 1.25  # times: a core that the host has given to somebody else as well (its other hardware thread, it seems) takes a third longer at least, mostly twice as long
TRIES = 4    # of a measurement that was disturbed
SHARED = 200   # nanoseconds: cores that share a cache are nearer
FIRST = 4    # times: how much longer the first wait is, in which those of another machine may be far for good
GRACE = 120  # seconds of waiting and measuring again that are never too many; in all it may be as long again as the measuring that counts
LOOK = 0.5   # seconds between two looks at how far the cores are apart, while nothing is measured
GLANCE = 0.05   # and while something is
SETTLE = 0.5   # seconds after which the host has mostly placed cores that do not rest


def stat_times(cpu=None):
    """Seconds of a core, or of all together: busy, softirq, idle (what keeps it awake then, Awake, has its time as "nice"), steal."""
    name = "cpu" if cpu is None else f"cpu{cpu}"
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == name:
            user, nice, system, idle, waiting, irq, softirq, steal = (int(f) / TICK for f in fields[1:9])
            return {"busy": user + system + irq + softirq, "softirq": irq + softirq, "idle": idle + waiting + nice, "steal": steal}
    raise RuntimeError(f"no {name} in /proc/stat")


def process_seconds(pid):
    """User and system time."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def own_seconds():
    """Of this process, and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def descendants(pid):
    """A process and all below it."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in descendants(int(child)))]


def memory_kib(pid):
    """Proportional resident memory, and pages of hugetlbfs, which are in no resident size."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(fields[name].split()[0]) for name in ("Pss", "Shared_Hugetlb", "Private_Hugetlb"))


def distance_program(*options):
    return [program("core_distance"), "0", str(os.cpu_count() - 1), *map(str, options)]


class Awake:
    """Keeps the first core and the last from being idle, behind all others: the host of a virtual machine moves a core when it wakes, and would as soon as the load begins."""
    process = None   # as long as they are

    @classmethod
    def start(cls):
        if cls.process is None and os.cpu_count() != 1:
            cls.process = subprocess.Popen(distance_program("hold"), stderr=subprocess.DEVNULL)

    @classmethod
    def stop(cls):
        if cls.process is not None:
            cls.bring_forward()
            cls.process.terminate()
            cls.process.wait()
            cls.process = None

    @classmethod
    def bring_forward(cls):
        """Among all others: behind one that polls it might not have the time to end for minutes."""
        own = pathlib.Path(f"/proc/{cls.process.pid}")
        with contextlib.suppress(OSError):   # a kernel without groups of sessions
            (own / "autogroup").write_text("0")
        with contextlib.suppress(OSError):   # it has ended by itself
            os.setpriority(os.PRIO_PROCESS, cls.process.pid, 0)
            for thread in map(int, os.listdir(own / "task")):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                os.sched_setaffinity(thread, range(os.cpu_count()))


@dataclasses.dataclass(frozen=True)
class Cores:
    """What the host of a virtual machine gave for a while, or better in nine of ten looks. 0: not known."""
    apart: float = 0.0   # nanoseconds from the first core to the last one and back
    pace: float = 0.0    # nanoseconds of a thousand additions on the first core, one after the other: its clock, and whether it has the core's other hardware thread for itself

    def worse(self, other):
        return Cores(max(self.apart, other.apart), max(self.pace, other.pace))

    def __str__(self):
        return f"cores {self.apart:.0f} ns apart, {self.pace:.0f} ps an addition" if self.apart else ""


def settled():
    """The Cores that are kept awake from now on, once they have come to rest."""
    Awake.start()
    time.sleep(SETTLE)
    looks = Looks()
    time.sleep(SETTLE)
    return looks.over()


class Looks:
    """At the Cores while something is measured, again and again until over(): the host moves them most when they begin to be busy, and then every few seconds, so that
    neither before nor after tells."""

    running = None   # there is one at a time: one whose measurement failed ends with the next

    def __init__(self):
        if Looks.running is not None:
            Looks.running.over()
        Looks.running = self
        self.told = []   # (moment, nanoseconds apart, pace) of each look, once it is over()
        self.looks = tempfile.TemporaryFile("w+")   # no pipe: some rows take longer than one has room for
        self.process = subprocess.Popen(distance_program(round(GLANCE * 1000)), stdout=self.looks, stderr=subprocess.DEVNULL) if os.cpu_count() != 1 else None

    def over(self, began=0.0, ended=math.inf):
        """The Cores between these moments (time.monotonic())."""
        Looks.running = None
        if self.process is None:
            return Cores()
        self.process.terminate()
        self.process.wait()
        with self.looks as looks:
            looks.seek(0)
            self.told = [tuple(map(float, line.split())) for line in looks if line.endswith("\n")]
        return seen(self.told, began, ended)

    def throughout(self, began, ended):
        """The worst Cores between these moments and next to them, once it is over(); None where one look is not known."""
        within = [look for look in self.told if began - GLANCE <= look[0] <= ended + GLANCE]
        return Cores(*(max(look[field] for look in within) for field in (1, 2))) if within and all(look[1] > 0 for look in within) else None


def seen(looks, began=0.0, ended=math.inf):
    """The Cores of what core_distance told within that time. An `apart` of 0 is a look at which one of them was not to be had."""
    within = [look for look in looks if began <= look[0] <= ended and look[1] > 0]
    return Cores(*(most([look[field] for look in within]) for field in (1, 2)))


def most(values):
    """What nine tenths do not exceed."""
    return sorted(values)[math.ceil(0.9 * len(values)) - 1] if values else 0.0


class Nearness:
    """How near the cores were to each other so far in this run, and how fast. The host of a virtual machine moves them about, for seconds or minutes each time."""

    def __init__(self, measured=settled):
        self.measured, self.least = measured, Cores()
        self.lost = self.used = 0.0   # seconds that went into waiting and into what was measured again, and into what counts

    def worthwhile(self):
        """Whether there is time for more of the former."""
        return self.lost <= GRACE + self.used

    def near(self, cores):
        """Whether these are about as near and as fast as they were at best; what is not known does not say no."""
        self.least = Cores(*(min(filter(None, pair), default=0.0) for pair in ((self.least.apart, cores.apart), (self.least.pace, cores.pace))))
        return cores.apart <= FAR * self.least.apart and cores.pace <= SLOW * self.least.pace

    def wait(self, seconds):
        """Until they are near, so long at most; the first time longer, and for what cores that share a cache have, since it is not known yet what near is here."""
        first, begun = self.least.apart == 0, time.monotonic()
        until = begun + (seconds * (FIRST if first else 1) if self.worthwhile() else 0)
        while time.monotonic() < until:
            cores = self.measured()
            if self.near(Cores(cores.apart)) and (not first or cores.apart <= SHARED):   # their pace changes too fast to wait for
                break
            Awake.stop()
            time.sleep(LOOK)
        self.lost += time.monotonic() - begun


def undisturbed(take, nearness, patience):
    """A Sample that take() gives: the first of a few during which nothing disturbed it and the cores were near each other, or the last of them. How it came
    out has no part in that. `patience`: seconds that each try waits for the cores at most."""
    for tries in range(1, TRIES + 1):
        nearness.wait(patience)
        begun = time.monotonic()
        try:
            sample = take()
        finally:
            Awake.stop()
        took = time.monotonic() - begun
        if tries == TRIES or not nearness.worthwhile() or nearness.near(sample.cores) and not sample.disturbed:
            break
        nearness.lost += took
    nearness.used += took
    return sample


class Watch:
    """What the machine did beside known processes, from here on until over()."""

    def __init__(self, pids):
        self.looks = Looks()
        self.pids, self.begun = pids, time.monotonic()
        self.before, self.known_before = stat_times(), self.known()

    def known(self):
        return sum(map(process_seconds, self.pids)) + own_seconds()

    def shares(self):
        """(stolen, taken by others) of all cores."""
        after, capacity = stat_times(), (time.monotonic() - self.begun) * os.cpu_count()
        grown = {name: after[name] - self.before[name] for name in after}
        others = grown["busy"] - grown["softirq"] - (self.known() - self.known_before)
        return grown["steal"] / capacity, max(0.0, others) / capacity

    def over(self, began=0.0, ended=math.inf):
        """What a Sample is told of it: whether something else had too much of the machine, and its Cores between these moments."""
        stolen, others = self.shares()
        return stolen > MOST_STEAL or others > MOST_OTHERS, self.looks.over(began, ended)
