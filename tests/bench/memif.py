"""Rows over memif, with our own generator on both sides (tests/bench/generator): what the appliance costs without the kernel in its path.

No peer can stand there, so these figures are ours alone and are never set against a peer's. Core 0 is the appliance's, control included, core 1 the
generator's. Work per core-second is the generator's count in its window over the TSC cycles of the worker's loops that found work (at most the
dataplane's CPU time) and control's CPU time in that window, which is taken a moment longer than the generator's: the cost errs upwards.
"""

import dataclasses
import threading
import time

from tests.bench.accounting import Watch
from tests.bench.devices import OURS, cost_of, sample_of
from tests.bench.row import DEVICE_BUSY, GIGABITS, Sample
from tests.lab.between import Between
from tests.lab.lab import LabError

WARM_UP = 1   # seconds
COMMON = {"tls": "1.3", "suite": "TLS_AES_128_GCM_SHA256", "backend_suite": "TLS_AES_128_GCM_SHA256", "groups": "x25519", "backend_groups": "x25519",
          "timeout": 60, "drain": 30, "settle": 2, "host": "www.example.com"}
FLOWS_OF_MEMBER = 40_000   # most: its ports, spread evenly over members, are then not so nearly used up that one is sought long
OF_BUFFERS = 4 * 4500   # octets of the generator's pools with one more buffer in each, and what their alignment wastes
FEW = 4096   # connections, that the defaults of the generator and of the lab's configurations are for


@dataclasses.dataclass(frozen=True)
class Load:
    connections: int
    answer: int                        # octets
    mode: str = "kept"
    plain: bool = False                # backends
    mtu: int = 1500
    most_rounds: int = 99              # where opening the flows takes minutes

    over_memif = True
    conditions = "over memif with our own generator, no peer"

    def options(self):
        few = self.connections <= FEW
        # In a closed loop each connection has a request or an answer under way, and for a moment both kept until they are acknowledged.
        more = {"connections": self.connections} if few else {**many(self.connections), "buffers": self.buffers}
        return {"answer_size": self.answer, "mode": self.mode, **more}

    @property
    def buffers(self):
        """Of each of the generator's pools, where its own number is not enough."""
        return 3 * self.connections + 32768

    @staticmethod
    def measure(bench, rows):
        for number in range(bench.arguments.rounds):
            for row in rows:
                if number < load_of(row).most_rounds:
                    yield measure(bench, row, number)


def many(count):
    """The generator's options for more connections than its defaults are for."""
    return {"connections": count, "open_rate": 0, "opening_at_once": 256, "clients": "10.1.0.0/24"}


def room_for(connections):
    return {"max_flows": 8192 if connections <= FEW else connections + 4096}


def between(lab, connections, memory_mb=512, **more):
    """`memory_mb`: of the generator's packet buffers."""
    settings = {"control_cores": [0], "policy_level": 1, "log_level": "warning", "certificates_of_service": [lab.certificates.ecdsa], "dataplane": room_for(connections), "members": -(-connections // FLOWS_OF_MEMBER)}
    return Between(lab, memory_mb=memory_mb, **{**settings, **more})


class Beside:
    """What is done to an appliance while the generator runs, which is in the block: act(), once as many flows are there and the warm-up is over.
    `over` is set when the block ends; whoever waits, waits for it."""

    def __init__(self, appliance, flows=1):
        self.appliance, self.wanted, self.over = appliance, flows, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.failure = None

    def flows(self):
        try:
            return self.appliance.show("flows")["total"]
        except LabError:
            return 0   # control does not answer yet

    def watch(self):
        while self.flows() < self.wanted:
            if self.over.wait(0.2):
                return
        if self.over.wait(2 * WARM_UP):
            return
        try:
            self.act()
        except LabError as failure:
            self.failure = failure

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


class Sampler(Beside):
    """What the appliance has cost over some seconds."""

    def __init__(self, appliance, seconds, flows=1):
        super().__init__(appliance, flows)
        self.seconds, self.cost, self.elapsed = seconds, None, 0.0

    def act(self):
        before, begun = sample_of(self.appliance), time.monotonic()
        if not self.over.wait(self.seconds):
            after, self.elapsed = sample_of(self.appliance), time.monotonic() - begun
            self.cost = cost_of(before, after)

    def spent(self):
        if self.cost is None:
            raise self.failure or LabError(f"there were never {self.wanted} flows for {self.seconds} s")
        return self.cost, self.elapsed


def told(row, done, report):
    """A generator's report, once it is known to be of a good run."""
    if done.returncode != 0 or report is None:
        raise LabError(f"row {row.number}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    negotiated = report["clients"]["negotiated"][0]
    if (negotiated["version"], negotiated["suite"], negotiated["group"]) != ("1.3", COMMON["suite"], COMMON["groups"]):
        raise LabError(f"row {row.number}: negotiated {negotiated}")
    return report


def load_of(row):
    return next(way for way in row.ways if isinstance(way, Load))


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a load has cost. `window`: the generator's report of it."""
    window: dict
    cost: dict
    elapsed: float
    over: tuple    # Watch.over()

    @property
    def busy(self):
        return self.cost["core_seconds"] / self.elapsed

    @property
    def messages(self):
        return self.window["messages_per_second"]

    def a_request(self):
        """Seconds of a core."""
        return self.busy / self.messages

    def cycles(self):
        """Of the worker, for a request."""
        return self.cost["worker_cycles"] / self.elapsed / self.messages

    def control_us(self):
        return self.cost["control_seconds"] / self.elapsed / self.messages * 1e6


def spend(bench, row, load, **more):
    """Runs a load; `more` is for the appliance."""
    seconds = bench.arguments.seconds
    if load.connections > FEW:   # and all in use: what is under way of each must have room in the appliance too
        more |= {"memory_mb": 512 + load.buffers * OF_BUFFERS // 1_000_000, "dataplane": {**room_for(load.connections), "buffers": load.connections + 65536}}
    link = between(bench.lab, load.connections, plain=load.plain, mtu=load.mtu, **more)
    patience = 240 + load.connections / 100   # seconds: opening takes a few milliseconds each
    watch = Watch([link.appliance.control.pid, link.appliance.dataplane.pid])
    try:
        with Sampler(link.appliance, seconds, load.connections if load.mode == "kept" else 1) as sampler:
            done, report = link.run(**COMMON, **load.options(), warm_up=WARM_UP, duration=seconds + 2 * WARM_UP, patience=patience)
        window = told(row, done, report)["window"]
        return Spent(window, *sampler.spent(), watch.over())
    finally:
        link.stop()


def measure(bench, row, number):
    load = load_of(row)
    spent = spend(bench, row, load)
    rate = spent.messages * (load.answer * 8e-9 if row.unit is GIGABITS else 1e-3)
    octets = load.answer if row.unit is GIGABITS else 1
    details = {f"{row.unit.name.split(' a ')[0]} a second raw": rate, DEVICE_BUSY: 100 * spent.busy, "generator busy %": 100 * spent.window["busy_share"],
               "generator had % of its core": 100 * spent.window["cpu_share"],
               f"worker cycles {'an octet' if octets > 1 else 'a request'}": spent.cycles() / octets, "control us a request": spent.control_us()}
    return Sample(row, OURS, rate / spent.busy, number, details, *spent.over)
