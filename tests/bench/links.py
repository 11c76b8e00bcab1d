"""Rows in which one generator of our own speaks for clients and backends over af_packet, on the veth links of core 1, whatever the device between: like for like, without the
kernel's TCP of clients and backends, which would run in the sender's context and count as the device's.

What Linux does to receive on a veth runs in the sender's context, too, as softirqs: the device's own share on the generator's core, the generator's on the device's.
Each has its own here, as it would on a wire between two machines.
"""

import dataclasses

from tests.bench import devices, generated
from tests.bench.accounting import Watch, stat_times
from tests.bench.devices import BACKEND, LISTEN, OURS
from tests.lab import network
from tests.lab.between import CORE, generator


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


def sample_of(device):
    return {**device.sample(), "generator's core": stat_times(CORE)}


def cost_of(device, before, after):
    """Between two sample_of()s. `receiving_seconds`: of the generator's core."""
    own, others = (after[core]["softirq"] - before[core]["softirq"] for core in ("generator's core", "core"))
    cost = device.cost(before, after)
    return {**cost, "core_seconds": cost["core_seconds"] + own - others, "receiving_seconds": own}


def spend(bench, row, load, device, place, interfaces):
    watch = Watch(device.pids())
    with generated.Record(lambda: sample_of(device), lambda before, after: cost_of(device, before, after)) as record:
        done, report = run(bench, place, interfaces, *load.flags, port=load.port(device.name), listen=None if load.plain else devices.SUITE_PORTS[load.suite], plain=load.plain,
                           memory_mb=load.memory_mb, patience=load.patience, duration=bench.arguments.seconds, **load.options())
    return generated.Spent.of(load, load.told(row, done, report)["window"], record, watch, bench.nearness)
