"""RFC 7323: timestamps, protection against wrapped sequence numbers."""

import pytest

from .flows import octets

STAMPED = {"mss": 1012, "ts": (1000, 0)}   # a segment carries 1000 octets beside timestamps


def answer_of(f, **segment):
    """Sends something before the window, which must be answered."""
    f.peer.send("A", seq=0, ack=1, **segment)
    return f.peer.expect("A", seq=1)


# --- negotiation

@pytest.mark.parametrize("offered", [True, False])
def test_timestamps_are_negotiated(client, offered):
    """RFC 7323 3.2: "A TCP MAY send the TSopt in an initial <SYN> segment [...], and MAY send a TSopt in <SYN,ACK> only if it received a TSopt in the initial <SYN> segment
    for the connection"."""
    peer = client()
    peer.send("S", seq=0, mss=1000, ts=(77, 0) if offered else None)
    answer = peer.expect("SA")
    assert (answer.ts is not None) == offered
    if offered:
        assert answer.ts[1] == 77


def test_every_segment_carries_them(flow):
    """RFC 7323 3.2: "Once TSopt has been successfully negotiated, that is both <SYN> and <SYN,ACK> contain TSopt, the TSopt MUST be sent in every non-<RST> segment for the
    duration of the connection, and SHOULD be sent in an <RST> segment"."""
    f = flow(**STAMPED)
    f.client.write(octets(2000))
    for at in range(2):
        assert f.peer.expect("A", seq=1 + at * 1000, length=1000).ts is not None
    f.peer.send("A", seq=1, ack=2001, data=b"x")
    assert f.peer.expect("A", ack=2).ts is not None
    f.client.finish()
    assert f.peer.expect("FA", seq=2001).ts is not None


def test_without_them_nobody_gets_them(flow):
    """RFC 7323 3.2: one side alone does not negotiate them."""
    f = flow(mss=1000)
    f.peer.send("A", seq=0, ack=1, ts=(5, 5))
    assert f.peer.expect("A").ts is None


def test_segment_without_timestamps_is_dropped(flow):
    """RFC 7323 3.2: "If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment. A TCP MUST NOT abort a TCP connection because any segment
    lacks an expected TSopt"."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1, data=octets(1000), ts=None)
    f.peer.send("A", seq=0, ack=1, ts=None)
    f.peer.silence()
    f.peer.send("A", seq=1, data=octets(1000))
    f.peer.expect("A", ack=1001)


def test_reset_without_timestamps_counts(flow):
    """RFC 7323 3.2: "If a non-<RST> segment is received without a TSopt": a RST needs none."""
    f = flow(**STAMPED)
    f.peer.send("R", seq=1, ts=None)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=999)
    f.peer.expect_reset(seq=999)


def test_reset_with_an_old_timestamp_counts(flow):
    """RFC 7323 5.3, R1: the check is made "if the RST bit is not set"."""
    f = flow(**STAMPED)
    f.peer.send("RA", seq=1, ack=1, ts=(1, 1))
    f.peer.silence()
    f.peer.send("A", seq=1, ack=999)
    f.peer.expect_reset(seq=999)


# --- TSecr

def test_echo_of_the_latest(flow):
    """RFC 7323 4.3 (2): "If: SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent then SEG.TSval is copied to TS.Recent"."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1, data=octets(1000), ts=(2000, 0))
    f.peer.expect("A", ack=1001, tsecr=2000)
    f.peer.send("A", seq=1001, data=octets(1000), ts=(2500, 0))
    f.peer.expect("A", ack=2001, tsecr=2500)


def test_echo_with_a_delayed_ack_is_the_earliest(flow):
    """RFC 7323 4.3, (A), delayed ACKs: "the receiver SHOULD reply with the TSval field from the earliest unacknowledged segment"."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1, data=octets(100), ts=(3000, 0))
    f.peer.send("A", seq=101, data=octets(100, 100), ts=(3010, 0))
    f.peer.send("A", seq=201, data=octets(100, 200), ts=(3020, 0))
    first = f.peer.receive()
    if first.ack == 301:   # all came within one delay
        assert first.ts[1] == 3000
    else:
        assert (first.ack, first.ts[1]) in ((101, 3000), (201, 3000))


def test_echo_above_a_hole_is_of_the_last_that_advanced(flow):
    """RFC 7323 4.3, (B), a hole in the sequence space: the ACK of a segment behind it echoes "the timestamp from the most recent segment that advanced RCV.NXT"."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1, data=octets(1000), ts=(4000, 0))
    f.peer.expect("A", ack=1001, tsecr=4000)
    f.peer.send("A", seq=2001, data=octets(1000, 2000), ts=(4100, 0))
    f.peer.expect("A", ack=1001, tsecr=4000)


def test_echo_of_the_segment_that_fills_the_hole(flow):
    """RFC 7323 4.3, (C), a filled hole: "the timestamp from the latest segment (which filled the hole) MUST be echoed"."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1001, data=octets(1000, 1000), ts=(5100, 0))
    f.peer.expect("A", ack=1, tsecr=1000)
    f.peer.send("A", seq=1, data=octets(1000), ts=(5200, 0))
    f.peer.expect("A", ack=2001, tsecr=5200)


# --- PAWS

@pytest.mark.parametrize("back", [1, 1000, 1 << 30])
def test_old_timestamp_is_refused(flow, back):
    """RFC 7323 5.3, R1: "If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent is valid [...], and if the RST bit is not set, then treat the arriving
    segment as not acceptable: Send an acknowledgment in reply as specified in [RFC0793], page 69, and drop the segment"."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1, data=b"new", ts=(2_000_000_000, 0))
    f.peer.expect("A", ack=4)
    f.peer.send("A", seq=4, data=b"old", ts=(2_000_000_000 - back, 0))
    f.peer.expect("A", seq=1, ack=4, tsecr=2_000_000_000)
    f.peer.send("A", seq=4, data=b"now", ts=(2_000_000_000, 0))
    f.peer.expect("A", ack=7)
    assert f.client.received(6) == b"newnow"


def test_timestamps_wrap(flow):
    """RFC 7323 5.2: "s < t if 0 < (t - s) < 2^31, computed in unsigned 32-bit arithmetic"."""
    f = flow(mss=1012, ts=(0xFFFFFF00, 0))
    f.peer.send("A", seq=1, data=b"a", ts=(0xFFFFFFFF, 0))
    f.peer.expect("A", ack=2, tsecr=0xFFFFFFFF)
    f.peer.send("A", seq=2, data=b"b", ts=(5, 0))
    f.peer.expect("A", ack=3, tsecr=5)
    f.peer.send("A", seq=3, data=b"c", ts=(0xFFFFFFFF, 0))
    f.peer.expect("A", ack=3, tsecr=5)


def test_equal_timestamp_is_accepted(flow):
    """RFC 7323 5.3, R1: only less is old: a clock of one second sends the same for long."""
    f = flow(**STAMPED)
    for at in range(1, 6):
        f.peer.send("A", seq=at, data=b"e", ts=(1000, 0))
        f.peer.expect("A", ack=at + 1)


def test_timestamp_of_a_segment_ahead_is_not_remembered(flow):
    """RFC 7323 5.3, R3: "If an arriving segment satisfies SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent [...], then record its timestamp in TS.Recent": not one from behind a hole, or
    the segments of the hole would be refused."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1001, data=octets(1000, 1000), ts=(9000, 0))
    f.peer.expect("A", ack=1, tsecr=1000)
    f.peer.send("A", seq=1, data=octets(1000), ts=(1500, 0))
    f.peer.expect("A", ack=2001)


def test_timestamp_of_an_unacceptable_segment_is_not_remembered(flow):
    """RFC 7323 5.3: R3 is behind R2: "If the segment is outside the window, reject it": nobody outside the window moves TS.Recent."""
    f = flow(**STAMPED)
    f.peer.send("A", seq=1 << 24, ack=1, data=b"x", ts=(0x70000000, 0))
    f.peer.expect("A", seq=1, ack=1, tsecr=1000)
    f.peer.send("A", seq=1, data=b"fine", ts=(1001, 0))
    f.peer.expect("A", ack=5, tsecr=1001)


def test_syn_of_an_old_timestamp_in_established(flow):
    """RFC 7323 5.3, R1, and RFC 5961 4.2: an ACK, not more."""
    f = flow(**STAMPED)
    f.peer.send("S", seq=500, mss=1000, ts=(3, 0))
    assert f.peer.receive().flags == "A"


# --- our clock

def test_our_clock_goes_on(flow):
    """RFC 7323 5.4 asks for a clock of 1 ms to 1 s a tick: ours has 1 ms, and goes forward."""
    f = flow(**STAMPED)
    first = answer_of(f)
    f.peer.send("A", seq=1, data=b"x")
    later = f.peer.expect("A", ack=2)
    passed = (later.ts[0] - first.ts[0]) & 0xFFFFFFFF
    assert passed < 1000 * (later.at - first.at) + 1000 and passed < 1 << 31


def test_our_clock_tells_nothing_of_others(client):
    """RFC 7323 7.1: "A random offset may be added to the timestamp clock on a per-connection basis": clocks of two connections differ."""
    clocks = []
    for _ in range(4):
        peer = client()
        peer.send("S", seq=0, **peer.FULL)
        clocks.append(peer.expect("SA").ts[0])
    assert min((b - a) & 0xFFFFFFFF for a, b in zip(clocks, clocks[1:])) > 100_000, clocks
