"""Rows over shared memory, memif or virtio, with our own generator on both sides (tests/bench/generator): what the appliance costs without the kernel in its path.

No peer can stand there. It has the path that it can have: its kernel's sockets over veth, with the same generator for clients and backends (links.py).
"""

import dataclasses

from tests.bench import generated, links
from tests.bench.accounting import Watch
from tests.bench.devices import OURS, cost_of, sample_of
from tests.lab.between import MEMIF, VIRTIO, Between

FLOWS_OF_MEMBER = 40_000   # most: its ports, spread evenly over members, are then not so nearly used up that one is sought long


@dataclasses.dataclass(frozen=True)
class Load(generated.Load):
    over_memif = True
    conditions = "one generator for all; ours: over memif, a peer: on the kernel's sockets over af_packet on veth with the kernel's offloads"
    wire = MEMIF

    @classmethod
    def measure(cls, bench, rows):
        for number, name, mine in generated.rounds(bench, rows, cls):
            if name == OURS:
                for row, load in mine:
                    yield from bench.sample(row, OURS, lambda row=row, load=load: generated.sample(row, OURS, number, spend(bench, row, load)))
            else:
                yield from links.measure_device(bench, name, mine, number)


@dataclasses.dataclass(frozen=True)
class OverVirtio(Load):
    over_memif, over_virtio = False, True
    conditions = "one generator for all, the offloads on for all; ours: over virtio, a peer: on the kernel's sockets over af_packet on veth"
    wire = VIRTIO


def many(count):
    """The generator's options for more connections than its defaults are for."""
    return {"connections": count, **generated.AT_ONCE, "clients": generated.CLIENTS}


def between(lab, connections, memory_mb=512, **more):
    """`memory_mb`: of the generator's packet buffers."""
    settings = {"control_cores": [0], "policy_level": 1, "log_level": "warning", "certificates_of_service": [lab.certificates.ecdsa],
                "dataplane": generated.room_for(connections), "members": -(-connections // FLOWS_OF_MEMBER)}
    return Between(lab, memory_mb=memory_mb, **{**settings, **more})


def spend(bench, row, load, **more):
    """What a load has cost; `more` is for the appliance."""
    options = load.options()
    if load.many:
        bench.lab.reserve_hugepages(load.hugepages_mb)
        more |= {"dataplane": load.room}
        options |= {"clients": generated.CLIENTS}
    if load.rsa:
        more |= {"certificates_of_service": [bench.lab.certificates.rsa2048]}
    link = between(bench.lab, load.connections, plain=load.plain, mtu=load.mtu, memory_mb=load.memory_mb, wire=load.wire, **more)
    watch = Watch([link.appliance.control.pid, link.appliance.dataplane.pid])
    try:
        with generated.Record(lambda: sample_of(link.appliance), cost_of) as record:
            done, report = link.run(*load.flags, **options, duration=bench.arguments.seconds, patience=load.patience)
        return generated.Spent.of(load, load.told(row, done, report)["window"], record, watch, bench.nearness)
    finally:
        link.stop()
