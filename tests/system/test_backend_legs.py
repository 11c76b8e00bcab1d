"""The backend's leg on its own: every suite, version and kind of key; flights in pieces; flights that are long."""

import ssl

import pytest

from tests.lab.certificates import BACKEND_NAME
from tests.lab.configuration import Pool, Service
from tests.lab.lab import Backend
from .test_matrix import TLS12, TLS13
from .tls_backend import RawBackend, context_for as backend_context
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

RAW_PORT, FIRST_PORT = 4480, 4481
KINDS = ("rsa", "ecdsa")
LEGS = [("TLSv1.3", suite, kind) for suite in TLS13 for kind in KINDS] + [("TLSv1.2", suite, kind) for suite in TLS12 for kind in KINDS]
PORTS = {leg: FIRST_PORT + number for number, leg in enumerate(LEGS)}


@pytest.fixture(scope="module")
def legs(lab, standard):
    """A backend for each suite and kind of key, and a configuration with a service for each, and one for a backend of the test's own."""
    certificates = {"ecdsa": lab.certificates.backend, "rsa": lab.certificates.internal.issue("backend-rsa", "rsa", [BACKEND_NAME])}
    config = standard.configuration()
    config.pools, config.services, backends = [], [], {}

    def add(name, port, members):
        config.pools.append(Pool(name, members, **standard.trust))
        config.services.append(Service(name, port, name, standard.both, settings=standard.patient))
    for (version, suite, kind), port in PORTS.items():
        settings = (f"MaxProtocol={version}", f"MinProtocol={version}",
                    f"Ciphersuites={suite}" if version == "TLSv1.3" else f"CipherString=ECDHE-{kind.upper()}-{suite}")
        name = f"leg-{port}"
        backends[version, suite, kind] = Backend(lab, name, port, *[word for each in settings for word in ("--set", each)], certificate=certificates[kind])
        add(name, port, backends[version, suite, kind].members())
    add("raw", RAW_PORT, [f"198.51.100.10:{RAW_PORT}"])
    yield config, backends
    for backend in backends.values():
        backend.process.stop()


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: "-".join(leg))
def test_suite(appliance_with, lab, legs, leg):
    config, backends = legs
    appliance = appliance_with(config)
    backends[leg].forget()
    version, suite, kind = leg
    report = lab.lab_client(PORTS[leg], "--connections", 3, "--octets", 100_000)
    assert report["octets"] == 3 * 2 * 100_000
    name = suite if version == "TLSv1.3" else f"ECDHE-{kind.upper()}-{suite}"
    assert {(event["version"], event["suite"]) for event in backends[leg].events("open")} == {(version, name)}
    appliance.wait_no_flows()


def through(leg, client, text):
    client.write(text)
    assert leg.read_exactly(len(text)) == text
    leg.write(text[::-1])
    assert client.read_exactly(len(text)) == text[::-1]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_backend_that_writes_one_octet_at_a_time(appliance_with, lab, legs, version):
    """Its whole flight, its tickets and its first records: cut at every octet, each octet a segment of its own."""
    appliance = appliance_with(legs[0])
    with RawBackend(RAW_PORT, backend_context(lab.certificates.backend, version=version)) as backend:
        with TlsClient(RAW_PORT, context_for(lab.certificates.ca), timeout=30).handshake() as client, backend.accept() as leg:
            sent = []

            def dribble(data):
                for octet in data:
                    leg.socket.sendall(bytes([octet]))
                sent.append(len(data))
            leg.transmit = dribble
            leg.handshake()
            through(leg, client, b"octet by octet")
            assert sum(sent) > 500, sent
    TlsClient.close_all()
    appliance.wait_no_flows()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_backend_with_a_long_chain(appliance_with, lab, legs, version):
    """Longer than the 64 KiB that the dataplane keeps of a handshake."""
    appliance = appliance_with(legs[0])
    names = [f"{number:03}.some-name-that-takes-octets.example.net" for number in range(500)]
    extra = [lab.certificates.internal.issue(f"extra-{number}", "ecdsa", names) for number in range(4)]
    chain = lab.directory / "long-chain.pem"
    chain.write_text("".join(open(each.certificate).read() for each in (lab.certificates.backend, *extra)))
    with RawBackend(RAW_PORT, backend_context((chain, lab.certificates.backend.key), version=version)) as backend:
        with TlsClient(RAW_PORT, context_for(lab.certificates.ca), timeout=30).handshake() as client, backend.accept() as leg:
            sent = []
            sending = leg.transmit
            leg.transmit = lambda data: (sent.append(len(data)), sending(data))
            leg.handshake()
            assert max(sent) > 80 * 1024, sent
            through(leg, client, b"after a long flight")
    TlsClient.close_all()
    appliance.wait_no_flows()
