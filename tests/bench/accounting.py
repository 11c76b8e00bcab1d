"""CPU time: of processes, of cores, and what others took of a measurement."""

import contextlib
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
TRIES = 4    # of a measurement that was disturbed
SHARED = 200   # nanoseconds: cores that share a cache are nearer
FIRST = 4    # times: how much longer the first wait is, in which those of another machine may be far for good
GRACE = 120  # seconds of waiting and measuring again that are never too many; in all it may be as long again as the measuring that counts
LOOK = 0.5   # seconds between two looks at how far the cores are apart, while nothing is measured
GLANCE = 0.1   # and while something is
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


def settled_distance():
    """How far the cores are apart that are kept awake from now on, once they have come to rest."""
    Awake.start()
    time.sleep(SETTLE)
    distances = Distances()
    time.sleep(SETTLE)
    return distances.over()


class Distances:
    """How far the cores are apart while something is measured, again and again until over(): the host moves them most when they begin to be busy, and then every few
    seconds, so that neither before nor after tells."""

    running = None   # there is one at a time: one whose measurement failed ends with the next

    def __init__(self):
        if Distances.running is not None:
            Distances.running.over()
        Distances.running = self
        self.looks = tempfile.TemporaryFile("w+")   # no pipe: some rows take longer than one has room for
        self.process = subprocess.Popen(distance_program(round(GLANCE * 1000)), stdout=self.looks, stderr=subprocess.DEVNULL) if os.cpu_count() != 1 else None

    def over(self, began=0.0, ended=math.inf):
        """Nanoseconds, which they were not farther apart in nine of ten looks between these moments (time.monotonic()); 0: unknown."""
        Distances.running = None
        if self.process is None:
            return 0.0
        self.process.terminate()
        self.process.wait()
        with self.looks as looks:
            looks.seek(0)
            return most([tuple(map(float, line.split())) for line in looks if line.endswith("\n")], began, ended)


def most(looks, began=0.0, ended=math.inf):
    """What nine tenths of (moment, nanoseconds) within that time do not exceed. 0 is a look at which one of the cores was not to be had."""
    known = sorted(apart for moment, apart in looks if began <= moment <= ended and apart > 0)
    return known[math.ceil(0.9 * len(known)) - 1] if known else 0.0


class Nearness:
    """How far the cores were from each other so far in this run. The host of a virtual machine moves them about, for seconds or minutes each time."""

    def __init__(self, measured=settled_distance):
        self.measured, self.least = measured, 0.0
        self.lost = self.used = 0.0   # seconds that went into waiting and into what was measured again, and into what counts

    def worthwhile(self):
        """Whether there is time for more of the former."""
        return self.lost <= GRACE + self.used

    def near(self, apart):
        """Whether that is about as near as they were at the nearest; 0 is not known, and neither."""
        if apart > 0:
            self.least = min(self.least or apart, apart)
        return apart <= FAR * self.least

    def wait(self, seconds):
        """Until they are near, so long at most; the first time longer, and for what cores that share a cache have, since it is not known yet what near is here."""
        first, begun = self.least == 0, time.monotonic()
        until = begun + (seconds * (FIRST if first else 1) if self.worthwhile() else 0)
        while time.monotonic() < until:
            apart = self.measured()
            if self.near(apart) and (not first or apart <= SHARED):
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
        if tries == TRIES or not nearness.worthwhile() or nearness.near(sample.apart) and not sample.disturbed:
            break
        nearness.lost += took
    nearness.used += took
    return sample


class Watch:
    """What the machine did beside known processes, from here on until over()."""

    def __init__(self, pids):
        self.distances = Distances()
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
        """What a Sample is told of it: whether something else had too much of the machine, and how far its cores were apart between these moments."""
        stolen, others = self.shares()
        return stolen > MOST_STEAL or others > MOST_OTHERS, self.distances.over(began, ended)
