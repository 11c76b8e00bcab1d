"""Rows that are like for like: this appliance and its peers in turn on the lab's veth links, same client (clients.py), backends, certificate, suite and group.

Core 0 is the device's, core 1 the client's and the backends'. Order A B A B: each round all devices, each device all rows. Devices issue as many tickets
as they do unasked, two.
"""

import dataclasses
import re

from tests.bench import devices
from tests.bench.accounting import Watch
from tests.bench.clients import CLIENTS
from tests.bench.devices import BACKEND, LISTEN, OURS, PLAIN_PORT, RSA_PORT, program_of, template
from tests.bench.row import DEVICE_BUSY, GIGABITS, Sample
from tests.lab.lab import LabError, Nginx

AES_128, GROUP = "TLS_AES_128_GCM_SHA256", "X25519"
FULL_ONES = 0.01   # of handshakes that are to be resumed, beside the first of each connection
MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True)
class Load:
    path: str
    connections: int                 # at once
    peers: tuple
    port: int = 443
    answer: int = 0                  # octets of an answer, where octets are counted
    suite: str = AES_128             # of a 1.2 client: OpenSSL's name
    group: str = GROUP
    version: str = "1.3"
    close: bool = False              # a connection for each request
    resumed: bool = False            # each handshake but the first of a connection
    port_of: tuple = ()              # (device, port) where a device has another
    client: str = "wrk"              # of CLIENTS

    @property
    def conditions(self):
        return f"af_packet on veth against the kernel's sockets on veth, both with its offloads; {self.client}, and nginx as backend"

    def port_at(self, device):
        return dict(self.port_of).get(program_of(device), self.port)

    @property
    def groups(self):
        """RFC 8422 5.1: a 1.2 client's list names the certificate's curve, too."""
        return self.group + (":P-256" if self.version == "1.2" else "")

    @staticmethod
    def measure(bench, rows):
        yield from Kernel(bench).measure(rows)


class Kernel:
    def __init__(self, bench):
        self.bench, self.lab = bench, bench.lab
        self.backends = bench.backends()

    def measure(self, rows):
        for number in self.bench.rounds():
            for name in self.bench.devices:
                mine = [row for row in rows if name == OURS or program_of(name) in load_of(row).peers]
                if not mine:
                    continue
                device = devices.make(self.bench, name, profile="af_packet")
                try:
                    for row in mine:
                        yield from self.bench.sample(row, name, lambda row=row: self.sample(device, name, row, number))
                finally:
                    device.stop()

    def sample(self, device, name, row, number):
        load, seconds = load_of(row), self.bench.arguments.seconds
        client = CLIENTS[load.client]
        port = load.port_at(name)
        self.read_back(device, load, port)
        self.compare(device, load, port)
        client.run(self.lab, load, port, 1)   # warm-up
        watch = Watch(device.pids() + self.backends.worker_pids())
        before, shaken = device.sample(), device.handshakes()
        done = client.run(self.lab, load, port, seconds)
        cost = device.cost(before, device.sample())
        over = watch.over()
        work = done["requests"] * (load.answer * 8e-9 if row.unit is GIGABITS else 1e-3)
        details = {f"{row.unit.name.split(' a ')[0]} a second raw": work / done["seconds"], DEVICE_BUSY: 100 * cost["core_seconds"] / done["seconds"],
                   "errors": done["errors"]}
        if name == OURS:
            details["worker cycles a request" if not load.answer else "worker cycles an octet"] = cost["worker_cycles"] / done["requests"] / (load.answer or 1)
            details["control us a request"] = cost["control_seconds"] / done["requests"] * 1e6
        if shaken and load.close:
            total, resumed = (after - earlier for after, earlier in zip(device.handshakes(), shaken))
            details["resumed %"] = 100 * resumed / max(total, 1)
            if total - resumed > load.connections + FULL_ONES * total if load.resumed else resumed:
                raise LabError(f"row {row.number}: {resumed} of {total} handshakes were resumed")
        if done["errors"] > max(1, 1e-5 * done["requests"]):
            raise LabError(f"row {row.number}, {device.name}: {done['errors']} errors: {done['output']}")
        return Sample(row, device.name, work / max(cost["core_seconds"], 1e-9), number, details, *over)

    def read_back(self, device, load, port):
        """Version, suite and group as negotiated with the device, and with the backend."""
        suite = ["-cipher", load.suite] if load.version == "1.2" else ["-ciphersuites", load.suite]
        done = self.lab.client("openssl", "s_client", "-connect", f"{LISTEN}:{port}", "-servername", "www.example.com", "-CAfile", self.lab.certificates.ca,
                               "-verify_return_error", *suite, "-groups", load.groups, f"-tls{load.version.replace('.', '_')}",
                               "-ign_eof", input="GET /whoami HTTP/1.0\r\n\r\n")
        wanted = [load.suite, "plain" if port in (PLAIN_PORT, RSA_PORT) else f"TLSv1.3 {load.suite}"]
        found = [match.group(1) if (match := re.search(pattern, done.stdout, re.MULTILINE)) else "" for pattern in
                 (r"Cipher is (\S+)", r"^(plain|TLSv\S+ \S+)$")]
        group = re.search(r"(?:Negotiated TLS1.3 group|Peer Temp Key): ([^\s,]+)", done.stdout)
        if found != wanted or not group or group.group(1).upper() != load.group.upper():
            raise LabError(f"{device.name}, port {port}: negotiated {found} {group and group.group(1)}, wanted {wanted} {load.group}\n{done.stdout[-2000:]}{done.stderr}")

    def compare(self, device, load, port):
        """An answer, octet by octet."""
        done = self.lab.client("curl", "-sS", "--cacert", self.lab.certificates.ca, f"https://www.example.com:{port}{load.path}", text=False)
        if done.stdout != (self.lab.directory / "www" / load.path[1:]).read_bytes():
            raise LabError(f"{device.name}, port {port}: {load.path} comes with other octets: {len(done.stdout)}, {done.stderr}")


def load_of(row):
    return next(way for way in row.ways if isinstance(way, Load))


def start_backends(lab):
    """The backends of all rows that are like for like, on core 1."""
    (lab.directory / "www").mkdir(exist_ok=True)
    for name, size in (("bulk", MEGABYTE), ("16k", 16384), ("1k", 1024)):
        lab.web_file(name, size)
    directory = lab.directory / "backends"
    certificate, key = lab.certificates.backend
    text = template("backends.conf", directory=directory, certificate=certificate, key=key, www=lab.directory / "www", address=BACKEND)
    return Nginx(lab, "backends", text, namespace="backend", cores=[1], reachable=("backend", BACKEND, 443))
