"""Row 21: control killed and started again under load. How soon new connections are served, and that no flow breaks."""

import dataclasses
import ssl
import time

from tests.bench import devices
from tests.bench.devices import LISTEN, OURS, PLAIN_PORT
from tests.bench.flows import Flows
from tests.bench.row import Sample
from tests.lab import network
from tests.lab.lab import LabError

FLOWS, MESSAGE, INTERVAL_MS, PATIENCE = 500, 2000, 100, 10


@dataclasses.dataclass(frozen=True)
class Load:
    conditions = f"af_xdp on veth, no peer: those die with their flows; {FLOWS} flows with a message of {MESSAGE} octets every {INTERVAL_MS} ms; none broke"

    @staticmethod
    def measure(bench, rows):
        bench.backends(), bench.echo()
        for number in bench.rounds():
            for row in rows:
                yield sample(bench, row, number)


def new_connection(lab):
    """One that begins now and has its handshake done when this returns."""
    context = ssl.create_default_context(cafile=lab.certificates.ca)
    with network.connect("client", LISTEN, PLAIN_PORT, PATIENCE) as plain, context.wrap_socket(plain, server_hostname="www.example.com"):
        pass


def sample(bench, row, number):
    device = devices.Ours(bench)
    duration = bench.arguments.seconds + PATIENCE
    try:
        with Flows(bench.lab, FLOWS, "--octets", MESSAGE, "--interval-ms", INTERVAL_MS, "--duration-ms", 1000 * (duration + 20)) as flows:
            new_connection(bench.lab)
            time.sleep(bench.arguments.seconds)
            device.appliance.kill_control()
            begun = time.monotonic()
            device.appliance.start_control()
            new_connection(bench.lab)
            served = time.monotonic() - begun
            device.appliance.wait_ready()
            time.sleep(1)
            left = flows.established()
            report = flows.report(duration + 60)
    finally:
        device.stop()
    if left < FLOWS or report["ok"] != FLOWS:
        raise LabError(f"row {row.number}: {left} of {FLOWS} flows left, {report}")
    return Sample(row, OURS, served, number, {"longest wait of a flow, ms": report["longest_pause_ms"]})
