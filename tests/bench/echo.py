"""Row 23: a device's path alone. DPDK's testpmd sends every frame back that it receives, on core 0, to another one on core 1 that does the same: what a
core can take in and put out again, without any protocol. It stands beside rows 1 to 7 as what they could not exceed.
"""

import dataclasses
import re
import time

from tests.bench import devices
from tests.bench.accounting import Watch, process_seconds
from tests.bench.row import NotMeasured, Sample
from tests.lab import network
from tests.lab.lab import LabError, Process, best_profile, tail, wait_for

TESTPMD, SOCKET = "testpmd", "echo.sock"
BUFFERS = 16384   # a pool that the caches hold; testpmd's own is ten times that, and ten times slower

BURSTS = 16       # of 32 frames, that go round


@dataclasses.dataclass(frozen=True)
class Load:
    profile: str   # memif or af_xdp
    octets: int    # of a frame, without its check sequence

    conditions = "DPDK's testpmd on both ends, a core each; no appliance"

    def device(self, lab, end):
        """Of the end on core 0 or 1."""
        if self.profile == "memif":
            role = ("server", "client")[end]
            return f"net_memif,role={role},id=0,socket={lab.directory / SOCKET},socket-abstract=no" + (",zero-copy=yes" if role == "client" else "")
        return f"net_af_xdp,iface={(network.CLIENT_PORT, 'eth0')[end]}"

    @staticmethod
    def measure(bench, rows):
        for number in bench.rounds():
            for row in rows:
                yield sample(bench, row, number)


class Testpmd:
    def __init__(self, lab, load, end):
        self.lab = lab
        eal = ["--lcores", f"0@{end},1@{end}", "--no-pci", "--file-prefix", f"echo{end}", "--single-file-segments", "--vdev", load.device(lab, end), "-m", 128, "--mbuf-pool-ops-name", "stack"]
        options = ["-i", "--no-mlockall", "--total-num-mbufs", BUFFERS, "--forward-mode", "mac", "--txpkts", load.octets]
        self.process = lab.track(Process(f"testpmd-{end}", ["stdbuf", "-oL", "dpdk-testpmd", *eal, "--", *options], log=lab.directory / f"testpmd-{end}.log",
                                         namespace="client" if end == 1 and load.profile != "memif" else None, stdin=-1, text=True))
        self.ask("start" if end == 0 else f"start tx_first {BURSTS}")

    def ask(self, command):
        self.process.child.stdin.write(command + "\n")
        self.process.child.stdin.flush()

    def received(self):
        """Frames so far."""
        before = self.counts()
        self.ask("show port stats 0")
        wait_for(lambda: f"testpmd to answer: {tail(self.process.log)}", lambda: len(self.counts()) > len(before), 20)
        return self.counts()[-1]

    def counts(self):
        if not self.process.running():
            raise LabError(f"testpmd ended: {tail(self.process.log)}")
        return [int(count) for count in re.findall(r"RX-packets: (\d+)", self.process.log.read_text(errors="replace"))]

    def stop(self):
        self.process.kill()
        self.lab.processes.remove(self.process)
        self.process.log.unlink()


def sample(bench, row, number):
    load = row.ways[0]
    if load.profile == "af_xdp" and best_profile() != "af_xdp":
        raise NotMeasured("the kernel has no AF_XDP")
    network.no_kernel_addresses()
    devices.offloads(False)
    (bench.lab.directory / SOCKET).unlink(missing_ok=True)
    ends = []
    try:
        for end in (0, 1):
            ends.append(Testpmd(bench.lab, load, end))
            time.sleep(1)   # the memif's server first
        device = ends[0]
        wait_for(lambda: f"frames to go round: {tail(device.process.log)}", lambda: device.received() > 0, 30)
        watch = Watch([end.process.pid for end in ends])
        before, used, begun = device.received(), process_seconds(device.process.pid), time.monotonic()
        time.sleep(bench.arguments.seconds)
        frames, elapsed, used = device.received() - before, time.monotonic() - begun, process_seconds(device.process.pid) - used
        over = watch.over()
    finally:
        for end in reversed(ends):
            end.stop()
    return Sample(row, TESTPMD, frames / max(used, 1e-9) / 1e6, number, {"M frames a second raw": frames / elapsed / 1e6, "had % of its core": 100 * used / elapsed}, *over)
