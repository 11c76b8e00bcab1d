"""RFC 3168: explicit congestion notification, asked for by a client."""

import pytest

from tests.system.tls_client import context_for

from .conftest import PATIENT_REDIRECT
from .flows import Client, octets

NOT_ECT, ECT0, CE = 0, 2, 3
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
BOTH = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def ecn(client):
    """A connection of a client that has asked for it."""
    def of(family=4, port=PATIENT_REDIRECT):
        peer = client(port, family)
        peer.send("SEC", seq=0, mss=1000)
        peer.answer = peer.expect("SAE", seq=0, ack=1)
        peer.send("A", seq=1, ack=1)
        return peer
    return of


@BOTH
def test_set_up(ecn, family):
    """RFC 3168 6.1.1: "If a host has received an ECN-setup SYN packet, then it MAY send an ECN-setup SYN-ACK packet", which has ECE and no CWR; "A host MUST NOT set ECT on SYN or SYN-ACK packets"."""
    assert ecn(family).answer.tos & 3 == NOT_ECT


@pytest.mark.parametrize("flags", ["S", "SE", "SC"])
def test_no_set_up(client, flags):
    """RFC 3168 6.1.1: an ECN-setup SYN has both bits; "Otherwise, it MUST NOT send an ECN-setup SYN-ACK packet"."""
    peer = client()
    peer.send(flags, seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)


@BOTH
def test_data_is_capable(ecn, family):
    """RFC 3168 6.1.2: data of an ECN-capable connection carries an ECT codepoint, ECT(0) as a rule (5)."""
    peer = ecn(family)
    peer.send("PA", data=REQUEST)
    answer = peer.skim(lambda segment: segment.data)
    assert answer.tos & 3 == ECT0


def test_retransmission_is_not_capable(ecn):
    """RFC 3168 6.1.5: "the TCP data sender SHOULD NOT set either an ECT codepoint or the CWR bit on retransmitted data packets"."""
    peer = ecn()
    peer.send("PA", data=REQUEST)
    first = peer.skim(lambda segment: segment.data)
    again = peer.skim(lambda segment: segment.data and segment.seq == first.seq)
    assert again.tos & 3 == NOT_ECT and "C" not in again.flags


def test_acknowledgment_is_not_capable(ecn):
    """RFC 3168 6.1.4: pure acknowledgments "MUST be sent with the not-ECT codepoint"."""
    peer = ecn()
    peer.send("A", seq=0, ack=1)
    assert peer.expect("A", seq=1, ack=1).tos & 3 == NOT_ECT


@BOTH
def test_mark_is_echoed_until_the_window_is_reduced(ecn, family):
    """RFC 3168 6.1.3: "When TCP receives a CE data packet at the destination end-system, the TCP data receiver sets the ECN-Echo flag in the TCP header of the subsequent ACK packet"; "The TCP receiver uses the CWR flag received from the
    TCP sender to determine when to stop setting the ECN-Echo flag"."""
    peer = ecn(family)
    peer.send("A", data=REQUEST[:10], tos=CE)
    peer.expect("AE", ack=11)
    peer.send("A", data=REQUEST[10:20], tos=ECT0)
    peer.expect("AE", ack=21)
    peer.send("AC", data=REQUEST[20:30], tos=ECT0)
    peer.expect("A", ack=31)


def test_mark_that_comes_with_the_reduction_begins_anew(ecn):
    """RFC 3168 6.1.3: CWR stops the echo of earlier marks; a mark on the packet that carries it is a new one."""
    peer = ecn()
    peer.send("A", data=REQUEST[:10], tos=CE)
    peer.expect("AE", ack=11)
    peer.send("AC", data=REQUEST[10:20], tos=CE)
    peer.expect("AE", ack=21)


@BOTH
def test_without_it_marks_say_nothing(client, family):
    """RFC 3168 6.1.1: without the set-up neither side uses it: no echo, no ECT."""
    peer = client(PATIENT_REDIRECT, family)
    peer.connect()
    peer.send("A", data=REQUEST[:10], tos=CE)
    peer.expect("A", ack=11)
    peer.send("PA", data=REQUEST[10:])
    assert peer.skim(lambda segment: segment.data).tos & 3 == NOT_ECT


def test_echo_is_answered_with_a_reduction(world, lab, ecn, listening):
    """RFC 3168 6.1.2: "the TCP sender sets the CWR flag in the TCP header of the first new data packet sent after the window reduction", and once only a round trip."""
    port, listener = listening()
    peer = ecn(port=port)
    tls = Client(world, context_for(lab.certificates.ca), port, peer=peer)
    tls.handshake()
    backend = listener.take()
    backend.expect("S")
    backend.send("SA", seq=0, ack=1, mss=1000)
    backend.expect("A")
    world.pump(0)
    tls.take_segments()
    backend.send("PA", seq=1, data=octets(100))
    peer.skim(lambda segment: segment.data)
    peer.send("AE", ack=peer.rcv_nxt)
    backend.send("PA", seq=101, data=octets(100))
    new = peer.skim(lambda segment: segment.data and segment.seq + len(segment.data) == peer.rcv_nxt)
    assert "C" in new.flags and new.tos & 3 == ECT0
    peer.send("A", ack=peer.rcv_nxt)
    backend.send("PA", seq=201, data=octets(100))
    assert "C" not in peer.skim(lambda segment: segment.data and segment.seq >= new.seq + len(new.data)).flags
