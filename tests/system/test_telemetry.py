"""Alarms, metrics and records of flows, with a real Prometheus and a real receiver of syslog over TLS."""

import contextlib
import http.client
import json
import pathlib
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest

from tests.lab import certificates, network
from tests.lab.lab import CHECKOUT, Process, tail, wait_for
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

METRICS = ("127.0.0.1", 9464)
SYSLOG_PORT = 6514
NAMES = re.compile(r"^# TYPE (\S+) (\S+)$", re.M)


class Receiver:
    """Takes syslog over TLS. Each message is kept as (MSGID, JSON). `hang`: accepts, and reads nothing."""

    def __init__(self, identity, client_ca=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*map(str, identity))
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(str(client_ca))
        self.messages, self.broken, self.subjects = [], [], []
        self.hang = False
        self.connections = []
        self.listener = None

    def start(self):
        self.listener = socket.create_server(("127.0.0.1", SYSLOG_PORT), backlog=8)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """As a receiver that is killed: its connections break."""
        listener, self.listener = self.listener, None
        if listener is None:
            return
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.connections.clear()

    def accept(self, listener):
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            self.connections.append(raw.dup())   # wrap_socket() takes the descriptor away from `raw`
            threading.Thread(target=self.serve, args=(raw,), daemon=True).start()

    def serve(self, raw):
        try:
            if self.hang:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with self.context.wrap_socket(raw, server_side=True) as connection:
                self.subjects.append(connection.getpeercert())
                buffer = b""
                while True:
                    while self.hang:
                        time.sleep(0.05)
                    octets = connection.recv(65536)
                    if not octets:
                        return
                    buffer += octets
                    while (space := buffer.find(b" ")) >= 0:
                        length = int(buffer[:space])
                        if len(buffer) < space + 1 + length:
                            break
                        self.take(buffer[space + 1:space + 1 + length].decode())
                        buffer = buffer[space + 1 + length:]
        except (OSError, ValueError) as error:
            self.broken.append(repr(error))

    def take(self, message):
        match = re.fullmatch(r"<\d+>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ sallyport \d+ (\S+) - (\{.*\})", message, re.S)
        assert match, message
        self.messages.append((match[1], json.loads(match[2])))

    def flows(self, service=None):
        return [record for kind, record in list(self.messages) if kind == "flow" and (service is None or record.get("service") == service)]

    def audit(self):
        return [record for kind, record in list(self.messages) if kind == "audit"]

    def alarms(self):
        return [record for kind, record in list(self.messages) if kind == "alarm"]


class World:
    """Certificates of telemetry's private authority, the receiver, and configurations."""

    def __init__(self, lab, standard):
        self.lab, self.standard = lab, standard
        directory = lab.directory / "telemetry"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        self.authority = certificates.Authority(directory, "telemetry-ca", "/O=Sallyport lab/CN=Telemetry")
        self.stranger = certificates.Authority(directory, "stranger-ca", "/O=Sallyport lab/CN=Stranger")
        self.server = self.authority.issue("metrics", "ecdsa", ["metrics.internal", "IP:127.0.0.1"])
        self.prometheus = self.authority.issue("prometheus", "ecdsa", ["prometheus.internal"], usage="clientAuth")
        self.other_name = self.authority.issue("other-name", "ecdsa", ["other.internal"], usage="clientAuth")
        self.no_client = self.authority.issue("no-client", "ecdsa", ["prometheus.internal"], usage="serverAuth")
        self.wrong = self.stranger.issue("wrong", "ecdsa", ["prometheus.internal"], usage="clientAuth")
        self.log_client = self.authority.issue("log-client", "ecdsa", ["appliance.internal"], usage="clientAuth")
        self.receiver = Receiver(self.authority.issue("log", "ecdsa", ["log.internal"]), self.authority.file)
        self.logs = directory / "logs"
        self.logs.mkdir(exist_ok=True)
        self.logs.chmod(0o777)
        self.file = self.logs / "flows.jsonl"

    def configuration(self, queue=16384, **more):
        return self.standard.configuration(
            telemetry={"metrics": {"listen": "%s:%d" % METRICS, "certificate": self.server.certificate, "key": self.server.key,
                                   "clients": [self.authority.file], "names": ["prometheus.internal"]}},
            flow_log={"file": self.file, "queue": queue,
                      "syslog": {"address": f"127.0.0.1:{SYSLOG_PORT}", "server_name": "log.internal", "trust": [self.authority.file],
                                 "identity": {"certificate": self.log_client.certificate, "key": self.log_client.key}}}, **more)

    def context(self, identity=None, version=None):
        context = ssl.create_default_context(cafile=str(self.authority.file))
        if identity:
            context.load_cert_chain(*map(str, identity))
        if version:
            context.maximum_version = version
        return context

    def get(self, path="/metrics", method="GET", headers=None, context=None):
        connection = http.client.HTTPSConnection(*METRICS, context=context or self.context(self.prometheus), timeout=20)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type"), answer.read().decode()
        finally:
            connection.close()

    def scrape(self):
        status, _, text = self.get()
        assert status == 200, text
        return text

    def values(self, name):
        """{labels as a dict's items: value} of a metric."""
        found = {}
        for line in self.scrape().splitlines():
            match = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
            if match:
                found[frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[1] or ""))] = float(match[2])
        return found

    def value(self, metric, /, **labels):
        wanted = set(labels.items())
        return sum(value for got, value in self.values(metric).items() if wanted <= got)


@pytest.fixture(scope="module")
def world(lab, standard):
    made = World(lab, standard)
    made.receiver.start()
    yield made
    made.receiver.stop()


@pytest.fixture
def telemetry(world, appliance_with):
    """The appliance with telemetry on; the receiver is there and takes what comes."""
    world.receiver.hang = False
    if world.receiver.listener is None:
        world.receiver.start()
    appliance = appliance_with(world.configuration())
    wait_for("the metrics", lambda: reachable(world))
    wait_for("the receiver to be connected", lambda: world.value("sallyport_flow_log_up", sink="syslog") == 1, 90)
    yield appliance
    TlsClient.close_all()


def reachable(world):
    try:
        return world.get()[0] == 200
    except OSError:
        return False


def active(appliance, kind, contains=""):
    return [alarm for alarm in appliance.show("alarms")["active"] if alarm["kind"] == kind and contains in alarm["object"]]


def cleared(appliance, kind, contains=""):
    return [alarm for alarm in appliance.show("alarms")["recent"] if alarm["kind"] == kind and contains in alarm["object"]]


# --- metrics

def test_prometheus_scrapes_the_endpoint(telemetry, world, lab):
    """A real one, with a client certificate; it asks for OpenMetrics by itself."""
    directory = lab.directory / "prometheus"
    directory.mkdir(exist_ok=True)
    config = directory / "prometheus.yml"
    config.write_text(f"""
global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: sallyport
    scheme: https
    static_configs: [ {{ targets: [ "127.0.0.1:{METRICS[1]}" ] }} ]
    tls_config: {{ ca_file: {world.authority.file}, cert_file: {world.prometheus.certificate}, key_file: {world.prometheus.key}, server_name: metrics.internal }}
""")
    process = lab.track(Process("prometheus", ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
                                               "--web.listen-address=127.0.0.1:9090"], log=directory / "prometheus.log"))

    def query(expression):
        try:
            url = "http://127.0.0.1:9090/api/v1/query?" + urllib.parse.urlencode({"query": expression})
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []
    try:
        up = wait_for(lambda: f"Prometheus to scrape: {tail(process.log)}", lambda: [r for r in query("up") if r["value"][1] == "1"], 60)
        assert up[0]["metric"]["job"] == "sallyport"
        assert query("sallyport_build_info")[0]["metric"]["version"]
        lab.lab_client(4433, "--connections", 5, "--octets", 100_000)
        wait_for("the flows to show", lambda: any(float(r["value"][1]) >= 5 for r in query('sallyport_service_flows_opened_total{service="echo"}')), 60)
        wait_for("octets to show", lambda: sum(float(r["value"][1]) for r in query("sallyport_passed_bytes_total")) >= 500_000, 60)
    finally:
        process.stop()


def test_promtool_finds_nothing_wrong(telemetry, world):
    done = subprocess.run(["promtool", "check", "metrics"], input=world.scrape(), capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_name_is_documented_and_every_documented_name_is_there(telemetry, world):
    scraped = dict(NAMES.findall(world.scrape()))
    readme = (CHECKOUT / "control/telemetry/README.md").read_text()
    documented = dict(re.findall(r"^\| `(sallyport_\w+)` \| (\w+) \|", readme, re.M))
    assert scraped == documented
    dashboard = (CHECKOUT / "scripts/grafana-dashboard.json").read_text()
    used = set(re.findall(r"sallyport_[a-z0-9_]+", dashboard))
    assert used and used <= set(scraped)


def test_metrics_tell_what_runs(telemetry, world, lab):
    lab.lab_client(4433, "--connections", 3, "--octets", 1000)
    telemetry.wait_no_flows()
    wait_for("fresh values", lambda: world.value("sallyport_handshakes_total", service="echo", version="TLS 1.3") >= 3)
    assert world.value("sallyport_flow_ends_total", reason="finished") >= 3
    assert world.value("sallyport_port_up", port="clients") == 1
    assert world.value("sallyport_member_up", pool="echo") == 2
    assert world.value("sallyport_worker_seconds_total", worker="0") > world.value("sallyport_worker_busy_seconds_total", worker="0") > 0
    for process in ("control", "dataplane"):
        assert world.value("sallyport_process_resident_memory_bytes", process=process) > 1e6
    serial = f"{lab.certificates.rsa.serial:X}"
    ends = world.value("sallyport_certificate_not_after_timestamp_seconds", owner="service web", name="www.example.com", serial=serial)
    assert time.time() < ends < time.time() + 7 * 86400
    assert world.values("sallyport_policy_requirement_state")


def test_busy_share_is_counted_between_two_that_show_it(telemetry, world):
    """Scrapes and the looks of alarms read the same counts and must not shorten what `show workers` tells of."""
    first = telemetry.show("workers")[0]
    seen = world.value("sallyport_worker_seconds_total", worker="0")
    wait_for("another look at the dataplane", lambda: world.value("sallyport_worker_seconds_total", worker="0") > seen)
    second = telemetry.show("workers")[0]
    busy, total = (second[name] - first[name] for name in ("cycles_busy", "cycles_total"))
    assert second["busy_share"] == pytest.approx(busy / total, abs=1e-9)


def test_dpdk_s_own_telemetry_answers_root(telemetry):
    """As dpdk-telemetry.py asks: a greeting, then an answer for each command."""
    socket_file = wait_for("DPDK's socket", lambda: sorted(pathlib.Path("/run").glob("dpdk/*/dpdk_telemetry.v2")))[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(60)
        connection.connect(str(socket_file))
        assert json.loads(connection.recv(1 << 16))["pid"] > 0
        connection.send(b"/ethdev/list")
        assert len(json.loads(connection.recv(1 << 16))["/ethdev/list"]) == 2


def test_openmetrics_for_who_asks(telemetry, world):
    status, kind, text = world.get(headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert status == 200 and kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n") and "# TYPE sallyport_handshakes counter" in text


@pytest.mark.parametrize("who", ["nobody", "wrong", "other_name", "no_client"])
def test_others_are_refused(telemetry, world, who):
    """No certificate, one of another authority, one whose name is not on the list, one for servers."""
    context = world.context(None if who == "nobody" else getattr(world, who))
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        world.get(context=context)
    assert world.get()[0] == 200


def test_tls_1_2_is_refused(telemetry, world):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        world.get(context=world.context(world.prometheus, ssl.TLSVersion.TLSv1_2))


def test_only_get_metrics(telemetry, world):
    assert world.get("/")[0] == 404
    assert world.get("/metrics", "POST")[0] == 405
    assert world.get("/metrics", "HEAD")[0] == 405
    assert world.get(headers={"X": "x" * 20000})[0] == 431


def test_clear_text_gets_no_answer(telemetry):
    with socket.create_connection(METRICS, timeout=20) as clear:
        clear.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = clear.recv(1000)
        except ConnectionError:
            answer = b""
        assert not answer or answer[0] == 21   # an alert, at most


def test_idle_connections_do_not_keep_others_out(telemetry, world):
    """More than the endpoint takes, none of which ever says anything: they are ended within seconds."""
    idle = [socket.create_connection(METRICS, timeout=20) for _ in range(40)]
    try:
        wait_for("a place", lambda: reachable(world), 60, 0.5)
    finally:
        for each in idle:
            each.close()


def test_reload_changes_it(telemetry, world, lab):
    """Another allow list, and then no endpoint at all; flows go on."""
    flow = TlsClient(4433, context_for(lab.certificates.ca), timeout=60).handshake()
    config = world.configuration()
    try:
        config.telemetry["metrics"]["names"] = ["other.internal"]
        lab.write_configuration(config)
        telemetry.cli("reload")
        wait_for("the other name", lambda: works(world, world.other_name))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            world.get()
        config.telemetry = {}
        lab.write_configuration(config)
        telemetry.cli("reload")
        wait_for("the endpoint to go", lambda: refused(METRICS))
        flow.write(b"still here")
        assert flow.read_exactly(10) == b"still here"
    finally:
        lab.write_configuration(world.configuration())
        telemetry.cli("reload")
        wait_for("the endpoint to be back", lambda: reachable(world))


def works(world, identity):
    try:
        return world.get(context=world.context(identity))[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def refused(address):
    try:
        socket.create_connection(address, timeout=5).close()
        return False
    except ConnectionResetError:   # it went while it was asked
        return False
    except ConnectionRefusedError:
        return True


# --- records of flows

def test_receiver_gets_every_flow_of_a_run_once(telemetry, world, lab):
    """wrk makes a connection for each request; file and receiver have each flow exactly once."""
    telemetry.wait_no_flows()
    before = opened(telemetry, "web")
    time.sleep(1)   # for the records of what ended last
    shed = world.value("sallyport_flow_log_shed_total")
    world.receiver.messages.clear()
    lines = count_lines(world)
    lab.client("wrk", "-t1", "-c8", "-d2s", "-H", "Connection: close", "https://www.example.com/1", check=True)
    telemetry.wait_no_flows()
    count = opened(telemetry, "web") - before
    assert count > 0
    wait_for(lambda: f"{count} records: {len(world.receiver.flows('web'))}, {world.receiver.broken}",
             lambda: len(world.receiver.flows("web")) >= count, 60)
    time.sleep(0.5)
    records = world.receiver.flows("web")
    assert len(records) == count == len({record["flow"] for record in records})
    wait_for("the file", lambda: count_lines(world) - lines >= count)
    in_file = [json.loads(line) for line in world.file.read_text().splitlines()]
    assert {record["flow"] for record in records} <= {record["flow"] for record in in_file if record.get("service") == "web"}
    assert world.value("sallyport_flow_log_shed_total") == shed
    one = next(record for record in records if record["reason"] == "finished" or record["client"]["octets_in"])
    assert one["client"]["tls"] == "TLS 1.3" and one["client"]["suite"].startswith("TLS_")
    assert one["client"]["server_name"] == "www.example.com"
    assert one["backend"]["pool"] == "web" and one["backend"]["tls"] == "TLS 1.3" and one["backend"]["anchor"]
    assert one["backend"]["octets_in"] == one["client"]["octets_out"] > 0
    assert one["duration_s"] >= one["client"]["handshake_s"] > 0
    assert "appliance.internal" in str(world.receiver.subjects[-1])   # our own certificate was asked for and shown


def opened(appliance, service):
    return next(each["flows_total"] for each in appliance.show("services") if each["name"] == service)


def count_lines(world):
    return world.file.read_bytes().count(b"\n") if world.file.exists() else 0


def test_failed_handshake_has_a_record(telemetry, world, lab):
    world.receiver.messages.clear()
    with network.connect("client", network.APPLIANCE["client"][0], 4433) as clear:
        clear.sendall(b"GET / HTTP/1.1\r\n\r\n")
        try:
            clear.recv(100)
        except ConnectionError:
            pass
    record = wait_for("its record", lambda: world.receiver.flows("echo"))[0]
    assert record["reason"] == "client_not_tls" and record["text"] and "tls" not in record["client"]


def test_receiver_that_goes_away_is_survived(world, appliance_with, lab):
    """What does not fit the queue is shed and counted, the alarm is raised and cleared, handshakes go on."""
    world.receiver.hang = False
    if world.receiver.listener is None:
        world.receiver.start()
    appliance = appliance_with(world.configuration(queue=16))
    wait_for("the metrics", lambda: reachable(world))
    wait_for("the receiver", lambda: world.value("sallyport_flow_log_up", sink="syslog") == 1, 90)
    world.receiver.stop()
    wait_for("the alarm", lambda: active(appliance, "syslog_away"), 30)
    world.receiver.messages.clear()
    before = opened(appliance, "echo")
    lab.lab_client(4433, "--connections", 200, "--octets", 100)
    appliance.wait_no_flows()
    assert opened(appliance, "echo") - before == 200
    wait_for("what was shed", lambda: world.value("sallyport_flow_log_shed_total", sink="syslog") >= 200 - 16, 30)
    wait_for("its alarm", lambda: active(appliance, "flow_log_shed"))
    wait_for("the metric", lambda: world.value("sallyport_alarm", kind="syslog_away") == 1)
    assert not active(appliance, "flow_log_failed")
    world.receiver.start()
    wait_for("the alarm to be over", lambda: not active(appliance, "syslog_away"), 90)
    assert cleared(appliance, "syslog_away")
    wait_for("what had been kept", lambda: world.receiver.messages, 30)   # alarms and lines of the audit log among them
    flows = [record["flow"] for record in world.receiver.flows("echo")]
    assert len(flows) == len(set(flows)) <= 16
    lab.lab_client(4433, "--connections", 1, "--octets", 100)


def test_hanging_receiver_slows_no_handshake(world, appliance_with, lab):
    """It takes nothing at all, and never says so: the queue fills, the file still gets everything, handshakes go on."""
    if world.receiver.listener is None:
        world.receiver.start()
    world.receiver.stop()
    world.receiver.hang = True
    world.receiver.start()
    try:
        appliance = appliance_with(world.configuration(queue=17))
        wait_for("the metrics", lambda: reachable(world))
        lines = count_lines(world)
        for _ in range(4):
            report = lab.lab_client(4433, "--connections", 200, "--octets", 100)
            assert report["ok"] == 200
        appliance.wait_no_flows()
        wait_for("the file", lambda: count_lines(world) - lines >= 800 - world.value("sallyport_flow_log_shed_total", sink="file"))
    finally:
        world.receiver.hang = False


def test_receiver_gets_the_audit_log(telemetry, world):
    """Line by line with its chain, so that what is altered on the appliance differs from what was sent."""
    world.receiver.messages.clear()
    telemetry.cli("show", "version")
    before = world.value("sallyport_audit_entries_total", result="written")
    telemetry.cli("refresh", "revocation")
    entries = wait_for("its entry", lambda: [e for e in world.receiver.audit() if e.get("command") == "refresh revocation" and e["event"] == "command"])
    assert re.fullmatch("[0-9a-f]{64}", entries[0]["previous"])
    numbers = [entry["number"] for entry in world.receiver.audit()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    wait_for("the metric", lambda: world.value("sallyport_audit_entries_total", result="written") > before)
    assert world.value("sallyport_audit_entries_total", result="lost") == 0


# --- alarms

def test_alarm_of_a_member(telemetry, world, standard):
    backend = standard.backends["pair-a"]
    backend.kill()
    try:
        alarm = wait_for("the alarm", lambda: active(telemetry, "member_down", "pool pair member a"))[0]
        assert alarm["severity"] == "error" and alarm["text"]
        wait_for("the metric", lambda: world.value("sallyport_alarm", kind="member_down", object="pool pair member a") == 1)
        assert not active(telemetry, "pool_down", "pool pair")
    finally:
        backend.start()
    wait_for("the alarm to be over", lambda: not active(telemetry, "member_down", "pool pair member a"))
    over = cleared(telemetry, "member_down", "pool pair member a")[0]
    assert over["number"] == alarm["number"] and over["cleared"] >= over["raised"]
    log = (world.lab.directory / "control.log").read_text()
    assert len(re.findall(rf"alarm_raised number={alarm['number']} ", log)) >= 1
    assert len(re.findall(rf"alarm_cleared number={alarm['number']} ", log)) >= 1
    wait_for("it at the receiver", lambda: {"raised", "cleared"} <= {a["state"] for a in world.receiver.alarms() if a["object"] == "pool pair member a"})
    assert "pool pair member a" in telemetry.cli("show", "alarms")


def test_alarm_of_a_port(telemetry):
    network.run("ip", "-n", "client", "link", "set", "eth0", "down")
    try:
        wait_for("the alarm", lambda: active(telemetry, "port_down", "port clients"))
    finally:
        network.run("ip", "-n", "client", "link", "set", "eth0", "up")
        v6 = network.CLIENT_ADDRESSES[1]
        network.run("ip", "-n", "client", "addr", "replace", f"{v6}/64", "dev", "eth0", "nodad")
        for family, via in zip(("-4", "-6"), network.APPLIANCE["client"]):
            network.run("ip", "-n", "client", family, "route", "replace", "default", "via", via)
    wait_for("the alarm to be over", lambda: not active(telemetry, "port_down"))
    assert cleared(telemetry, "port_down", "port clients")


def test_alarm_of_a_dataplane_that_is_away(telemetry, world, lab):
    telemetry.dataplane.kill()
    wait_for("the alarm", lambda: active(telemetry, "dataplane_away"))
    wait_for("the metric", lambda: world.value("sallyport_dataplane_attached") == 0)   # and the scrape works without it
    assert "sallyport_port_up{" not in world.scrape()
    telemetry.start_dataplane()
    telemetry.wait_ready()
    wait_for("the alarm to be over", lambda: not active(telemetry, "dataplane_away"))
    wait_for("the port", lambda: world.value("sallyport_port_up", port="clients") == 1)


def test_alarm_of_a_certificate_that_ends(telemetry, world, lab):
    """The lab's live less than six days."""
    assert not active(telemetry, "certificate_expires")
    lab.write_configuration(world.configuration(expiry_alarm_days=10))
    telemetry.cli("reload")
    try:
        alarm = wait_for("the alarm", lambda: active(telemetry, "certificate_expires", "service web certificate"))[0]
        assert alarm["severity"] == "warning" and "expires in 5 days" in alarm["text"]
        assert active(telemetry, "certificate_expires", "telemetry.metrics") and active(telemetry, "certificate_expires", "flow_log.syslog")
        wait_for("the policy's alarm", lambda: active(telemetry, "policy_9.1.4"), 30)
    finally:
        lab.write_configuration(world.configuration())
        telemetry.cli("reload")
    wait_for("the alarms to be over", lambda: not active(telemetry, "certificate_expires"))
    wait_for("the policy's alarm to be over", lambda: not active(telemetry, "policy_9.1.4"), 30)


def test_evidence_names_both_endpoints(telemetry):
    row = next(row for row in telemetry.show("policy") if row["id"] == "9.2.2")
    assert row["state"] == "ok"
    assert "127.0.0.1:9464" in row["evidence"] and f"127.0.0.1:{SYSLOG_PORT} (log.internal)" in row["evidence"]
