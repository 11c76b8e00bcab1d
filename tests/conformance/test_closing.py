"""RFC 9293 3.6 and the states behind ESTABLISHED, on the leg towards a backend, which goes through all of them."""

import pytest

from tests.system.tls_client import context_for

from . import wire as w
from .conftest import PATIENT_REDIRECT
from .flows import Client, octets

BOTH = pytest.mark.parametrize("family", [4, 6])


def gone(peer, seq=None):
    """No connection any more (3.10.7.1)."""
    peer.wire.settle(peer.family)
    peer.queue.clear()
    peer.send("A", seq=seq, ack=4000)
    reset = peer.receive()
    assert reset.flags == "R" and reset.seq == 4000, str(reset)


@pytest.fixture
def fin_wait_1(flow):
    """The client has closed: our FIN has arrived and is not acknowledged."""
    def of(family=4, **syn):
        f = flow(family, **syn)
        f.client.finish()
        f.fin = f.peer.expect("FA", seq=1, ack=1, length=0)
        return f
    return of


@pytest.fixture
def fin_wait_2(fin_wait_1):
    def of(family=4, **syn):
        f = fin_wait_1(family, **syn)
        f.peer.send("A", seq=1, ack=2)
        return f
    return of


@pytest.fixture
def close_wait(flow):
    """The backend has closed."""
    def of(family=4, **syn):
        f = flow(family, **syn)
        f.peer.send("FA", seq=1, ack=1)
        f.peer.expect("A", seq=1, ack=2, length=0)
        return f
    return of


@pytest.fixture
def closing(fin_wait_1):
    """Both have, and ours is not acknowledged."""
    def of(family=4):
        f = fin_wait_1(family)
        f.peer.send("FA", seq=1, ack=1)
        f.peer.expect("A", seq=2, ack=2, length=0)
        return f
    return of


@pytest.fixture
def last_ack(close_wait):
    def of(family=4):
        f = close_wait(family)
        f.client.wait_end()
        f.client.finish()
        f.peer.expect("FA", seq=1, ack=2, length=0)
        return f
    return of


@pytest.fixture
def time_wait(fin_wait_2):
    def of(family=4, **syn):
        f = fin_wait_2(family, **syn)
        f.peer.send("FA", seq=1, ack=2)
        f.peer.expect("A", seq=2, ack=2, length=0)
        return f
    return of


# --- the orders of closing

@BOTH
def test_we_close_first(time_wait, family):
    """RFC 9293 3.6, figure 12: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT; in TIME-WAIT "a retransmission of the remote FIN. Acknowledge it, and restart the 2 MSL
    timeout" (3.10.7.4)."""
    f = time_wait(family)
    f.peer.send("FA", seq=1, ack=2)
    f.peer.expect("A", seq=2, ack=2)


@BOTH
def test_they_close_first(last_ack, family):
    """RFC 9293 3.6, case 2: "The user will respond with a CLOSE, upon which the TCP endpoint can send a FIN to the other TCP peer"; 3.10.7.4, LAST-ACK: "If our
    FIN is now acknowledged, delete the TCB, enter the CLOSED state, and return"."""
    f = last_ack(family)
    f.peer.send("A", seq=2, ack=2)
    f.peer.silence()
    gone(f.peer)


@BOTH
def test_both_close_at_once(closing, family):
    """RFC 9293 3.6, figure 13, and 3.10.7.4, CLOSING: "if the ACK acknowledges our FIN, then enter the TIME-WAIT state"."""
    f = closing(family)
    f.peer.send("A", seq=2, ack=2)
    f.peer.silence()
    f.peer.send("FA", seq=1, ack=2)
    f.peer.expect("A", seq=2, ack=2)


def test_fin_and_ack_of_ours_in_one_segment(fin_wait_1):
    """RFC 9293 3.10.7.4, eighth, FIN-WAIT-1: "If our FIN has been ACKed (perhaps in this segment), then enter TIME-WAIT"."""
    f = fin_wait_1()
    f.peer.send("FA", seq=1, ack=2)
    f.peer.expect("A", seq=2, ack=2)
    f.peer.send("FA", seq=1, ack=2)
    f.peer.expect("A", seq=2, ack=2)


# --- half closed

@BOTH
def test_fin_wait_1_still_receives(fin_wait_1, family):
    """RFC 9293 3.6, case 1: "it enters the FIN-WAIT-1 state. RECEIVEs are allowed in this state"."""
    f = fin_wait_1(family)
    f.peer.send("A", seq=1, ack=1, data=octets(1000))
    f.peer.send("A", seq=1001, ack=1, data=octets(1000, 1000))
    f.peer.skim(lambda segment: segment.ack == 2001)
    assert f.client.received(2000) == octets(2000)


def test_fin_wait_2_still_receives(fin_wait_2):
    """RFC 9293 3.6.1: "a host is permitted to continue sending data in the open direction on a half-closed connection"."""
    f = fin_wait_2()
    f.peer.send("A", seq=1, ack=2, data=octets(1000))
    f.peer.send("FA", seq=1001, ack=2, data=octets(500, 1000))
    f.peer.skim(lambda segment: segment.ack == 1502)
    assert f.client.received(1500) == octets(1500)
    assert f.client.wait_end() != "reset"


@BOTH
def test_close_wait_still_sends(close_wait, family):
    """RFC 9293 3.6: "a TCP endpoint receiving a FIN will ACK but not send its own FIN until its user has CLOSED the connection also"; 3.6.1: data goes on in the
    open direction."""
    f = close_wait(family)
    f.client.write(octets(3000))
    for at in range(3):
        f.peer.expect("A", seq=1 + at * 1000, ack=2, data=octets(1000, at * 1000))
    f.peer.send("A", seq=2, ack=3001)
    f.client.finish()
    f.peer.expect("FA", seq=3001, ack=2, length=0)


def test_fin_goes_behind_all_data(flow):
    """RFC 9293 3.10.4: CLOSE: "queue this request until all preceding SENDs have been segmentized; then send a FIN segment"."""
    f = flow()
    f.client.write(octets(2500))
    f.client.finish()
    f.peer.expect("A", seq=1, length=1000)
    f.peer.expect("A", seq=1001, length=1000)
    last = f.peer.receive()
    assert last.seq == 2001 and last.data == octets(500, 2000)
    if "F" not in last.flags:
        f.peer.expect("FA", seq=2501, length=0)


def test_they_close_with_data(flow):
    """RFC 9293 3.10.7.4: "advance RCV.NXT over the FIN, and send an acknowledgment for the FIN. Note that FIN implies PUSH for any segment text not yet
    delivered to the user"."""
    f = flow()
    f.peer.send("FA", seq=1, ack=1, data=b"the end")
    f.peer.expect("A", seq=1, ack=9)
    assert f.client.received(7) == b"the end" and f.client.wait_end() == "close_notify"


def test_fin_before_the_data(flow):
    """RFC 9293 3.10.7.4, eighth: a FIN counts when RCV.NXT comes to it: until the gap is filled nobody is told of an end."""
    f = flow()
    f.peer.send("FA", seq=1001, ack=1, data=b"tail")
    f.peer.expect("A", ack=1)
    assert not f.client.ended
    f.peer.send("A", seq=1, ack=1, data=octets(1000))
    f.peer.expect("A", ack=1006)
    assert f.client.received(1004) == octets(1000) + b"tail" and f.client.wait_end() == "close_notify"


def test_bare_fin_before_the_data(flow):
    """The same of a FIN that comes alone."""
    f = flow()
    f.peer.send("FA", seq=11, ack=1)
    f.peer.wire.settle()
    assert f.peer.highest_ack == 1 and not f.client.ended
    f.peer.queue.clear()
    f.peer.send("A", seq=1, ack=1, data=b"0123456789")
    f.peer.expect("A", ack=12)
    assert f.client.received(10) == b"0123456789" and f.client.wait_end() == "close_notify"


# --- what comes again

@BOTH
def test_fin_wait_1_retransmits(fin_wait_1, family):
    """RFC 9293 3.6: "All segments preceding and including FIN will be retransmitted until acknowledged"."""
    f = fin_wait_1(family)
    again = f.peer.expect("FA", seq=1, ack=1, length=0)
    third = f.peer.expect("FA", seq=1, ack=1, length=0)
    assert third.at - f.fin.at > 0.3 and again.at > f.fin.at
    f.peer.send("A", seq=1, ack=2)
    f.peer.silence()


def test_last_ack_retransmits(last_ack):
    """RFC 9293 3.6: as in FIN-WAIT-1."""
    f = last_ack()
    f.peer.expect("FA", seq=1, ack=2, length=0)
    f.peer.send("A", seq=2, ack=2)
    f.peer.silence()
    gone(f.peer)


def test_closing_retransmits(closing):
    """RFC 9293 3.6: as in FIN-WAIT-1."""
    f = closing()
    f.peer.expect("FA", seq=1, ack=2, length=0)


@pytest.mark.parametrize("state", ["close_wait", "closing", "last_ack"])
def test_fin_that_comes_again_is_acknowledged(request, state):
    """RFC 9293 3.10.7.4: CLOSE-WAIT, CLOSING and LAST-ACK remain what they are; the FIN is before the window: "an acknowledgment should be sent in reply"."""
    f = request.getfixturevalue(state)()
    seq = 1 if state == "close_wait" else 2
    f.peer.send("FA", seq=1, ack=1)
    f.peer.skim(lambda segment: (segment.flags, segment.seq, segment.ack) == ("A", seq, 2))


# --- text after FIN

@pytest.mark.parametrize("state", ["close_wait", "closing", "last_ack"])
def test_text_behind_a_fin_is_ignored(request, state):
    """RFC 9293 3.10.7.4, seventh: "This should not occur since a FIN has been received from the remote side. Ignore the segment text"."""
    f = request.getfixturevalue(state)()
    f.peer.send("A", seq=2, ack=1, data=b"after the end")
    f.peer.wire.settle()
    assert f.peer.highest_ack == 2 and f.client.plain == b""


def test_text_behind_a_fin_in_the_same_window(flow):
    """RFC 9293 3.10.7.4, seventh: also when the text came before the FIN and the gap before both."""
    f = flow()
    f.peer.send("A", seq=21, ack=1, data=b"after the end")
    f.peer.expect("A", ack=1)
    f.peer.send("FA", seq=11, ack=1, data=b"9876543210"[:5])
    f.peer.expect("A", ack=1)
    f.peer.send("A", seq=1, ack=1, data=b"0123456789")
    f.peer.skim(lambda segment: segment.ack == 17)
    assert f.client.received(15) == b"012345678998765" and f.client.wait_end() == "close_notify"
    f.peer.wire.settle()
    assert f.peer.highest_ack == 17 and f.client.plain == b"012345678998765"


# --- RST in each state

@pytest.mark.parametrize("state, seq", [("flow", 1), ("fin_wait_1", 1), ("fin_wait_2", 1), ("close_wait", 2), ("closing", 2), ("last_ack", 2)])
def test_exact_reset_ends_it(request, state, seq):
    """RFC 9293 3.10.7.4: "If the RST bit is set and the sequence number exactly matches the next expected sequence number (RCV.NXT), then TCP endpoints MUST
    reset the connection": "Enter the CLOSED state, delete the TCB, and return"."""
    f = request.getfixturevalue(state)()
    f.peer.send("R", seq=seq)
    gone(f.peer, seq)


@pytest.mark.parametrize("state, seq, ours", [("flow", 2, 1), ("fin_wait_1", 2, 2), ("fin_wait_2", 100, 2), ("close_wait", 3, 1), ("closing", 3, 2),
                                              ("last_ack", 1000, 2)])
def test_reset_in_the_window_is_challenged(request, state, seq, ours):
    """RFC 9293 3.10.7.4: "If the RST bit is set and the sequence number does not exactly match the next expected sequence value, yet is within the current
    receive window, TCP endpoints MUST send an acknowledgment (challenge ACK): <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>"."""
    f = request.getfixturevalue(state)()
    f.peer.send("R", seq=seq)
    f.peer.skim(lambda segment: (segment.flags, segment.seq) == ("A", ours))


@pytest.mark.parametrize("state", ["flow", "fin_wait_2", "close_wait"])
@pytest.mark.parametrize("seq", [0, -1000, 1 << 20, 1 << 31])
def test_reset_outside_the_window_is_dropped(request, state, seq):
    """RFC 9293 3.10.7.4: "If the RST bit is set and the sequence number is outside the current receive window, silently drop the segment"."""
    f = request.getfixturevalue(state)()
    f.peer.send("R", seq=seq)
    f.peer.silence()
    f.peer.send("A", seq=-5, ack=1)
    f.peer.expect("A")


def test_reset_with_octets_counts(flow):
    """RFC 9293 3.5.3: "TCP implementations SHOULD allow a received RST segment to include data (SHLD-2)"."""
    f = flow()
    f.peer.send("RA", seq=1, ack=1, data=b"why")
    gone(f.peer, 1)


def test_reset_with_any_ack_counts(flow):
    """RFC 9293 3.5.3: "In all states except SYN-SENT, all reset (RST) segments are validated by checking their SEQ fields": the ACK field says nothing."""
    f = flow()
    f.peer.send("RA", seq=1, ack=123456)
    gone(f.peer, 1)


def test_reset_while_text_waits_before_it(flow):
    """RFC 9293 3.10.7.4, second: RCV.NXT is behind what has been acknowledged or not; a RST behind a gap is no more than a challenge's cause."""
    f = flow()
    f.peer.send("A", seq=11, data=b"later")
    f.peer.expect("A", ack=1)
    f.peer.send("R", seq=16)
    f.peer.expect("A", ack=1)
    f.peer.send("A", seq=1, data=b"0123456789")
    f.peer.expect("A", ack=16)
    f.peer.send("R", seq=16)
    gone(f.peer, 16)


def test_backend_reset_is_told_to_the_client(flow):
    """RFC 9293 3.6: "the local application MUST be informed whether it closed normally or was aborted (MUST-12)": the client must not take it for an end."""
    f = flow()
    f.peer.send("PA", seq=1, ack=1, data=b"half of")
    f.client.received(7)
    f.peer.send("R", seq=8)
    assert f.client.wait_end() in ("alert", "reset")


@pytest.mark.parametrize("state, seq", [("flow", 1), ("fin_wait_1", 1), ("fin_wait_2", 1), ("close_wait", 2), ("last_ack", 2)])
def test_syn_in_each_state_is_challenged(request, state, seq):
    """RFC 9293 3.10.7.4, fourth: "irrespective of the sequence number, TCP endpoints MUST send a "challenge ACK""."""
    f = request.getfixturevalue(state)()
    f.peer.send("S", seq=seq + 200, mss=1000)
    f.peer.skim(lambda segment: (segment.flags, segment.ack) == ("A", seq))


@pytest.mark.parametrize("state", ["fin_wait_1", "close_wait", "fin_wait_2"])
def test_ack_of_what_was_not_sent_in_each_state(request, state):
    """RFC 9293 3.10.7.4, fifth: "In addition to the processing for the ESTABLISHED state": "then send an ACK, drop the segment, and return"."""
    f = request.getfixturevalue(state)()
    seq = 2 if state == "close_wait" else 1
    f.peer.send("A", seq=seq, ack=5000)
    f.peer.skim(lambda segment: segment.flags == "A" and segment.ack == seq)


# --- after release

def test_client_vanishes_text_afterwards_is_reset(flow):
    """RFC 9293 3.6.1: "if new data is received after CLOSE is called, its TCP implementation SHOULD send a RST to show that data was lost (SHLD-3)"."""
    f = flow()
    f.client.close()
    f.client.socket = None
    end = f.peer.receive()
    if "R" not in end.flags:
        f.peer.send("A", seq=1, ack=2, data=b"nobody reads this")
        f.peer.skim(lambda segment: "R" in segment.flags)


# --- TIME-WAIT

@pytest.mark.parametrize("ack", [2, 1])
def test_time_wait_ignores_resets(time_wait, ack):
    """RFC 1337 3, fix (F1): "Ignore RST segments in TIME-WAIT state"."""
    f = time_wait()
    f.peer.send("RA", seq=2, ack=ack)
    f.peer.silence()
    f.peer.send("FA", seq=1, ack=2)
    f.peer.expect("A", seq=2, ack=2)


def test_time_wait_old_duplicate_is_acknowledged(time_wait):
    """RFC 9293 3.10.7.4, first: an old duplicate of the connection's data is not acceptable: "an acknowledgment should be sent in reply"."""
    f = time_wait()
    f.peer.send("A", seq=-500, ack=2, data=b"old")
    f.peer.expect("A", seq=2, ack=2)


def test_time_wait_of_an_active_open_has_no_listener(time_wait):
    """RFC 9293 3.10.7.4: "For the TIME-WAIT state, new connections can be accepted if the Timestamp Option is used": where nobody listens it is as in CLOSED."""
    f = time_wait()
    f.peer.irs = None
    f.peer.send("S", seq=100000, mss=1000)
    f.peer.expect_reset(seq=0, ack=100001)


@pytest.fixture
def passive_time_wait(client):
    """The redirect service has answered, closed first, and seen our FIN."""
    def of(**syn):
        peer = client(PATIENT_REDIRECT)
        peer.connect(**syn)
        request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
        peer.send("PA", data=request)
        answer = peer.expect("FA", ack=1 + len(request))
        peer.theirs, peer.ours = 1 + len(answer.data) + 1, 1 + len(request) + 1
        peer.send("FA", seq=1 + len(request), ack=peer.theirs)
        peer.expect("A", seq=peer.theirs, ack=peer.ours)
        peer.fresh = True
        return peer
    return of


def test_time_wait_newer_sequence_number_opens_again(passive_time_wait):
    """RFC 6191 2: a SYN whose sequence number "is greater than the last sequence number seen on the previous incarnation of the connection" is honoured; RFC 9293
    3.6.1: "it MAY accept a new SYN from the remote TCP endpoint to reopen the connection directly from TIME-WAIT state (MAY-2)"."""
    peer = passive_time_wait()
    peer.send("S", seq=peer.ours + 1000, mss=1000)
    answer = peer.receive()
    assert answer.flags == "SA" and answer.ack == peer.ours + 1001


def test_time_wait_older_sequence_number_does_not(passive_time_wait):
    """RFC 9293 3.6.1: "returns to TIME-WAIT state if the SYN turns out to be an old duplicate": it is only acknowledged."""
    peer = passive_time_wait()
    peer.send("S", seq=-100000, mss=1000)
    peer.expect("A", seq=peer.theirs, ack=peer.ours)


def test_time_wait_newer_timestamp_opens_again(passive_time_wait):
    """RFC 6191 2: a SYN whose timestamp "is greater than the last timestamp seen on the previous incarnation of the connection" is honoured, whatever its sequence
    number."""
    peer = passive_time_wait(**{"mss": 1000, "ts": (5000, 0)})
    peer.send("S", seq=-100000, mss=1000, ts=(6000, 0))
    answer = peer.receive()
    assert answer.flags == "SA" and answer.ack == -99999


def test_time_wait_older_timestamp_does_not(passive_time_wait):
    """RFC 6191 2: an older TSval is of an old duplicate, whatever its sequence number."""
    peer = passive_time_wait(**{"mss": 1000, "ts": (5000, 0)})
    peer.send("S", seq=peer.ours + 100000, mss=1000, ts=(500, 0))
    peer.expect("A", ack=peer.ours)


@pytest.mark.parametrize("syn", [{"mss": 1000}, {"mss": 1000, "ts": (5000, 0)}])
def test_time_wait_opens_again_above_what_was_sent(world, client, listening, lab, syn):
    """RFC 9293 3.6.1, (1): a SYN may reopen it if the host "assigns its initial sequence number for the new connection to be larger than the largest sequence number it used on the previous connection incarnation": also when
    more octets were sent than the clock of ISNs has moved on meanwhile."""
    port, listener = listening()
    peer = client(port)
    peer.connect(**syn)
    tls = Client(world, context_for(lab.certificates.ca), port, peer=peer)
    tls.handshake()
    backend = listener.take()
    backend.expect("S")
    backend.send("SA", seq=0, ack=1, mss=1000)
    backend.expect("A")
    before, seen = peer.rcv_nxt, []

    def sent_until(there, *segments):
        """Sends them, and again what the link may have lost."""
        for _ in range(10):
            for sequence, flags, data in segments:
                backend.send(flags, seq=sequence, data=data)
            if world.pump(w.PATIENCE / 10, lambda: tls.take_segments(seen) or there()):
                return
        pytest.fail("the backend's octets do not reach the client")

    for at in range(0, 1_000_000, 20_000):   # the clock of ISNs moves 250,000 a second
        # No more than what has been passed on, or the window that is offered would not hold it; records are longer than what they carry.
        sent_until(lambda: peer.rcv_nxt - before >= at + 20_000, *((1 + at + part, "A", octets(1000)) for part in range(0, 20_000, 1000)))
    seen.clear()
    sent_until(lambda: any("F" in segment.flags for segment in seen), (1_000_001, "FA", b""))
    fin = next(segment for segment in seen if "F" in segment.flags)
    last = (fin.abs_seq + fin.len) & 0xFFFFFFFF
    peer.send("FA", ack=peer.rcv_nxt)
    peer.wire.settle()
    peer.queue.clear()
    peer.send("FA", seq=peer.snd_nxt - 1, ack=peer.rcv_nxt)
    peer.expect("A", ack=peer.snd_nxt)   # TIME-WAIT
    peer.fresh = True
    peer.send("S", seq=peer.snd_nxt + 5000, mss=1000, ts=(9000, 0) if "ts" in syn else None)
    answer = peer.receive()
    assert answer.flags == "SA" and 0 < (answer.abs_seq - last) & 0xFFFFFFFF < 1 << 31, (answer.abs_seq, last)
