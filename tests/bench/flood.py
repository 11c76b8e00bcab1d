"""Row 17 of scripts/bench, its second half: what 1,000 established flows keep of their goodput while SYNs come as fast as one process sends them.

The flows are kept connections, TLS to TLS, each of which has a message of 2 KB echoed five times a second, and sends no next one before the last
has come back: an offered load of 160 Mb/s, since clients at full speed would compete with the flood for their core, and their figure would tell of
that. The clients, the backend and the flood share core 1, the device has core 0. The flood takes what is left of core 1 in both halves of a
measurement: in the first it goes nowhere (into a link whose other end drops it), in the second to the service that the flows use.
Sources are drawn from 198.18.0.0/15, behind the clients' router, which drops what is answered.
"""

import json
import re
import statistics
import sys
import time

from tests.lab import configuration, network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Appliance, Backend, LabError, Nginx, Process, best_profile, program, tail, wait_for

NUMBER = 17
FLOWS, PORT = 1000, 4433
MESSAGE, INTERVAL_MS = 2000, 200
SOURCES = "198.18.0.0/15"
NOWHERE = "nowhere"   # a link of the clients' namespace
WANTED = 0.9


def configuration_of(lab, arguments):
    v4 = network.BACKEND_ADDRESSES[0][0]
    standard = lab.standard_pools()[1]
    return Configuration(services=[Service("echo", PORT, "echo", [lab.certificates.ecdsa])],
                         pools=[Pool("echo", [f"{v4}:{PORT}"], standard.server_name, standard.trust)],
                         policy_level=1, profile=arguments.profile or best_profile(), log_level="warning",
                         routes={"client": [{"to": SOURCES, "via": network.CLIENT_ADDRESSES[0]}]})


class Ours:
    name = "sallyport"

    def __init__(self, lab, arguments):
        network.no_kernel_addresses()
        self.appliance = Appliance(lab, lab.write_configuration(configuration_of(lab, arguments), "flood.conf"), control_cores=[0]).start()

    def counters(self):
        return self.appliance.counters()

    def stop(self):
        self.appliance.stop()


class Peer:
    """nginx's stream module, on the kernel with its cookies."""
    name = "nginx"

    def __init__(self, lab, arguments):
        network.kernel_addresses()
        network.run("ip", "route", "replace", SOURCES, "via", network.CLIENT_ADDRESSES[0], "dev", network.CLIENT_PORT)
        text = configuration.nginx_stream(configuration_of(lab, arguments), lab.directory / "flood-peer", workers_core=0)
        self.nginx = Nginx(lab, "flood-peer", text, cores=[0], reachable=("client", network.APPLIANCE["client"][0], PORT))

    def counters(self):
        text = network.run("nstat", "-asz", "TcpExtSyncookiesSent").stdout
        return {"tcp_cookies_sent": int(re.search(r"TcpExtSyncookiesSent\s+(\d+)", text).group(1))}

    def stop(self):
        self.nginx.stop()
        network.no_kernel_addresses()


DEVICES = {"ours": Ours, "nginx": Peer}


class Flood:
    def __init__(self, lab, interface, mac, number):
        command = ["taskset", "-c", "1", program("lab_flood"), "--interface", interface, "--mac", mac,
                   "--to", f"{network.APPLIANCE['client'][0]}:{PORT}", "--from", SOURCES, "--seed", number]
        self.lab = lab
        self.process = lab.track(Process("flood", command, log=lab.directory / f"flood-{number}.log", namespace="client"))
        wait_for(lambda: f"the flood to begin: {tail(self.process.log)}", lambda: "ready" in self.process.log.read_text())

    def halt(self):
        self.process.stop()
        self.lab.processes.remove(self.process)
        return json.loads(self.process.log.read_text().splitlines()[-1])


class Bench:
    def __init__(self, lab, arguments):
        self.lab, self.arguments = lab, arguments
        self.floods = 0
        Backend(lab, "echo", PORT, cores=[1])
        inside = ["ip", "-n", "client", "link"]
        network.run(*inside, "add", NOWHERE, "type", "veth", "peer", "name", "dropped")
        for end in (NOWHERE, "dropped"):
            network.run("ip", "netns", "exec", "client", "sysctl", "-q", f"net.ipv6.conf.{end}.disable_ipv6=1")
            network.run(*inside, "set", end, "up")

    def device_mac(self):
        found = json.loads(network.run("ip", "-j", "link", "show", "dev", network.CLIENT_PORT).stdout)
        return found[0]["address"]

    def octets(self):
        """That the backend has sent: the flood touches nothing of its link."""
        return json.loads(network.run("ip", "-n", "backend", "-s", "-j", "link", "show", "dev", "eth0").stdout)[0]["stats64"]["tx"]["bytes"]

    def established(self):
        return len(self.lab.client("ss", "-Htn", "state", "established", f"( dport = :{PORT} )").stdout.splitlines())

    def half(self, device, interface):
        """Goodput of the flows, and what the flood was."""
        self.floods += 1
        before = device.counters()
        flood = Flood(self.lab, interface, self.device_mac(), self.floods)
        time.sleep(0.5)
        octets, begun = self.octets(), time.monotonic()
        time.sleep(self.arguments.seconds)
        octets, elapsed = self.octets() - octets, time.monotonic() - begun
        sent = flood.halt()
        time.sleep(0.5)
        return {"goodput": octets / elapsed, "syns_a_second": sent["sent"] / sent["seconds"], "syns": sent["sent"],
                "cookies": device.counters().get("tcp_cookies_sent", 0) - before.get("tcp_cookies_sent", 0)}

    def measure(self, device):
        seconds = 2 * self.arguments.seconds + 120
        clients = self.lab.track(Process("flows", ["taskset", "-c", "1", program("lab_client"), "--connect", self.lab.service(PORT), "--ca", self.lab.certificates.ca,
                                                   "--name", "www.example.com", "--connections", FLOWS, "--octets", MESSAGE, "--interval-ms", INTERVAL_MS,
                                                   "--duration-ms", seconds * 1000, "--timeout-ms", 300_000], log=self.lab.directory / "flows.log", namespace="client"))
        try:
            wait_for(lambda: f"{FLOWS} flows, there are {self.established()}", lambda: self.established() >= FLOWS, 100)
            time.sleep(2)
            quiet, flooded = self.half(device, NOWHERE), self.half(device, "eth0")
            left = self.established()
        finally:
            clients.kill_group()
            self.lab.processes.remove(clients)
        if flooded["cookies"] == 0:
            raise LabError(f"{device.name} sent no cookie: the flood did not reach it: {flooded}")
        if left < FLOWS:
            raise LabError(f"{device.name} has lost {FLOWS - left} of its flows")
        return {"row": NUMBER, "device": device.name, "quiet": quiet, "flooded": flooded, "kept": flooded["goodput"] / quiet["goodput"]}


def run(lab, arguments):
    """Measures; returns (rounds, summary)."""
    bench = Bench(lab, arguments)
    results = []
    for number in range(arguments.rounds):
        for make in DEVICES.values():
            device = make(lab, arguments)
            try:
                result = {**bench.measure(device), "round": number}
            finally:
                device.stop()
            results.append(result)
            print(f"round {number + 1}/{arguments.rounds} {device.name:10} kept {result['kept']:.1%} under {result['flooded']['syns_a_second'] / 1e3:.0f} k SYN/s",
                  file=sys.stderr, flush=True)
    network.run("ip", "-n", "client", "link", "del", NOWHERE)
    return results, report(results)


def report(results):
    summary = []
    print(f"\nRow {NUMBER}: {FLOWS} established flows under a SYN flood: what they keep of their goodput, median (least to most)")
    for name in dict.fromkeys(r["device"] for r in results):
        mine = [r for r in results if r["device"] == name]
        kept = sorted(r["kept"] for r in mine)
        rates = sorted(r["flooded"]["syns_a_second"] for r in mine)
        median = statistics.median(kept)
        answered = sum(r["flooded"]["cookies"] for r in mine) / sum(r["flooded"]["syns"] for r in mine)
        print(f"  {name:10} kept {median:.1%} ({kept[0]:.1%} to {kept[-1]:.1%}) of {statistics.median(r['quiet']['goodput'] for r in mine) * 8e-6:.0f} Mb/s, under "
              f"{statistics.median(rates) / 1e3:.0f} k SYN/s ({rates[0] / 1e3:.0f} to {rates[-1] / 1e3:.0f}), {answered:.0%} answered by cookies"
              + (f"  BELOW {WANTED:.0%}" if name == Ours.name and median < WANTED else ""))
        summary.append({"row": NUMBER, "device": name, "kept": kept, "syns_a_second": rates})
    return summary
