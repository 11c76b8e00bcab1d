"""What scripts/bench runs inside the firmware root: this appliance and nginx in turn, same clients, backend and cipher.

The device under test has core 0 (dataplane and control, or nginx's worker); clients and backends have core 1. The unit is
work per core-second of the device under test:
  ours    TSC cycles of the worker's loops that found work (at most the dataplane's CPU time), plus control's user and system time
  nginx   its worker's user and system time, plus the softirq time of core 0
Order A B A B, each round all rows; median with least and most over the rounds.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

from tests.bench import flood, loss, memif
from tests.lab import configuration, network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import CHECKOUT, Appliance, Lab, LabError, Nginx, best_profile, processor

SUITE, GROUP = "TLS_AES_128_GCM_SHA256", "X25519"
TICK = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1_000_000


@dataclasses.dataclass
class Row:
    number: int
    title: str
    port: int          # of the service
    path: str
    connections: int
    unit: str          # of the work: octets or requests
    close: bool = False


ROWS = [Row(1, "bulk, TLS to TLS, 1 MB answers, 16 flows", 443, "/bulk", 16, "octets"),
        Row(3, "bulk, TLS to plain, 1 MB answers, 16 flows", 8443, "/bulk", 16, "octets"),
        Row(5, "1 KB on kept connections, TLS to TLS, 64 flows", 443, "/1k", 64, "requests"),
        Row(8, "full handshake, 1 KB, close; TLS to plain, 16 at a time", 8443, "/1k", 16, "connections", close=True)]


def stat_times(cpu=None):
    """Seconds of a core (or all): busy, softirq, steal."""
    name = "cpu" if cpu is None else f"cpu{cpu}"
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == name:
            user, nice, system, _, _, irq, softirq, steal = (int(f) / TICK for f in fields[1:9])
            return {"busy": user + nice + system + irq + softirq, "softirq": irq + softirq, "steal": steal}
    raise LabError(f"no {name} in /proc/stat")


def process_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Ours:
    name = "sallyport"

    def __init__(self, bench):
        self.bench = bench
        network.no_kernel_addresses()
        bench.offloads(False)
        self.appliance = Appliance(bench.lab, bench.config_file, control_cores=[0]).start()

    def pids(self):
        return [self.appliance.control.pid, self.appliance.dataplane.pid]

    def sample(self):
        return self.sample_of(self.appliance)

    @staticmethod
    def sample_of(appliance):
        workers = appliance.show("workers")
        return {"cycles": sum(worker["cycles_busy"] for worker in workers), "hz": workers[0]["tsc_hz"],
                "control": process_seconds(appliance.control.pid), "dataplane": process_seconds(appliance.dataplane.pid)}

    @staticmethod
    def cost(before, after):
        cycles = after["cycles"] - before["cycles"]
        control = after["control"] - before["control"]
        # A turn during which the kernel gave the core to control counts its cycles too: the worker never had more than its CPU time.
        cycles = min(cycles, (after["dataplane"] - before["dataplane"]) * after["hz"])
        return {"core_seconds": cycles / after["hz"] + control, "worker_cycles": cycles, "control_seconds": control}

    def stop(self):
        self.appliance.stop()


class Peer:
    """nginx's stream module: on the kernel with its offloads on, its best; or as a wire of MTU 1500 without offloads."""

    def __init__(self, bench, offloads):
        self.bench = bench
        self.name = "nginx" if offloads else "nginx, offloads off"
        bench.offloads(offloads)
        network.kernel_addresses()
        text = configuration.nginx_stream(bench.config, bench.lab.directory / "peer", workers_core=0, extra=
                                          f"ssl_conf_command Ciphersuites {SUITE}; ssl_ecdh_curve {GROUP}; proxy_buffer_size 64k;")
        self.nginx = Nginx(bench.lab, "peer", text, cores=[0], reachable=("client", network.APPLIANCE["client"][0], 443))
        self.worker = self.nginx.worker_pids()[0]

    def pids(self):
        return [self.worker]

    def sample(self):
        return {"process": process_seconds(self.worker), "softirq": stat_times(0)["softirq"]}

    def cost(self, before, after):
        process, softirq = after["process"] - before["process"], after["softirq"] - before["softirq"]
        return {"core_seconds": process + softirq, "process_seconds": process, "softirq_seconds": softirq}

    def stop(self):
        self.nginx.stop()
        network.no_kernel_addresses()


class Bench:
    def __init__(self, lab, web, arguments):
        self.lab, self.web, self.arguments = lab, web, arguments
        lab.web_file("bulk", MEGABYTE)
        both = [lab.certificates.ecdsa]
        standard = lab.standard_pools()[0]
        v4, v6 = network.BACKEND_ADDRESSES[0]
        self.config = Configuration(
            services=[Service("bulk", 443, "web", both), Service("plain", 8443, "plain", both)],
            pools=[Pool("web", [f"{v4}:443"], standard.server_name, standard.trust), Pool("plain", [f"{v4}:80"])],
            policy_level=1, profile=arguments.profile or best_profile(), log_level="warning")
        self.config_file = lab.write_configuration(self.config, "bench.conf")
        # wrk has no options for suite and group: OpenSSL's own configuration has.
        self.client_conf = lab.directory / "client-openssl.cnf"
        self.client_conf.write_text(f"openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n"
                                    f"[tls]\nMinProtocol = TLSv1.3\nCiphersuites = {SUITE}\nGroups = {GROUP}\n")

    def offloads(self, on):
        """Checksum and segmentation offloads of the kernel's ends of the veth pairs."""
        state = "on" if on else "off"
        for side, port in (("client", network.CLIENT_PORT), ("backend", network.BACKEND_PORT)):
            for end in (["ip", "netns", "exec", side, "ethtool", "-K", "eth0"], ["ethtool", "-K", port]):
                network.run(*end, "tx", state, "tso", state, "gso", state, "gro", state)

    def read_back(self, row):
        """Version, suite and group as negotiated with the device, and with the backend."""
        done = self.lab.client("openssl", "s_client", "-connect", self.lab.service(row.port), "-servername", "www.example.com",
                               "-CAfile", self.lab.certificates.ca, "-verify_return_error", "-ciphersuites", SUITE, "-groups", GROUP,
                               "-tls1_3", "-ign_eof", input="GET /whoami HTTP/1.0\r\n\r\n")
        suite = re.search(r"Cipher is (\S+)", done.stdout)
        group = re.search(r"(?:Negotiated TLS1.3 group|Peer Temp Key): ([^\s,]+)", done.stdout)
        answer = done.stdout.splitlines()[-2:] if done.stdout else []
        found = {"suite": suite.group(1) if suite else "", "group": group.group(1) if group else "",
                 "backend": next((line for line in reversed(answer) if "HTTP/1" in line), "")}
        if found["suite"] != SUITE or found["group"].upper() != GROUP:
            raise LabError(f"row {row.number}: negotiated {found}, wanted {SUITE} {GROUP}\n{done.stdout}{done.stderr}")
        return found

    def wrk(self, row, seconds):
        command = ["taskset", "-c", "1", "wrk", "-t", "1", "-c", row.connections, "-d", f"{seconds}s", "--timeout", "20s"]
        if row.close:
            command += ["-H", "Connection: close"]
        done = self.lab.client("env", f"OPENSSL_CONF={self.client_conf}", *command, f"https://www.example.com:{row.port}{row.path}",
                               timeout=seconds + 60)
        match = re.search(r"(\d+) requests in ([\d.]+)(m?s|m),", done.stdout)
        if done.returncode != 0 or not match:
            raise LabError(f"wrk: {done.stdout}{done.stderr}")
        elapsed = float(match.group(2)) * {"s": 1, "ms": 0.001, "m": 60}[match.group(3)]
        errors = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", done.stdout))
        errors += sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", done.stdout))
        return {"requests": int(match.group(1)), "seconds": elapsed, "errors": errors, "output": done.stdout}

    def measure(self, device, row):
        found = self.read_back(row)
        self.wrk(row, 1)   # warm-up
        others = self.web.worker_pids() + device.pids()
        before, all_before = device.sample(), stat_times()
        known_before = sum(map(process_seconds, others)) + children_seconds()
        begun = time.monotonic()
        done = self.wrk(row, self.arguments.seconds)
        elapsed = time.monotonic() - begun
        after, all_after = device.sample(), stat_times()
        known = sum(map(process_seconds, others)) + children_seconds() - known_before
        busy, softirq = all_after["busy"] - all_before["busy"], all_after["softirq"] - all_before["softirq"]
        work = done["requests"] * (MEGABYTE if row.unit == "octets" else 1)
        cost = device.cost(before, after)
        return {"row": row.number, "device": device.name, "work": work, "requests": done["requests"], "seconds": done["seconds"],
                "errors": done["errors"], "rate": work / done["seconds"], "per_core_second": work / max(cost["core_seconds"], 1e-9),
                "device_load": cost["core_seconds"] / done["seconds"], "cost": cost, "negotiated": found,
                "steal_share": (all_after["steal"] - all_before["steal"]) / elapsed / 2,
                "others_share": max(0.0, busy - known - softirq) / elapsed / 2}


def children_seconds():
    times = os.times()
    return times.children_user + times.children_system


def scaled(value, unit):
    if unit == "octets":
        return f"{value * 8 / 1e9:.2f} Gb/s"
    return f"{value / 1e3:.2f} k/s"


def spread(values, unit):
    return f"{scaled(statistics.median(values), unit)} ({scaled(min(values), unit)} to {scaled(max(values), unit)})"


def environment(arguments):
    def version(*command, pick=0):
        done = subprocess.run(command, capture_output=True, text=True)
        return ((done.stdout + done.stderr).strip().splitlines() or ["?"])[pick]
    clock = re.search(r"cpu MHz\s*:\s*(\S+)", pathlib.Path("/proc/cpuinfo").read_text())
    packages = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", "dpdk", "libipsec-mb2", "libssl4", "libssl3t64", "nginx", "wrk"],
                              capture_output=True, text=True).stdout.split("\n")
    return {"processor": processor(), "mhz": clock.group(1) if clock else "?", "cores": os.cpu_count(), "kernel": os.uname().release,
            "packages": [p for p in packages if p], "commit": version("git", "-c", "safe.directory=*", "-C", str(CHECKOUT), "describe", "--always", "--dirty"),
            "build": os.environ.get("SALLYPORT_BUILD", ""), "profile": arguments.profile or best_profile(), "suite": SUITE, "group": GROUP,
            "certificate": "ECDSA P-256", "mtu": 1500, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def report(results, rows, names):
    summary = []
    for row in rows:
        print(f"\nRow {row.number}: {row.title}")
        medians = {}
        for name in names:
            mine = [r for r in results if r["row"] == row.number and r["device"] == name]
            if not mine:
                continue
            clean = [r for r in mine if r["steal_share"] <= 0.01 and r["others_share"] <= 0.02]
            used = clean if len(clean) >= 3 else mine
            rate, per_core = [r["rate"] for r in used], [r["per_core_second"] for r in used]
            medians[name] = (statistics.median(rate), statistics.median(per_core))
            load = statistics.median(r["device_load"] for r in used)
            notes = [f"{len(used)} of {len(mine)} rounds" + ("" if used is clean else ", the machine was disturbed in most")]
            if load < 0.9:
                notes.append(f"peer-bound: the device was {load:.0%} busy")
            errors = sum(r["errors"] for r in used)
            if errors:
                notes.append(f"{errors} ERRORS")
            print(f"  {name:20} {spread(rate, row.unit)} raw; {spread(per_core, row.unit)} a core-second; {'; '.join(notes)}")
            entry = {"row": row.number, "title": row.title, "device": name, "unit": row.unit, "rate": sorted(rate),
                     "per_core_second": sorted(per_core), "load": load, "rounds_used": len(used), "errors": errors}
            if name == Ours.name:
                cycles = statistics.median(r["cost"]["worker_cycles"] / max(r["work"], 1) for r in used)
                control = statistics.median(r["cost"]["control_seconds"] / max(r["requests"], 1) for r in used)
                unit = row.unit.removesuffix("s")
                print(f"  {'':20} {cycles:.2f} cycles of the worker {'an' if unit[0] == 'o' else 'a'} {unit}; control {control * 1e6:.1f} µs a request")
                entry.update(worker_cycles_per_unit=cycles, control_seconds_per_request=control)
            summary.append(entry)
        for name in names[1:]:
            if Ours.name in medians and name in medians:
                raw, core = (ours / theirs for ours, theirs in zip(medians[Ours.name], medians[name]))
                print(f"  ratio to {name}: {core:.2f} a core-second, {raw:.2f} raw")
    return summary


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="This appliance against nginx, by the rules in the driver's head.")
    parser.add_argument("--rows", default="1,3,5,8", help="which of rows 1, 3, 5, 8, 17 (established flows under a SYN flood) and 22 (TCP through an impaired path)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="of one measurement")
    parser.add_argument("--memif", action="store_true", help="rows 1, 3, 5, 6, 8 and 9, or those of --rows among them, with our generator over memif: no peer")
    parser.add_argument("--cells", default="", help="row 22: only paths with this in their title, such as '50 ms, 1.0% loss'")
    parser.add_argument("--profile", help="port profile of ours; else af_xdp where the kernel has it")
    parser.add_argument("--devices", default="ours,nginx,nginx-plain", help="of ours, nginx (offloads on), nginx-plain (off)")
    parser.add_argument("--json", help="also write everything to this file (a path in the checkout)")
    arguments = parser.parse_args()
    asked = arguments.rows.split(",")
    if arguments.memif:
        with Lab() as lab:
            memif_rows = [row for row in memif.ROWS if str(row.number) in asked]
            if not memif_rows:
                parser.error("none of these rows is measured over memif")
            about = environment(arguments)
            results, summary = memif.run(lab, arguments, memif_rows, Ours.sample_of, Ours.cost, scaled)
        return written(arguments, about, summary, results)
    rows = [row for row in ROWS if str(row.number) in asked]
    makers = {"ours": Ours, "nginx": lambda bench: Peer(bench, True), "nginx-plain": lambda bench: Peer(bench, False)}
    chosen = arguments.devices.split(",")
    apart = [module for module in (flood, loss) if str(module.NUMBER) in asked]   # with a lab of their own
    if not rows and not apart or any(name not in makers for name in chosen):
        parser.error("no such row or device")
    about = environment(arguments)
    for name, value in about.items():
        print(f"{name:12} {', '.join(value) if isinstance(value, list) else value}")
    results, summary = [], []
    with Lab() as lab:
        web = lab.start_web(cores=[1])
        for module in apart:
            done, told = module.run(lab, arguments)
            results += done
            summary += told
        bench = Bench(lab, web, arguments) if rows else None
        for number in range(arguments.rounds if rows else 0):
            for name in chosen:
                device = makers[name](bench)
                try:
                    for row in rows:
                        result = bench.measure(device, row)
                        result["round"] = number
                        results.append(result)
                        print(f"round {number + 1}/{arguments.rounds} {device.name:20} row {row.number}: {scaled(result['rate'], row.unit)} raw, "
                              f"{scaled(result['per_core_second'], row.unit)} a core-second", file=sys.stderr, flush=True)
                finally:
                    device.stop()
    names = [{"ours": "sallyport", "nginx": "nginx", "nginx-plain": "nginx, offloads off"}[name] for name in chosen]
    summary += report(results, rows, names if names[0] == "sallyport" else ["sallyport", *names])
    return written(arguments, about, summary, results)


def written(arguments, about, summary, results):
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"environment": about, "summary": summary, "rounds": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
