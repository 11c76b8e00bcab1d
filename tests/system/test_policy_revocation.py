"""Revocation (9.4.3): staples of our own certificates, CRLs of clients and backends, and a responder that lies in every way."""

import copy
import datetime
import re
import ssl
import subprocess

import pytest

from tests.lab import responder as lies
from tests.lab.configuration import Service
from tests.lab.lab import wait_for
from .client_hello import alert_in
from .policy_lab import ECHO, NO_CRL, OPTIONAL, REQUIRED, STAPLING, WEB, Counted, requirements
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

INTERNAL_CRL, CLIENTS_CRL = "/crl/internal-ca", "/crl/clients-a"
TENANT, MUST_STAPLE = "tenant.example.com", "other.example.com"


def staple(policy_lab, name=TENANT, alpn="http/1.1"):
    """What s_client says of the staple: a certificate's status, or None."""
    done = policy_lab.s_client(WEB, "-status", *(["-alpn", alpn] if alpn else []), name=name)
    if re.search(r"OCSP responses?: no responses? sent", done.stdout):
        return None
    match = re.search(r"Cert Status: (\w+)", done.stdout)
    assert match, done.stdout + done.stderr
    return match.group(1)


def staples_are_there(policy_lab):
    wait_for("a staple", lambda: staple(policy_lab) == "good", 20, 0.2)


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
@pytest.mark.parametrize("kind", ["RSA", "ECDSA"])
def test_staple_is_sent_when_asked(level2, policy_lab, version, kind):
    """Of the certificate that was chosen, and one that the client's library verifies."""
    staples_are_there(policy_lab)
    algorithms = "RSA-PSS+SHA256" if kind == "RSA" else "ECDSA+SHA256"
    done = policy_lab.s_client(WEB, "-status", version, "-sigalgs", algorithms, "-alpn", "http/1.1", *(["-ocsp_check_leaf"] if version == "-tls1_3" else []),
                               name=TENANT)   # on 1.2 the staple comes after the certificate, too late for that option
    assert "OCSP Response Status: successful" in done.stdout and "Cert Status: good" in done.stdout, done.stdout + done.stderr
    assert "Verify return code: 0" in done.stdout or "Verification: OK" in done.stdout, done.stdout + done.stderr
    certificate = policy_lab.lab.certificates.stapled[0 if kind == "RSA" else 1]
    assert f"{certificate.serial:X}" in done.stdout.replace(":", "").upper()


def test_staple_is_not_sent_unasked(level2, policy_lab):
    staples_are_there(policy_lab)
    done = policy_lab.s_client(WEB, "-tls1_3", "-trace", "-alpn", "http/1.1", name=TENANT)
    assert "status_request" not in done.stdout.split("ServerHello")[-1], done.stdout


def test_must_staple_is_stapled(level2, policy_lab, lab):
    staples_are_there(policy_lab)
    wait_for("the staple", lambda: staple(policy_lab, MUST_STAPLE) == "good", 20, 0.2)
    done = lab.client("sh", "-c", f"sleep 0.5 | gnutls-cli --x509cafile {lab.certificates.ca} --alpn http/1.1 -p 443 {MUST_STAPLE}")
    assert "The certificate is trusted" in done.stdout, done.stdout + done.stderr   # GnuTLS insists on the staple (RFC 7633)


def own(appliance):
    """What is known of our own certificates, by common name."""
    return {re.search(r"CN ?= ?([^,/]+)", status["subject"]).group(1): status for status in appliance.show("revocation")["own"]}


def test_staples_survive_a_restart(level2, policy_lab):
    """With the responder off: they are kept on disk, and verified again."""
    staples_are_there(policy_lab)
    policy_lab.responder.stop()
    try:
        level2.kill_control()
        level2.start_control()
        level2.wait_ready()
        wait_for("the staple", lambda: staple(policy_lab) == "good", 5, 0.1)
    finally:
        policy_lab.responder.start()


def handshake(port, made):
    with TlsClient(port, made, timeout=30) as client:
        try:
            client.handshake()
            client.write(b"hello")
            return client.read()
        except ssl.SSLError as error:
            return error.reason


def client_context(lab, name="good"):
    made = context_for(lab.certificates.ca)
    made.load_cert_chain(*lab.certificates.clients[name])
    return made


def test_live_flow_ends_when_its_client_is_revoked(level2, policy_lab, lab):
    """When the next list comes; from then on the client is refused."""
    a = lab.certificates.clients_a
    leaver = a.issue("client-leaver", "ecdsa", ["leaver.example.org"], usage="clientAuth")
    made = context_for(lab.certificates.ca)
    made.load_cert_chain(*leaver)
    wait_for("the list", lambda: policy_lab.responder.asked[CLIENTS_CRL], 15)
    with TlsClient(REQUIRED, made, timeout=40).handshake() as client:
        client.write(b"x")
        client.read_exactly(1)
        a.revoke(leaver)
        level2.cli("refresh", "revocation")
        assert client.end() in ("close_notify", "SSLV3_ALERT_CERTIFICATE_REVOKED")
    with Counted(level2, "client_revoked"):
        assert alert_in(handshake(REQUIRED, made)) == 44
    assert any("identity_revoked" in name and value for name, value in level2.counters().items())


def test_backend_with_a_stapled_answer(level2, policy_lab, lab):
    """Revoked, it is refused, though no list says so; a good one and a false one change nothing at level 2."""
    c = lab.certificates
    leaf, issuer = lies.fields_of(c.backend.certificate), lies.fields_of(c.backend_ca)
    certificate_id = lies.certificate_id(leaf, issuer)

    def answer(lie):
        policy_lab.staple_file.write_bytes(lies.ocsp_answer(c.internal, [certificate_id], lie, other=c.other, leaf=tuple(c.backend)))
    try:
        answer(None)
        lab.lab_client(STAPLING, "--octets", 1000)
        answer("revoked")
        policy_lab.backends["stapling"].kill()    # forgets its tickets: a resumed session has no staple
        policy_lab.backends["stapling"].start()
        with Counted(level2, "backend_revoked"):
            assert handshake(STAPLING, context_for(lab.certificates.ca)) != b"hello"
        assert policy_lab.received("stapling") == 1000
        answer("wrong-signer")
        lab.lab_client(STAPLING, "--octets", 1000)
    finally:
        policy_lab.staple_file.unlink(missing_ok=True)


def test_dates_are_shown(level2, policy_lab):
    """`show revocation`: each own certificate with its rule, each list with its dates."""
    staples_are_there(policy_lab)
    statuses = own(level2)
    assert (statuses[TENANT]["rule"], statuses[TENANT]["standing"]) == ("staple", "good")
    assert {status["rule"] for status in statuses.values()} >= {"staple", "short_lived", "crl"}
    assert any(status["source"].endswith(INTERNAL_CRL) for status in level2.show("revocation")["crls"])
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    assert str(statuses[TENANT]["next_update"]) > tomorrow.strftime("%Y-%m-%d"), statuses[TENANT]


class OpensslResponder:
    """`openssl ocsp` with a database of one certificate: somebody else's idea of RFC 6960."""
    ADDRESS = ("127.0.3.1", 8889)

    def __init__(self, lab, issued):
        self.lab, self.issued, self.process = lab, issued, None
        self.index = lab.directory / "openssl-ocsp.txt"

    def say(self, status):
        """ "V" valid or "R" revoked, from now on: it reads its database when it starts."""
        self.stop()
        day = datetime.datetime.now(datetime.timezone.utc)
        revoked = f"{day:%y%m%d%H%M%SZ},keyCompromise" if status == "R" else ""
        serial = f"{self.issued.serial:X}"
        serial = serial if len(serial) % 2 == 0 else "0" + serial
        self.index.write_text("\t".join([status, f"{day + datetime.timedelta(days=30):%y%m%d%H%M%SZ}", revoked, serial, "unknown", "/CN=openssl"]) + "\n")
        authority = self.lab.certificates.issuing
        log_file = self.lab.directory / "openssl-ocsp.log"
        with open(log_file, "wb") as log:
            self.process = subprocess.Popen(["openssl", "ocsp", "-port", str(self.ADDRESS[1]), "-index", self.index, "-CA", authority.file,
                                             "-rsigner", authority.file, "-rkey", authority.key, "-nmin", "60"], stdout=log, stderr=log)
        # Not by connecting: it serves one client after the other, and would wait for what this one never says.
        wait_for(lambda: f"openssl ocsp: {log_file.read_text()}", lambda: "waiting for OCSP client connections" in log_file.read_text(), 20, 0.1)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def test_openssl_as_the_responder(appliance_with, policy_lab, lab):
    """Its good answer is stapled; its word that the certificate is revoked takes the name out of service."""
    c = lab.certificates
    name = "openssl.example.com"
    issued = c.issuing.issue("openssl-ocsp", "ecdsa", [name], ocsp=True, days=30, responder="http://%s:%d" % OpensslResponder.ADDRESS)
    config = copy.copy(policy_lab.level2)
    config.services = [Service("web", WEB, "echo", [issued])]
    config.pools, config.redirects = [policy_lab.echo_pool()], {}
    responder = OpensslResponder(lab, issued)
    try:
        responder.say("V")
        appliance = appliance_with(config)
        wait_for(lambda: f"the staple: {own(appliance)}", lambda: staple(policy_lab, name, alpn=None) == "good", 20, 0.2)
        responder.say("R")
        appliance.cli("refresh", "revocation")
        wait_for(lambda: f"the revocation: {own(appliance)}", lambda: own(appliance)[name]["standing"] == "revoked", 20, 0.2)
        assert alert_in(policy_lab.s_client(WEB, name=name).stderr) == 112
        assert requirements(appliance)["9.4.3"]["state"] == "violated"
    finally:
        responder.stop()


# --- level 3: what is not known is refused

def test_unknown_client_is_refused_at_level_3(level3, policy_lab, lab):
    """A service without any list of its clients' CA."""
    with Counted(level3, "client_revocation_unknown"):
        assert alert_in(handshake(OPTIONAL, client_context(lab))) == 46
    wait_for("the list", lambda: policy_lab.responder.asked[CLIENTS_CRL], 15)
    assert handshake(REQUIRED, client_context(lab)) == b"hello"


def test_unknown_backend_is_refused_at_level_3(level3, policy_lab, lab):
    with Counted(level3, "backend_revocation_unknown"):
        assert handshake(NO_CRL, context_for(lab.certificates.ca)) != b"hello"
    level3.wait_no_flows()
    assert policy_lab.received("echo") == 0
    wait_for("the list", lambda: policy_lab.responder.asked[INTERNAL_CRL], 15)
    assert handshake(ECHO, context_for(lab.certificates.ca)) == b"hello"


# --- a responder that lies about each certificate and each list in another way

@pytest.mark.parametrize("lie", [lie for lie in lies.OCSP_LIES + lies.SENDING_LIES if lie != "revoked"])
def test_lying_responder(liars, policy_lab, lie):
    """Nothing of what it says is stapled, and the report says what was wrong with the answer; a good staple beside it goes on."""
    name = f"{lie}.example.com"
    status = wait_for(lambda: f"an attempt: {own(liars).get(name)}", lambda: (s := own(liars)[name])["failed"] and s, 30, 0.2)
    assert status["standing"] == "unknown" and status["why"], status
    assert staple(policy_lab, name, alpn=None) is None
    assert policy_lab.responder.asked["redirects followed"] == 0
    wait_for("the good staple", lambda: staple(policy_lab, alpn=None) == "good", 20, 0.2)
    assert requirements(liars)["9.4.3"]["state"] in ("alarm", "violated")


@pytest.mark.parametrize("name", ["revoked.example.com", "listed.example.com"])
def test_revoked_own_certificate_is_not_served(liars, policy_lab, name):
    """By a verified answer, or by a verified list, it takes its name out of service; the other names go on."""
    def gone():
        done = policy_lab.s_client(WEB, name=name)
        return done.returncode != 0 and alert_in(done.stderr) == 112
    wait_for("the name to be refused", gone, 30, 0.3)
    row = requirements(liars)["9.4.3"]
    assert row["state"] == "violated" and name in str(row["alarms"]), row
    for other in (TENANT, "crl.example.com"):
        assert policy_lab.s_client(WEB, name=other).returncode == 0, other


@pytest.mark.parametrize("lie", lies.CRL_LIES + lies.SENDING_LIES)
def test_lying_crl_server_at_level_2(liars, policy_lab, lab, lie):
    """A list that does not count says nothing, neither good nor bad; the report says what is wrong with it. One that is only old still
    tells of those who are on it."""
    port = policy_lab.ports[f"crl-{lie}"]
    status = wait_for(lambda: f"an attempt: {liars.show('revocation')['crls']}",
                      lambda: next((s for s in liars.show("revocation")["crls"] if f"/{lie}/" in s["source"] and s["failed"]), None), 30, 0.2)
    assert status["why"], status
    assert handshake(port, client_context(lab)) == b"hello"
    with TlsClient(ECHO, context_for(lab.certificates.ca), timeout=30).handshake() as client:
        client.write(b"x")
        client.read_exactly(1)
