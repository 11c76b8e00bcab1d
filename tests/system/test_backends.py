"""Backends that must not be believed, do not answer, or die."""

import ssl

import pytest

from tests.lab import network
from tests.lab.configuration import Pool, Service
from tests.lab.lab import Backend, wait_for
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance


def refused(appliance, lab, port):
    """Connects; nothing must come back but an orderly end. Returns how it ended."""
    with TlsClient(port, context_for(lab.certificates.ca)) as client:
        try:
            client.handshake()
            client.write(b"secret")
            data = client.read()
            assert data == b"", data
            return "close_notify"
        except ssl.SSLEOFError:
            return "fin"
        except ssl.SSLError as error:
            return error.reason
        except (ConnectionResetError, BrokenPipeError):
            return "reset"


def reasons(appliance, service):
    """Counts of failed flows of a service by reason, wherever they are counted."""
    counted = dict(appliance.counters())
    for view in appliance.show("services"):
        if view["name"] == service:
            for failure in view["by_failure"]:
                counted[failure["name"]] = counted.get(failure["name"], 0) + failure["count"]
    return counted


@pytest.mark.parametrize("what", ["wrong-name", "other-ca", "expired", "self-signed", "wrong-usage"])
def test_unverifiable_backend_gets_nothing(appliance, lab, standard, what):
    before = reasons(appliance, what)
    how = refused(appliance, lab, standard.ports[what])
    assert how not in ("reset", "fin"), how   # a clean end: close_notify or an alert
    appliance.wait_no_flows()
    assert all(event["received"] == 0 for event in standard.backends[what].events()if event["event"] == "close")
    after = reasons(appliance, what)
    grown = [name for name in after if "backend_unverified" in name and after[name] > before.get(name, 0)]
    assert grown, {name: value for name, value in after.items() if value}


@pytest.mark.parametrize("what, reason", [("dead", "backend_refused"), ("unreachable", "backend_unreachable"),
                                          ("speaks-plain", "backend_handshake_failed")])
def test_backend_that_cannot_be_had(appliance, lab, standard, what, reason):
    before = reasons(appliance, what)
    how = refused(appliance, lab, standard.ports[what])
    assert how not in ("reset", "fin"), how
    appliance.wait_no_flows()
    after = reasons(appliance, what)
    assert any(reason in name and after[name] > before.get(name, 0) for name in after), {n: v for n, v in after.items() if v}


def test_backend_with_tls12(appliance, lab, standard):
    lab.lab_client(4449, "--connections", 5, "--octets", 500_000)
    assert {event["version"] for event in standard.backends["tls12"].events("open")} == {"TLSv1.2"}


def test_backend_sessions_are_resumed(appliance, lab, standard):
    lab.lab_client(4433, "--connections", 20, "--concurrent", 1, "--octets", 1000)
    opened = standard.backends["echo"].events("open")
    assert sum(event["resumed"] for event in opened) >= 10, opened


def test_server_name_is_sent_to_the_backend(appliance, lab, standard):
    lab.lab_client(4433, "--octets", 10)
    assert standard.backends["echo"].events("open")[0]["server_name"] == "backend.example.net"


def test_backend_dies_and_comes_back(appliance, lab, standard):
    echo = standard.backends["echo"]
    with TlsClient(4433, context_for(lab.certificates.ca)).handshake() as client:
        client.write(b"x")
        client.read_exactly(1)
        echo.kill()
        try:
            assert client.end() != "close_notify"
            how = refused(appliance, lab, 4433)
            assert how not in ("reset", "fin"), how
        finally:
            echo.start()
    lab.lab_client(4433, "--connections", 5, "--octets", 1000)
    appliance.wait_no_flows()


def test_proxy_protocol(appliance, lab, standard):
    """The header comes first, inside TLS, with the client's and the service's addresses."""
    import socket
    backend = standard.backends["proxied"]
    for family in (4, 6):
        backend.forget()
        lab.lab_client(4460, "--octets", 5000, family=family)
        header = bytes.fromhex(backend.events("proxy")[0]["header"])
        assert header[:12] == b"\r\n\r\n\0\r\nQUIT\n"
        assert header[12] == 0x21   # version 2, PROXY
        assert header[13] == (0x11 if family == 4 else 0x21)   # TCP over IPv4, IPv6
        kind, size = (socket.AF_INET, 4) if family == 4 else (socket.AF_INET6, 16)
        index = 0 if family == 4 else 1
        assert socket.inet_ntop(kind, header[16:16 + size]) == network.CLIENT_ADDRESSES[index]
        assert socket.inet_ntop(kind, header[16 + size:16 + 2 * size]) == network.APPLIANCE["client"][index]
        assert int.from_bytes(header[16 + 2 * size + 2:16 + 2 * size + 4], "big") == 4460
        wait_for("the backend's leg to end", lambda: backend.events("close"))
        assert backend.events("close")[0]["received"] == 5000


def test_plain_backend_at_level_1(appliance_with, lab, standard):
    plain = Backend(lab, "plain", 8080, plain=True)
    config = standard.configuration(policy_level=1)
    config.services = [Service("plain", 4500, "plain", standard.both)]
    config.pools = [Pool("plain", plain.members())]
    appliance = appliance_with(config)
    for version in ("MinProtocol=TLSv1.3", "MaxProtocol=TLSv1.2"):
        lab.lab_client(4500, "--connections", 20, "--octets", 300_000, "--set", version)
    with TlsClient(4500, context_for(lab.certificates.ca)).handshake() as client:
        client.write(b"x" * 100)
        client.read_exactly(100)
        client.close_notify()
        assert client.end() == "close_notify"
    appliance.wait_no_flows()
