"""The running state: `show policy`, its evidence, and the alarms that are raised when something goes bad."""

import copy
import datetime
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from tests.lab.configuration import Pool, Service
from tests.lab.lab import Backend, wait_for
from tests.policy.table import REQUIREMENTS
from .client_hello import alert_in, client_hello, exchange
from .policy_lab import ECHO, INTERNAL_CRL, REDIRECT, REQUIRED, WEB, requirements
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

STATES = {"ok", "violated", "alarm", "waived", "not applicable"}


def state_of(appliance, requirement, wanted):
    return wait_for(lambda: f"{requirement} to be {wanted}: {requirements(appliance)[requirement]}",
                    lambda: (row := requirements(appliance)[requirement])["state"] == wanted and row, 20, 0.2)


def test_table(level2):
    """One row for each requirement, in both spellings, dated."""
    rows = level2.show("policy")
    assert [row["id"] for row in rows] == list(REQUIREMENTS)
    for row in rows:
        assert (row["final_id"], row["level"]) == (REQUIREMENTS[row["id"]].final_id, REQUIREMENTS[row["id"]].level)
        assert row["state"] in STATES and row["evidence"], row
        since = datetime.datetime.fromisoformat(row["since"])
        assert since <= datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5)
    text = level2.cli("show", "policy")
    assert all(row["id"] in text and row["final_id"] in text for row in rows)


@pytest.mark.parametrize("level", ["level2", "level3"])
def test_nothing_is_violated(request, level):
    appliance = request.getfixturevalue(level)
    wanted = {"level2": 2, "level3": 3}[level]
    for row in appliance.show("policy"):
        if row["level"] <= wanted:
            wait_for(lambda row=row: f"{row['id']} to be in order: {requirements(appliance)[row['id']]}",
                     lambda row=row: requirements(appliance)[row["id"]]["state"] in ("ok", "not applicable"), 20, 0.2)


# --- 9.1.1

def test_every_listener_speaks_tls_or_redirects(level2, policy_lab):
    """A probe of each: TLS answers a ClientHello with a record of TLS, and plain HTTP with nothing in clear; port 80 with 308."""
    for service in policy_lab.level2.services:
        for octets in (b"GET / HTTP/1.0\r\n\r\n", client_hello(suites=(0x1304,))):
            answer = exchange(service.port, octets)
            assert answer[:1] in (b"", b"\x15"), (service.name, answer)
    assert exchange(REDIRECT, b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n").startswith(b"HTTP/1.1 308 ")
    row = requirements(level2)["9.1.1"]
    assert row["state"] == "ok", row
    listens = re.search(r"listens at (\d+) address(?:es)? for TLS, at (\d+) for redirects, at 0 for anything else; 0 octets forwarded in the clear", row["evidence"])
    assert listens and int(listens.group(1)) >= len(policy_lab.level2.services) and int(listens.group(2)) >= 1, row


# --- 9.1.4, 9.3.2, 9.3.3: what runs out

def test_expiry_raises_an_alarm(appliance_with, policy_lab):
    """The lab's certificates and authorities live less than a week: with 30 days of warning there is much to say."""
    config = copy.copy(policy_lab.level2)
    config.expiry_alarm_days = 30
    appliance = appliance_with(config)
    assert "www-ecdsa" in str(state_of(appliance, "9.1.4", "alarm")["alarms"]) or "www.example.com" in str(requirements(appliance)["9.1.4"]["alarms"])
    assert "Internal Root" in str(state_of(appliance, "9.3.2", "alarm")["alarms"])


def test_tickets_are_sealed_with_a_young_key(level3):
    """The evidence tells the age of the key that seals tickets, and it is younger than its period."""
    row = requirements(level3)["9.3.3"]
    age = re.search(r"the key of session tickets is (\d+) seconds? old", row["evidence"])
    assert age and int(age.group(1)) <= 3600 and row["state"] == "ok", row


# --- 9.2.2

def test_every_connection_is_listed(level2, policy_lab):
    """The matrix: services, redirects, pools, management, and the one exception, signed data over http."""
    evidence = requirements(level2)["9.2.2"]["evidence"]
    rows = evidence.split("; ")
    for service in policy_lab.level2.services:
        assert f"clients to service {service.name}: TLS" in rows, evidence
    for pool in policy_lab.level2.pools:
        assert any(row.startswith(f"us to pool {pool.name}: ") and row.endswith("TLS") for row in rows), (pool.name, evidence)
    assert any(row.startswith("clients to redirect ") and "308" in row for row in rows), evidence
    assert any("management: the local socket" in row for row in rows) and any("OCSP" in row and "signed" in row for row in rows), evidence


def test_clear_connection_stands_in_the_matrix_with_its_waiver(appliance_with, policy_lab):
    """A pool in plain text, under waivers: both requirements say so, and neither calls it in order."""
    until = (datetime.date.today() + datetime.timedelta(days=20)).isoformat()
    config = copy.copy(policy_lab.level2)
    pool = copy.copy(policy_lab.echo_pool())
    pool.server_name, pool.trust = "", ()
    config.services = [service for service in config.services if service.pool == pool.name][:1]
    config.pools, config.redirects = [pool], {}
    config.waivers = tuple({"requirement": each, "object": f"pool {pool.name}", "reason": "it is being replaced", "until": until} for each in ("9.2.2", "9.3.1"))
    appliance = appliance_with(config)
    row = requirements(appliance)["9.2.2"]
    assert row["state"] == "waived" and not row.get("alarms"), row
    assert f"us to pool {pool.name}: plain text" in row["evidence"] and until in row["evidence"], row


# --- 9.2.6

def test_live_flow_ends_when_its_backend_is_revoked(appliance_with, policy_lab, lab):
    c = lab.certificates
    issued = c.internal.issue("backend-to-be-revoked", "ecdsa", ["backend.example.net"])
    backend = Backend(lab, "policy-to-be-revoked", 4660, certificate=issued)
    config = copy.copy(policy_lab.level2)
    config.services = [*config.services[:2], Service("to-be-revoked", 4660, "to-be-revoked", [c.ecdsa])]
    config.pools = [*config.pools[:2], Pool("to-be-revoked", backend.members(4), **policy_lab.internal, crl=(c.internal.crl_url,))]
    policy_lab.forget()
    policy_lab.responder.asked.clear()
    appliance = appliance_with(config)
    wait_for("the list", lambda: policy_lab.responder.asked[INTERNAL_CRL], 15)
    with TlsClient(4660, context_for(c.ca), timeout=30).handshake() as client:
        client.write(b"x")
        client.read_exactly(1)
        c.internal.revoke(issued)
        client.socket.settimeout(40)
        appliance.cli("refresh", "revocation")
        assert client.end() != "reset"
    appliance.wait_no_flows()
    assert any("identity_revoked" in name and value for name, value in appliance.counters().items())
    backend.kill()


# --- 9.3.1

def test_health_checks_verify(appliance_with, policy_lab, lab):
    """A member that answers TCP, but whose certificate is for another, is down; a good one is up."""
    c = lab.certificates
    bad = policy_lab.backends["wrong-name"].members(4)
    health = {"interval_ms": 200, "timeout_ms": 200, "rise": 1, "fall": 1}
    config = copy.copy(policy_lab.level2)
    config.services = [config.services[0], Service("good", 4661, "good", [c.ecdsa]), Service("bad", 4662, "bad", [c.ecdsa])]
    config.pools = [config.pools[0], policy_lab.echo_pool("good", health=health), Pool("bad", bad, **policy_lab.internal, health=health)]
    config.redirects = {}
    appliance = appliance_with(config)

    def states():
        return {pool["name"]: {member["state"] for member in pool["members"]} for pool in appliance.show("pools")}
    wait_for(lambda: f"the members' states: {states()}", lambda: states()["good"] == {"up"} and states()["bad"] == {"down"}, 20, 0.2)
    assert appliance.counters()["policy_backend_wrong_name"] > 0


# --- 9.4.1, 9.4.2: what was negotiated is counted

def test_negotiated_is_in_the_evidence(level2, lab):
    for settings in (["MinProtocol=TLSv1.3"], ["MaxProtocol=TLSv1.2"]):
        lab.lab_client(ECHO, "--octets", 10, *[word for setting in settings for word in ("--set", setting)])
    rows = requirements(level2)
    evidence = rows["9.4.1"]["evidence"]
    assert re.search(r"by suite: .*TLS_AES_256_GCM_SHA384 [1-9]", evidence) and re.search(r"by group: \S+ [1-9]", evidence), evidence
    assert "KeyUpdates sent" in evidence and "renegotiation" in evidence, evidence
    assert re.search(r"used by [1-9]\d* of [1-9]\d* handshakes", rows["9.4.2"]["evidence"]), rows["9.4.2"]
    echo = next(view for view in level2.show("services") if view["name"] == "echo")
    assert {count["name"] for count in echo["by_suite"]} >= {"TLS_AES_256_GCM_SHA384"} and len(echo["by_group"]) >= 1, echo


# --- waivers are shown

def test_waiver_is_shown(appliance_with, policy_lab, lab):
    c = lab.certificates
    until = (datetime.date.today() + datetime.timedelta(days=20)).isoformat()
    config = copy.copy(policy_lab.level2)
    config.services = [Service("web", WEB, "web", [c.issuing.issue("waived", "ecdsa", ["www.example.com"], days=30)])]
    config.pools = config.pools[:1]
    config.redirects = {}
    config.waivers = ({"requirement": "9.4.3", "object": "service web", "reason": "the CA has no responder yet", "until": until},)
    appliance = appliance_with(config)
    row = state_of(appliance, "9.4.3", "waived")
    assert "the CA has no responder yet" in row["evidence"] and until in row["evidence"], row


def test_refusals_are_no_violations_of_ours(level2, policy_lab):
    """A client that is refused is the policy at work."""
    assert alert_in(policy_lab.s_client(ECHO, "-tls1_2", "-no_ems").stderr) == 40
    assert requirements(level2)["9.4.1"]["state"] == "ok"


# --- another configuration, while flows live

def reloadable(policy_lab, lab, name):
    """A configuration of the test's own, with one certificate that may be replaced and clients of CA A."""
    c = lab.certificates
    certificate, key = lab.directory / f"{name}.pem", lab.directory / f"{name}.key"
    config = copy.copy(policy_lab.level2)
    config.services = [Service("echo", ECHO, "echo", [(certificate, key)]),
                       Service("required", REQUIRED, "echo", [c.ecdsa], client_auth={"mode": "required", "trust": [str(c.clients_a.file)]})]
    config.pools = [policy_lab.echo_pool()]
    config.redirects = {}

    def replace():
        issued = c.issuing.issue(f"{name}-issued", "ecdsa", ["www.example.com"])
        shutil.copy(issued.certificate, certificate)
        shutil.copy2(issued.key, key)
        shutil.chown(key, "sallyport")
        return issued.serial
    return config, replace


def open_flow(port, made):
    client = TlsClient(port, made, timeout=40).handshake()
    client.write(b"x")
    assert client.read_exactly(1) == b"x"
    return client


def test_another_client_ca_ends_flows_and_sessions(appliance_with, policy_lab, lab):
    """9.4.5: who is trusted no longer is not served any longer, nor by a ticket."""
    c = lab.certificates
    config, replace = reloadable(policy_lab, lab, "changed-ca")
    replace()
    appliance = appliance_with(config)
    made = context_for(c.ca)
    made.load_cert_chain(*c.clients["good"])
    client = open_flow(REQUIRED, made)
    session = lab.directory / "changed-ca-session.pem"
    certificate, key = c.clients["good"]
    policy_lab.s_client(REQUIRED, "-tls1_3", "-cert", certificate, "-key", key, "-sess_out", session, send="x", wait=1)
    text = appliance.config_file.read_text()
    appliance.config_file.write_text(text.replace(str(c.clients_a.file), str(c.clients_b.file)))
    assert json.loads(appliance.cli("reload", "--json"))["done"]
    assert client.end() != "reset"
    resumed = policy_lab.s_client(REQUIRED, "-tls1_3", "-sess_in", session, send="x", wait=1)
    assert "Reused" not in resumed.stdout and alert_in(resumed.stderr) == 116, resumed.stdout + resumed.stderr
