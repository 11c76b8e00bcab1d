"""Encrypted ClientHello (RFC 9849) with OpenSSL's client: the inner name chooses the service, and nobody on the way sees it."""

import base64
import pathlib
import re

import pytest

from tests.lab.certificates import PUBLIC_NAME
from tests.lab.lab import wait_for
from .client_hello import alert_in
from .policy_lab import ECH, ECHO, WEB, requirements

pytestmark = pytest.mark.needs_appliance

INNER = "www.example.com"


def shown(appliance, service="ech"):
    return next(row for row in appliance.show("ech") if row["service"] == service)


def config_list(appliance, service="ech"):
    return shown(appliance, service)["config_list"]


def outcomes(appliance, service="ech"):
    view = next(view for view in appliance.show("services") if view["name"] == service)
    counts = {count["name"]: count["count"] for count in view["by_ech"]}
    return {name: counts.get(name, 0) for name in ("none", "grease", "accepted", "rejected")}


def rose(appliance, before, outcome, service="ech"):
    wait_for(lambda: f"{outcome} to rise from {before}: {outcomes(appliance, service)}",
             lambda: outcomes(appliance, service)[outcome] == before[outcome] + 1, 5)


def test_configuration_list_is_what_a_client_takes(level2):
    """ECHConfigList of RFC 9849 4: version 0xfe0d, X25519 with HKDF-SHA256 and AES-128-GCM, the public name."""
    octets = base64.b64decode(config_list(level2))
    assert int.from_bytes(octets[:2], "big") == len(octets) - 2
    assert octets[2:4] == b"\xfe\x0d"
    assert octets[7:9] == b"\x00\x20"                      # DHKEM(X25519, HKDF-SHA256)
    assert b"\x00\x01\x00\x01" in octets                   # HKDF-SHA256, AES-128-GCM
    assert PUBLIC_NAME.encode() in octets
    dns = shown(level2)["dns"]
    assert dns.startswith("ech=") and config_list(level2) in dns   # RFC 9848
    assert config_list(level2) in pathlib.Path(shown(level2)["dns_file"]).read_text()


@pytest.mark.parametrize("more", [[], ["-groups", "P-521:P-256"]], ids=["", "hello-retry-request"])
def test_inner_name_is_served(level2, policy_lab, more):
    before = outcomes(level2)
    done = policy_lab.s_client(ECH, "-tls1_3", "-ech_config_list", config_list(level2), *more, name=INNER, send="hello\n", wait=1)
    assert re.search(r"ECH: success", done.stdout), done.stdout + done.stderr
    assert "Verification: OK" in done.stdout and "CN=www.example.com" in done.stdout.replace(" ", ""), done.stdout
    assert "hello" in done.stdout
    rose(level2, before, "accepted")


def test_inner_name_is_not_on_the_wire(level2, policy_lab, lab):
    """Neither on the way to us, nor on the way to the backend, nor in the list of failures."""
    for side in ("client", "backend"):
        with lab.capture(side, lab.directory / f"ech-{side}.pcap", "tcp") as file:
            done = policy_lab.s_client(ECH, "-tls1_3", "-ech_config_list", config_list(level2), name=INNER, send="hello\n", wait=1)
        assert "hello" in done.stdout
        octets = file.read_bytes()
        assert INNER.encode() not in octets, side
        assert (PUBLIC_NAME.encode() in octets) == (side == "client")
    known = level2.show("failures")["total"]
    policy_lab.s_client(ECH, "-tls1_3", "-ech_config_list", config_list(level2), name="hidden.example.org")
    wait_for("the failure", lambda: level2.show("failures")["total"] > known)
    assert "hidden.example.org" not in str(level2.show("failures")["failures"][0])


def test_unknown_inner_name_is_refused(level2, policy_lab):
    done = policy_lab.s_client(ECH, "-tls1_3", "-ech_config_list", config_list(level2), name="unknown.example.org")
    assert done.returncode != 0 and alert_in(done.stderr) == 112, done.stdout + done.stderr


def test_without_ech(level2, policy_lab):
    before = outcomes(level2)
    done = policy_lab.s_client(ECH, "-tls1_3", name=INNER, send="hello\n", wait=1)
    assert "hello" in done.stdout, done.stdout + done.stderr
    rose(level2, before, "none")


@pytest.mark.parametrize("version", ["-tls1_3"])
def test_grease_never_fails(level2, policy_lab, version):
    before = outcomes(level2)
    done = policy_lab.s_client(ECH, version, "-ech_grease", name=INNER, send="hello\n", wait=1)
    assert "hello" in done.stdout, done.stdout + done.stderr
    rose(level2, before, "grease")


def test_wrong_key_gets_retry_configurations_and_nothing_else(level2, policy_lab, lab):
    """A list with the right public name and an old key: the outer handshake is finished, the client is given the new list, and no
    backend is asked for anything."""
    stale = stale_list(lab)
    before = outcomes(level2)
    done = policy_lab.s_client(ECH, "-tls1_3", "-ech_config_list", stale, name=INNER, send="secret\n", wait=1)
    assert "secret" not in done.stdout
    assert re.search(r"ECH: (failed|GREASE|.*retry)", done.stdout, re.IGNORECASE) or "ech required" in done.stderr.lower(), done.stdout + done.stderr
    rose(level2, before, "rejected")
    level2.wait_no_flows()
    assert policy_lab.received("echo") == 0
    assert not policy_lab.backends["echo"].events("open")
    assert level2.counters()["policy_ech_rejected"] >= 1


def stale_list(lab):
    """Of a key that nobody has any more."""
    file = lab.directory / "stale-ech.pem"
    lab.client("openssl", "ech", "-public_name", PUBLIC_NAME, "-out", file, check=True)
    text = file.read_text()
    return "".join(text[text.index("-----BEGIN ECHCONFIG-----"):].splitlines()[1:-1])


def test_outer_name_serves_no_tenant(level2, policy_lab):
    """Who asks for the public name in clear gets its certificate at most, and reaches no backend."""
    done = policy_lab.s_client(ECH, "-tls1_3", name=PUBLIC_NAME, send="secret\n", wait=1)
    assert "secret" not in done.stdout, done.stdout
    level2.wait_no_flows()
    assert policy_lab.received("echo") == 0


def test_keys_outlive_a_restart(level2, policy_lab):
    """What clients have from DNS is still opened by the next control."""
    known = config_list(level2)
    level2.kill_control()
    level2.start_control()
    level2.wait_ready()
    assert config_list(level2) == known
    done = policy_lab.s_client(ECH, "-tls1_3", "-ech_config_list", known, name=INNER, send="hello\n", wait=1)
    assert "hello" in done.stdout, done.stdout + done.stderr


def test_level_3(level3, policy_lab):
    """ECH on every service; TLS 1.2 only where a line asks for it; the report is clean."""
    for port, service in ((WEB, "web"), (ECHO, "echo")):
        done = policy_lab.s_client(port, "-tls1_3", "-ech_config_list", config_list(level3, service), name=INNER, send="hello\n", wait=1)
        assert "ECH: success" in done.stdout and "hello" in done.stdout, done.stdout + done.stderr
    assert alert_in(policy_lab.s_client(WEB, "-tls1_2").stderr) == 70
    assert policy_lab.s_client(ECHO, "-tls1_2", send="x", wait=0.3).returncode == 0
    rows = requirements(level3)
    assert rows["9.4.4"]["state"] == "ok" and rows["9.4.4"]["evidence"], rows["9.4.4"]
