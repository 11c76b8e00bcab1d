"""Row 17 of scripts/bench, its second half: what 1,000 established flows keep of their goodput while SYNs come as fast as one process sends them.

The flows are kept connections, TLS to TLS, each of which has a message of 2 KB echoed five times a second, and sends no next one before the last
has come back: an offered load of 80 Mb/s each way, since clients at full speed would compete with the flood for their core, and their figure would tell of
that. The clients, the backend and the flood share core 1, the device has core 0. The flood takes what is left of core 1 in both halves of a
measurement: in the first it goes nowhere (into a link whose other end drops it), in the second to the service that the flows use.
Sources are drawn from 198.18.0.0/15, behind the clients' router, which drops what is answered.
"""

import dataclasses
import json
import re
import time

from tests.bench import devices
from tests.bench.devices import ECHO_PORT, OURS
from tests.bench.flows import Flows
from tests.bench.row import Sample
from tests.lab import network
from tests.lab.lab import LabError, Process, program, tail, wait_for

FLOWS = 1000
MESSAGE, INTERVAL_MS = 2000, 200
SOURCES = "198.18.0.0/15"
NOWHERE = "nowhere"   # a link of the clients' namespace


@dataclasses.dataclass(frozen=True)
class Load:
    conditions = f"{FLOWS} flows with an offered load of {FLOWS * MESSAGE * 8e-3 / INTERVAL_MS:g} Mb/s each way; af_xdp on veth, and the kernel with its cookies"

    @staticmethod
    def measure(bench, rows):
        chosen = [name for name in bench.devices if name in DEVICES]
        with Links(bench) as links:
            for number in bench.rounds():
                for name in chosen:
                    device = DEVICES[name](bench)
                    try:
                        for row in rows:
                            yield links.sample(device, row, number)
                    finally:
                        device.stop()


class Ours(devices.Ours):
    def __init__(self, bench):
        super().__init__(bench, file="flood.conf")

    @staticmethod
    def configuration(bench, dataplane, profile):
        return dataclasses.replace(devices.Ours.configuration(bench, dataplane, profile), routes={"client": [{"to": SOURCES, "via": network.CLIENT_ADDRESSES[0]}]})

    def cookies(self):
        return self.appliance.counters().get("tcp_cookies_sent", 0)


class Nginx(devices.Nginx):
    def __init__(self, bench):
        super().__init__(bench)
        network.run("ip", "route", "replace", SOURCES, "via", network.CLIENT_ADDRESSES[0], "dev", network.CLIENT_PORT)

    def cookies(self):
        text = network.run("nstat", "-asz", "TcpExtSyncookiesSent").stdout
        return int(re.search(r"TcpExtSyncookiesSent\s+(\d+)", text).group(1))


DEVICES = {OURS: Ours, "nginx": Nginx}


class Flood:
    def __init__(self, lab, interface, mac, number):
        command = ["taskset", "-c", "1", program("lab_flood"), "--interface", interface, "--mac", mac,
                   "--to", f"{network.APPLIANCE['client'][0]}:{ECHO_PORT}", "--from", SOURCES, "--seed", number]
        self.lab = lab
        self.process = lab.track(Process("flood", command, log=lab.directory / f"flood-{number}.log", namespace="client"))
        wait_for(lambda: f"the flood to begin: {tail(self.process.log)}", lambda: "ready" in self.process.log.read_text())

    def halt(self):
        self.process.stop()
        self.lab.processes.remove(self.process)
        return json.loads(self.process.log.read_text().splitlines()[-1])


class Links:
    """The flows' backend, and the link that leads nowhere."""

    def __init__(self, bench):
        self.lab, self.arguments = bench.lab, bench.arguments
        self.floods = 0
        bench.echo()
        inside = ["ip", "-n", "client", "link"]
        network.run(*inside, "add", NOWHERE, "type", "veth", "peer", "name", "dropped")
        for end in (NOWHERE, "dropped"):
            network.run("ip", "netns", "exec", "client", "sysctl", "-q", f"net.ipv6.conf.{end}.disable_ipv6=1")
            network.run(*inside, "set", end, "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        network.run("ip", "-n", "client", "link", "del", NOWHERE)

    def device_mac(self):
        found = json.loads(network.run("ip", "-j", "link", "show", "dev", network.CLIENT_PORT).stdout)
        return found[0]["address"]

    def octets(self):
        """That the backend has sent: the flood touches nothing of its link."""
        return json.loads(network.run("ip", "-n", "backend", "-s", "-j", "link", "show", "dev", "eth0").stdout)[0]["stats64"]["tx"]["bytes"]

    def half(self, device, interface):
        """Goodput of the flows, and what the flood was."""
        self.floods += 1
        before = device.cookies()
        flood = Flood(self.lab, interface, self.device_mac(), self.floods)
        time.sleep(0.5)
        octets, begun = self.octets(), time.monotonic()
        time.sleep(self.arguments.seconds)
        octets, elapsed = self.octets() - octets, time.monotonic() - begun
        sent = flood.halt()
        time.sleep(0.5)
        return {"goodput": octets / elapsed, "syns_a_second": sent["sent"] / sent["seconds"], "syns": sent["sent"],
                "cookies": device.cookies() - before}

    def sample(self, device, row, number):
        seconds = 2 * self.arguments.seconds + 120
        with Flows(self.lab, FLOWS, "--octets", MESSAGE, "--interval-ms", INTERVAL_MS, "--duration-ms", seconds * 1000) as flows:
            time.sleep(2)
            quiet, flooded = self.half(device, NOWHERE), self.half(device, "eth0")
            left = flows.established()
        if flooded["cookies"] == 0:
            raise LabError(f"{device.name} sent no cookie: the flood did not reach it: {flooded}")
        if left < FLOWS:
            raise LabError(f"{device.name} has lost {FLOWS - left} of its flows")
        return Sample(row, device.name, 100 * flooded["goodput"] / quiet["goodput"], number, {
            "Mb/s without the flood": quiet["goodput"] * 8e-6, "k SYN/s": flooded["syns_a_second"] * 1e-3,
            "% of them answered by cookies": 100 * flooded["cookies"] / flooded["syns"]})
