"""RFC 9293 3.10.7.4 in SYN-RECEIVED, after a passive OPEN."""

import pytest

from .conftest import PATIENT_REDIRECT

BOTH = pytest.mark.parametrize("family", [4, 6])
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


@pytest.fixture
def half_open(client):
    def of(family=4, **syn):
        peer = client(PATIENT_REDIRECT, family)
        peer.send("S", seq=0, **(syn or peer.SYN))
        peer.answer = peer.expect("SA", seq=0, ack=1)
        return peer
    return of


def established(peer):
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data.startswith(b"HTTP/1.1 308 ")


@BOTH
def test_syn_again_is_answered_again(half_open, family):
    """RFC 9293 3.8: "Duplicate segments may arrive due to network or TCP retransmission": the same answer, with the same ISS."""
    peer = half_open(family)
    peer.send("S", seq=0, mss=1000)
    assert peer.expect("SA", seq=0, ack=1).abs_seq == peer.answer.abs_seq
    established(peer)


def test_answer_is_sent_again_after_a_timeout(half_open):
    """RFC 6298 2.1: "Until a round-trip time (RTT) measurement has been made for a segment sent between the sender and receiver, the sender SHOULD set
    RTO <- 1 second"."""
    peer = half_open()
    again = peer.expect("SA", seq=0, ack=1)
    assert again.abs_seq == peer.answer.abs_seq and again.at - peer.answer.at > 0.8
    established(peer)


@pytest.mark.parametrize("ack", [0, 2, -1000, 100000])
def test_bad_ack_is_reset_and_the_connection_stays(half_open, ack):
    """RFC 9293 3.10.7.4: "If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST> and send it"; 3.5.2:
    "The connection remains in the same state"."""
    peer = half_open()
    peer.send("A", seq=1, ack=ack)
    peer.expect_reset(seq=ack)
    peer.ended = False
    established(peer)


def test_exact_reset_returns_to_listen(half_open):
    """RFC 9293 3.10.7.4: "If this connection was initiated with a passive OPEN [...], then return this connection to LISTEN state and return"."""
    peer = half_open()
    peer.send("R", seq=1)
    peer.silence()
    peer.send("A", seq=1, ack=1)
    peer.expect_reset(seq=1)


@pytest.mark.parametrize("seq", [2, 1000, 30000])
def test_reset_in_the_window_is_challenged(half_open, seq):
    """RFC 9293 3.10.7.4: "If the RST bit is set and the sequence number does not exactly match the next expected sequence value, yet is within the
    current receive window, TCP endpoints MUST send an acknowledgment (challenge ACK)"; SYN-RECEIVED is among the states."""
    peer = half_open()
    peer.send("R", seq=seq)
    peer.expect("A", seq=1, ack=1)
    established(peer)


@pytest.mark.parametrize("seq", [0, -1, 200000])
def test_reset_outside_the_window_is_dropped(half_open, seq):
    """RFC 9293 3.10.7.4: "If the RST bit is set and the sequence number is outside the current receive window, silently drop the segment"."""
    peer = half_open()
    peer.send("R", seq=seq)
    peer.silence()
    established(peer)


@pytest.mark.parametrize("seq", [-5, 100000])
def test_unacceptable_segment_is_acknowledged(half_open, seq):
    """RFC 9293 3.10.7.4, first step, SYN-RECEIVED among its states: "If an incoming segment is not acceptable, an acknowledgment should be sent in
    reply [...] <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>"."""
    peer = half_open()
    peer.send("A", seq=seq, ack=1)
    peer.expect("A", seq=1, ack=1)
    established(peer)


def test_another_syn_is_challenged(half_open):
    """RFC 5961 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred to as challenge ACK) to the remote
    peer"; RFC 9293 3.10.7.4 would give the connection up, which a blind attacker could bring about."""
    peer = half_open()
    peer.send("S", seq=500, mss=1000)
    peer.expect("A", seq=1, ack=1)
    established(peer)


def test_without_ack_is_dropped(half_open):
    """RFC 9293 3.10.7.4: "if the ACK bit is off, drop the segment and return"."""
    peer = half_open()
    peer.send("P", seq=1, data=REQUEST)
    peer.silence()
    established(peer)


@BOTH
def test_text_with_the_third_segment_is_taken(half_open, family):
    """RFC 9293 3.10.7.4: "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state and continue processing"."""
    established(half_open(family))


def test_fin_with_the_third_segment_is_taken(half_open):
    """RFC 9293 3.10.7.4, eighth step, SYN-RECEIVED: "advance RCV.NXT over the FIN, and send an acknowledgment for the FIN"."""
    peer = half_open()
    peer.send("FA", seq=1, ack=1)
    assert peer.receive().ack == 2


def test_text_before_the_third_segment_establishes_and_waits(half_open):
    """RFC 9293 3.10.7.4: "Segments with higher beginning sequence numbers SHOULD be held for later processing (SHLD-31)": also the first one with an
    ACK."""
    peer = half_open()
    peer.send("PA", seq=11, ack=1, data=REQUEST[10:])
    peer.expect("A", seq=1, ack=1)
    peer.send("A", seq=1, ack=1, data=REQUEST[:10])
    assert peer.skim(lambda segment: segment.data).data.startswith(b"HTTP/1.1 308 ")


def test_window_of_the_syn_is_not_scaled(half_open):
    """RFC 7323 2.2: "The window field in a segment where the SYN bit is set (i.e., a <SYN> or <SYN,ACK>) MUST NOT be scaled": ours says what fits into
    16 bits, the following one the same in its unit."""
    peer = half_open(mss=1000, wscale=7)
    assert peer.answer.win == 65535 and peer.answer.wscale is not None
    peer.send("A", seq=1, ack=1)
    peer.send("A", seq=0, ack=1)
    window = peer.expect("A", seq=1, ack=1).win << peer.answer.wscale
    assert 65535 - (1 << peer.answer.wscale) < window <= 65535 + (1 << peer.answer.wscale)
