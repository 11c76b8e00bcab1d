"""How flows end: in order, half, abruptly, with alerts; on either leg."""

import socket
import ssl

import pytest

from tests.lab.lab import wait_for
from .tls_client import TlsClient, context_for

ECHO, RESETTING, TRUNCATING, CLOSING = 4433, 4441, 4442, 4443


@pytest.fixture
def context(lab):
    return context_for(lab.certificates.ca)


def ended(appliance, reason):
    """The count of flows that ended for this reason (control/channel/messages.h)."""
    return sum(value for name, value in appliance.counters().items() if name == reason or name.endswith(f"_{reason}") or name.endswith(f".{reason}"))


def counted(appliance, reason, wanted):
    """Workers publish their counters now and then, not at once."""
    wait_for(lambda: f"{reason} to be {wanted}: {[(n, v) for n, v in appliance.counters().items() if 'ended_' in n and v]}",
             lambda: ended(appliance, reason) == wanted, 5)


@pytest.mark.needs_appliance
def test_orderly_end_by_client(appliance, lab, context, standard):
    before = ended(appliance, "finished")
    with TlsClient(ECHO, context).handshake() as client:
        client.write(b"bye")
        assert client.read_exactly(3) == b"bye"
        client.close_notify()
        assert client.end() == "close_notify"
    closed = wait_for("the backend's leg to end", lambda: standard.backends["echo"].events("close"))
    assert closed[0]["end"] == "close_notify" and closed[0]["received"] == 3
    appliance.wait_no_flows()
    counted(appliance, "finished", before + 1)


@pytest.mark.needs_appliance
def test_orderly_end_by_backend(appliance, lab, context):
    with TlsClient(CLOSING, context).handshake() as client:
        client.write(b"x" * 6000)
        assert client.end() == "close_notify"
        client.close_notify()
    appliance.wait_no_flows()


@pytest.mark.needs_appliance
def test_half_close_by_client(appliance, lab, context, standard):
    """TLS 1.3 (RFC 8446 6.1): close_notify ends one direction; the answer still comes, however late."""
    lab.lab_client(4446, "--connections", 10, "--octets", 300_000, "--expect", "digest", "--set", "MinProtocol=TLSv1.3")
    lab.lab_client(4444, "--connections", 3, "--octets", 300_000, "--close-first", "--set", "MinProtocol=TLSv1.3")
    appliance.wait_no_flows()


@pytest.mark.needs_appliance
def test_half_close_by_backend(appliance, lab, standard):
    report = lab.lab_client(4447, "--connections", 3, "--octets", 500_000, "--write-rate", 50_000, "--expect", 10_000_000)
    assert report["ok"] == 3
    closed = wait_for("the backend's legs to end", lambda: len(standard.backends["source"].events("close")) == 3 and standard.backends["source"].events("close"))
    assert all(event["received"] == 500_000 and event["end"] == "close_notify" for event in closed), closed


@pytest.mark.needs_appliance
def test_client_resets(appliance, lab, context, standard):
    before = ended(appliance, "client_reset")
    client = TlsClient(ECHO, context).handshake()
    client.write(b"x" * 1000)
    client.read_exactly(1000)
    client.reset()
    closed = wait_for("the backend's leg to end", lambda: standard.backends["echo"].events("close"))
    assert closed[0]["end"] != "close_notify", closed   # the backend must not take it for an orderly end
    appliance.wait_no_flows()
    counted(appliance, "client_reset", before + 1)


@pytest.mark.needs_appliance
def test_client_truncates(appliance, lab, context, standard):
    """FIN without close_notify: the backend must not take it for an orderly end (RFC 8446 6.1)."""
    before = ended(appliance, "client_truncated")
    with TlsClient(ECHO, context).handshake() as client:
        client.write(b"half of a mes")
        client.read_exactly(13)
        client.socket.shutdown(socket.SHUT_WR)
        closed = wait_for("the backend's leg to end", lambda: standard.backends["echo"].events("close"))
    assert closed[0]["end"] in ("fin", "reset", "failed"), closed
    appliance.wait_no_flows()
    counted(appliance, "client_truncated", before + 1)


@pytest.mark.needs_appliance
def test_backend_resets(appliance, lab, context):
    before = ended(appliance, "backend_reset")
    with TlsClient(RESETTING, context).handshake() as client:
        client.write(b"x" * 6000)
        assert client.end() != "close_notify"
    appliance.wait_no_flows()
    counted(appliance, "backend_reset", before + 1)


@pytest.mark.needs_appliance
def test_backend_truncates(appliance, lab, context):
    before = ended(appliance, "backend_truncated")
    with TlsClient(TRUNCATING, context).handshake() as client:
        client.write(b"x" * 6000)
        assert client.end() != "close_notify"
    appliance.wait_no_flows()
    counted(appliance, "backend_truncated", before + 1)


@pytest.mark.needs_appliance
def test_alert_of_backend_ends_the_client(appliance, lab, context):
    """A backend that demands a client certificate ends its leg with an alert after the handshake."""
    with TlsClient(4450, context) as client:
        try:
            client.handshake()
            client.write(b"x")
            result = client.end()
        except ssl.SSLError as error:
            result = error.reason
        except ConnectionResetError:
            result = "reset"
    assert result not in ("close_notify",), result
    appliance.wait_no_flows()


@pytest.mark.needs_appliance
def test_fatal_alert_of_client(appliance, lab, standard):
    """The client refuses our certificate: an alert in the handshake; the backend gets no application data."""
    before = appliance.show("services")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)   # trusts nobody
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsClient(ECHO, context).handshake()
    appliance.wait_no_flows()
    assert all(event["received"] == 0 for event in standard.backends["echo"].events("close"))
    after = appliance.show("services")
    failed = [next(s for s in services if s["name"] == "echo")["handshakes_failed"] for services in (before, after)]
    # On TLS 1.3 the client's alert comes after our Finished, in place of its own: the handshake has failed.
    assert failed[1] == failed[0] + 1


@pytest.mark.needs_appliance
def test_tls12_close_notify_is_answered(appliance, lab):
    context = context_for(lab.certificates.ca, version=ssl.TLSVersion.TLSv1_2)
    with TlsClient(ECHO, context).handshake() as client:
        client.write(b"x")
        client.read_exactly(1)
        client.close_notify()
        assert client.end() == "close_notify"
    appliance.wait_no_flows()
