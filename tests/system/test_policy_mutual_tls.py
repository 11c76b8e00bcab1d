"""Client certificates at the front (9.4.5): who is let in, who is told what, and that an identity never crosses to where it does not belong."""

import ssl

import pytest

from tests.lab.lab import wait_for
from .client_hello import alert_in
from .policy_lab import NAMED, OPTIONAL, REQUIRED, REQUIRED_B, Counted
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

# By client certificate: service, what is counted, alert on 1.3, alert on 1.2 where it is another.
REFUSED = {
    "none": (REQUIRED, "client_certificate_missing", 116, 40),
    "other-ca": (REQUIRED, "client_certificate_invalid", 48, 48),
    "b": (REQUIRED, "client_certificate_invalid", 48, 48),
    "public": (REQUIRED, "client_certificate_invalid", 48, 48),
    "expired": (REQUIRED, "client_certificate_invalid", 45, 45),
    "not-yet-valid": (REQUIRED, "client_certificate_invalid", 42, 42),
    "wrong-usage": (REQUIRED, "client_certificate_invalid", 43, 43),
    "wrong-name": (NAMED, "client_name_not_allowed", 49, 49),
    "revoked": (REQUIRED, "client_revoked", 44, 44),
}


@pytest.fixture(autouse=True)
def crls_are_there(level2, policy_lab):
    wait_for("the CRL of the clients", lambda: policy_lab.responder.asked["/crl/clients-a"], 15)


def context(lab, version="1.3", client=None):
    made = context_for(lab.certificates.ca, version=VERSIONS[version])
    if client:
        made.load_cert_chain(*lab.certificates.clients[client])
    return made


def talk(port, made, **more):
    """Shakes hands and sends; returns what came back, or the reason of the refusal. A TLS 1.3 client learns of it when it reads."""
    with TlsClient(port, made, timeout=30, **more) as client:
        try:
            client.handshake()
            client.write(b"hello")
            return client.read()
        except ssl.SSLError as error:
            return error.reason


@pytest.mark.parametrize("version", VERSIONS)
def test_verified_client_is_served_and_forwarded(level2, policy_lab, lab, version):
    """PROXY v2 TLVs in the backend's leg: 0x20 with 'certificate shown, verified', 0x22 the common name."""
    backend = policy_lab.backends["forwarded"]
    assert talk(REQUIRED, context(lab, version, "good")) == b"hello"
    header = bytes.fromhex(wait_for("the PROXY header", lambda: backend.events("proxy"))[0]["header"])
    tlvs = tlvs_of(header[16 + 12:])
    ssl_tlv = tlvs[0x20]
    assert ssl_tlv[0] & 0x07 in (0x03, 0x05, 0x07), ssl_tlv[0]         # over TLS, with a certificate
    assert int.from_bytes(ssl_tlv[1:5], "big") == 0                    # verified
    inner = tlvs_of(ssl_tlv[5:])
    assert inner[0x22] == b"Alice" and inner[0x21].decode().endswith(version)


def tlvs_of(octets):
    found, at = {}, 0
    while at + 3 <= len(octets):
        length = int.from_bytes(octets[at + 1:at + 3], "big")
        found[octets[at]] = octets[at + 3:at + 3 + length]
        at += 3 + length
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", REFUSED)
def test_client_is_refused(level2, policy_lab, lab, what, version):
    port, violation, on_13, on_12 = REFUSED[what]
    if what == "revoked":
        context(lab, version, what)   # it is issued, and revoked, when it is first asked for
        policy_lab.responder.asked.clear()
        level2.cli("refresh", "revocation")
        wait_for("the list to be fetched again", lambda: policy_lab.responder.asked["/crl/clients-a"], 15)
    with Counted(level2, violation):
        answer = talk(port, context(lab, version, None if what == "none" else what))
    assert answer != b"hello"
    assert alert_in(answer) == (on_13 if version == "1.3" else on_12) or (what == "wrong-usage" and "CERTIFICATE" in answer), answer
    level2.wait_no_flows()
    assert policy_lab.received("forwarded") == policy_lab.received("echo") == 0
    assert policy_lab.backends["forwarded"].events("proxy") == []       # nor was anybody's identity sent on


@pytest.mark.parametrize("version", VERSIONS)
def test_optional(level2, policy_lab, lab, version):
    """Without a certificate: served. With one that cannot be verified: refused, not served as if there were none."""
    assert talk(OPTIONAL, context(lab, version)) == b"hello"
    assert talk(OPTIONAL, context(lab, version, "good")) == b"hello"
    with Counted(level2, "client_certificate_invalid"):
        assert talk(OPTIONAL, context(lab, version, "other-ca")) != b"hello"


def test_name_of_the_list_is_let_in(level2, policy_lab, lab):
    assert talk(NAMED, context(lab, "1.3", "good")) == b"hello"


def test_identity_is_shown(level2, policy_lab, lab):
    with TlsClient(REQUIRED, context(lab, "1.3", "good"), timeout=30).handshake() as client:
        client.write(b"x")
        client.read_exactly(1)
        flow = wait_for("the flow", lambda: next((f for f in level2.flows() if f["backend_suite"]), None))
        assert "Alice" in flow["client_identity"], flow


def session_with(policy_lab, lab, port, client, version, *more):
    """One s_client with a client certificate that stores or uses a session; it stays to read what comes after the handshake."""
    certificate, key = lab.certificates.clients[client]
    return policy_lab.s_client(port, f"-tls{version.replace('.', '_')}", "-cert", certificate, "-key", key, *more, send="hello\n", wait=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_resumption_stays_in_its_service(level2, policy_lab, lab, version):
    """The trap: a client certificate that is good for one service must not resume into another that trusts another CA, nor into one that
    has other rules."""
    session = lab.directory / f"session-{version}.pem"
    first = session_with(policy_lab, lab, REQUIRED, "good", version, "-sess_out", session)
    assert "New, TLSv1" in first.stdout and "hello" in first.stdout, first.stdout + first.stderr
    again = session_with(policy_lab, lab, REQUIRED, "good", version, "-sess_in", session)
    assert "Reused, TLSv1" in again.stdout and "hello" in again.stdout, again.stdout + again.stderr
    policy_lab.forget()
    crossing = session_with(policy_lab, lab, REQUIRED_B, "good", version, "-sess_in", session)
    assert "Reused" not in crossing.stdout, crossing.stdout
    assert alert_in(crossing.stderr) == 48, crossing.stderr
    assert policy_lab.received("echo") == 0
    # Without a certificate at hand the session is all that the client has.
    without = policy_lab.s_client(REQUIRED_B, f"-tls{version.replace('.', '_')}", "-sess_in", session, send="hello\n", wait=1)
    assert "Reused" not in without.stdout, without.stdout
    assert alert_in(without.stderr) in (40, 116), without.stderr
    level2.wait_no_flows()
    assert policy_lab.received("echo") == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_session_of_an_open_service_does_not_enter(level2, policy_lab, lab, version):
    """Nor does a session without any identity."""
    session = lab.directory / f"open-session-{version}.pem"
    flag = f"-tls{version.replace('.', '_')}"
    policy_lab.s_client(OPTIONAL, flag, "-sess_out", session, send="hello\n", wait=1)
    policy_lab.forget()
    done = policy_lab.s_client(REQUIRED, flag, "-sess_in", session, send="hello\n", wait=1)
    assert "Reused" not in done.stdout
    assert alert_in(done.stderr) in (40, 116), done.stderr
    level2.wait_no_flows()
    assert policy_lab.received("forwarded") == 0
