"""Several members: round robin, least connections, health checks, drain."""

import collections

import pytest

from tests.lab.lab import wait_for
from .test_load import TIME_WAIT_OF_PROBES
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

PAIR, LEAST, DRAINING = 4470, 4471, 4472


def member_of(lab, port):
    """Which member answers: its banner."""
    with TlsClient(port, context_for(lab.certificates.ca)).handshake() as client:
        answer = client.read_exactly(1).decode()
        client.close_notify()
        client.end()
        return answer


def states(appliance, pool):
    view = next(view for view in appliance.show("pools") if view["name"] == pool)
    return {member["name"]: member["state"] for member in view["members"]}


def both_up(appliance, pool="pair"):
    wait_for(lambda: f"both members up: {appliance.show('pools')}", lambda: set(states(appliance, pool).values()) == {"up"}, 20)


def test_round_robin(appliance, lab):
    both_up(appliance)
    counts = collections.Counter(member_of(lab, PAIR) for _ in range(20))
    assert counts == {"a": 10, "b": 10}


def test_least_connections(appliance, lab):
    held = [TlsClient(LEAST, context_for(lab.certificates.ca)).handshake() for _ in range(10)]
    members = [client.read_exactly(1) for client in held]
    assert collections.Counter(members) == {b"a": 5, b"b": 5}
    for client, member in zip(held, members):   # all of b's end: the next ones go there
        if member == b"b":
            client.close_notify()
            client.end()
    wait_for("b's flows to end", lambda: len(appliance.flows()) == 5)
    more = [TlsClient(LEAST, context_for(lab.certificates.ca)).handshake() for _ in range(5)]
    assert {client.read_exactly(1) for client in more} == {b"b"}
    for client in held + more:
        client.socket.close()
    appliance.wait_no_flows()


def test_drained_member_gets_nothing_new(appliance, lab):
    assert states(appliance, "draining")["b"] == "drain"
    assert {member_of(lab, DRAINING) for _ in range(10)} == {"a"}


def test_member_dies_and_health_check_brings_it_back(appliance, lab, standard):
    both_up(appliance)
    standard.backends["pair-b"].kill()
    try:
        # Before the health check notices, a refused member is passed over: no client sees it.
        assert {member_of(lab, PAIR) for _ in range(6)} == {"a"}
        wait_for("b to be down", lambda: states(appliance, "pair")["b"] == "down")
        assert {member_of(lab, PAIR) for _ in range(6)} == {"a"}
    finally:
        standard.backends["pair-b"].start()
    both_up(appliance)
    assert {member_of(lab, PAIR) for _ in range(6)} == {"a", "b"}


def test_health_checks_leave_nothing(appliance, lab):
    both_up(appliance)
    appliance.wait_no_flows()
    wait_for(lambda: f"no connections beside a probe's: {appliance.show('workers')}",
             lambda: all(worker["connections"] <= TIME_WAIT_OF_PROBES for worker in appliance.show("workers")), 60, 0.2)
