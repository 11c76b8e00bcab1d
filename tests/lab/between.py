"""The appliance with its ports on memif or virtio sockets, and the load generator (tests/bench/generator) on both sides of it."""

import dataclasses
import json
import os
import subprocess

from . import certificates, network
from .configuration import Configuration, Pool, Service
from .lab import Appliance, program, wait_for
from .management import Management

CORE = (os.cpu_count() or 1) - 1   # the generator's; the appliance has core 0
CLIENT = network.CLIENT_ADDRESSES[0]


def generator(lab, *options, patience=300, memory_mb=512, within=(), **more):
    """Runs the generator; returns what it has ended with, and its report or None. `within`: words of a command that runs it."""
    file = lab.directory / "generator.json"
    file.unlink(missing_ok=True)
    command = [*within, program("sallyport_generator"), "--core", CORE, "--no-hugepages", "--memory", memory_mb, "--quiet", "--json", file, *options]
    for name, value in more.items():
        command += [f"--{name.replace('_', '-')}", value]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=patience)
    return done, json.loads(file.read_text()) if file.exists() else None


@dataclasses.dataclass(frozen=True)
class Wire:
    """Two profiles that speak to each other over a UNIX socket which the appliance makes."""
    profile: str
    settings: dict     # of the appliance's port
    other_end: str     # the generator's profile


MEMIF = Wire("memif", {"memif_role": "server"}, "memif")
VIRTIO = Wire("virtio_user", {}, "vhost_user")


class Between:
    """`plain`: backends without TLS. `memory_mb`: of the generator's packet buffers. `members`: of the pool, each with an address; the appliance has
    55,001 ports towards each. `of_service`: further settings of the service. `services`: how many there are, one that is used and others beside it."""

    def __init__(self, lab, *, plain=False, members=1, control_cores=None, certificates_of_service=None, of_service=None, services=1, mtu=1500, memory_mb=512,
                 wire=MEMIF, **settings):
        self.lab, self.plain, self.mtu, self.memory_mb, self.wire = lab, plain, mtu, memory_mb, wire
        self.backends = [f"198.51.100.{10 + number}" for number in range(members)]
        self.sockets = {side: lab.directory / f"{side}s.sock" for side in ("client", "backend")}
        trust = {} if plain else {"server_name": certificates.BACKEND_NAME, "trust": str(lab.certificates.backend_ca)}
        shown = certificates_of_service or [lab.certificates.rsa, lab.certificates.ecdsa]
        service = Service("web", 443, "web", shown, settings={"handshake_timeout_ms": 60000, **(of_service or {})})
        others = [Service(f"other{number}", 20000 + number, "web", shown) for number in range(1, services)]
        self.config = Configuration([service, *others], [Pool("web", [f"{backend}:{80 if plain else 443}" for backend in self.backends], **trust)], profile=wire.profile, devices=self.sockets, ports={**wire.settings, "mtu": mtu},
                               routes={"client": [{"to": network.MORE_CLIENTS, "via": CLIENT}]}, state_directory=lab.directory / "state-memif", **settings)
        self.appliance = Appliance(lab, lab.write_configuration(self.config, "memif.conf"), control_cores=control_cores)
        for socket in self.sockets.values():
            socket.unlink(missing_ok=True)   # run() waits for new ones
        self.appliance.start_control()
        self.appliance.start_dataplane()

    def reload(self, **changes):
        """The configuration with these members changed. Without a CLI, whose start may take the worker's core for longer than what it asks for."""
        for name, value in changes.items():
            setattr(self.config, name, value)
        self.lab.write_configuration(self.config, "memif.conf")
        Management(self.appliance.socket_path).call("reload")

    def run(self, *options, **more):
        """As generator(), with ports, addresses and certificates. An appliance that could not start is told as such, by its log."""
        wait_for("the appliance to make a socket", self.socket_made, 60)
        certificate, key = self.lab.certificates.backend
        tls = ["--backend-plain"] if self.plain else ["--backend-certificate", certificate, "--backend-key", key]
        return generator(self.lab, "--client-port", f"{self.wire.other_end}:{self.sockets['client']},mtu={self.mtu}", "--client-address", f"{CLIENT}/24",
                         "--client-gateway", network.APPLIANCE["client"][0], "--target", f"{network.APPLIANCE['client'][0]}:443",
                         "--backend-port", f"{self.wire.other_end}:{self.sockets['backend']},mtu={self.mtu}", *(word for backend in self.backends for word in ("--backend-address", f"{backend}/24")),
                         *tls, "--ca", self.lab.certificates.ca, *options, memory_mb=self.memory_mb, **more)

    def socket_made(self):
        self.appliance.check_running()
        return any(socket.exists() for socket in self.sockets.values())   # a virtio port waits for its other end before the next one is opened

    def stop(self):
        self.appliance.stop()
