"""The configuration changes while it runs: every kind of change, under load, with control killed in between. What a change does not concern
notices nothing; what is refused changes nothing."""

import contextlib
import dataclasses
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from tests.lab import configuration, network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import best_profile, program, wait_for
from .test_policy_reload import reload
from .test_load import resident_kib
from .test_processes import pingpong, report_of
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

WEB, ECHO, ROTATING, MOVING, SPARE = 443, 4433, 4901, 4910, 4930
EXTRA = "192.0.2.60"
OURS = ["192.0.2.1/24", "2001:db8:1::1/64"]


def live_configuration(lab, standard):
    """A configuration with something of each kind to change; and the files of a certificate that may be replaced."""
    directory = lab.directory / "live"
    directory.mkdir(exist_ok=True)
    copies = []
    for path in lab.certificates.ecdsa:
        copies.append(directory / path.name)
        shutil.copy(path, copies[-1])
        shutil.chown(copies[-1], "sallyport", "sallyport")
    both = [lab.certificates.rsa, lab.certificates.ecdsa]
    patient = {"handshake_timeout_ms": 60000}
    pools = lab.standard_pools() + [Pool("spare", [(standard.backends["echo"].members(4)[0], {"name": "one"})], **standard.trust)]
    services = [Service("web", WEB, "web", both, alpn=("h2", "http/1.1")), Service("echo", ECHO, "echo", both, settings=dict(patient)),
                Service("rotating", ROTATING, "echo", [tuple(copies)], settings=dict(patient)),
                Service("moving", MOVING, "spare", both, settings=dict(patient))]
    return Configuration(services, pools, profile=best_profile()), copies


@pytest.fixture
def live(appliance_with, lab, standard):
    """The appliance with a configuration of this file's own; the test changes it. Yields (appliance, Changer)."""
    config, copies = live_configuration(lab, standard)
    appliance = appliance_with(config)
    changer = Changer(lab, appliance, config, copies)
    yield appliance, changer
    TlsClient.close_all()
    lab.end_clients()
    with contextlib.suppress(AssertionError):
        changer.restore()


def copied(config):
    return dataclasses.replace(config, services=[dataclasses.replace(each, settings=dict(each.settings)) for each in config.services],
                               pools=[dataclasses.replace(each, members=list(each.members)) for each in config.pools], redirects=dict(config.redirects))


class Changer:
    def __init__(self, lab, appliance, config, copies):
        self.lab, self.appliance, self.config, self.copies = lab, appliance, config, copies
        self.addresses = list(OURS)
        self.original = copied(config)

    def text(self):
        text = configuration.libconfig(self.config)
        written = configuration.value(OURS)
        assert written in text
        text = text.replace(written, configuration.value(self.addresses))
        if EXTRA + "/24" in self.addresses:   # the service on the address that comes and goes
            port = self.config.services[1].port
            text = text.replace(f'listen = [ "192.0.2.1:{port}"', f'listen = [ "{EXTRA}:{port}", "192.0.2.1:{port}"')
        return text

    def apply(self, text=None):
        self.appliance.config_file.write_text(text or self.text())
        code, said = reload(self.appliance)
        assert code == 0, said

    def refused(self, text):
        good = self.appliance.config_file.read_text()
        before = self.appliance.show("version")["generation"], self.appliance.show("services"), self.appliance.show("ports")[0]["addresses"]
        self.appliance.config_file.write_text(text)
        code, said = reload(self.appliance)
        self.appliance.config_file.write_text(good)
        assert code != 0, said
        after = self.appliance.show("version")["generation"], self.appliance.show("services"), self.appliance.show("ports")[0]["addresses"]
        assert before[0] == after[0] and before[2] == after[2]
        assert [(s["name"], s["listen"]) for s in before[1]] == [(s["name"], s["listen"]) for s in after[1]]
        return said

    def restore(self):
        self.config, self.addresses = copied(self.original), list(OURS)
        self.apply()

    # --- kinds of change; each call is the next one of its kind

    def service_comes_or_goes(self, n):
        extra = [service for service in self.config.services if service.name.startswith("extra")]
        if len(extra) > 2:
            self.config.services.remove(extra[0])
        else:
            self.config.services.insert(n % 3, Service(f"extra{n}", 5000 + n, "echo", self.config.services[0].certificates))

    def services_change_places(self, n):
        self.config.services.append(self.config.services.pop(0)) if n % 2 else self.config.services.reverse()
        self.config.services.sort(key=lambda service: service.name == "echo", reverse=n % 3 == 0)

    def pool_comes_or_goes(self, n):
        pools = self.config.pools
        if any(pool.name == "fleeting" for pool in pools):
            pools[:] = [pool for pool in pools if pool.name != "fleeting"]
            self.find("moving").pool = "spare"
        else:
            pools.insert(0, dataclasses.replace(next(pool for pool in pools if pool.name == "echo"), name="fleeting"))
            self.find("moving").pool = "fleeting"

    def members_change(self, n):
        spare = next(pool for pool in self.config.pools if pool.name == "spare")
        v4 = network.BACKEND_ADDRESSES[0][0]
        spare.members = [(f"{v4}:{ECHO}", {"name": "one", "weight": 1 + n % 3})]
        if n % 2:
            spare.members.insert(0, (f"[{network.BACKEND_ADDRESSES[0][1]}]:{ECHO}", {"name": f"six{n}"}))
        spare.health = {"interval_ms": 500, "timeout_ms": 500} if n % 3 else None
        spare.balance = "least_connections" if n % 4 else "round_robin"

    def certificate_is_replaced(self, n):
        renewed = self.lab.certificates.issuing.issue(f"live-{n % 4}", "ecdsa", ["www.example.com", "echo.example.com"])
        for new, place in zip(renewed, self.copies):
            place.write_bytes(new.read_bytes())

    def policy_level_changes(self, n):
        self.config.policy_level = 1 if self.config.policy_level == 2 else 2

    def listener_moves(self, n):
        self.find("moving").port = MOVING + n % 10

    def address_comes_or_goes(self, n):
        for address in (EXTRA + "/24", "2001:db8:1::60/64"):
            self.addresses.remove(address) if address in self.addresses else self.addresses.append(address)

    def limits_change(self, n):
        self.find("echo").settings["idle_timeout_s"] = 3000 + n
        self.config.log_level = ("info", "debug")[n % 2]
        self.config.brake = {**self.config.brake, "burst": 1_000_000 + n}

    def redirect_comes_or_goes(self, n):
        self.config.redirects = {} if self.config.redirects else {"to-https": 80}

    KINDS = (service_comes_or_goes, services_change_places, pool_comes_or_goes, members_change, certificate_is_replaced, policy_level_changes,
             listener_moves, address_comes_or_goes, limits_change, redirect_comes_or_goes)

    def find(self, name):
        return next(service for service in self.config.services if service.name == name)

    def change(self, n):
        self.KINDS[n % len(self.KINDS)](self, n)
        self.apply()


class Load:
    """wrk, h2load and lab_client against services that no change concerns, until the block ends; then none may have failed."""

    def __init__(self, lab, appliance, new_connections=True):
        self.lab, self.appliance, self.new_connections = lab, appliance, new_connections
        self.over = threading.Event()
        self.reports, self.threads = [], []

    def repeat(self, what):
        def run():
            while not self.over.is_set():
                self.reports.append(what())
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def h2load(self):
        done = self.lab.client("h2load", "-n", "300", "-c", "3", "-m", "5", "https://www.example.com/1k")
        good = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
        return "h2load", bool(good) and good.groups() == ("300", "0", "0"), done.stdout + done.stderr

    def connect(self):
        report = self.lab.lab_client(ECHO, "--connections", 10, "--concurrent", 2, "--octets", 3000, "--timeout-ms", 20000, check=False)
        return "lab_client", report["ok"] == 10, report

    def __enter__(self):
        self.wrk = subprocess.Popen(["ip", "netns", "exec", "client", "wrk", "-t", "1", "-c", "8", "-d", "600s", "https://www.example.com/1k"],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.alive = [TlsClient(ECHO, context_for(self.lab.certificates.ca), timeout=30).handshake() for _ in range(10)]
        self.check_alive()   # both legs are open: a control that dies before loses what it knew of the handshakes
        wait_for("wrk", lambda: self.open_web() >= 8)
        if self.new_connections:
            self.repeat(self.h2load)
            self.repeat(self.connect)
        return self

    def open_web(self):
        return sum(flow["service"] == "web" and flow["state"] == "open" for flow in self.appliance.flows())

    def check_alive(self):
        for client in self.alive:
            client.write(b"still there")
        for client in self.alive:
            assert client.read_exactly(11) == b"still there"

    def __exit__(self, kind, *_):
        self.over.set()
        self.wrk.send_signal(signal.SIGINT)
        said, _ = self.wrk.communicate(timeout=30)
        for thread in self.threads:
            thread.join(120)
        if kind is not None:
            return
        assert "Socket errors" not in said and "Non-2xx" not in said, said
        assert int(re.search(r"(\d+) requests in", said).group(1)) > 0, said
        bad = [report for report in self.reports if not report[1]]
        assert not bad, bad[0]
        assert not self.new_connections or {report[0] for report in self.reports} == {"h2load", "lab_client"}
        self.check_alive()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_hundred_changes_under_load(live, lab):
    appliance, changer = live
    with Load(lab, appliance) as load:
        memory = None
        for n in range(100):
            changer.change(n)
            load.check_alive()
            if n % 25 == 12:
                said = changer.refused(changer.text().replace("cores = [ 0 ]", "cores = [ 1 ]"))
                assert re.search(r"sallyport\.conf:\d+: dataplane\.cores = \[ 1 \]: cannot change while the appliance runs \(it is \[ 0 \]\)", said), said
                changer.refused(changer.text().replace("policy = { level = ", "policy = { level = 7"))
            if n == 39:
                memory = resident_kib(appliance.control)
        grown = resident_kib(appliance.control) - memory
    services = {service["name"]: service for service in appliance.show("services")}
    assert services["echo"]["flows_now"] == 10 and services["echo"]["handshakes_failed"] == 0
    members = next(pool for pool in appliance.show("pools") if pool["name"] == "echo")["members"]
    assert sum(member["flows_now"] for member in members) == sum(flow["pool"] == "echo" for flow in appliance.flows())
    assert appliance.counters()["ended_address_removed"] == 0
    # Sixty configurations; one that stayed because an old flow held it would cost some 300 KiB with these four certificates.
    assert grown < 10_000, f"control grew by {grown} KiB in 60 changes"


@pytest.mark.long
@pytest.mark.timeout(600)
def test_control_is_killed_in_the_middle_of_changes(live, lab):
    """Never a configuration by half: what the file says is what runs, on both sides, and flows go on and are counted."""
    appliance, changer = live
    with Load(lab, appliance, new_connections=False) as load:
        for n in range(20):
            changer.KINDS[n % len(changer.KINDS)](changer, n)
            appliance.config_file.write_text(changer.text())
            reloading = subprocess.Popen([str(part) for part in (program("sallyport"), "--socket", appliance.socket_path, "reload")],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.015 * n)   # before it has begun, in every step, and when it is over
            appliance.kill_control()
            reloading.wait(30)
            appliance.start_control()
            appliance.wait_ready()
            load.check_alive()
            listens = {listen for service in appliance.show("services") for listen in service["listen"]}
            assert listens == set(re.findall(r'"([0-9.]+:\d+|\[[0-9a-f:]+\]:\d+)"', "".join(re.findall(r"\n      listen = \[.*", changer.text()))))
            for port in {int(listen.rsplit(":", 1)[1]) for listen in listens} - {WEB}:
                lab.lab_client(port, "--octets", 100, "--timeout-ms", 20000)
        services = {service["name"]: service for service in appliance.show("services")}
        assert services["echo"]["flows_now"] == 10
        members = next(pool for pool in appliance.show("pools") if pool["name"] == "echo")["members"]
        assert sum(member["flows_now"] for member in members) == 10, members
        changer.services_change_places(1)
        changer.apply()
        for client in load.alive:
            client.socket.close()
        load.alive = []
        wait_for("the flows to be taken off",
                 lambda: next(s for s in appliance.show("services") if s["name"] == "echo")["flows_now"] == 0
                 and all(member["flows_now"] == 0 for pool in appliance.show("pools") if pool["name"] == "echo" for member in pool["members"]), 20)


def test_address_and_listener_come_and_go(live, lab):
    appliance, changer = live
    with TlsClient(ECHO, context_for(lab.certificates.ca), timeout=30).handshake() as elsewhere:
        changer.address_comes_or_goes(0)
        changer.apply()
        assert lab.client("ping", "-c", "1", "-W", "5", EXTRA).returncode == 0
        reach = [program("lab_client"), "--connect", f"{EXTRA}:{ECHO}", "--ca", lab.certificates.ca, "--name", "www.example.com"]
        assert lab.client(*reach, "--octets", 1000).returncode == 0
        there = lab.client_process("there", *reach, "--hold-ms", 60000)
        wait_for("the flow", lambda: any(flow["local"].startswith(EXTRA) and flow["state"] == "open" for flow in appliance.flows()))
        changer.address_comes_or_goes(1)
        changer.apply()
        wait_for("the flow to be reset", lambda: not any(flow["local"].startswith(EXTRA) for flow in appliance.flows()))
        wait_for("its client to see it", lambda: not there.running())
        assert appliance.counters()["ended_address_removed"] == 1
        assert lab.client("ping", "-c", "1", "-W", "1", EXTRA).returncode != 0
        elsewhere.write(b"x")
        assert elsewhere.read_exactly(1) == b"x"


def test_removed_service_drains_and_its_name_comes_back(live, lab):
    """Flows of a service that is gone go on; new connections are refused; when it comes back it counts anew."""
    appliance, changer = live
    with TlsClient(MOVING, context_for(lab.certificates.ca), timeout=30).handshake() as alive:
        service = changer.find("moving")
        changer.config.services.remove(service)
        changer.apply()
        alive.write(b"x")
        assert alive.read_exactly(1) == b"x"
        with pytest.raises(OSError):
            TlsClient(MOVING, context_for(lab.certificates.ca))
        assert [flow["service"] for flow in appliance.flows()] == ["moving"]
        changer.config.services.append(service)
        changer.apply()
        lab.lab_client(MOVING, "--octets", 100)
        alive.write(b"y")
        assert alive.read_exactly(1) == b"y"


def test_idle_timeout_holds_for_flows_that_live(live, lab):
    appliance, changer = live
    idle = pingpong(lab, 1, connections=1)
    assert report_of(idle)["ok"] == 1
    with TlsClient(ECHO, context_for(lab.certificates.ca), timeout=30).handshake() as alive:
        wait_for("the flow to be open", lambda: [flow["state"] for flow in appliance.flows()] == ["open"])
        changer.find("echo").settings["idle_timeout_s"] = 1
        changer.apply()
        appliance.wait_no_flows(10)
        assert appliance.counters()["ended_idle_timeout"] >= 1
        with contextlib.suppress(Exception):
            alive.read_exactly(1)


def test_dataplane_that_comes_later_gets_what_was_changed(live, lab):
    """Without a dataplane a change is control's alone; the next one that attaches runs it."""
    appliance, changer = live
    appliance.dataplane.kill()
    wait_for("it to be gone", lambda: not appliance.show("version")["dataplane_attached"])
    changer.listener_moves(5)
    changer.apply()
    appliance.start_dataplane()
    appliance.wait_ready()
    lab.lab_client(MOVING + 5, "--octets", 100)
