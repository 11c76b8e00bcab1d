"""What is under test on the lab's veth links, on core 0: this appliance, or a peer on the kernel.

What a unit of work costs:
  ours    TSC cycles of the worker's turns that found work, but for what the machine's host took of them, plus control's user and system time
  a peer  what core 0 was not idle, but for what the machine's host took. (A process's system time has the softirqs in it that ran while it did, and /proc/stat
          has them once more, so that one added to the other counts them twice. Nothing else runs on core 0; what does is told as a disturbance.)
A peer has the kernel's offloads on, its best, as ours has with the profile af_packet; as "PEER, offloads off" it has a wire of MTU 1500 without any, as ours has with
af_xdp.
All have the same services, on ports that rows name (configurations: peers/).
"""

import contextlib
import pathlib
import string
import time

from tests.bench.accounting import descendants, memory_kib, process_seconds, stat_times
from tests.lab import certificates, network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Appliance, LabError, Process, best_profile, tail, wait_for

LISTEN, BACKEND = network.APPLIANCE["client"][0], network.BACKEND_ADDRESSES[0][0]
ECHO_PORT, PLAIN_PORT, RSA_PORT = 4433, 8443, 9443
SUITE_PORTS = {"TLS_AES_128_GCM_SHA256": 443, "TLS_AES_256_GCM_SHA384": 444, "TLS_CHACHA20_POLY1305_SHA256": 445}
RESUMING_PORT, POOLED_PORT = 10443, 11443   # sessions of backends are resumed (ours always does); backend connections are kept and shared
OURS = "sallyport"


def template(name, **values):
    return string.Template((pathlib.Path(__file__).with_name("peers") / name).read_text()).substitute(values)


def offloads(on):
    for side in ("client", "backend"):
        network.offloads_of_link(side, on)


class Ours:
    """On AF_XDP where the kernel has it, unless a row or the command line wants another profile."""
    name = OURS

    def __init__(self, bench, dataplane=None, file="bench.conf", profile=""):
        network.no_kernel_addresses()
        profile = bench.arguments.profile or profile or best_profile()
        offloads(profile == "af_packet")   # it takes merged frames, others do not
        config = self.configuration(bench, dataplane or {"max_flows": 8192}, profile)
        self.appliance = Appliance(bench.lab, bench.lab.write_configuration(config, file), control_cores=[0]).start()

    @staticmethod
    def configuration(bench, dataplane, profile):
        lab = bench.lab
        trust = {"server_name": certificates.BACKEND_NAME, "trust": str(lab.certificates.backend_ca)}
        patient = {"handshake_timeout_ms": 60000}
        tls_ports = {**{port: port for port in SUITE_PORTS.values()}, ECHO_PORT: ECHO_PORT, RESUMING_PORT: 443}
        services = [Service(f"web{port}", port, f"web{to}", [lab.certificates.ecdsa], settings=patient) for port, to in tls_ports.items()]
        services += [Service(f"plain{port}", port, "plain", [certificate], settings=patient)
                     for port, certificate in ((PLAIN_PORT, lab.certificates.ecdsa), (RSA_PORT, lab.certificates.rsa2048))]
        pools = [Pool(f"web{port}", [f"{BACKEND}:{port}"], **trust) for port in dict.fromkeys(tls_ports.values())]
        return Configuration(services, [*pools, Pool("plain", [f"{BACKEND}:80"])], policy_level=1, log_level="warning",
                             profile=profile, dataplane=dataplane, routes={"client": [{"to": network.MORE_CLIENTS, "via": network.CLIENT_ADDRESSES[0]}]})

    def pids(self):
        return [self.appliance.control.pid, self.appliance.dataplane.pid]

    def sample(self):
        return sample_of(self.appliance)

    @staticmethod
    def cost(before, after):
        return cost_of(before, after)

    def handshakes(self):
        """(done, resumed) of clients so far."""
        services = self.appliance.view("services")
        return sum(s["handshakes_done"] for s in services), sum(s["resumed"] for s in services)

    def memory_kib(self):
        return sum(map(memory_kib, self.pids()))

    def stop(self):
        self.appliance.stop()


def sample_of(appliance):
    workers = appliance.view("workers")
    return {"cycles": sum(worker["cycles_busy"] for worker in workers), "hz": workers[0]["tsc_hz"],
            "control": process_seconds(appliance.control.pid), "dataplane": process_seconds(appliance.dataplane.pid), "core": stat_times(0)}


def cost_of(before, after):
    cycles, control = (after[name] - before[name] for name in ("cycles", "control"))
    # What the machine's host took of the core is in the TSC, and in no process's CPU time. The worker always wants its core, so its turns had their share of it.
    busy, steal = (after["core"][name] - before["core"][name] for name in ("busy", "steal"))
    cycles = min(cycles * busy / max(busy + steal, 1e-9), (after["dataplane"] - before["dataplane"]) * after["hz"])
    return {"core_seconds": cycles / after["hz"] + control, "worker_cycles": cycles, "control_seconds": control}


class Peer:
    """`command`: how `program` is started with its configuration `file` (of peers/); it stays in the foreground."""
    program, file, command, ready_port = "", "", (), PLAIN_PORT

    def __init__(self, bench, with_offloads=True, buffer=65536):
        self.name = self.program + ("" if with_offloads else ", offloads off")
        self.lab = bench.lab
        offloads(with_offloads)
        network.kernel_addresses()
        directory = self.lab.directory / self.program
        directory.mkdir(exist_ok=True)
        file = directory / self.file
        file.write_text(template(self.file, directory=directory, listen=LISTEN, backend=BACKEND, backend_name=certificates.BACKEND_NAME,
                                 trust=self.lab.certificates.backend_ca, buffer=buffer, **self.certificate_files()))
        file.chmod(0o644)
        self.process = self.lab.track(Process(self.program, [*self.command, file], log=directory / "output.log", cores=[0]))
        wait_for(lambda: f"{self.program} to listen: {tail(self.process.log)}", self.listens)

    def certificate_files(self):
        files = {}
        for kind, (certificate, key) in {"ecdsa": self.lab.certificates.ecdsa, "rsa": self.lab.certificates.rsa2048}.items():
            pem = self.lab.directory / f"www-{kind}-with-key.pem"
            if not pem.exists():
                pem.touch(0o600)
                pem.write_text(pathlib.Path(key).read_text() + pathlib.Path(certificate).read_text())
            files |= {f"{kind}_certificate": certificate, f"{kind}_key": key, f"{kind}_pem": pem}
        return files

    def listens(self):
        if not self.process.running():
            raise LabError(f"{self.program} ended: {tail(self.process.log)}")
        with contextlib.suppress(OSError):
            network.connect("client", LISTEN, self.ready_port).close()
            return True
        return False

    def pids(self):
        return descendants(self.process.pid)

    def sample(self):
        return {"core": stat_times(0), "time": time.monotonic()}

    @staticmethod
    def cost(before, after):
        idle, steal = (after["core"][name] - before["core"][name] for name in ("idle", "steal"))
        return {"core_seconds": after["time"] - before["time"] - idle - steal}

    @staticmethod
    def handshakes():
        return None

    def memory_kib(self):
        return sum(map(memory_kib, self.pids()))

    def stop(self):
        self.process.stop(seconds=20)
        self.lab.processes.remove(self.process)
        network.no_kernel_addresses()


class Nginx(Peer):
    program, file = "nginx", "nginx.conf"
    command = ("nginx", "-g", "daemon off;", "-c")


class HAProxy(Peer):
    program, file = "haproxy", "haproxy.cfg"
    command = ("haproxy", "-db", "-f")


class Hitch(Peer):
    program, file = "hitch", "hitch.conf"
    command = ("hitch", "--config")


PEERS = {peer.program: peer for peer in (Nginx, HAProxy, Hitch)}
DEVICES = [OURS, *PEERS, *(f"{name}-plain" for name in PEERS)]


def program_of(device):
    """The peer that a name of DEVICES stands for, its offloads on or off; or ours."""
    return device.removesuffix("-plain")


def make(bench, device, profile="", **options):
    if device == OURS:
        return Ours(bench, profile=profile, **options)
    return PEERS[program_of(device)](bench, not device.endswith("-plain"), **options)
