"""Handshakes that are begun and not finished: their source is refused beyond its limit; established flows and other sources go on."""

import socket

import pytest

from tests.lab import network
from tests.lab.lab import wait_for
from .client_hello import client_hello
from .policy_lab import ECHO
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

LIMIT = 20
OTHER_SOURCE = "192.0.2.101"


@pytest.fixture
def braked(appliance_with, standard, lab):
    network.run("ip", "-n", "client", "addr", "replace", f"{OTHER_SOURCE}/24", "dev", "eth0")
    appliance = appliance_with(standard.configuration(brake={"handshakes": 1000, "handshakes_per_source": LIMIT, "cost_per_second": 1_000_000,
                                                             "burst": 1_000_000}))
    yield appliance
    network.run("ip", "-n", "client", "addr", "del", f"{OTHER_SOURCE}/24", "dev", "eth0")


def connect_from(source, port):
    with network.inside("client"):
        return socket.create_connection((network.APPLIANCE["client"][0], port), timeout=20, source_address=(source, 0))


def server_hello(sock):
    """Whether a handshake goes on: a record of type 22 comes back."""
    try:
        return sock.recv(5)[:1] == b"\x16"
    except (ConnectionResetError, TimeoutError):
        return False


def braked_count(appliance):
    return appliance.counters()["braked_by_source"]


def test_unfinished_handshakes(braked, lab):
    before = braked_count(braked)
    with TlsClient(ECHO, context_for(lab.certificates.ca), timeout=30).handshake() as established:
        established.write(b"x")
        established.read_exactly(1)
        held = []
        try:
            for _ in range(LIMIT):
                sock = connect_from(OTHER_SOURCE, ECHO)
                held.append(sock)
                sock.sendall(client_hello())
                assert server_hello(sock)
            for _ in range(5):
                with connect_from(OTHER_SOURCE, ECHO) as sock:
                    sock.sendall(client_hello())
                    assert not server_hello(sock)
            wait_for("those refused to be counted", lambda: braked_count(braked) == before + 5, 5)
            established.write(b"y" * 1000)                      # goes on
            assert established.read_exactly(1000) == b"y" * 1000
            lab.lab_client(ECHO, "--connections", 10, "--octets", 1000)   # from another source
        finally:
            for sock in held:
                sock.close()

    def served_again():
        with connect_from(OTHER_SOURCE, ECHO) as sock:
            sock.sendall(client_hello())
            return server_hello(sock)
    wait_for("the source to be served again", served_again, 20, 0.2)


def test_cost(appliance_with, standard, lab):
    """A source that has spent its budget is refused, however many handshakes it finishes; it gets more as time goes by."""
    appliance = appliance_with(standard.configuration(brake={"handshakes": 1000, "handshakes_per_source": 1000, "cost_per_second": 1, "burst": 60}))
    # Full handshakes with ECDSA cost 4, with RSA 12: fewer fit with RSA.
    ecdsa = ["--set", "SignatureAlgorithms=ecdsa_secp256r1_sha256", "--set", "MinProtocol=TLSv1.3"]
    report = lab.lab_client(ECHO, "--connections", 40, "--concurrent", 1, "--octets", 10, *ecdsa, check=False)
    assert 10 <= report["ok"] <= 30, report
    assert braked_count(appliance) >= 40 - report["ok"]
