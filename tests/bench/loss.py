"""Row 22 of scripts/bench: goodput of our TCP and of Linux's (CUBIC) through the same impaired path, towards the same kernel receiver.

One bulk flow, or several of which each has a path of its own (where one alone would be a matter of luck), for a fixed time from its first
octet on. The path is lab_link: 100 Mbit/s, a drop-tail queue of a bandwidth-delay product (at least 64 full frames), half of the round trip
each way, and faults on the way of the data alone, with the same seeds for both senders. Ours takes its octets from a backend over an
unimpaired link, in plain text; Linux's is nginx with sendfile and kernel-sized buffers. The rate keeps either CPU from being the limit: the
figures are rates, not work per core-second. Linux's TCP hands its device segments cut by software (GSO) whatever the device can; the
receiver's GRO is off.
"""

import concurrent.futures
import dataclasses
import statistics

from tests.bench import devices
from tests.bench.devices import OURS
from tests.bench.row import Sample
from tests.lab import network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Appliance, LabError, Link, Nginx, best_profile

RATE = 100_000_000
FILE, FILE_SIZE = "long", 1 << 28
LEAST_QUEUE = 64 * 1538


@dataclasses.dataclass(frozen=True)
class Path:
    """A way of row 22: everything is measured alike but for the path."""
    rtt_ms: float
    loss: float = 0
    reorder: float = 0
    reorder_us: float = 0
    flows: int = 1

    conditions = "af_xdp on veth against the kernel's TCP (CUBIC) on veth, through the same path"

    @staticmethod
    def measure(bench, rows):
        yield from Sender(bench).measure(rows)

    @property
    def title(self):
        text = f"{self.rtt_ms:g} ms, {self.loss:.1%} loss"
        if self.reorder:
            text += f", {self.reorder:.0%} late by {self.reorder_us / 1000:g} ms"
        return text + (f", {self.flows} flows" if self.flows > 1 else "")

    def options(self, seed):
        queue = max(RATE / 8 * self.rtt_ms / 1000, LEAST_QUEUE)
        faults = {"loss": self.loss, "reorder": self.reorder, "reorder-us": self.reorder_us}
        return ["--seed", seed, "--rate", RATE, "--queue", int(queue), "--delay-us", self.rtt_ms * 500,
                *(["--path-per-connection"] if self.flows > 1 else []),
                *[word for name, value in faults.items() if value for word in ("--there", f"{name}={value}")]]


PATHS = [Path(50, 0.01, flows=8)]   # the row itself; the others say where it holds
PATHS += [Path(rtt, loss, flows=8 if loss >= 0.01 and rtt >= 10 or loss and rtt >= 100 else 2 if loss and rtt >= 10 else 1)
         for rtt in (0.1, 10, 100) for loss in (0, 0.001, 0.01, 0.03)]
PATHS += [Path(10, 0, 0.02, 2000), Path(10, 0.001, 0.02, 2000, flows=2), Path(100, 0, 0.02, 10000)]


class Ours:
    name = OURS

    def __init__(self, lab, arguments):
        standard = network.BACKEND_ADDRESSES[0][0]
        config = Configuration(services=[Service("long", 443, "long", [lab.certificates.ecdsa])], pools=[Pool("long", [f"{standard}:80"])],
                               policy_level=1, profile=arguments.profile or best_profile(), log_level="warning")
        self.appliance = Appliance(lab, lab.write_configuration(config, "loss.conf"), control_cores=[0]).start()

    def stop(self):
        self.appliance.stop()


class Linux:
    name = "Linux"

    def __init__(self, lab, arguments):
        network.kernel_addresses()
        certificate, key = lab.certificates.ecdsa
        v4 = network.APPLIANCE["client"][0]
        for setting in ("tcp_no_metrics_save=1", "tcp_no_ssthresh_metrics_save=1"):
            network.run("sysctl", "-q", f"net.ipv4.{setting}")
        network.run("ip", "route", "replace", network.CLIENT_ADDRESSES[0], "dev", network.CLIENT_PORT, "congctl", "cubic")
        directory = lab.directory / "loss-peer"
        self.nginx = Nginx(lab, "loss-peer", f"""
worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log warn; user root;
events {{ }}
http {{
  access_log off; sendfile on; tcp_nodelay on;
  server {{ listen {v4}:443 ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; root {lab.directory}/www; }}
}}
""", cores=[0], reachable=("client", v4, 443))

    def stop(self):
        self.nginx.stop()
        network.no_kernel_addresses()


SENDERS = (Ours, Linux)


class Sender:
    def __init__(self, bench):
        self.bench, self.lab, self.arguments = bench, bench.lab, bench.arguments
        bench.backends()
        self.lab.web_file(FILE, FILE_SIZE)
        devices.offloads(False)
        self.link = Link(self.lab, "client")

    def measure(self, rows):
        try:
            for number in self.bench.rounds():
                for make in SENDERS:
                    self.link.carry()
                    sender = make(self.lab, self.arguments)
                    try:
                        for row in rows:
                            yield self.sample(sender, row, number)
                    finally:
                        sender.stop()
        finally:
            self.link.remove()

    def flow(self):
        """(octets, seconds from the first to the last) of a download that is cut off after the time of a measurement."""
        done = self.lab.client("taskset", "-c", "1", "curl", "-sS", "-4", "--http1.1", "--cacert", self.lab.certificates.ca, "--max-time", self.arguments.seconds,
                               "-o", "/dev/null", "-w", "%{size_download} %{time_starttransfer} %{time_total}",
                               f"https://www.example.com/{FILE}", timeout=self.arguments.seconds + 30)
        if done.returncode not in (0, 28):   # 28: cut off
            raise LabError(f"curl: {done.stdout}{done.stderr}")
        octets, first, last = map(float, done.stdout.split())
        return octets, last - first

    def sample(self, sender, row, number):
        """The same seed for both senders."""
        path = row.ways[0]
        self.link.carry(*path.options(number + 1))
        with concurrent.futures.ThreadPoolExecutor(path.flows) as pool:
            flows = [pool.submit(self.flow) for _ in range(path.flows)]
            done = [flow.result() for flow in flows]
        counts = self.link.halt()
        if counts["there"]["too_long"] or counts["there"]["not_sent"] or counts["there"]["missed"]:
            raise LabError(f"the link has spoiled the measurement: {counts}")
        return Sample(row, sender.name, statistics.mean(octets / seconds for octets, seconds in done) * 8e-6, number,
                      {"segments lost": counts["there"]["lost"], "not queued": counts["there"]["queue_full"]})
