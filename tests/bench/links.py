"""Rows in which one generator of our own speaks for clients and backends over af_packet, on the veth links of core 1, whatever the device between: like for like, without the
kernel's TCP of clients and backends, which would run in the sender's context and count as the device's. (What a device's own kernel does to receive still runs in the
generator's context, and does not count.)
"""

import dataclasses
import threading
import time

from tests.bench import devices, generated
from tests.bench.accounting import Watch
from tests.bench.devices import BACKEND, LISTEN, OURS
from tests.lab import network
from tests.lab.between import generator
from tests.lab.lab import LabError

EACH = 0.05   # seconds between two looks at core 0


@dataclasses.dataclass(frozen=True)
class Load(generated.Load):
    over_links = True
    conditions = "one generator for all over af_packet on veth, with the kernel's offloads; ours: on af_packet, a peer: on the kernel's sockets"

    @staticmethod
    def measure(bench, rows):
        for number, name, mine in generated.rounds(bench, rows, Load):
            yield from measure_device(bench, name, mine, number)


def run(bench, place, interfaces, *options, port=443, listen=None, plain=False, memory_mb=512, patience=300, **more):
    """The generator through whatever is between the links. `listen`: the backends' port."""
    certificate, key = bench.lab.certificates.backend
    tls = ["--backend-plain"] if plain else ["--backend-certificate", certificate, "--backend-key", key]
    return generator(
        bench.lab, "--client-port", f"af_packet:{interfaces['client']}", "--client-address", f"{network.CLIENT_ADDRESSES[0]}/24", "--client-gateway", LISTEN,
        "--target", f"{LISTEN}:{port}", "--backend-port", f"af_packet:{interfaces['backend']}", "--backend-address", f"{BACKEND}/24",
        "--listen", f"{BACKEND}:{listen or (80 if plain else 443)}", *tls, "--ca", bench.lab.certificates.ca, *options,
        within=("ip", "netns", "exec", place), memory_mb=memory_mb, patience=patience, **more)


def measure_device(bench, name, of, number):
    """Samples of a device on the links: `of` are (row, load) pairs."""
    ours = name == OURS
    device = devices.make(bench, name, **({"profile": "af_packet", "dataplane": max((load.room for _, load in of), key=lambda room: room["max_flows"])} if ours else {}))
    try:
        with network.together() as (place, interfaces):
            for row, load in of:
                yield from bench.sample(row, name, lambda row=row, load=load: generated.sample(row, device.name, number, spend(bench, row, load, device, place, interfaces)))
    finally:
        device.stop()


def spend(bench, row, load, device, place, interfaces):
    seconds, ours = bench.arguments.seconds, device.name == OURS
    watch = Watch(device.pids())
    meter = generated.Sampler(device.appliance, seconds, load.waited_for) if ours else Record(device)
    with meter:
        done, report = run(bench, place, interfaces, *load.flags, port=load.port(device.name), listen=None if load.plain else devices.SUITE_PORTS[load.suite], plain=load.plain,
                           memory_mb=load.memory_mb, patience=load.patience, warm_up=generated.WARM_UP, duration=seconds + (meter.takes if ours else 0), **load.options())
    window = load.told(row, done, report)["window"]
    return generated.Spent(load, window, *(meter.spent() if ours else meter.between(window["began"], window["ended"])), watch.over(window["began"], window["ended"]))


class Record:
    """What a peer has cost, looked at again and again while the block lasts."""

    def __init__(self, device):
        self.device, self.looks, self.over = device, [], threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(EACH):
            self.looks.append((time.monotonic(), self.device.sample()))

    def between(self, begun, ended):
        """(cost, seconds) of as much of that time as lies between two looks."""
        inside = [look for look in self.looks if begun <= look[0] <= ended]
        if len(inside) < 2:
            raise LabError(f"{self.device.name} was looked at {len(inside)} times in {ended - begun:.1f} s")
        (first, before), (last, after) = inside[0], inside[-1]
        return self.device.cost(before, after), last - first

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
