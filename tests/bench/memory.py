"""Row 14: memory of an idle flow, TLS to TLS, everything counted.

A device holds FEW flows, and then MANY; each has sent 1,000 octets and had them back. What its memory grows by, a flow:
  all     proportional resident memory of all its processes, huge pages among it
  peers   and the kernel's: objects of their sockets. The machine has four sockets a flow, of which the peer has two: half
Ours sets memory aside by its limits: it is started with room for FEW and then for MANY, with the same packet buffers, so that what is set aside counts too.
"""

import dataclasses
import pathlib
import time

from tests.bench import devices
from tests.bench.devices import OURS
from tests.bench.flows import Flows
from tests.bench.row import Sample

FEW, MANY = 1000, 7000
SOCKET_CACHES = ("TCP", "sock_inode_cache", "filp", "eventpoll_epi")
DENTRY = 192   # octets, one a socket; that cache as a whole grows and shrinks with whatever reads files
BUFFERS = 32768   # packet buffers of ours
ROOM = 200     # flows of ours beside those that are held


@dataclasses.dataclass(frozen=True)
class Load:
    peers: tuple = ("nginx", "haproxy")

    conditions = f"from {FEW} to {MANY} flows, each idle after 1,000 octets each way; peers with buffers of 16 KiB"

    @staticmethod
    def measure(bench, rows):
        bench.echo()
        for row in rows:
            for number in bench.rounds():
                for name in bench.devices:
                    if name == OURS or name in row.ways[0].peers:   # the wire's offloads change nothing of it
                        yield sample(bench, row, name, number)


def sample(bench, row, name, number):
    held = {}
    for count in (FEW, MANY):
        options = {"dataplane": {"max_flows": count + ROOM, "buffers": BUFFERS}, "file": "memory.conf"} if name == OURS else {"buffer": 16384}
        sockets = socket_octets()
        device = devices.make(bench, name, **options)
        try:
            with Flows(bench.lab, count, "--octets", 1000, "--hold-ms", 600_000) as flows:
                flows.wait_until_quiet()
                time.sleep(5)   # until what opening them took has been given back
                held[count] = {"processes": device.memory_kib(), "sockets": 0 if name == OURS else (socket_octets() - sockets) / 2 / 1024}
        finally:
            device.stop()
    grown = {what: (held[MANY][what] - held[FEW][what]) / (MANY - FEW) for what in held[FEW]}
    return Sample(row, device.name, sum(grown.values()), number,
                  {"KiB of processes": grown["processes"], "KiB of sockets": grown["sockets"], f"MiB in all with {FEW} flows": held[FEW]["processes"] / 1024})


def socket_octets():
    total = 0
    for line in pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, active, _, size, *_ = line.split()
        if name in SOCKET_CACHES:
            total += int(active) * int(size)
        if name == "sock_inode_cache":
            total += int(active) * DENTRY
    return total
