"""Many connections, slow ones, and that nothing is left over afterwards."""

import pathlib
import time

import pytest

from tests.lab.lab import wait_for

ECHO = 4433


def resident_kib(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


# Health checks end first, so their connections stay in TIME-WAIT for 60 s: 2 members, 5 checks a second.
TIME_WAIT_OF_PROBES = 2 * 5 * 60 + 20


def lanes_empty(worker):
    return worker["lane_to_control_used"] == worker["lane_to_dataplane_used"] == 0


def at_rest(appliance):
    """What the workers hold when there is no flow, after TIME-WAIT, and all messages have been read (a probe's may be on its way at any moment)."""
    appliance.wait_no_flows(30)

    def settled():
        workers = appliance.show("workers")
        return workers if all(w["connections"] <= TIME_WAIT_OF_PROBES and w["buffers_held"] == 0 and lanes_empty(w) for w in workers) else None
    return wait_for(lambda: f"connections and buffers to be given back: {appliance.show('workers')}", settled, 90, 0.2)


@pytest.mark.parametrize("family", [4, 6])
def test_thousand_connections_at_once(appliance, lab, family):
    report = lab.lab_client(ECHO, "--connections", 1000, "--together", "--octets", 20_000, family=family, timeout=110)
    assert report["octets"] == 1000 * 2 * 20_000


@pytest.mark.needs_appliance
def test_thousand_flows_are_shown(appliance, lab):
    hold = lab.client_process("thousand", *holding(lab, 1000))
    wait_for("1,000 flows", lambda: appliance.show("flows")["total"] >= 1000, 60)
    services = {service["name"]: service for service in appliance.show("services")}
    assert services["echo"]["flows_now"] >= 1000
    hold.kill_group()
    appliance.wait_no_flows()


def holding(lab, connections):
    from tests.lab.lab import program
    return [program("lab_client"), "--connect", lab.service(ECHO), "--ca", lab.certificates.ca, "--name", "echo.example.com",
            "--connections", connections, "--hold-ms", 60000]


def test_slow_readers(appliance, lab):
    """Clients that read 20 kB each 10 ms from a backend that echoes as fast as it can."""
    report = lab.lab_client(ECHO, "--connections", 20, "--octets", 1_000_000, "--read-rate", 20_000, "--receive-buffer", 8192)
    assert report["octets"] == 20 * 2_000_000


def test_slow_writers(appliance, lab):
    report = lab.lab_client(ECHO, "--connections", 20, "--octets", 100_000, "--write-rate", 2_000, "--write-size", 700)
    assert report["octets"] == 20 * 200_000


def test_slow_backend(appliance, lab):
    report = lab.lab_client(4444, "--connections", 10, "--octets", 1_000_000, timeout=110)
    assert report["octets"] == 10 * 2_000_000


@pytest.mark.needs_appliance
def test_stuck_backend_holds_back_the_client(appliance, lab):
    """Memory is bounded: the client cannot send more than the buffers on the way take."""
    client = lab.client_process("stuck", *[str(part).replace(":4433", ":4445") for part in holding(lab, 1)], "--octets", 1 << 30, "--reset-on-exit")
    seen = 0
    for _ in range(30):
        time.sleep(0.1)
        flows = [flow for flow in appliance.flows() if flow["service"] == "stuck"]
        if flows:
            if seen and flows[0]["client_in"] == seen:
                break
            seen = flows[0]["client_in"]
    else:
        pytest.fail(f"the client still sends: {seen} octets")
    assert 0 < seen < 8_000_000
    client.kill_group()
    appliance.wait_no_flows()


@pytest.mark.needs_appliance
@pytest.mark.timeout(400)
def test_slow_flow_does_not_hold_up_others(appliance, lab):
    stuck = lab.client_process("stuck", *[str(part).replace(":4433", ":4445") for part in holding(lab, 50)], "--octets", 1 << 30, "--reset-on-exit")
    wait_for("the stuck flows", lambda: appliance.show("flows")["total"] >= 50)
    lab.lab_client(ECHO, "--connections", 50, "--octets", 100_000)
    stuck.kill_group()
    appliance.wait_no_flows(240)   # a reset that was lost is found by keepalive


def rest(workers):
    """What must be as it was: free packet buffers (a receive ring may be fuller by a burst), and rings that are empty."""
    return [(worker["pool_free"], worker["lane_to_control_used"], worker["lane_to_dataplane_used"]) for worker in workers]


@pytest.mark.needs_appliance
def test_buffers_and_rings_are_as_at_the_start(manager, appliance, standard_configuration, lab):
    """Not only the same after two loads: the same as in an appliance that has just been started."""
    manager.stop()
    appliance = manager.use(standard_configuration)
    start = rest(at_rest(appliance))
    for options in (["--octets", 20_000], ["--octets", 200_000, "--read-rate", 50_000], ["--octets", 20_000, "--no-close"]):
        lab.lab_client(ECHO, "--connections", 300, "--concurrent", 100, *options)
    lab.lab_client(ECHO, "--connections", 100, "--together", "--octets", 20_000, family=6)

    def again():
        return all(now[0] >= then[0] - 64 and now[1:] == then[1:] == (0, 0) for now, then in zip(rest(at_rest(appliance)), start))
    # Frames that have just been sent or received are on their way through the device's rings.
    wait_for(lambda: f"buffers and rings as at the start: {start} became {rest(appliance.show('workers'))}", again, 30, 0.2)


@pytest.mark.needs_appliance
@pytest.mark.timeout(900)
def test_nothing_grows_over_20000_connections(appliance, lab):
    from .conftest import SLOW_BUILD
    rounds, each = (4, 500) if SLOW_BUILD else (4, 5000)

    def load():
        for _ in range(rounds):
            lab.lab_client(ECHO, "--connections", each, "--concurrent", 100, "--octets", 2000, timeout=250)
        return at_rest(appliance)
    # The first time touches what the others use again: tables, buffers, and 20,000 connections in TIME-WAIT.
    earlier = load()
    memory = {process: resident_kib(process) for process in (appliance.control, appliance.dataplane)}
    # How many handshakes are under way at a time, and so what the heap has been once, depends on the machine: it may grow again, but what leaks grows each time.
    for _ in range(3):
        later = load()
        for a, b in zip(earlier, later):
            assert b["pool_free"] >= a["pool_free"] - 64, (a, b)   # a receive ring may be fuller by a burst
        grown = {process: resident_kib(process) - before for process, before in memory.items()}
        # 20,000 connections that leaked 100 octets each would be 2,000 KiB.
        memory = {process: resident_kib(process) for process in memory if grown[process] >= 2000}
        if SLOW_BUILD or not memory:
            return
    pytest.fail(", ".join(f"{process.name} grew by {grown[process]} KiB, and before" for process in memory))


@pytest.mark.needs_appliance
def test_reset_flows_leave_nothing(appliance, lab):
    lab.lab_client(ECHO, "--connections", 500, "--concurrent", 50, "--octets", 50_000, "--no-close")
    at_rest(appliance)
