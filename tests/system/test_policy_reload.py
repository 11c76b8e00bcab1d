"""A change of the configuration while it runs: certificates, policy and client CAs change, flows go on, a bad file changes nothing.
And the auditor's file with its signature."""

import copy
import datetime
import json
import shutil
import signal
import subprocess

import pytest

from tests.lab.lab import program, wait_for
from .policy_lab import ECHO, REQUIRED
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance


def certificate_seen(policy_lab):
    """The certificate that the echo service shows (PEM)."""
    shown = policy_lab.s_client(ECHO).stdout
    begin, end = shown.index("-----BEGIN CERTIFICATE-----"), shown.index("-----END CERTIFICATE-----")
    return shown[begin:end]


def reload(appliance):
    """Exit code and what was said."""
    done = subprocess.run([str(part) for part in (program("sallyport"), "--socket", appliance.socket_path, "reload")],
                          capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def own_files(lab, policy_lab):
    """A configuration whose certificate the test may replace: the files are copies."""
    c = lab.certificates
    directory = lab.directory / "reload"
    directory.mkdir(exist_ok=True)
    copies = []
    for path in c.ecdsa:
        copies.append(directory / path.name)
        shutil.copy(path, copies[-1])
        shutil.chown(copies[-1], "sallyport", "sallyport")
    config = copy.copy(policy_lab.level2)
    config.services = [copy.copy(service) for service in config.services[:3]]
    config.services[1].certificates = [tuple(copies)]
    config.pools = config.pools[:3]
    return config, copies


def test_certificate_is_replaced_and_flows_go_on(appliance_with, own_files, policy_lab, lab):
    config, copies = own_files
    appliance = appliance_with(config)
    first = certificate_seen(policy_lab)
    with TlsClient(ECHO, context_for(lab.certificates.ca), timeout=30).handshake() as alive:
        alive.write(b"before")
        assert alive.read_exactly(6) == b"before"
        renewed = lab.certificates.issuing.issue("reload-renewed", "ecdsa", ["www.example.com", "echo.example.com"])
        for new, place in zip(renewed, copies):
            place.write_bytes(new.read_bytes())
        assert certificate_seen(policy_lab) == first   # nothing changes by itself
        code, text = reload(appliance)
        assert (code, text) == (0, "reloaded\n")
        assert certificate_seen(policy_lab) != first
        alive.write(b"after")
        assert alive.read_exactly(5) == b"after"
    total = next(view for view in appliance.show("services") if view["name"] == "echo")["handshakes_done"]
    assert total >= 4   # counts go on over a reload


def test_bad_file_changes_nothing(appliance_with, own_files, policy_lab):
    config, copies = own_files
    appliance = appliance_with(config)
    first = certificate_seen(policy_lab)
    generation = appliance.show("version")["generation"]
    good = appliance.config_file.read_text()
    try:
        appliance.config_file.write_text(good.replace("level = 2", "level = 9"))
        code, text = reload(appliance)
        assert code != 0 and "policy.level = 9: is too large; 1 to 3" in text, text
        appliance.config_file.write_text(good.replace("max_flows = 8192", "max_flows = 4096"))
        code, text = reload(appliance)
        assert code != 0 and "dataplane.max_flows = 4096: cannot change while the appliance runs (it is 8192)" in text, text
    finally:
        appliance.config_file.write_text(good)
    assert certificate_seen(policy_lab) == first
    assert appliance.show("version")["generation"] == generation
    assert reload(appliance)[0] == 0


def test_signal_reloads(appliance_with, own_files, lab):
    config, _ = own_files
    appliance = appliance_with(config)
    loaded = appliance.show("version")["configuration_loaded"]
    wait_for("the clock to go on", lambda: datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") > loaded, 5)
    appliance.control.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: appliance.show("version")["configuration_loaded"] > loaded, 10, 0.1)
    lab.lab_client(ECHO, "--octets", 1000)


def test_ticket_does_not_cross_a_changed_client_ca(appliance_with, own_files, policy_lab, lab):
    """A session that began under one list of client CAs is not resumed under another (9.4.5)."""
    config, _ = own_files
    appliance = appliance_with(config)
    certificate, key = lab.certificates.clients["good"]

    def resumed(session=None):
        arguments = ["-sess_in", str(session)] if session else ["-sess_out", str(lab.directory / "reload-session.pem")]
        done = policy_lab.s_client(REQUIRED, "-tls1_3", "-cert", str(certificate), "-key", str(key), *arguments, wait=0.5)
        return "Reused, TLSv1.3" in done.stdout
    assert not resumed()
    assert resumed(lab.directory / "reload-session.pem")
    assert not resumed()
    good = appliance.config_file.read_text()
    both = f'"{lab.certificates.clients_a.file}", "{lab.certificates.clients_b.file}"'
    appliance.config_file.write_text(good.replace(f'trust = [ "{lab.certificates.clients_a.file}" ]', f"trust = [ {both} ]"))
    assert appliance.config_file.read_text() != good
    assert reload(appliance)[0] == 0
    assert not resumed(lab.directory / "reload-session.pem")


def test_report_is_signed(level2, lab):
    """What an auditor does with it: the signature holds, and does not when a state has been edited."""
    written = json.loads(level2.cli("report", "policy", "--json"))
    report = json.loads(open(written["report"]).read())
    assert [row["id"] for row in report["requirements"]] == [row["id"] for row in level2.show("policy")]
    assert report["level"] == 2 and report["time"].endswith("Z")

    def verifies(file):
        return subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", written["public_key"], "-rawin", "-in", str(file),
                               "-sigfile", written["signature"]], capture_output=True).returncode == 0
    assert verifies(written["report"])
    edited = lab.directory / "edited-report.json"
    edited.write_text(open(written["report"]).read().replace('"state": "ok"', '"state": "OK"', 1))
    assert not verifies(edited)
