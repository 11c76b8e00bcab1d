"""The benchmark's clients on the kernel's sockets (tests/bench/clients.py): the real programs, against the appliance."""

import subprocess

import pytest

from tests.bench import clients, kernel
from tests.lab.lab import LabError

CONNECTIONS, SECONDS = 4, 1
TICKET_12 = {"close": True, "resumed": True, "version": "1.2", "suite": "ECDHE-ECDSA-AES128-GCM-SHA256"}


def handshakes(appliance):
    """(in full, resumed) so far."""
    services = appliance.view("services")
    resumed = sum(service["resumed"] for service in services)
    return sum(service["handshakes_done"] for service in services) - resumed, resumed


@pytest.mark.needs_appliance
@pytest.mark.parametrize("client, options", [
    ("wrk", {}), ("h2load", {}),
    ("wrk", {"close": True}), ("s_time", {"close": True}),
    ("wrk", {"close": True, "resumed": True}), ("s_time", {"close": True, "resumed": True}),
    ("wrk", TICKET_12), ("s_time", TICKET_12),
])
def test_a_client_does_what_its_load_says(appliance, lab, client, options):
    load = kernel.Load("/1k", CONNECTIONS, (), client=client, **options)
    assert clients.CLIENTS[client].can(load)
    before = handshakes(appliance)
    done = clients.CLIENTS[client].run(lab, load, 443, SECONDS)
    full, resumed = (after - earlier for after, earlier in zip(handshakes(appliance), before))
    assert done["requests"] > CONNECTIONS and done["errors"] == 0 and done["seconds"] > 0, done
    if not load.close:
        assert (full, resumed) == (CONNECTIONS, 0)
    elif load.resumed:   # all but the first ones; some are under way at the end
        assert full <= CONNECTIONS and resumed >= done["requests"] - full
    else:
        assert resumed == 0 and full >= done["requests"]


@pytest.mark.needs_appliance
@pytest.mark.parametrize("client, options", [("wrk", {}), ("h2load", {}), ("s_time", {"close": True})])
def test_what_a_client_cannot_reach_is_an_error(appliance, lab, client, options):
    with pytest.raises(LabError, match=client):
        clients.CLIENTS[client].run(lab, kernel.Load("/1k", CONNECTIONS, (), client=client, **options), 447, SECONDS)


def ended(output, code=0):
    return subprocess.CompletedProcess([], code, output, "")


def test_failures_that_a_client_tells_are_counted():
    assert clients.Wrk.told(ended("  90 requests in 2.50s, 1MB read\n  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 4\n"))["errors"] == 10
    done = clients.H2load.told(ended("finished in 500.00ms, 20 req/s, 1KB/s\nrequests: 10 total, 12 started, 10 done, 7 succeeded, 3 failed, 1 errored, 0 timeout\n"
                                     "status codes: 7 2xx, 0 3xx, 2 4xx, 0 5xx\n"))
    assert (done["requests"], done["seconds"], done["errors"]) == (7, 0.5, 3)


def test_each_s_time_counts_and_none_may_fail():
    good = "30 connections in 0.10s; 300.00 connections/user sec, bytes read 30\n30 connections in 2 real seconds, 1 bytes read per connection\n"
    assert clients.STime.told([0, 0], [good, good], 2.25)["requests"] == 60
    with pytest.raises(LabError, match="exit code 1: no connection"):
        clients.STime.told([0, 1], [good, "no connection"], 2.25)
