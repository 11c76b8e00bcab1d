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
import sys

from tests.lab import network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Appliance, LabError, Link, Nginx, best_profile

NUMBER = 22
RATE = 100_000_000
FILE, FILE_SIZE = "long", 1 << 28
LEAST_QUEUE = 64 * 1538
WANTED = 0.95


@dataclasses.dataclass
class Cell:
    rtt_ms: float
    loss: float = 0
    reorder: float = 0
    reorder_us: float = 0
    flows: int = 1

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


CELLS = [Cell(rtt, loss, flows=8 if loss >= 0.01 and rtt >= 10 or loss and rtt >= 100 else 2 if loss and rtt >= 10 else 1)
         for rtt in (0.1, 10, 100) for loss in (0, 0.001, 0.01, 0.03)]
CELLS += [Cell(50, 0.01, flows=8), Cell(10, 0, 0.02, 2000), Cell(10, 0.001, 0.02, 2000, flows=2), Cell(100, 0, 0.02, 10000)]


class Ours:
    name = "sallyport"

    def __init__(self, lab, arguments):
        standard = network.BACKEND_ADDRESSES[0][0]
        config = Configuration(services=[Service("long", 443, "long", [lab.certificates.ecdsa])], pools=[Pool("long", [f"{standard}:80"])],
                               policy_level=1, profile=arguments.profile or best_profile(), log_level="warning")
        self.appliance = Appliance(lab, lab.write_configuration(config, "loss.conf"), control_cores=[0]).start()

    def state(self):
        return [flow["client_tcp"] for flow in self.appliance.flows()]

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

    def state(self):
        return network.run("ss", "-tinH", "sport", "=", ":443").stdout.splitlines()

    def stop(self):
        self.nginx.stop()
        network.no_kernel_addresses()


SENDERS = {"ours": Ours, "linux": Linux}


class Bench:
    def __init__(self, lab, arguments):
        self.lab, self.arguments = lab, arguments
        self.link = Link(lab, "client")
        lab.web_file(FILE, FILE_SIZE)

    def flow(self):
        """(octets, seconds from the first to the last) of a download that is cut off after the time of a measurement."""
        done = self.lab.client("taskset", "-c", "1", "curl", "-sS", "-4", "--http1.1", "--cacert", self.lab.certificates.ca, "--max-time", self.arguments.seconds,
                               "-o", "/dev/null", "-w", "%{size_download} %{time_starttransfer} %{time_total}",
                               f"https://www.example.com/{FILE}", timeout=self.arguments.seconds + 30)
        if done.returncode not in (0, 28):   # 28: cut off
            raise LabError(f"curl: {done.stdout}{done.stderr}")
        octets, first, last = map(float, done.stdout.split())
        return octets, last - first

    def measure(self, sender, cell, seed):
        self.link.carry(*cell.options(seed))
        with concurrent.futures.ThreadPoolExecutor(cell.flows + 1) as pool:
            flows = [pool.submit(self.flow) for _ in range(cell.flows)]
            concurrent.futures.wait(flows, timeout=self.arguments.seconds * 0.8)
            state = sender.state()
            done = [flow.result() for flow in flows]
        counts = self.link.halt()
        if counts["there"]["too_long"] or counts["there"]["not_sent"] or counts["there"]["missed"]:
            raise LabError(f"the link has spoiled the measurement: {counts}")
        return {"row": NUMBER, "cell": cell.title, "device": sender.name, "seed": seed, "goodput": statistics.mean(o / s for o, s in done),
                "link": counts, "state": state}


def megabits(values):
    return f"{statistics.median(values) * 8e-6:7.2f} ({min(values) * 8e-6:.2f} to {max(values) * 8e-6:.2f}) Mb/s"


def run(lab, arguments):
    """Measures; returns (rounds, summary)."""
    bench = Bench(lab, arguments)
    cells = [cell for cell in CELLS if arguments.cells in cell.title]
    results = []
    for number in range(arguments.rounds):
        for make in SENDERS.values():
            bench.link.carry()
            sender = make(lab, arguments)
            try:
                for cell in cells:
                    result = bench.measure(sender, cell, seed=number + 1)
                    results.append({**result, "round": number})
                    print(f"round {number + 1}/{arguments.rounds} {sender.name:10} {cell.title}: {result['goodput'] * 8e-6:.2f} Mb/s, "
                          f"{result['link']['there']['lost']} lost, {result['link']['there']['queue_full']} not queued", file=sys.stderr, flush=True)
            finally:
                sender.stop()
    bench.link.remove()
    return results, report(results, cells)


def report(results, cells):
    summary = []
    print(f"\nRow {NUMBER}: bulk through an impaired path of {RATE / 1e6:g} Mb/s, against Linux's CUBIC; goodput of a flow: median (least to most)")
    for cell in cells:
        goodput = {name: [r["goodput"] for r in results if r["cell"] == cell.title and r["device"] == name] for name in ("sallyport", "Linux")}
        ratios = sorted(ours / theirs for ours, theirs in zip(goodput["sallyport"], goodput["Linux"]))   # same round, same seed
        ratio = statistics.median(goodput["sallyport"]) / statistics.median(goodput["Linux"])
        note = "" if ratio >= WANTED else f"  BELOW {WANTED}"
        print(f"  {cell.title:42} ours {megabits(goodput['sallyport'])}; Linux {megabits(goodput['Linux'])}; "
              f"ratio {ratio:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}){note}")
        summary.append({"row": NUMBER, "cell": cell.title, "ratio": ratio, "ratios": ratios, **goodput})
    return summary
