"""RFC 9293 3.10.7.3 and the active OPEN: the appliance connects to a backend."""

import pytest

from .flows import octets

BOTH = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def syn_sent(opening):
    def of(family=4):
        client, peer = opening(family)
        peer.client = client
        peer.first = peer.expect("S", seq=0)
        return peer
    return of


def establish(peer, **syn):
    peer.send("SA", seq=0, ack=1, **(syn or peer.SYN))
    peer.expect("A", seq=1, ack=1)


def carries_data(peer):
    """Both ways."""
    peer.client.write(b"from the client")
    peer.skim(lambda segment: segment.data == b"from the client")
    peer.send("PA", data=b"from the backend")
    peer.client.received(len(b"from the backend"))


@BOTH
def test_syn(syn_sent, family):
    """RFC 9293 3.10.1: "A SYN segment of the form <SEQ=ISS><CTL=SYN> is sent"; 3.7.1: "The MSS value to be sent in an MSS Option should be equal to the
    effective MTU minus the fixed IP and TCP headers"; RFC 7323 2.2 and 3.2, RFC 2018 2: what is offered in it."""
    syn = syn_sent(family).first
    assert syn.flags == "S" and syn.data == b""
    assert syn.mss == (1460 if family == 4 else 1440)
    assert syn.wscale is not None and syn.sack_permitted and syn.ts is not None
    assert syn.ts[1] == 0   # RFC 7323 3.2: "When the ACK bit is not set in the outgoing segment, the sender of that segment SHOULD set the TSecr field to zero"
    assert syn.abs_ack == 0


@pytest.mark.parametrize("ack", [0, 2, -70000, 1 << 30])
@BOTH
def test_bad_ack_is_reset(syn_sent, ack, family):
    """RFC 9293 3.10.7.3: "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set, if so drop the segment and return)
    <SEQ=SEG.ACK><CTL=RST> and discard the segment". The connection is opened all the same (3.5, figure 8)."""
    peer = syn_sent(family)
    peer.send("SA", seq=0, ack=ack, mss=1000)
    reset = peer.receive()
    assert reset.flags == "R" and reset.abs_seq == (peer.first.abs_seq + ack) & 0xFFFFFFFF
    peer.ended = False
    peer.expect("S")
    establish(peer)
    carries_data(peer)


def test_bad_ack_of_a_plain_ack_is_reset(syn_sent):
    """RFC 9293 3.5, figure 9: the other side still has an old connection; its ACK is answered with a reset, and the SYN is sent again."""
    peer = syn_sent()
    peer.send("A", seq=5000, ack=-300)
    assert peer.receive().flags == "R"
    peer.ended = False
    peer.expect("S", seq=0)
    establish(peer)


def test_bad_ack_with_reset_is_dropped(syn_sent):
    """RFC 9293 3.10.7.3: "(unless the RST bit is set, if so drop the segment and return)"."""
    peer = syn_sent()
    peer.send("RA", seq=0, ack=2)
    peer.silence()
    establish(peer)


def test_reset_without_ack_is_dropped(syn_sent):
    """RFC 9293 3.10.7.3: "Otherwise (no ACK), drop the segment and return"."""
    peer = syn_sent()
    peer.send("R", seq=0)
    peer.silence()
    establish(peer)


@BOTH
def test_refused(syn_sent, family):
    """RFC 9293 3.10.7.3: "If the ACK was acceptable, then signal to the user "error: connection reset", drop the segment, enter CLOSED state, delete
    TCB, and return": what comes afterwards is for no connection."""
    peer = syn_sent(family)
    peer.send("RA", seq=0, ack=1)
    peer.silence()
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect_reset(seq=1)


@pytest.mark.parametrize("flags", ["A", "FA", "PA", "F", ""])
def test_without_syn_is_dropped(syn_sent, flags):
    """RFC 9293 3.10.7.3: "Fifth, if neither of the SYN or RST bits is set, then drop the segment and return"."""
    peer = syn_sent()
    peer.send(flags, seq=0, ack=1 if "A" in flags else None, data=b"xy" if "P" in flags else b"")
    peer.silence()
    peer.snd_nxt = 0
    establish(peer)


@BOTH
def test_simultaneous_open(syn_sent, family):
    """RFC 9293 3.5: "A TCP implementation MUST support simultaneous open attempts (MUST-10)"; 3.10.7.3: "Otherwise, enter SYN-RECEIVED, form a SYN,ACK
    segment <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK> and send it"."""
    peer = syn_sent(family)
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)
    peer.send("A", seq=1, ack=1)
    carries_data(peer)


def test_simultaneous_open_as_in_figure_7(syn_sent):
    """RFC 9293 3.5, figure 7: both sides send SYN,ACK. By 3.10.7.4, first step, theirs begins before the window, so "an acknowledgment should be sent in
    reply <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>", which is what they wait for; their acknowledgment of ours is what we wait for."""
    peer = syn_sent()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)
    peer.send("A", seq=1, ack=1)
    carries_data(peer)


def test_simultaneous_open_then_refused(syn_sent):
    """RFC 9293 3.10.7.4, SYN-RECEIVED: "If this connection was initiated with an active OPEN (i.e., came from SYN-SENT state), then the connection was
    refused"."""
    peer = syn_sent()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)
    peer.send("R", seq=1)
    peer.silence()
    peer.send("A", seq=1, ack=1)
    peer.expect_reset(seq=1)


def test_simultaneous_open_syn_again(syn_sent):
    """RFC 9293 3.5: a SYN that comes again in SYN-RECEIVED has the same answer."""
    peer = syn_sent()
    for _ in range(2):
        peer.send("S", seq=0, mss=1000)
        peer.expect("SA", seq=0, ack=1)


def test_text_of_the_syn_ack_comes_again(syn_sent):
    """RFC 9293 3.10.7.3: "RCV.NXT is set to SEG.SEQ+1": the text is not acknowledged, so it is sent again and taken then."""
    peer = syn_sent()
    peer.send("SA", seq=0, ack=1, mss=1000, data=b"greeting")
    peer.expect("A", seq=1, ack=1)
    peer.send("PA", seq=1, ack=1, data=b"greeting")
    peer.expect("A", seq=1, ack=9)
    assert peer.client.received(8) == b"greeting"


def test_syn_again_after_a_second_and_then_one_segment(syn_sent):
    """RFC 6298 2.1: "the sender SHOULD set RTO <- 1 second"; RFC 5681 3.1: "if the SYN or SYN/ACK is lost, the initial window used by a sender after a
    correctly transmitted SYN MUST be one segment consisting of at most SMSS bytes"."""
    peer = syn_sent()
    again = peer.expect("S", seq=0)
    assert again.abs_seq == peer.first.abs_seq and again.at - peer.first.at > 0.8
    establish(peer)
    peer.client.write(octets(5000))
    peer.expect("A", seq=1, data=octets(1000))
    peer.silence()
    peer.send("A", ack=1001)
    peer.expect("A", seq=1001, length=1000)


@pytest.mark.parametrize("family, mss", [(4, 536), (6, 1220)])
def test_without_mss_option(syn_sent, family, mss):
    """RFC 9293 3.7.1: "If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536 (576 - 40) for
    IPv4 or 1220 (1280 - 60) for IPv6 (MUST-15)"."""
    peer = syn_sent(family)
    peer.send("SA", seq=0, ack=1)
    peer.expect("A", seq=1, ack=1)
    peer.client.write(octets(5000))
    for at in range(3):
        peer.expect("A", seq=1 + at * mss, data=octets(mss, at * mss))


def test_syn_ack_again_is_acknowledged(syn_sent):
    """RFC 9293 3.10.7.4: the ACK was lost, the SYN,ACK comes again: "if the SYN bit is set, irrespective of the sequence number, TCP endpoints MUST send
    a "challenge ACK""."""
    peer = syn_sent()
    establish(peer)
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)
    carries_data(peer)


def test_window_of_the_syn_ack_is_not_scaled(syn_sent):
    """RFC 7323 2.2: "The window field in a segment where the SYN bit is set (i.e., a <SYN> or <SYN,ACK>) MUST NOT be scaled": 3000 are three segments."""
    peer = syn_sent()
    peer.send("SA", seq=0, ack=1, win=3000, mss=1000, wscale=7)
    peer.expect("A", seq=1, ack=1)
    peer.client.write(octets(5000))
    for at in range(3):
        peer.expect("A", seq=1 + at * 1000, length=1000)
    peer.silence()


def test_ports_and_isns_cannot_be_guessed(opening):
    """RFC 6056 3.1: "Minimizing the predictability of the ephemeral port numbers used for future transport-protocol instances"; RFC 6528 3 for ISNs:
    neither goes on from that of a connection to another port."""
    ports, numbers = [], []
    for _ in range(8):
        _, peer = opening()
        syn = peer.expect("S")
        ports.append(syn.sport)
        numbers.append(syn.abs_seq)
    assert len({b - a for a, b in zip(ports, ports[1:])}) > 3, ports
    assert len({(b - a) >> 20 for a, b in zip(numbers, numbers[1:])}) > 3, numbers
    assert all(port >= 10000 for port in ports)
