"""Packet captures with filters, limits and TLS secrets, read by tshark; pings from the appliance's ports; DPDK's telemetry socket."""

import base64
import json
import pathlib
import re
import socket
import stat
import subprocess
import time

import pytest

from tests.lab import network
from tests.lab.lab import program, wait_for
from .management import Refused as Forbidden, User
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

WEB, ECHO = 443, 4433
BACKEND = network.BACKEND_ADDRESSES[0]
STATE = pathlib.Path("/var/lib/sallyport-capture")
ADMINISTRATORS, OPERATORS, READERS = 60001, 60002, 60003
READER, OPERATOR, ADMINISTRATOR = User(61001, (READERS,)), User(61002, (OPERATORS,)), User(61003, (ADMINISTRATORS,))


class Refused(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['text']}")
        self.code, self.text = error["code"], error["text"]


def ask(appliance, *command, patience=10, **arguments):
    """A command over the management socket. On a machine that is busy with other things the dataplane may answer late: asks again."""
    with socket.socket(socket.AF_UNIX) as management:
        management.settimeout(60)
        management.connect(str(appliance.socket_path))
        management.sendall(json.dumps({"version": 1, "command": command, "arguments": arguments}).encode() + b"\n")
        with management.makefile("rb") as answers:
            answer = json.loads(answers.readline())
    if answer["ok"]:
        return answer["result"]
    if "did not answer" in answer["error"]["text"] and patience > 0:
        return ask(appliance, *command, patience=patience - 1, **arguments)
    raise Refused(answer["error"])


def show(appliance, identifier):
    return next(capture for capture in ask(appliance, "show", "captures")["captures"] if capture["id"] == identifier)


def stop(appliance, capture):
    return ask(appliance, "capture", "stop", id=capture["id"])


def fetch(appliance, name, to):
    """Reads a capture's file over the management socket, as a client on another machine would."""
    octets = b""
    while True:
        chunk = ask(appliance, "capture", "read", file=name, offset=len(octets))
        assert chunk["offset"] == len(octets)
        octets += base64.b64decode(chunk["data"], validate=True)
        if chunk["last"]:
            break
    assert len(octets) == chunk["size"]
    path = to / name
    path.write_bytes(octets)
    return path


def tshark(path, *options):
    done = subprocess.run(["tshark", "-n", "-r", path, *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def rows(path, *fields, match=""):
    more = ["-Y", match] if match else []
    return [line.split("\t") for line in tshark(path, *more, "-T", "fields", *[word for field in fields for word in ("-e", field)])]


def curl(lab, *options, path="/1k", port=WEB):
    done = lab.client("curl", "-sS", "--max-time", "60", "--cacert", lab.certificates.ca, "--http1.1", *options, f"https://www.example.com:{port}{path}")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def capturing_configuration(standard, lab):
    # Pools without health checks: what is captured is what the test made.
    names = ("web", "echo")
    config = standard.configuration(capture={"max_octets": 64 << 20, "secrets": True}, state_directory=str(STATE),
                                    roles={"administrators": str(ADMINISTRATORS), "operators": str(OPERATORS), "readers": str(READERS)})
    config.pools = [pool for pool in config.pools if pool.name in names]
    config.services = [service for service in config.services if service.name in names]
    return config


@pytest.fixture
def capturing(manager, standard, lab, capturing_configuration):
    """An appliance that may write secrets, without any file of a capture."""
    appliance = manager.use(capturing_configuration)
    for file in ask(appliance, "show", "captures")["files"]:
        ask(appliance, "capture", "delete", file=file["file"])
    yield appliance
    for capture in ask(appliance, "show", "captures")["captures"]:
        if capture["state"] == "running":
            stop(appliance, capture)
    TlsClient.close_all()
    lab.end_clients()
    try:
        appliance.check_running()
    except Exception:
        manager.running = None
        raise


@pytest.mark.parametrize("version", ["1.3", "1.2"])
def test_secrets_open_both_legs(capturing, lab, tmp_path, version):
    """tshark goes through the file once and shows the request as the client sent it, and as the backend got it."""
    options, lines = (["--tls-max", "1.2"], 1) if version == "1.2" else (["--tlsv1.3"], 4)
    lines += 4   # the backend's leg is TLS 1.3
    capture = ask(capturing, "capture", "start", secrets=True, comment="both legs")
    assert capture["file"].endswith("-secrets.pcapng")
    curl(lab, *options, path="/1k?wanted")
    ended = stop(capturing, capture)
    assert ended["dropped"] == 0 and ended["secrets_lines"] == lines and ended["secrets_dropped"] == 0, ended
    path = fetch(capturing, capture["file"], tmp_path)
    legs = rows(path, "ip.src", "ipv6.src", "frame.interface_name", match='http.request.method == "GET" && http.request.uri == "/1k?wanted"')
    sources = {port: v4 or v6 for v4, v6, port in legs}
    assert sources["clients"] in network.CLIENT_ADDRESSES and sources["backends"] in network.APPLIANCE["backend"], legs
    assert len(rows(path, "http.response.code", match="http.response.code == 200")) == 2


def test_without_secrets_nothing_can_be_read(capturing, lab, tmp_path):
    capture = ask(capturing, "capture", "start")
    curl(lab, path="/1k?wanted")
    stop(capturing, capture)
    path = fetch(capturing, capture["file"], tmp_path)
    assert not rows(path, "http.request.uri", match="http.request")
    assert rows(path, "tls.handshake.type", match="tls.handshake.type == 1"), "no ClientHello either"
    assert b"CLIENT_" not in path.read_bytes()


def test_secrets_of_one_server_name_alone(capturing, lab, tmp_path):
    capture = ask(capturing, "capture", "start", secrets=True, server_name="other.example.com")
    curl(lab, path="/1k?wanted")
    ended = stop(capturing, capture)
    assert ended["secrets_lines"] == 0 and ended["packets"] > 0, ended
    path = fetch(capturing, capture["file"], tmp_path)
    assert b"_TRAFFIC_SECRET" not in path.read_bytes() and not rows(path, "http.request.uri", match="http.request")
    capture = ask(capturing, "capture", "start", secrets=True, server_name="WWW.example.com", client=network.CLIENT_ADDRESSES[0] + "/24", service="web")
    curl(lab, "-4")
    ended = stop(capturing, capture)
    assert ended["secrets_lines"] == 8 and ended["secrets_dropped"] == 0, ended


def test_secrets_of_flows_that_began_before_are_not_written(capturing, lab, tmp_path):
    client = TlsClient(ECHO, context_for(lab.certificates.ca))
    client.handshake()
    client.write(b"before")
    assert client.read_exactly(6) == b"before"
    capture = ask(capturing, "capture", "start", secrets=True)
    client.write(b"during")
    assert client.read_exactly(6) == b"during"
    ended = stop(capturing, capture)
    assert ended["packets"] > 0 and ended["secrets_lines"] == 0, ended
    flow = next(flow["id"] for flow in capturing.flows())
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "start", secrets=True, flow=flow)
    assert "has begun" in refused.value.text


def test_policy_shows_that_secrets_are_allowed(capturing):
    row = next(row for row in capturing.show("policy") if row["id"] == "9.4.1")
    assert "capture.secrets" in row["evidence"], row
    report = ask(capturing, "report", "policy")
    assert json.loads(pathlib.Path(report["report"]).read_text())["capture_secrets_allowed"] is True


def test_secrets_not_allowed(appliance, lab):
    assert ask(appliance, "show", "captures")["secrets_allowed"] is False
    with pytest.raises(Refused) as refused:
        ask(appliance, "capture", "start", secrets=True)
    assert refused.value.code == "forbidden_by_configuration" and "capture.secrets" in refused.value.text
    assert not [capture for capture in ask(appliance, "show", "captures")["captures"] if capture["state"] == "running"]


def test_filter_and_form_of_the_file(capturing, lab, tmp_path):
    """Only what the filter names; interfaces by name, both directions, wall-clock time in order, counts at the end."""
    begun = time.time()
    capture = ask(capturing, "capture", "start", filter="tcp port 4433", file="only-echo", comment="a comment of ours", snap=100)
    assert capture["file"] == "only-echo.pcapng"
    curl(lab)
    lab.lab_client(ECHO, "--octets", 5000)
    ended = stop(capturing, capture)
    assert ended["packets"] == ended["seen"] > 0 and ended["dropped"] == 0, ended
    path = fetch(capturing, "only-echo.pcapng", tmp_path)
    ports = {tuple(map(int, row[0].split(","))) for row in rows(path, "tcp.port")}
    assert ports and all(4433 in pair for pair in ports), ports
    packets = rows(path, "frame.time_epoch", "frame.interface_name", "frame.packet_flags_direction", "frame.len", "frame.cap_len")
    assert len(packets) == ended["packets"]
    assert {row[1] for row in packets} == {"clients", "backends"}
    assert len({row[2] for row in packets}) == 2, packets[:5]
    assert all(int(row[4]) <= 100 for row in packets) and any(int(row[3]) > 1000 for row in packets)
    times = [float(row[0]) for row in packets]
    assert times == sorted(times) and begun - 1 < times[0] <= times[-1] < time.time() + 1
    assert len(packets[0][0].split(".")[1]) == 9
    octets = path.read_bytes()
    assert b"a comment of ours" in octets and b"tcp port 4433" in octets
    information = subprocess.run(["capinfos", path], capture_output=True, text=True).stdout
    assert "nanosecond" in information, information
    mode = pathlib.Path(ask(capturing, "show", "captures")["directory"], "only-echo.pcapng").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_bad_filters_get_libpcaps_words(capturing):
    for text, words in (("tcp port", "syntax error"), ("port 70000", "70000"), ("host www.example.com", "names are not looked up"), ("tcp) or (udp", "")):
        with pytest.raises(Refused) as refused:
            ask(capturing, "capture", "start", filter=text)
        assert words in refused.value.text and "filter" in refused.value.text, refused.value
    assert ask(capturing, "show", "captures")["files"] == []


def test_one_port_and_one_flow(capturing, lab, tmp_path):
    capture = ask(capturing, "capture", "start", port="backends", file="port.pcapng")
    lab.lab_client(ECHO, "--octets", 1000)
    stop(capturing, capture)
    assert {row[0] for row in rows(fetch(capturing, "port.pcapng", tmp_path), "frame.interface_name")} == {"backends"}
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "start", port="nowhere")
    assert "nowhere" in refused.value.text

    watched = TlsClient(ECHO, context_for(lab.certificates.ca))
    watched.handshake()
    watched.write(b"hello")
    assert watched.read_exactly(5) == b"hello"
    flow = next(flow for flow in capturing.flows() if flow["state"] == "open")
    capture = ask(capturing, "capture", "start", flow=flow["id"], file="flow.pcapng")
    lab.lab_client(ECHO, "--octets", 1000)
    watched.write(b"again")
    assert watched.read_exactly(5) == b"again"
    ended = wait_for("both legs' frames", lambda: show(capturing, capture["id"])["packets"] >= 4 and stop(capturing, capture))
    assert flow["client"].rsplit(":", 1)[1] in ended["filter"], ended
    path = fetch(capturing, "flow.pcapng", tmp_path)
    assert len({row[0] for row in rows(path, "tcp.stream")}) == 2
    assert {row[0] for row in rows(path, "frame.interface_name")} == {"clients", "backends"}
    with pytest.raises(Refused):
        ask(capturing, "capture", "start", flow="00-ffffff-00000000")


def test_limits_end_it(capturing, lab, tmp_path):
    by_packets = ask(capturing, "capture", "start", packets=7, filter="tcp")
    by_octets = ask(capturing, "capture", "start", octets=65536, filter="tcp")
    by_time = ask(capturing, "capture", "start", seconds=1, filter="udp port 9")
    curl(lab, path="/1M")
    ended = wait_for("the limits", lambda: [capture for capture in ask(capturing, "show", "captures")["captures"][-3:] if capture["state"] == "ended"], 30)
    wait_for("all limits", lambda: all(show(capturing, each["id"])["state"] == "ended" for each in (by_packets, by_octets, by_time)), 30, 0.1)
    assert show(capturing, by_packets["id"])["end"] == "packets" and show(capturing, by_packets["id"])["packets"] == 7, ended
    last = show(capturing, by_octets["id"])
    assert last["end"] == "octets" and last["octets"] <= 65536, last
    assert show(capturing, by_time["id"])["end"] == "time"
    assert len(rows(fetch(capturing, by_packets["file"], tmp_path), "frame.number")) == 7
    assert rows(fetch(capturing, by_octets["file"], tmp_path), "frame.number")
    # Ending one that has ended is no error.
    assert stop(capturing, by_packets)["end"] == "packets"


def test_room_and_names(capturing):
    """Old files are not deleted for new ones; names cannot lead out of the directory."""
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "start", octets=65 << 20)
    assert refused.value.code == "bad_argument"
    first = ask(capturing, "capture", "start", octets=63 << 20, filter="udp port 9", file="big")
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "start", octets=2 << 20)
    assert refused.value.code == "no_room" and "capture.max_octets" in refused.value.text
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "delete", file="big.pcapng")
    assert "runs" in refused.value.text
    stop(capturing, first)
    second = ask(capturing, "capture", "start", octets=2 << 20, filter="udp port 9", file="small")   # the first takes only its octets now
    stop(capturing, second)
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "start", file="small")
    assert refused.value.code == "exists"
    for name in ("../x", "/etc/x", ".x", "a/b", "x y", "-x", ""):
        if name:
            with pytest.raises(Refused):
                ask(capturing, "capture", "start", file=name)
        with pytest.raises(Refused):
            ask(capturing, "capture", "read", file=name)
        with pytest.raises(Refused):
            ask(capturing, "capture", "delete", file=name)
    running = [ask(capturing, "capture", "start", octets=1 << 20, filter="udp port 9") for _ in range(4)]
    with pytest.raises(Refused) as refused:
        ask(capturing, "capture", "start", octets=1 << 20)
    assert "4 captures" in refused.value.text
    for capture in running:
        stop(capturing, capture)


def test_under_load_flows_stay_whole_and_drops_are_counted(capturing, lab, tmp_path):
    """Everything is captured while wrk runs: what does not fit is counted, and no request fails."""
    capture = ask(capturing, "capture", "start", octets=48 << 20, packets=10_000_000, seconds=3600, snap=96)
    while show(capturing, capture["id"])["packets"] <= 10_000:   # more than there are buffers: they come back
        done = lab.client("wrk", "-t", "1", "-c", "32", "-d", "2s", "https://www.example.com/16k")
        assert done.returncode == 0 and "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout
    ended = stop(capturing, capture)
    if ended["end"] == "stopped":
        assert ended["packets"] + ended["dropped"] == ended["seen"], ended
    path = fetch(capturing, capture["file"], tmp_path)
    assert len(rows(path, "frame.number")) == ended["packets"]
    lab.lab_client(ECHO, "--connections", 20, "--octets", 10_000)


def test_control_goes_away(capturing, lab):
    """A capture that nobody can stop any more ends; the next control begins anew."""
    capture = ask(capturing, "capture", "start", file="before", filter="tcp")
    capturing.kill_control()
    capturing.start_control()
    capturing.wait_ready()
    view = ask(capturing, "show", "captures")
    assert view["captures"] == [] and [file["file"] for file in view["files"]] == [capture["file"]]
    again = ask(capturing, "capture", "start", file="after", filter="tcp")
    curl(lab)
    ended = stop(capturing, again)
    assert ended["packets"] > 0, ended
    capturing.wait_no_flows()


# --- who may, by the command line, in the audit log

def audit_lines():
    return [json.loads(line) for file in [*sorted(STATE.glob("audit-*.log")), STATE / "audit.log"] for line in file.read_text().splitlines()]


def test_roles_and_audit(capturing, lab):
    """Operators capture, administrators alone with secrets; who did what, and who was refused it, is in the audit log."""
    path, before = capturing.socket_path, len(audit_lines())
    for user, words, arguments in ((READER, "capture start", {}), (READER, "ping start", {"address": BACKEND[0]}), (OPERATOR, "capture start", {"secrets": True}),
                                   (OPERATOR, "capture read", {"file": "x-secrets.pcapng"}), (OPERATOR, "capture delete", {"file": "x-secrets.pcapng"})):
        with pytest.raises(Forbidden) as refused:
            user.ask(path, words, arguments)
        assert refused.value.code == "forbidden", refused.value
    assert READER.ask(path, "show captures")["captures"] is not None
    plain = OPERATOR.ask(path, "capture start", {"filter": "tcp port 443", "comment": "why not"}, said_from="ssh 192.0.2.7 port 51234")
    OPERATOR.ask(path, "capture stop", {"id": plain["id"]})
    OPERATOR.ask(path, "capture read", {"file": plain["file"]})
    OPERATOR.ask(path, "capture delete", {"file": plain["file"]})
    secret = ADMINISTRATOR.ask(path, "capture start", {"secrets": True, "service": "web"})
    ADMINISTRATOR.ask(path, "capture stop", {"id": secret["id"]})
    told = [(line["uid"], line["event"], line.get("command"), line["outcome"]) for line in audit_lines()[before:] if "capture" in line.get("command", "")]
    told = [line for line in told if line[2] != "show captures"]
    assert told == [
        (61001, "refused", "capture start", "forbidden"),
        (61002, "refused", "capture start", "forbidden"),
        (61002, "refused", "capture read", "forbidden"),
        (61002, "refused", "capture delete", "forbidden"),
        (61002, "command", "capture start", "ok"),
        (61002, "command", "capture stop", "ok"),
        (61002, "command", "capture read", "ok"),
        (61002, "command", "capture delete", "ok"),
        (61003, "begun", "capture start", "begun"),
        (61003, "command", "capture start", "ok"),
        (61003, "command", "capture stop", "ok"),
    ]
    mine = [line for line in audit_lines()[before:] if line.get("command") == "capture start" and line["outcome"] == "ok"]
    assert mine[0]["arguments"] == {"filter": "tcp port 443", "comment": "why not"} and mine[0]["from"] == {"said_by_client": "ssh 192.0.2.7 port 51234"}, mine
    assert mine[1]["arguments"] == {"secrets": True, "service": "web"}, mine
    assert "capture_with_secrets" in (lab.directory / "control.log").read_text()


def test_by_the_command_line(capturing, lab, tmp_path):
    said = capturing.cli("capture", "start", "secrets", "filter", "tcp port 443", "file", "by-cli", "seconds", "600")
    number = re.search(r"^capture +(\d+)$", said, re.M).group(1)
    assert re.search(r"^file +by-cli-secrets.pcapng$", said, re.M) and re.search(r"^state +running$", said, re.M), said
    curl(lab, path="/1k?wanted")
    said = capturing.cli("capture", "stop", number)
    assert re.search(r"^state +stopped$", said, re.M) and "8 lines of TLS secrets" in said, said
    path = tmp_path / "fetched.pcapng"
    with path.open("wb") as to:
        subprocess.run([program("sallyport"), "--socket", capturing.socket_path, "capture", "read", "by-cli-secrets.pcapng"], stdout=to, timeout=60, check=True)
    assert len(rows(path, "http.request.uri", match='http.request.method == "GET" && http.request.uri == "/1k?wanted"')) == 2
    capturing.cli("capture", "read", "by-cli-secrets.pcapng", "|", "save", str(tmp_path / "saved.pcapng"))
    assert (tmp_path / "saved.pcapng").read_bytes() == path.read_bytes()
    said = capturing.cli("show", "captures")
    assert "by-cli-secrets.pcapng" in said and "TLS secrets are allowed" in said, said
    assert capturing.cli("capture", "delete", "by-cli-secrets.pcapng") == "deleted\n"
    assert "by-cli-secrets.pcapng  " not in capturing.cli("show", "captures")


def test_ping_by_the_command_line(capturing):
    said = capturing.cli("ping", BACKEND[0], "count", "2", "interval-ms", "50", "timeout-ms", "10000")
    assert len(re.findall(rf"^\d: reply from {re.escape(BACKEND[0])}, ", said, re.M)) == 2 and "2 sent, 2 received, 0 lost" in said, said
    done = subprocess.run([program("sallyport"), "--socket", capturing.socket_path, "ping", "203.0.113.1", "count", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "0: error, " in done.stdout and "route" in done.stdout, done


# --- pings

def ping(appliance, address, **arguments):
    started = ask(appliance, "ping", "start", address=address, **{"count": 3, "interval_ms": 50, "timeout_ms": 5000, **arguments})

    def done():
        view = ask(appliance, "ping", "read", id=started["id"])
        return view if view["done"] else None
    return wait_for("the ping", done, 60, 0.05)


@pytest.mark.parametrize("family", [0, 1])
def test_ping_backend(capturing, family):
    view = ping(capturing, BACKEND[family])
    assert view["sent"] == view["received"] == 3, view
    for probe in view["probes"]:
        assert probe["outcome"] == "reply" and 0 < probe["round_trip_us"] < 5_000_000 and probe["from"] == BACKEND[family], probe
    assert ping(capturing, BACKEND[family], size=1400, count=1)["received"] == 1


def test_ping_nobody(capturing, lab):
    view = ping(capturing, "198.51.100.250", count=1, timeout_ms=1500)
    assert view["received"] == 0 and view["probes"][0]["outcome"] == "timeout" and "next hop" in view["probes"][0]["why"], view
    view = ping(capturing, "2001:db8:2::dead", count=1, timeout_ms=1500)
    assert "next hop" in view["probes"][0]["why"], view
    view = ping(capturing, "203.0.113.1", count=1)
    assert view["probes"][0]["outcome"] == "error" and "route" in view["probes"][0]["why"], view
    view = ping(capturing, BACKEND[0], count=1, size=3000)
    assert view["probes"][0]["outcome"] == "error" and "1472" in view["probes"][0]["why"], view
    for address in ("", "nowhere.example.com", "1.2.3"):
        with pytest.raises(Refused):
            ask(capturing, "ping", "start", address=address)
    with pytest.raises(Refused):
        ask(capturing, "ping", "read", id=999999)
    # One that hears and does not answer: its link-layer address is known from before.
    assert ping(capturing, BACKEND[0], count=1)["received"] == 1
    lab.in_namespace("backend", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1", check=True)
    try:
        view = ping(capturing, BACKEND[0], count=1, timeout_ms=500)
        assert view["probes"][0]["outcome"] == "timeout" and view["probes"][0]["why"] == "no reply", view
    finally:
        lab.in_namespace("backend", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0", check=True)


# --- DPDK's telemetry socket

def telemetry(command):
    path = "/var/run/dpdk/sallyport/dpdk_telemetry.v2"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
        asked.settimeout(30)
        asked.connect(path)
        greeting = json.loads(asked.recv(16384))
        asked.sendall(command.encode())
        return json.loads(asked.recv(greeting["max_output_len"]))


def test_dpdk_telemetry(capturing, lab):
    lab.lab_client(ECHO, "--octets", 10_000)
    commands = telemetry("/")["/"]
    assert {"/sallyport/workers", "/sallyport/ports", "/sallyport/flows", "/sallyport/drops", "/ethdev/list"} <= set(commands)
    wait_for("a snapshot with the flow", lambda: telemetry("/sallyport/flows")["/sallyport/flows"].get("opened", 0) > 0)
    ports = telemetry("/sallyport/ports")["/sallyport/ports"]
    assert set(ports) == {"clients", "backends"} and ports["clients"]["packets_in"] > 0 and ports["clients"]["link_up"] == 1, ports
    assert telemetry("/sallyport/workers")["/sallyport/workers"]["0"]["packets_out"] > 0
    assert "no_route" in telemetry("/sallyport/drops")["/sallyport/drops"]
    # Root's alone.
    mode = pathlib.Path("/var/run/dpdk/sallyport/dpdk_telemetry.v2").stat()
    assert mode.st_uid == 0 and mode.st_mode & 0o022 == 0, oct(mode.st_mode)
