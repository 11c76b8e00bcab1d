"""What those who run the appliance do with it: roles, the audit log, what is shown, drain, clear, tests of services, the support bundle."""

import hashlib
import io
import json
import pathlib
import subprocess
import tarfile

import pytest

from tests.lab.configuration import Configuration
from tests.lab.lab import best_profile, program, wait_for
from .management import Management, Refused, User
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

ADMINISTRATORS, OPERATORS, READERS = 60001, 60002, 60003
READER, OPERATOR, ADMINISTRATOR = User(61001, (READERS,)), User(61002, (7, OPERATORS)), User(61003, (ADMINISTRATORS, READERS))
STRANGER = User(61004, (100,))
ECHO, PAIR = 4433, 4470
STATE = pathlib.Path("/var/lib/sallyport-operations")


@pytest.fixture(scope="module")
def operations_configuration(standard):
    kept = [service for service in standard.services if service.name in ("web", "echo", "pair")]
    pools = [pool for pool in standard.pools if pool.name in {service.pool for service in kept}]
    return Configuration(kept, pools, profile=best_profile(), state_directory=str(STATE),
                         roles={"administrators": str(ADMINISTRATORS), "operators": str(OPERATORS), "readers": str(READERS)})


@pytest.fixture
def appliance(appliance_with, operations_configuration):
    appliance = appliance_with(operations_configuration)
    appliance.wait_no_flows()   # of the test before
    yield appliance
    TlsClient.close_all()


@pytest.fixture
def management(appliance):
    management = Management(appliance.socket_path)
    yield management
    management.close()


def connect(lab, port):
    return TlsClient(port, context_for(lab.certificates.ca)).handshake()


def entries():
    lines = []
    for file in [*sorted(STATE.glob("audit-*.log")), STATE / "audit.log"]:
        lines += [json.loads(line) for line in file.read_text().splitlines()]
    return lines


def verify_audit(*options):
    return subprocess.run([program("sallyport-control"), "verify-audit", "--state", str(STATE), *options], capture_output=True, text=True, timeout=60)


# --- roles

def test_roles_open_what_they_should(appliance):
    path = appliance.socket_path
    assert READER.ask(path, "show version")["control_pid"] > 0
    for user, words, needed, has in ((READER, "clear counters", "operator", "read-only"), (OPERATOR, "reload", "administrator", "operator"),
                                     (READER, "support bundle", "administrator", "read-only"), (OPERATOR, "show audit", "administrator", "operator")):
        with pytest.raises(Refused) as refused:
            user.ask(path, words)
        assert refused.value.code == "forbidden"
        assert needed in refused.value.text and has in refused.value.text
    assert OPERATOR.ask(path, "clear counters") == {}
    assert ADMINISTRATOR.ask(path, "reload")["done"]
    for words in ("show version", "help", "no such command"):
        with pytest.raises(Refused) as refused:
            STRANGER.ask(path, words)
        assert refused.value.code == "forbidden" and "has none" in refused.value.text


def test_strangers_take_nobodys_place(appliance):
    """Many who may not connect and stay; who may still gets through."""
    script = ("import socket, sys, time\n"
              "held = []\n"
              "for i in range(100):\n"
              "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); held.append(s)\n"
              "print('held', flush=True); sys.stdin.read()")
    child = subprocess.Popen(["setpriv", "--reuid=61004", "--regid=61004", "--clear-groups", "python3", "-c", script, appliance.socket_path],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        assert READER.ask(appliance.socket_path, "show version")["version"]
        assert json.loads(appliance.cli("show", "version", "--json"))["version"]
    finally:
        child.communicate("")


# --- the audit log

def test_commands_and_refusals_are_in_the_audit_log(appliance, management):
    before = len(entries())
    OPERATOR.ask(appliance.socket_path, "drain", {"pool": "pair", "member": "a"}, said_from="ssh 192.0.2.7 port 51234")
    OPERATOR.ask(appliance.socket_path, "enable", {"pool": "pair", "member": "a"})
    with pytest.raises(Refused):
        READER.ask(appliance.socket_path, "reload")
    management.ask("show names", kind="services")   # polled: not audited
    management.ask("reload")
    new = [entry for entry in entries()[before:] if entry.get("command") not in (None, "show version")]
    assert [(e["event"], e["command"], e["outcome"]) for e in new] == [
        ("command", "drain", "ok"), ("command", "enable", "ok"), ("refused", "reload", "forbidden"), ("begun", "reload", "begun"), ("command", "reload", "ok")]
    assert new[0]["uid"] == OPERATOR.uid and new[0]["role"] == "operator"
    assert new[0]["from"] == {"said_by_client": "ssh 192.0.2.7 port 51234"}
    assert new[0]["arguments"] == {"pool": "pair", "member": "a"}
    assert (STATE / "audit.log").stat().st_mode & 0o777 == 0o600
    shown = management.ask("show audit", limit=3)
    assert shown["entries"] == entries()[-4:-1] and shown["lost"] == 0   # its own entry comes after


def test_audit_log_verifies_and_goes_on_over_a_restart(appliance, management):
    found = management.ask("audit verify")
    assert found["ok"] and found["broken"] == 0 and found["entries"] > 0
    appliance.control.stop()
    stopped = verify_audit()
    assert stopped.returncode == 0, stopped.stdout
    assert entries()[-1]["event"] == "control_stopped"
    head = stopped.stdout.split("the head is ")[1].strip()
    appliance.start_control()
    appliance.wait_ready()
    assert entries()[-1]["event"] in ("control_started", "command")
    assert verify_audit("--head", head).returncode == 0
    assert verify_audit("--head", "1:" + "0" * 64).returncode == 1


def test_audit_log_that_was_altered_raises_an_alarm_and_begins_anew(appliance, lab):
    appliance.control.stop()
    log = STATE / "audit.log"
    good = log.read_bytes()
    lines = good.splitlines(keepends=True)
    assert len(lines) > 2
    altered = lines[1].replace(b'"outcome":"', b'"outcome":"x', 1)
    log.write_bytes(b"".join([lines[0], altered, *lines[2:]]))
    found = verify_audit()
    assert found.returncode == 1 and "does not follow" in found.stdout
    log.write_bytes(b"".join(lines[:-1]))
    found = verify_audit()
    assert found.returncode == 1 and "is missing" in found.stdout
    appliance.start_control()
    appliance.wait_ready()
    assert "audit_broken" in appliance.logs() or "audit_broken" in (lab.directory / "control.log").read_text()
    begun = json.loads(log.read_text().splitlines()[0])
    assert begun["event"] == "chain_begins" and "ends at entry" in begun["arguments"]["why"]
    management = Management(appliance.socket_path)
    alarm = next(alarm for alarm in management.ask("show alarms")["active"] if alarm["kind"] == "audit_broken")
    assert alarm["severity"] == "critical" and "ends at entry" in alarm["text"]
    assert not management.ask("audit verify")["ok"]
    assert not any(alarm["kind"] == "audit_broken" for alarm in management.ask("show alarms")["active"])   # somebody knows now
    management.close()
    appliance.control.stop()   # the next tests start with a log that is whole
    for file in STATE.glob("audit*"):
        file.unlink()
    appliance.start_control()
    appliance.wait_ready()


def test_head_of_the_audit_log_is_in_the_signed_report(management):
    report = management.ask("report policy")
    head = json.loads(pathlib.Path(report["report"]).read_text())["audit_head"]
    assert verify_audit("--head", head).returncode == 0


# --- what is shown

def test_one_flow_in_detail(appliance, lab, management):
    client = connect(lab, ECHO)
    client.write(b"hello")
    assert client.read_exactly(5) == b"hello"
    [row] = [flow for flow in management.ask("show flows", service="echo")["flows"] if flow["state"] == "open"]
    detail = management.ask("show flow", id=row["id"])
    flow = detail["flow"]
    assert flow["service"] == "echo" and flow["client"] == row["client"] and detail["negotiated_known"]
    assert flow["client_tcp"]["state"] == flow["backend_tcp"]["state"] == "ESTABLISHED"
    assert flow["client_tcp"]["srtt_us"] > 0
    assert flow["version"] == "TLS 1.3" and flow["backend_suite"] and detail["backend_group"] and detail["backend_subject"] and flow["anchor"]
    assert detail["signature_scheme"] and detail["extended_master_secret"] and detail["ech"] == "none"
    with pytest.raises(Refused) as refused:
        management.ask("show flow", id="00-ffffff-0000ffff")
    assert refused.value.code == "no_flow"
    with pytest.raises(Refused) as refused:
        management.ask("show flow", id="nonsense")
    assert refused.value.code == "bad_argument"


def test_flows_are_filtered(appliance, lab, management):
    held = [connect(lab, ECHO), connect(lab, PAIR)]
    wait_for("both flows to be open", lambda: len(management.ask("show flows", state="open")["flows"]) == 2)
    assert management.ask("show flows", service="pair")["total"] == 1
    assert management.ask("show flows", pool="echo")["total"] == 1
    client = management.ask("show flows", service="pair")["flows"][0]["client"]
    assert management.ask("show flows", client=client)["total"] == 1
    assert management.ask("show flows", client=client.rsplit(":", 1)[0].strip("[]"))["total"] == 2
    assert management.ask("show flows", client="203.0.113.0/24")["total"] == 0
    assert management.ask("show flows", min_age_s=100000)["total"] == 0
    del held


def test_flows_are_cleared(appliance, lab, management):
    kept, ended = connect(lab, ECHO), connect(lab, PAIR)
    wait_for("both flows to be open", lambda: len(management.ask("show flows", state="open")["flows"]) == 2)
    assert OPERATOR.ask(appliance.socket_path, "clear flows", {"service": "pair"}) == {"ended": 1}
    wait_for("the flow to end", lambda: management.ask("show flows", service="pair")["total"] == 0)
    kept.write(b"still here")
    assert kept.read_exactly(10) == b"still here"
    with pytest.raises(Refused) as refused:
        management.ask("clear flows")
    assert refused.value.code == "bad_argument"
    del ended


def test_drained_service_refuses_and_member_gets_nothing(appliance, lab, management):
    management.ask("drain", pool="pair", member="a")
    try:
        assert {connect(lab, PAIR).read_exactly(1) for _ in range(4)} == {b"b"}
    finally:
        management.ask("enable", pool="pair", member="a")
    management.ask("drain", service="pair")
    try:
        with pytest.raises((ConnectionError, OSError)):
            connect(lab, PAIR)
    finally:
        management.ask("enable", service="pair")
    wait_for("the service to be back", lambda: connect(lab, PAIR).read_exactly(1) in (b"a", b"b"))
    with pytest.raises(Refused):
        management.ask("drain", pool="pair", member="nobody")


def test_counters_are_cleared_for_show_alone(appliance, lab, management):
    connect(lab, ECHO)
    value = lambda **arguments: {c["name"]: c for c in management.ask("show counters", **arguments)}["flows_opened"]   # noqa: E731
    management.ask("clear counters")
    assert value()["value"] == 0 and value()["since"]
    connect(lab, ECHO)
    assert value()["value"] == 1
    assert value(absolute=True)["value"] > 1
    assert management.ask("show rates")["flows_opened"] == value(absolute=True)["value"]


def test_certificates_and_tls(appliance, lab, management):
    connect(lab, ECHO)
    rows = management.ask("show certificates")
    servers = [row for row in rows if row["used_by"] == "service echo" and row["role"] == "server"]
    assert {row["key"].split()[0] for row in servers} == {"RSA", "ECDSA"}
    assert all(row["days_left"] >= 0 and row["names"] and row["file"] and row["staple"] for row in servers)
    assert [row for row in rows if row["used_by"] == "pool echo" and row["role"] == "member CA" and row["subject"]]
    tls = management.ask("show tls")
    assert tls["all"]["handshakes_done"] >= 1
    assert any(count["name"] == "TLS 1.3" for count in tls["all"]["by_version"])
    assert sum(service["handshakes_done"] for service in tls["services"]) == tls["all"]["handshakes_done"]
    assert management.ask("show ocsp") == management.ask("show revocation")


def test_rates(appliance, lab, management):
    first = management.ask("show rates")
    client = connect(lab, ECHO)
    client.write(b"x" * 1000)
    client.read_exactly(1000)
    second = management.ask("show rates")
    assert second["monotonic_ns"] > first["monotonic_ns"] and second["dataplane"]
    assert second["flows_opened"] == first["flows_opened"] + 1
    assert second["octets_to_backend"] == first["octets_to_backend"] + 1000
    assert {port["name"] for port in second["ports"]} == {"clients", "backends"}
    assert second["workers"][0]["cycles_total"] > first["workers"][0]["cycles_total"]


def test_sessions(appliance, management):
    management.ask("show version", said_from="ssh 192.0.2.7")
    [mine] = [s for s in management.ask("show sessions", said_from="ssh 192.0.2.7") if s["this_one"]]
    assert mine["user"] == "root" and mine["role"] == "administrator" and mine["from"] == "ssh 192.0.2.7" and mine["commands"] >= 2


def test_log_of_both_processes(appliance, management):
    lines = management.ask("show log", limit=2000)
    assert lines["dataplane"] == ""
    assert {line["process"] for line in lines["lines"]} == {"control", "dataplane"}
    assert [line["time"] for line in lines["lines"]] == sorted(line["time"] for line in lines["lines"])
    assert any(line["text"].startswith("running ") and line["process"] == "control" for line in lines["lines"])
    eal = management.ask("show log", match="eal_started")["lines"]
    assert eal and all("eal_started" in line["text"] for line in eal)
    assert management.ask("show log", match="no line has this")["lines"] == []
    assert all(line["level"] in ("warning", "error") for line in management.ask("show log", level="warning")["lines"])


def test_names_for_completion(appliance, management):
    names = lambda **arguments: {row["name"] for row in management.ask("show names", **arguments)}   # noqa: E731
    assert names(kind="services") == {"web", "echo", "pair"}
    assert names(kind="members", pool="pair") == {"a", "b"}
    assert names(kind="ports") == {"clients", "backends"}
    assert "pair" in names(kind="pools")
    with pytest.raises(Refused):
        management.ask("show names", kind="everything")


# --- what clients would see

def test_service_is_tested(appliance, management):
    seen = management.ask("test service", name="web")
    assert {shake["offered"] for shake in seen["handshakes"]} == {"TLS 1.3, ECDSA", "TLS 1.3, RSA", "TLS 1.2, ECDSA", "TLS 1.2, RSA"}
    for shake in seen["handshakes"]:
        assert shake["done"], shake
        assert shake["alpn"] == "h2" and shake["suite"] and shake["group"] and shake["chain"] and shake["name_covered"]
        assert shake["version"] == shake["offered"].split(",")[0]
        assert shake["resumed"] and shake["tickets"] > 0, shake
    assert "inside control" in seen["how"]
    unknown = management.ask("test service", name="web", server_name="nobody.example.org")
    assert not unknown["good"] and "unrecognized_name" in unknown["problems"][0]
    with pytest.raises(Refused) as refused:
        management.ask("test service", name="wbe")
    assert 'did you mean "web"' in refused.value.text


# --- the support bundle

def test_support_bundle_has_everything_but_keys(appliance, lab, management):
    bundle = management.ask("support bundle")
    octets = management.read_bundle(bundle["file"])
    assert len(octets) == bundle["octets"] and hashlib.sha256(octets).hexdigest() == bundle["sha256"]
    archive = tarfile.open(fileobj=io.BytesIO(octets))
    assert set(archive.getnames()) == set(bundle["members"])
    read = lambda name: archive.extractfile(name).read()   # noqa: E731
    for name in ("version", "ports", "services", "pools", "flows", "counters", "workers", "policy", "certificates", "tls", "alarms"):
        json.loads(read(f"show/{name}.json"))
    assert json.loads(read("show/version.json"))["eal"]
    assert b"control_started" in read("audit.log") and b"eal_started" in read("log/dataplane.log")
    assert b'name = "echo"' in read("configuration.conf")
    secrets = 0
    for directory in (lab.certificates.directory, STATE):
        for file in pathlib.Path(directory).rglob("*"):
            if not file.is_file() or file.stat().st_size > 1 << 20:
                continue
            text = file.read_bytes()
            if b"PRIVATE KEY" not in text:
                continue
            secrets += 1
            body = [line for line in text.splitlines() if len(line) > 40 and b"-----" not in line]
            assert body and not any(line in octets for line in body), file
    assert secrets > 2
    assert b"PRIVATE KEY" not in octets
    path = pathlib.Path(bundle["path"])
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused):
        management.ask("support read", file="../audit.log")


def test_disk_that_is_full_refuses_changes_and_goes_on_to_show(lab, appliance_with, operations_configuration, tmp_path):
    """The state directory on a file system of its own that somebody fills."""
    small = pathlib.Path("/run/lab/small")
    small.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=True)
    try:
        config = Configuration(operations_configuration.services, operations_configuration.pools, profile=best_profile(), state_directory=str(small / "state"),
                               roles=operations_configuration.roles)
        appliance = appliance_with(config)
        management = Management(appliance.socket_path)
        assert management.ask("reload")["done"]
        filler = small / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        with pytest.raises(Refused) as refused:
            for _ in range(100):   # the last page of the log may have room for some
                management.ask("reload")
        assert refused.value.code == "not_audited"
        assert management.ask("show version")["version"]

        def not_written():
            return any(alarm["kind"] == "audit_not_written" for alarm in management.ask("show alarms")["active"])
        wait_for("the alarm", not_written)
        filler.unlink()
        assert management.ask("reload")["done"]
        wait_for("the alarm to be over", lambda: not not_written())
        assert management.ask("audit verify")["ok"]
        management.close()
        appliance_with(operations_configuration)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
