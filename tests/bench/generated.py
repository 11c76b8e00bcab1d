"""What rows have in common whose load is our own generator's (tests/bench/generator), which speaks for clients and backends: what a load is, when its cost is taken,
and what a measurement tells.

Core 0 is the device's, core 1 the generator's. Work per core-second is the generator's count over what the device has cost, both in those pieces of the generator's window
during which the cores were near each other and the device's had its full pace (accounting.Cores), where these are long enough together; else in all of it. Our cost is the TSC
cycles of the worker's loops that found work (at most the dataplane's CPU time) and control's CPU time, a peer's what core 0 was not idle (devices.py), both with what
their kernel did for them on core 1, where it has a part (links.py).
"""

import bisect
import contextlib
import dataclasses
import functools
import itertools
import resource
import threading
import time

from tests.bench.accounting import Cores
from tests.bench.devices import OURS, PLAIN_PORT, RSA_PORT, SUITE_PORTS, program_of
from tests.bench.row import DEVICE_BUSY, GIGABITS, Sample
from tests.lab.lab import LabError

WARM_UP = 1   # seconds
EACH = 0.1   # seconds between two looks at what the device has cost
COURSE = 0.01   # and between two of the generator at what has come in
TICKS = 0.03   # that the core's times may be off by, of a piece: three clocks are read, to a hundredth each
ENOUGH = 0.5   # seconds of near and fast cores, to be measured in these alone
AES_128, GROUP = "TLS_AES_128_GCM_SHA256", "x25519"
COMMON = {"tls": "1.3", "suite": AES_128, "backend_suite": AES_128, "groups": GROUP, "backend_groups": GROUP,
          "timeout": 60, "drain": 30, "settle": 2, "host": "www.example.com"}
MEASURED = {"warm_up": WARM_UP, "course": COURSE}
FULL_ONES = 0.02   # of handshakes that are to be resumed: those for which there was no session yet
FILES = 2   # that a peer has open for each flow
OTHER_FILES = 2000   # more than that, by far
FEW = 4096   # connections, that the defaults of the generator and of the lab's configurations are for
OF_BUFFERS = 4 * 4500   # octets of the generator's pools with one more buffer in each, and what their alignment wastes
OCTETS_OF_BUFFER = 2500   # of the dataplane's, about, with its head
CLIENTS = "10.1.0.0/24"   # of more connections than one address has ports
AT_ONCE = {"open_rate": 0, "opening_at_once": 256}   # the generator's options for more than few


def room_for(connections):
    """The dataplane's settings."""
    return {"max_flows": 8192 if connections <= FEW else connections + 4096}


@dataclasses.dataclass(frozen=True)
class Load:
    """`peer_port`: of a peer, where it is not the service's that the rest tells."""
    connections: int
    answer: int                        # octets
    mode: str = "kept"
    plain: bool = False                # backends
    suite: str = AES_128               # of both legs; of a 1.2 client IANA's name
    group: str = GROUP                 # of clients
    version: str = "1.3"
    rsa: bool = False                  # the service's certificate, in place of ECDSA's
    resumed: bool = False              # each handshake for which there is a session
    silent: bool = False               # mode close: no TLS and no request, each connection is closed as soon as it is open
    peers: tuple = ("nginx", "haproxy")
    peer_port: int = 0
    most_rounds: int = 99              # where opening the flows takes minutes
    mtu: int = 1500                    # over memif

    def options(self):
        """The generator's."""
        # In a closed loop each connection has a request or an answer under way, and for a moment both kept until they are acknowledged.
        more = {**AT_ONCE, "buffers": self.buffers} if self.many else {}
        backend = {} if self.plain else {"backend_suite": self.suite}
        # RFC 8422 5.1: a 1.2 client's list names the certificate's curve, too.
        groups = self.group + (",secp256r1" if self.version == "1.2" else "")
        resume = {"resume": 100} if self.resumed else {}
        more |= {"requests": 0, "clients": CLIENTS} if self.silent else {}
        return {**COMMON, **MEASURED, "connections": self.connections, "answer_size": self.answer, "mode": self.mode, "tls": self.version, "suite": self.suite, **backend, "groups": groups,
                **resume, **more}

    @property
    def flags(self):
        """Of the generator, beside options()."""
        return ["--plain"] if self.silent else []

    @property
    def many(self):
        return self.connections > FEW

    @property
    def buffers(self):
        """Of each of the generator's pools, where its own number is not enough."""
        return 3 * self.connections + 32768

    @property
    def memory_mb(self):
        """Of the generator."""
        return 512 + (self.buffers * OF_BUFFERS // 1_000_000 if self.many else 0)

    @property
    def patience(self):
        """Seconds: opening takes a few milliseconds each."""
        return 240 + self.connections / 100

    @property
    def room(self):
        """The dataplane's settings, for connections that are all in use."""
        return {**room_for(self.connections), **({"buffers": self.connections + 65536} if self.many else {})}

    @property
    def hugepages_mb(self):
        """Of the dataplane, which has two pools of so many buffers."""
        return 512 + (2 * self.room["buffers"] * OCTETS_OF_BUFFER // 1_000_000 if self.many else 0)

    def is_for(self, device):
        return device == OURS or program_of(device) in self.peers

    def of(self, device):
        """The same with as many connections as the device can have: a peer may have no more files open than this process may. A few are always asked for."""
        if device == OURS:
            return self
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = self.connections if most == resource.RLIM_INFINITY else max(FEW, (most - OTHER_FILES) // FILES)
        return dataclasses.replace(self, connections=min(self.connections, room))

    def port(self, device):
        """Of the device's service."""
        if device != OURS and self.peer_port:
            return self.peer_port
        return RSA_PORT if self.rsa else PLAIN_PORT if self.plain else SUITE_PORTS[self.suite]

    def told(self, row, done, report):
        """The generator's report, once it is known to be of a good run with what was to be negotiated, and as often resumed as was wanted."""
        report = told(row, done, report, self.version, self.suite, self.group)
        if self.silent:
            return report
        window = report["window"]
        resumed, shaken = window["resumed_per_second"], window["handshakes_per_second"]
        if self.mode == "close" and (shaken - resumed > FULL_ONES * shaken if self.resumed else resumed > 0):
            raise LabError(f"row {row.number}: {resumed:.0f} of {shaken:.0f} handshakes a second were resumed")
        return report


def told(row, done, report, version=COMMON["tls"], suite=COMMON["suite"], group=COMMON["groups"]):
    """A generator's report, once it is known to be of a good run."""
    if done.returncode != 0 or report is None:
        raise LabError(f"row {row.number}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    for negotiated in report["clients"]["negotiated"]:
        agreed = "" if version == "1.2" and negotiated["resumed"] else group   # RFC 5246 7.3: such a handshake has no key exchange
        if (negotiated["version"], negotiated["suite"], negotiated["group"]) != (version, suite, agreed):
            raise LabError(f"row {row.number}: negotiated {negotiated}")
    return report


def rounds(bench, rows, kind):
    """Who is measured when: (round, device's name, its rows, each with its load). `kind`: of the way that a row is measured by here."""
    loads = [(row, next(way for way in row.ways if type(way) is kind)) for row in rows]
    for number in bench.rounds():
        for name in bench.devices:
            if mine := [(row, load.of(name)) for row, load in loads if load.is_for(name) and number < load.most_rounds]:
                yield number, name, mine


class Record:
    """What a device has cost, looked at again and again while the block lasts. `sample` and `cost` are a device's (devices.py)."""

    def __init__(self, sample, cost):
        self.sample, self.cost, self.looks, self.over = sample, cost, [], threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(EACH):
            with contextlib.suppress(LabError):   # one that does not answer yet
                self.looks.append((time.monotonic(), self.sample()))

    def between(self, began, ended):
        """Of the looks between these moments, each with the one after it."""
        inside = [look for look in self.looks if began <= look[0] <= ended]
        if len(inside) < 2:
            raise LabError(f"the device was looked at {len(inside)} times in {ended - began:.1f} s")
        return list(itertools.pairwise(inside))

    def cost_of(self, pieces):
        """Of some of them together."""
        first = pieces[0][0][1]
        last = first
        for (_, before), (_, after) in pieces:
            last = later(last, before, after)
        return self.cost(first, last)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def later(sample, before, after):
    """The sample, and what has come to it from another to the one after that."""
    if isinstance(sample, dict):
        return {name: later(sample[name], before[name], after[name]) for name in sample}
    return sample + after - before


class Course:
    """What had come in when, by the generator's report. `what`: "messages" or "opened"."""

    def __init__(self, window, what):
        self.moments, self.counts = ([mark[name] for mark in window["course"]] for name in ("monotonic", what))

    def at(self, moment):
        """Between two looks as much as if it had come evenly."""
        after = min(max(bisect.bisect_left(self.moments, moment), 1), len(self.moments) - 1)
        (begun, ended), (least, most) = self.moments[after - 1:after + 1], self.counts[after - 1:after + 1]
        return least + (most - least) * min(max((moment - begun) / (ended - begun), 0), 1)


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a load has cost. `window`: the generator's report of it, of all that was measured; the rest is of the pieces that count."""
    load: Load
    window: dict
    cost: dict
    elapsed: float
    done: float        # answers, or connections of which nothing more is wanted
    disturbed: bool
    cores: Cores

    @classmethod
    def of(cls, load, window, record, watch, nearness):
        disturbed, cores = watch.over(window["began"], window["ended"])
        pieces = record.between(window["course"][0]["monotonic"], window["course"][-1]["monotonic"])
        course = Course(window, "opened" if load.silent else "messages")
        known = [(piece, found) for piece in pieces if whole(piece) and (found := watch.looks.throughout(piece[0][0], piece[1][0]))]
        for _, found in known:
            nearness.near(found)   # how near and fast they can be is known after that
        near = [(piece, found) for piece, found in known if nearness.near(found)]
        if seconds_of(piece for piece, _ in near) >= ENOUGH:
            pieces, cores = [piece for piece, _ in near], functools.reduce(Cores.worse, (found for _, found in near))
        done = sum(course.at(after) - course.at(before) for (before, _), (after, _) in pieces)
        return cls(load, window, record.cost_of(pieces), seconds_of(pieces), done, disturbed, cores)

    @property
    def busy(self):
        return self.cost["core_seconds"] / self.elapsed

    @property
    def messages(self):
        """A second."""
        return self.done / self.elapsed

    def a_request(self):
        """Seconds of a core."""
        return self.busy / self.messages

    def cycles(self):
        """Of the worker, for a request."""
        return self.cost["worker_cycles"] / self.elapsed / self.messages

    def control_us(self):
        return self.cost["control_seconds"] / self.elapsed / self.messages * 1e6


def whole(piece):
    """Whether the core's times tell of all of it and of nothing else: where the host of a virtual machine stops a core, they are told late."""
    (began, before), (ended, after) = piece
    told = sum(after["core"][name] - before["core"][name] for name in ("busy", "idle", "steal"))
    return abs(told - (ended - began)) <= TICKS


def seconds_of(pieces):
    return sum(after - before for (before, _), (after, _) in pieces)


def sample(row, device, number, spent):
    load = spent.load
    rate = spent.messages * (load.answer * 8e-9 if row.unit is GIGABITS else 1e-3)
    octets = load.answer if row.unit is GIGABITS else 1
    details = {f"{row.unit.name.split(' a ')[0]} a second raw": rate, DEVICE_BUSY: 100 * spent.busy, "generator busy %": 100 * spent.window["busy_share"],
               "generator had % of its core": 100 * spent.window["cpu_share"], "seconds that count": spent.elapsed}
    if "receiving_seconds" in spent.cost:
        details["of it to receive, on the generator's core, %"] = 100 * spent.cost["receiving_seconds"] / spent.elapsed
    if load.many:
        details["flows"] = load.connections
    if device == OURS:
        details |= {f"worker cycles {'an octet' if octets > 1 else 'a request'}": spent.cycles() / octets, "control us a request": spent.control_us()}
    return Sample(row, device, rate / spent.busy, number, details, spent.disturbed, spent.cores)


class Beside:
    """What is done to an appliance while the generator runs, which is in the block: act(), once as many flows have been opened in it and the warm-up is over.
    `over` is set when the block ends; whoever waits, waits for it."""

    def __init__(self, appliance, flows=1):
        self.appliance, self.wanted, self.over = appliance, flows, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.before, self.failure = 0, None

    def opened(self):
        """So far; how many there are would be none at times, where each ends at once."""
        try:
            return sum(service["flows_total"] for service in self.appliance.view("services"))
        except LabError:
            return 0   # control does not answer yet

    def watch(self):
        while self.opened() - self.before < self.wanted:
            if self.over.wait(0.2):
                return
        if self.over.wait(2 * WARM_UP):
            return
        try:
            self.act()
        except LabError as failure:
            self.failure = failure

    def __enter__(self):
        self.before = self.opened()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
