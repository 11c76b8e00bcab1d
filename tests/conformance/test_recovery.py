"""How our sender finds out about losses and mends them: the backend's end is scripted and loses what it likes. Segments are of 1000 octets."""

import pytest

from . import wire as w
from .flows import octets

PLAIN = {"mss": 1000}
SACK = {"mss": 1000, "sack_permitted": True}
STAMPED = {"mss": 1012, "sack_permitted": True, "ts": (1000, 0)}


def start(number):
    """First sequence number of the NUMBERth segment, from 0 on."""
    return 1 + number * 1000


def takes(f, first, last, **segment):
    """Segments from FIRST to LAST come, in order and once."""
    for number in range(first, last + 1):
        f.peer.expect("A", seq=start(number), data=octets(1000, number * 1000), **segment)


def sent(f, segments):
    """The client uploads so many segments, records of ten at most."""
    while segments:
        now = min(segments, 10)
        f.client.write(octets(now * 1000, f.uploaded))
        f.uploaded += now * 1000
        segments -= now


ROUND_TRIP = 0.5 if w.SLOW else 0.1   # so that probes (two of them) and timeouts (three) do not come before what a test sends


@pytest.fixture
def upload(flow):
    """upload(segments, family, SYN,ACK options): a flow whose client uploads so much."""
    def of(segments, family=4, *, round_trip=ROUND_TRIP, **syn):
        f = flow(family, round_trip=round_trip, **(syn or PLAIN))
        f.uploaded = 0
        sent(f, segments)
        return f
    return of


def acknowledge(f, number, *sacked, **more):
    """Everything before the NUMBERth segment has arrived, and those numbered in `sacked`, (first, last) each."""
    f.peer.send("A", seq=1, ack=start(number), sacks=[(start(first), start(last + 1)) for first, last in sacked] or (), **more)


# The blocks that Peer.send takes are relative to their numbers, as ours here are.

# --- how much at once

@pytest.mark.parametrize("family", [4, 6])
def test_initial_window(upload, family):
    """RFC 6928 2: "the upper bound for the initial window will be min (10*MSS, max (2*MSS, 14600))": ten segments of 1000 octets, and no more before an ACK."""
    f = upload(15, family)
    takes(f, 0, 9)
    f.peer.silence()


def test_initial_window_of_large_segments(flow):
    """RFC 6928 2, as above: ten of 1460 octets."""
    f = flow(mss=1460, round_trip=ROUND_TRIP)
    f.client.write(octets(14600))
    f.client.write(octets(14600, 14600))
    for number in range(10):
        f.peer.expect("A", seq=1 + 1460 * number, length=1460)
    f.peer.silence()


def test_slow_start(upload):
    """RFC 5681 3.1: "During slow start, a TCP increments cwnd by at most SMSS bytes for each ACK received that cumulatively acknowledges new data": each ACK of a segment lets two go."""
    f = upload(20)
    takes(f, 0, 9)
    acknowledge(f, 1)
    takes(f, 10, 11)
    f.peer.silence()
    acknowledge(f, 2)
    takes(f, 12, 13)
    f.peer.silence()


def test_divided_acks_gain_nothing(upload):
    """RFC 5681 3.1: "cwnd += min (N, SMSS)", "where N is the number of previously unacknowledged bytes acknowledged in the incoming ACK": ten ACKs of a tenth are worth one (ACK division, RFC 3465)."""
    f = upload(20)
    takes(f, 0, 9)
    for at in range(101, 1002, 100):
        f.peer.send("A", seq=1, ack=at)
    takes(f, 10, 11)
    f.peer.silence()


def test_acks_of_nothing_new_gain_nothing(upload):
    """RFC 5681 3.1: "that cumulatively acknowledges new data": repeated window updates do not open cwnd."""
    f = upload(20)
    takes(f, 0, 9)
    for window in (60000, 61000, 62000, 63000):
        f.peer.send("A", seq=1, ack=1, win=window)
    f.peer.silence()


# --- fast retransmit without SACK

def test_three_duplicate_acks(upload):
    """RFC 5681 3.2: "The TCP sender SHOULD use the "fast retransmit" algorithm to detect and repair loss, based on incoming duplicate ACKs. The fast retransmit algorithm uses the arrival of 3
    duplicate ACKs [...] as an indication that a segment has been lost"."""
    f = upload(10)
    takes(f, 0, 9)
    acknowledge(f, 0)
    acknowledge(f, 0)
    f.peer.silence()
    acknowledge(f, 0)
    takes(f, 0, 0)
    f.peer.silence()


def test_what_no_duplicate_ack_is(upload):
    """RFC 5681 2: an ACK is a duplicate when "(b) the incoming acknowledgment carries no data, (c) the SYN and FIN bits are both off, [...] and (e) the advertised window in the incoming acknowledgment
    equals the advertised window in the last incoming acknowledgment"."""
    f = upload(10)
    takes(f, 0, 9)
    for at, window in enumerate((65000, 64000, 63000, 62000)):
        f.peer.send("A", seq=1, ack=1, win=window)
    f.peer.silence()


def test_limited_transmit(upload):
    """RFC 3042 2: Limited Transmit "calls for a TCP sender to transmit new data upon the arrival of the first two consecutive duplicate ACKs"."""
    f = upload(14)
    takes(f, 0, 9)
    acknowledge(f, 0)
    takes(f, 10, 10)
    acknowledge(f, 0)
    takes(f, 11, 11)
    acknowledge(f, 0)
    takes(f, 0, 0)


def test_partial_acknowledgment(upload):
    """RFC 6582 3.2, step 3: "Partial acknowledgments: If this ACK does *not* acknowledge all of the data up to and including recover, then this is a partial ACK. In this case, retransmit the first
    unacknowledged segment"."""
    f = upload(10)
    takes(f, 0, 9)
    for _ in range(3):
        acknowledge(f, 0)
    takes(f, 0, 0)
    acknowledge(f, 4)
    takes(f, 4, 4)
    acknowledge(f, 7)
    takes(f, 7, 7)
    acknowledge(f, 10)
    f.peer.silence()


def test_window_after_recovery_is_smaller(upload):
    """RFC 5681 3.2, step 6, and RFC 9438 4.6: "ssthresh = max (FlightSize / 2, 2*SMSS)", CUBIC: times 0.7: after a loss among ten segments seven may be in flight."""
    f = upload(30)
    takes(f, 0, 9)
    for _ in range(3):
        acknowledge(f, 0)
    f.peer.wire.settle()
    f.peer.queue.clear()
    highest = f.peer.rcv_nxt
    f.peer.send("A", seq=1, ack=highest)
    f.peer.wire.settle()
    flight = [segment for segment in f.peer.queue if segment.data]
    assert 5 <= len(flight) <= 9, [str(segment) for segment in flight]


# --- with SACK

def test_three_segments_sacked(upload):
    """RFC 6675 4, IsLost: "either DupThresh discontiguous SACKed sequences have arrived above 'SeqNum' or more than (DupThresh - 1) * SMSS bytes with sequence numbers greater than 'SeqNum' have been
    SACKed"."""
    f = upload(10, **SACK)
    takes(f, 0, 9)
    acknowledge(f, 0, (1, 3))
    f.peer.wire.settle()   # at once, not when a window for reordering is over
    assert f.peer.queue
    takes(f, 0, 0)
    f.peer.silence()


def test_sacked_segments_are_not_sent_again(upload):
    """RFC 2018 5: "After the SACKed bit is turned on [...], the data sender will skip that segment during any later retransmission"."""
    f = upload(10, **SACK)
    takes(f, 0, 9)
    acknowledge(f, 0, (1, 1), (3, 4), (6, 9))
    takes(f, 0, 0)
    f.peer.skim(lambda segment: segment.seq == start(2))
    f.peer.skim(lambda segment: segment.seq == start(5))
    f.peer.silence()


def test_holes_are_filled_in_order(upload):
    """RFC 6675 4, NextSeg: "a smallest unSACKed sequence number 'S2'"."""
    f = upload(10, **SACK)
    takes(f, 0, 9)
    acknowledge(f, 1, (2, 3), (5, 9))
    numbers = []
    while len(numbers) < 2:
        numbers.append(f.peer.receive().seq)
    assert numbers == [start(1), start(4)]


def test_lost_retransmission(upload):
    """RFC 8985 3.4: RACK finds lost retransmissions too: what was sent after the retransmission has arrived, it has not."""
    f = upload(16, **STAMPED)
    takes(f, 0, 9)
    acknowledge(f, 0, (1, 9))
    takes(f, 0, 0)                     # lost again
    numbers = set()
    while start(10) not in numbers:    # and new ones behind it arrive
        numbers.add(f.peer.receive().seq)
    f.peer.world.pump(0.05)
    acknowledge(f, 0, (1, 10))
    f.peer.skim(lambda segment: segment.seq == start(0))


def test_malformed_sack_blocks_do_no_harm(upload):
    """RFC 2018 3 with RFC 6675's and RFC 5961's caution: blocks of what was never sent, backwards, empty, or before SND.UNA say nothing."""
    f = upload(10, **SACK)
    takes(f, 0, 9)
    acknowledge(f, 2)
    for block in ((start(50), start(60)), (start(5), start(4)), (start(6), start(6)), (start(0), start(1)), (-500000, -400000), (start(8), start(8) + (1 << 31))):
        f.peer.send("A", seq=1, ack=start(2), sacks=[block])
    f.peer.wire.settle()
    acknowledge(f, 10)
    f.peer.queue.clear()
    sent(f, 1)
    f.peer.skim(lambda segment: segment.seq == start(10) and segment.data == octets(1000, 10000))


def test_reordering_is_waited_for(upload):
    """RFC 8985 6.2, step 4: RACK.reo_wnd: fewer than three SACKed segments do not prove a loss at once: the segment that is late may come."""
    f = upload(10, **SACK)
    takes(f, 0, 9)
    f.peer.world.pump(ROUND_TRIP / 2)    # the reordering window is a quarter of the least round trip
    acknowledge(f, 1)
    acknowledge(f, 1, (2, 2))
    acknowledge(f, 3)
    acknowledge(f, 10)
    f.peer.silence()


# --- tail loss

def test_tail_loss_probe(upload):
    """RFC 8985 7.3: "If an unsent segment exists AND the receive window allows new data to be sent: Transmit the lowest-sequence unsent segment of up to SMSS [...] Else if [...]: Retransmit the
    highest-sequence segment sent so far"."""
    f = upload(4, **SACK)
    takes(f, 0, 3)
    acknowledge(f, 1)
    probe = f.peer.receive()
    assert probe.seq == start(3) and probe.data == octets(1000, 3000)


def test_tail_loss_probe_repairs_by_sack(upload):
    """RFC 8985 7: the probe is there to be answered with SACK information: that shows the hole before it, which is filled without a timeout."""
    f = upload(4, **SACK)
    takes(f, 0, 3)
    acknowledge(f, 1)
    f.peer.skim(lambda segment: segment.seq == start(3))
    acknowledge(f, 1, (3, 3))
    assert f.peer.skim(lambda segment: segment.data).seq in (start(1), start(2))


def test_fin_is_probed_too(flow):
    """RFC 8985 7.3: the highest-sequence segment may be a FIN."""
    f = flow(**SACK)
    f.client.write(octets(1000))
    f.peer.expect("A", seq=1, length=1000)
    f.peer.send("A", seq=1, ack=1001)
    f.client.finish()
    f.peer.expect("FA", seq=1001)
    f.peer.expect("FA", seq=1001)


# --- timeouts

def test_timeout_sends_one_segment(upload):
    """RFC 6298 5.4: "Retransmit the earliest segment that has not been acknowledged by the TCP receiver"; RFC 5681 3.1: "upon a timeout (as specified in [RFC2988]) cwnd MUST be set to no more than the loss
    window, LW, which equals 1 full-sized segment"."""
    f = upload(10)
    takes(f, 0, 9)
    takes(f, 0, 0)
    f.peer.silence()
    acknowledge(f, 1)
    takes(f, 1, 2)


def test_timeouts_back_off(upload):
    """RFC 6298 5.5: "The host MUST set RTO <- RTO * 2 ("back off the timer")". At least 200 ms (Where we deviate), then 400, 800."""
    f = upload(1, round_trip=0)
    times = [f.peer.expect("A", seq=1, length=1000).at for _ in range(4)]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert gaps[0] > 0.1 and gaps[1] > 0.3 and gaps[2] > 0.6, gaps


def test_timer_starts_again_with_each_ack(upload):
    """RFC 6298 5.3: "When an ACK is received that acknowledges new data, restart the retransmission timer so that it will expire after RTO seconds"."""
    f = upload(4, round_trip=0)
    takes(f, 0, 3)
    last = None
    for number in range(1, 4):
        f.peer.world.pump(0.1)
        f.peer.queue.clear()
        acknowledge(f, number)
        last = w.time.clock_gettime(w.time.CLOCK_REALTIME)
    again = f.peer.skim(lambda segment: segment.data and segment.at > last)
    assert again.seq == start(3) and again.at - last > 0.1


def test_all_acknowledged_stops_the_timer(upload):
    """RFC 6298 5.2: "When all outstanding data has been acknowledged, turn off the retransmission timer"."""
    f = upload(3)
    takes(f, 0, 2)
    acknowledge(f, 3)
    f.peer.world.pump(6 * ROUND_TRIP)
    f.peer.silence()


def test_spurious_timeout_is_undone(upload):
    """RFC 3522 3.2, step (4): "If the value of the Timestamp Echo Reply field of the acceptable ACK's Timestamps option is smaller than the value of the variable RetransmitTS, then": spurious; RFC 4015: the congestion
    window is as before, so that all that waits goes at once and not two segments."""
    f = upload(20, **STAMPED)
    takes(f, 0, 9)
    originals = f.peer.tsecr
    f.peer.skim(lambda segment: segment.seq == start(9) or segment.seq == start(0) or segment.seq == start(10))   # a probe
    f.peer.skim(lambda segment: segment.seq == start(0), 30)
    f.peer.wire.settle()
    f.peer.queue.clear()
    f.peer.send("A", seq=1, ack=start(10), ts=(1500, originals))
    f.peer.wire.settle()
    fresh = [segment.seq for segment in f.peer.queue if segment.seq >= start(10)]
    assert len(fresh) >= 8, fresh


def test_timeout_that_was_none_too_early_is_not_undone(upload):
    """RFC 3522 3.2: a TSecr that is not smaller than RetransmitTS is of the retransmission: slow start with a window of one segment goes on."""
    f = upload(20, **{**STAMPED, "sack_permitted": False})
    takes(f, 0, 9)
    again = f.peer.skim(lambda segment: segment.seq == start(0), 30)
    f.peer.send("A", seq=1, ack=start(1), ts=(1500, again.ts[0]))
    takes(f, 1, 2)
    f.peer.silence()


def test_reneging(upload):
    """RFC 2018 5: "After a retransmit timeout the data sender SHOULD turn off all of the SACKed bits, since the timeout might indicate that the data receiver has reneged": what was reported and never
    acknowledged is sent again in the end."""
    f = upload(4, **SACK)
    takes(f, 0, 3)
    acknowledge(f, 0, (1, 3))
    takes(f, 0, 0)
    acknowledge(f, 1)                    # and nothing more: it has thrown the others away
    f.peer.skim(lambda segment: segment.seq == start(1))


# --- ACK field

def test_ack_within_a_segment(upload):
    """RFC 9293 3.10.7.4: "Any segments on the retransmission queue that are thereby entirely acknowledged are removed": what is left of one is sent again from SND.UNA on."""
    f = upload(2)
    takes(f, 0, 1)
    f.peer.send("A", seq=1, ack=501)
    again = f.peer.skim(lambda segment: segment.data)
    assert again.seq == 501 and again.data == octets(500, 500)


def test_push_is_on_the_last_segment(upload):
    """RFC 9293 3.9.1.2: a sender without a PUSH flag in its SEND call "MUST set the PSH bit in the last buffered segment (i.e., when there is no more queued data to be sent) (MUST-61)"."""
    f = upload(3)
    pushes = ["P" in f.peer.receive().flags for _ in range(3)]
    assert pushes == [False, False, True]


def test_every_segment_acknowledges(upload):
    """RFC 9293 3.8: "once in the ESTABLISHED state, all segments must carry current acknowledgment information"."""
    f = upload(1)
    f.peer.expect("A", seq=1, ack=1)
    f.peer.send("A", seq=1, ack=1001, data=b"12345")
    f.peer.expect("A", ack=6)
    sent(f, 1)
    f.peer.expect("A", seq=1001, ack=6, length=1000)
