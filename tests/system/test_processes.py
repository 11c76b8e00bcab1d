"""Control killed and restarted, links that go, daemons' manners."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

from tests.lab import network
from tests.lab.lab import LabError, best_profile, program, wait_for
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

ECHO = 4433


def pingpong(lab, seconds, connections=50):
    """Clients that send a message every 20 ms and await its echo; finishes with lab_client's report on stdout."""
    return subprocess.Popen(["ip", "netns", "exec", "client", program("lab_client"), "--connect", lab.service(ECHO), "--ca",
                             str(lab.certificates.ca), "--name", "www.example.com", "--connections", str(connections), "--interval-ms", "20",
                             "--duration-ms", str(seconds * 1000), "--octets", "2000", "--together"],
                            stdout=subprocess.PIPE, text=True)


def report_of(process):
    import json
    out, _ = process.communicate(timeout=60)
    return json.loads(out)


def test_control_is_killed_under_load(appliance, lab):
    """Established flows go on untouched; new ones wait and are served after the restart."""
    established = pingpong(lab, 8)
    wait_for("the flows", lambda: appliance.show("flows")["total"] >= 50)
    time.sleep(1)
    appliance.kill_control()
    late = pingpong(lab, 1, connections=10)   # connects while control is away
    time.sleep(1)
    appliance.start_control()
    new = report_of(late)
    assert new["ok"] == 10, new
    old = report_of(established)
    assert old["ok"] == 50, old
    assert old["longest_pause_ms"] < 500, old
    appliance.wait_ready()
    lab.lab_client(ECHO, "--connections", 20, "--octets", 10_000)
    appliance.wait_no_flows()


def test_control_is_killed_again_and_again(appliance, lab):
    established = pingpong(lab, 6, connections=20)
    wait_for("the flows", lambda: sum(flow["state"] == "open" for flow in appliance.flows()) >= 20)
    for _ in range(4):
        appliance.kill_control()
        time.sleep(0.2)
        appliance.start_control()
        appliance.wait_ready()
        lab.lab_client(ECHO, "--connections", 5, "--octets", 1000)
    old = report_of(established)
    assert old["ok"] == 20, old
    appliance.wait_no_flows()
    wait_for(lambda: f"connections to be given back: {appliance.show('workers')}",
             lambda: all(worker["buffers_held"] == 0 for worker in appliance.show("workers")), 60, 0.2)


def test_control_away_too_long(appliance, lab):
    """control_away_ms, 5 s as default: a new connection does not wait for ever."""
    appliance.kill_control()
    try:
        begun = time.monotonic()
        with pytest.raises(Exception):
            TlsClient(ECHO, context_for(lab.certificates.ca), timeout=20).handshake()
        assert time.monotonic() - begun < 15
    finally:
        appliance.start_control()
        appliance.wait_ready()
    lab.lab_client(ECHO, "--octets", 1000)


def test_handshakes_in_flight_when_control_dies(appliance, lab):
    """None hangs, none leaks."""
    clients = subprocess.Popen(["ip", "netns", "exec", "client", program("lab_client"), "--connect", lab.service(ECHO), "--ca",
                                str(lab.certificates.ca), "--name", "www.example.com", "--connections", "2000", "--concurrent", "50",
                                "--octets", "100", "--timeout-ms", "20000"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    appliance.kill_control()
    time.sleep(0.1)
    appliance.start_control()
    report = report_of(clients)
    assert report["ok"] + sum(report["failures"].values()) == 2000
    assert report["ok"] >= 1800, report   # only those in the middle of a handshake may fail
    assert not any("time-out" in failure for failure in report["failures"]), report
    appliance.wait_ready()
    appliance.wait_no_flows()


def test_dataplane_is_started_again(appliance, lab):
    appliance.dataplane.kill()
    time.sleep(0.2)
    assert appliance.show("version")["dataplane_attached"] is False
    appliance.start_dataplane()
    appliance.wait_ready()
    lab.lab_client(ECHO, "--connections", 10, "--octets", 10_000)


@pytest.mark.parametrize("side", ["client", "backend"])
def test_link_goes_down_and_comes_back(appliance, lab, side):
    """Flows survive a link that is away for a moment."""
    established = pingpong(lab, 6, connections=20)
    wait_for("the flows", lambda: sum(flow["state"] == "open" for flow in appliance.flows()) >= 20)
    network.run("ip", "netns", "exec", side, "ip", "link", "set", "eth0", "down")
    wait_for("the port to be down", lambda: not all(port["link"] for port in appliance.show("ports")))
    time.sleep(0.5)
    network.run("ip", "netns", "exec", side, "ip", "link", "set", "eth0", "up")
    v4, v6 = network.APPLIANCE[side]
    if side == "client":
        network.run("ip", "netns", "exec", side, "ip", "addr", "replace", f"{network.CLIENT_ADDRESSES[1]}/64", "dev", "eth0", "nodad")
    else:
        for _, address in network.BACKEND_ADDRESSES:   # the kernel forgets IPv6 addresses of a link that went down
            network.run("ip", "netns", "exec", side, "ip", "addr", "replace", f"{address}/64", "dev", "eth0", "nodad")
    network.run("ip", "netns", "exec", side, "ip", "route", "replace", "default", "via", v4)
    network.run("ip", "netns", "exec", side, "ip", "-6", "route", "replace", "default", "via", v6)
    wait_for("the ports to be up", lambda: all(port["link"] for port in appliance.show("ports")))
    old = report_of(established)
    assert old["ok"] == 20, old
    lab.lab_client(ECHO, "--connections", 10, "--octets", 10_000)
    lab.lab_client(ECHO, "--connections", 10, "--octets", 10_000, family=6)


def test_clean_shutdown_closes_flows(manager, appliance, lab, standard):
    """SIGTERM: clients and backends see close_notify, both processes end with 0."""
    clients = [TlsClient(ECHO, context_for(lab.certificates.ca)).handshake() for _ in range(5)]
    for client in clients:
        client.write(b"x")
        client.read_exactly(1)
    dataplane = appliance.dataplane
    dataplane.send_signal(signal.SIGTERM)
    for client in clients:
        assert client.end() == "close_notify"
        client.close_notify()
        client.socket.close()
    codes = appliance.stop()
    manager.running = None
    assert codes == (0, 0)
    closed = wait_for("the backend's legs to end", lambda: len(standard.backends["echo"].events("close")) == 5 and standard.backends["echo"].events("close"))
    assert all(event["end"] == "close_notify" for event in closed), closed
    assert "Traceback" not in appliance.logs()


def test_stopping_idle_is_quick(manager, appliance):
    begun = time.monotonic()
    codes = appliance.stop()
    manager.running = None
    assert codes == (0, 0)
    assert time.monotonic() - begun < 5


def test_cli(appliance, lab):
    for what in ("version", "ports", "services", "pools", "flows", "counters", "workers"):
        assert appliance.cli("show", what).strip()
        appliance.show(what)
    version = appliance.show("version")
    assert version["openssl"].startswith("OpenSSL 4.")
    assert "DPDK 24.11" in version["dpdk"] or version["dpdk"].startswith("24.11")
    done = subprocess.run([program("sallyport"), "--socket", "/run/nowhere.sock", "show", "version"], capture_output=True, text=True)
    assert done.returncode != 0 and "/run/nowhere.sock" in done.stderr
    with pytest.raises(LabError):
        appliance.cli("show", "nonsense")


def test_ports_are_shown(appliance, lab):
    before = {port["name"]: port for port in appliance.show("ports")}
    lab.lab_client(ECHO, "--octets", 1_000_000)
    after = {port["name"]: port for port in appliance.show("ports")}
    for name in ("clients", "backends"):
        assert after[name]["link"] and after[name]["packets_in"] > before[name]["packets_in"]
        assert after[name]["octets_in"] >= before[name]["octets_in"] + 1_000_000


def test_two_workers(appliance_with, standard, lab):
    """Two workers on devices with one queue: frames are steered in software."""
    config = standard.configuration(cores=(0, 1))
    appliance = appliance_with(config)
    assert len(appliance.show("workers")) == 2
    lab.lab_client(ECHO, "--connections", 100, "--octets", 100_000)
    lab.lab_client(ECHO, "--connections", 100, "--octets", 100_000, family=6)
    assert all(worker["records_opened"] > 0 for worker in appliance.show("workers"))
    appliance.wait_no_flows()


@pytest.mark.parametrize("offloads", [False, True], ids=["segment by segment", "merged frames"])
def test_af_packet(appliance_with, standard, lab, offloads):
    config = standard.configuration()
    config.profile = "af_packet"
    for side in ("client", "backend"):
        network.offloads_of_link(side, offloads)
    try:
        appliance = appliance_with(config)
        lab.lab_client(ECHO, "--connections", 50, "--octets", 300_000)
        lab.lab_client(ECHO, "--connections", 50, "--octets", 300_000, family=6)
        lab.lab_client(ECHO, "--connections", 4, "--octets", 20_000_000)
        appliance.wait_no_flows()
        for port in appliance.show("ports"):
            longest = 1514 + 100   # no average of whole frames is more
            assert port["octets_out"] / port["packets_out"] > longest, "it is the kernel that cuts"
            assert (port["octets_in"] / port["packets_in"] > longest) == offloads
            assert port["errors_in"] == port["errors_out"] == 0
    finally:
        for side in ("client", "backend"):
            network.offloads_of_link(side, best_profile() == "af_packet")


def test_af_packet_with_two_workers(appliance_with, standard, lab):
    """A queue each, which the kernel fills by a hash of its own; frames find their worker."""
    config = standard.configuration(cores=(0, 1))
    config.profile = "af_packet"
    appliance = appliance_with(config)
    assert all(port["receive_queues"] == 2 for port in appliance.show("ports"))
    lab.lab_client(ECHO, "--connections", 50, "--octets", 300_000)
    lab.lab_client(ECHO, "--connections", 50, "--octets", 300_000, family=6)
    assert all(worker["records_opened"] > 0 for worker in appliance.show("workers"))
    appliance.wait_no_flows()


def test_without_hugepages(appliance_with, standard, lab):
    config = standard.configuration(dataplane={"max_flows": 8192, "hugepages": False})
    appliance = appliance_with(config)
    lab.lab_client(ECHO, "--connections", 20, "--octets", 100_000)
    appliance.wait_no_flows()
