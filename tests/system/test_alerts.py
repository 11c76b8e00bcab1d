"""Fatal alerts on open flows, and records of a backend that do not open: what each leg sees, and who is to blame."""

import ssl

import pytest

from tests.lab.configuration import Pool, Service
from tests.lab.lab import wait_for
from .test_ending import counted, ended
from .tls_backend import RawBackend, context_for as backend_context
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

PORT = 4480
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


@pytest.fixture
def flow(request, appliance_with, standard, lab):
    """An open flow of one version on both legs: (appliance, client's end, backend's end)."""
    version = request.getfixturevalue("version")
    config = standard.configuration()
    with RawBackend(PORT, backend_context(lab.certificates.backend, version=version)) as backend:
        config.pools = [Pool("raw", [backend.member], **standard.trust, versions=("1.3", "1.2"))]
        config.services = [Service("raw", PORT, "raw", standard.both, settings=standard.patient, versions=("1.3", "1.2"))]
        appliance = appliance_with(config)
        with TlsClient(PORT, context_for(lab.certificates.ca, version=version), timeout=30).handshake() as client:
            with backend.accept().handshake() as leg:
                client.write(b"to the backend")
                assert leg.read_exactly(14) == b"to the backend"
                leg.write(b"to the client")
                assert client.read_exactly(13) == b"to the client"
                yield appliance, client, leg
    TlsClient.close_all()
    appliance.wait_no_flows()


def spoilt(peer, data):
    """The record that `peer` sends for `data`, with its last octet changed."""
    peer.tls.write(data)
    record = bytearray(peer.outgoing.read())
    record[-1] ^= 1
    return bytes(record)


# What the peer's own TLS library answers with which alert, when it receives it.
PROVOKED = [("BAD_RECORD_MAC", bytes([23, 3, 3, 0, 40]) + bytes(40)),
            ("RECORD_OVERFLOW", bytes([23, 3, 3]) + (16384 + 2049).to_bytes(2, "big")),
            ("UNEXPECTED_MESSAGE", bytes([99, 3, 3, 0, 20]) + bytes(20))]


@VERSIONS
@pytest.mark.parametrize("alert, octets", PROVOKED, ids=[alert for alert, _ in PROVOKED])
@pytest.mark.parametrize("sender", ["client", "backend"])
def test_fatal_alert_ends_the_other_leg_with_one_of_ours(flow, version, sender, alert, octets):
    """The other leg has done nothing wrong and gets internal_error (RFC 8446 6.2: "unrelated to the peer"), never close_notify; the sender's alert
    is not repeated to it, since it would say of the other leg what is not so."""
    appliance, client, leg = flow
    who, other = (client, leg) if sender == "client" else (leg, client)
    reason = f"{sender}_alert"
    before = ended(appliance, reason)
    received = appliance.counters()["alerts_received"]
    who.incoming.write(octets)   # as if the appliance had sent it
    with pytest.raises(ssl.SSLError):
        who.tls.read(1)
    who.transmit(who.outgoing.read())   # the library's alert
    assert "INTERNAL_ERROR" in other.end()
    counted(appliance, reason, before + 1)
    wait_for("the alert to be counted", lambda: appliance.counters()["alerts_received"] > received)


@VERSIONS
@pytest.mark.parametrize("size", [1, 1000, 16384])
def test_corrupted_record_from_the_backend(flow, version, size):
    """Its own leg ends with bad_record_mac, the client's with internal_error, since the client's records are good; and the client gets no octet of
    it, nor of what came after."""
    appliance, client, leg = flow
    before = ended(appliance, "backend_bad_record")
    leg.socket.sendall(spoilt(leg, b"e" * size))
    leg.socket.sendall(spoilt(leg, b"f" * 10))
    got = b""
    try:
        while piece := client.read():
            got += piece
        how = "close_notify"
    except ssl.SSLError as error:
        how = error.reason
    assert got == b"", f"{len(got)} octets of a record that was not authentic"
    assert "INTERNAL_ERROR" in how, how
    assert "BAD_RECORD_MAC" in leg.end()
    counted(appliance, "backend_bad_record", before + 1)
