"""Rows of scripts/bench over memif, with our own generator on both sides (tests/bench/generator): what the appliance costs without the kernel in its path.

No peer can stand there, so these figures are ours alone and are never set against a peer's. Core 0 is the appliance's, control included, core 1 the
generator's. Work per core-second is the generator's count in its window over the TSC cycles of the worker's loops that found work (at most the
dataplane's CPU time) and control's CPU time in that window, which is taken a moment longer than the generator's: the cost errs upwards.
"""

import dataclasses
import statistics
import sys
import threading
import time

from tests.lab.between import Between
from tests.lab.lab import LabError, wait_for

MEGABYTE = 1_000_000
WARM_UP = 1   # seconds


@dataclasses.dataclass
class Row:
    number: int
    title: str
    options: dict
    unit: str            # octets of answers, requests or connections
    plain: bool = False


ROWS = [Row(1, "bulk, TLS to TLS, 1 MB answers, 16 flows", {"connections": 16, "answer_size": MEGABYTE}, "octets"),
        Row(3, "bulk, TLS to plain, 1 MB answers, 16 flows", {"connections": 16, "answer_size": MEGABYTE}, "octets", plain=True),
        Row(5, "1 KB on kept connections, TLS to TLS, 64 flows", {"connections": 64, "answer_size": 1024}, "requests"),
        Row(6, "16 KB on kept connections, TLS to TLS, 64 flows", {"connections": 64, "answer_size": 16384}, "requests"),
        Row(8, "full handshake, 1 KB, close; TLS to plain, 16 at a time", {"connections": 16, "answer_size": 1024, "mode": "close"}, "connections", plain=True),
        Row(9, "full handshake, 1 KB, close; TLS to TLS, 16 at a time", {"connections": 16, "answer_size": 1024, "mode": "close"}, "connections")]
COMMON = {"tls": "1.3", "suite": "TLS_AES_128_GCM_SHA256", "backend_suite": "TLS_AES_128_GCM_SHA256", "groups": "x25519", "backend_groups": "x25519",
          "timeout": 60, "drain": 30, "settle": 2, "host": "www.example.com"}


class Sampler:
    """The appliance's cost in the middle of the generator's window: from when there are flows and the warm-up is over, for as long as measured."""

    def __init__(self, between, sample, seconds):
        self.between, self.sample, self.seconds = between, sample, seconds
        self.before = self.after = None
        self.elapsed = 0.0
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def flows(self):
        try:
            return self.between.appliance.show("flows")["total"]
        except LabError:
            return 0   # control does not answer yet

    def watch(self):
        wait_for("flows", lambda: self.flows() > 0, 120)
        time.sleep(2 * WARM_UP)
        self.before, begun = self.sample(self.between.appliance), time.monotonic()
        time.sleep(self.seconds)
        self.after, self.elapsed = self.sample(self.between.appliance), time.monotonic() - begun


def measure(lab, row, seconds, sample, cost):
    between = Between(lab, plain=row.plain, control_cores=[0], certificates_of_service=[lab.certificates.ecdsa], policy_level=1, log_level="warning")
    try:
        sampler = Sampler(between, sample, seconds)
        done, report = between.run(**COMMON, **row.options, warm_up=WARM_UP, duration=seconds + 2 * WARM_UP)
        sampler.thread.join()
    finally:
        between.stop()
    if done.returncode != 0 or report is None or sampler.after is None:
        raise LabError(f"row {row.number} over memif: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    negotiated = report["clients"]["negotiated"][0]
    if (negotiated["version"], negotiated["suite"], negotiated["group"]) != ("1.3", COMMON["suite"], COMMON["groups"]):
        raise LabError(f"row {row.number} over memif: negotiated {negotiated}")
    window, spent = report["window"], cost(sampler.before, sampler.after)
    rate = window["messages_per_second"] * (MEGABYTE if row.unit == "octets" else 1)
    load = spent["core_seconds"] / sampler.elapsed
    return {"row": row.number, "device": "sallyport over memif", "rate": rate, "device_load": load, "per_core_second": rate / load,
            "worker_cycles_per_unit": spent["worker_cycles"] / sampler.elapsed / rate, "control_seconds_per_message": spent["control_seconds"] / sampler.elapsed / window["messages_per_second"],
            "generator_busy": window["busy_share"], "generator_cpu": window["cpu_share"], "latency": report["latency"], "negotiated": negotiated}


def run(lab, arguments, rows, sample, cost, scaled):
    """Measures and reports; returns (rounds, summary)."""
    results = []
    for number in range(arguments.rounds):
        for row in rows:
            result = {**measure(lab, row, arguments.seconds, sample, cost), "round": number}
            results.append(result)
            print(f"round {number + 1}/{arguments.rounds} over memif, row {row.number}: {scaled(result['rate'], row.unit)} raw, "
                  f"{scaled(result['per_core_second'], row.unit)} a core-second", file=sys.stderr, flush=True)
    summary = []
    for row in rows:
        mine = [r for r in results if r["row"] == row.number]
        middle = {name: statistics.median(r[name] for r in mine) for name in
                  ("rate", "per_core_second", "device_load", "worker_cycles_per_unit", "control_seconds_per_message", "generator_busy", "generator_cpu")}
        rates = [r["per_core_second"] for r in mine]
        unit = row.unit.removesuffix("s")
        print(f"\nRow {row.number} over memif, no peer: {row.title}\n"
              f"  sallyport            {scaled(middle['rate'], row.unit)} raw; {scaled(middle['per_core_second'], row.unit)} a core-second "
              f"({scaled(min(rates), row.unit)} to {scaled(max(rates), row.unit)}); the device was {middle['device_load']:.0%} busy, the generator {middle['generator_busy']:.0%} "
              f"with {middle['generator_cpu']:.0%} of its core\n"
              f"  {'':20} {middle['worker_cycles_per_unit']:.2f} cycles of the worker {'an' if unit[0] == 'o' else 'a'} {unit}; control {middle['control_seconds_per_message'] * 1e6:.1f} µs a request")
        summary.append({"row": row.number, "title": row.title + ", over memif", "unit": row.unit, **middle, "spread": [min(rates), max(rates)]})
    return results, summary
