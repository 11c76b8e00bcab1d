"""Windows of both ends: RFC 9293 3.8.6, zero windows, silly ones, those that are taken back."""

import socket

import pytest

from .flows import octets
from .test_recovery import start, takes, upload   # noqa: F401: upload is a fixture


# --- of the peer: what we may send

@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("window, segments", [(1000, 1), (3000, 3), (9000, 9)])
def test_window_is_obeyed(upload, family, window, segments):   # noqa: F811
    """RFC 9293 3.8.6: "The window sent in each segment indicates the range of sequence numbers the sender of the window (the data receiver) is currently prepared to accept"."""
    f = upload(10, family, mss=1000, win=window)
    takes(f, 0, segments - 1)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=start(segments), win=1000)
    takes(f, segments, segments)
    f.peer.silence()


def test_window_moves_with_the_ack(upload):   # noqa: F811
    """RFC 9293 3.4 and 3.10.7.4: "SND.WND is an offset from SND.UNA"."""
    f = upload(8, mss=1000, win=2000)
    takes(f, 0, 1)
    f.peer.send("A", seq=1, ack=start(1), win=2000)
    takes(f, 2, 2)
    f.peer.send("A", seq=1, ack=start(1), win=4000)
    takes(f, 3, 4)
    f.peer.silence()


def test_old_segment_does_not_change_the_window(upload):   # noqa: F811
    """RFC 9293 3.10.7.4: "If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND [...] The check here prevents using old segments to update the window"."""
    f = upload(10, mss=1000, win=2000)
    takes(f, 0, 1)
    f.peer.send("A", seq=1, ack=start(2), win=1000)
    takes(f, 2, 2)
    f.peer.send("A", seq=1, ack=start(1), win=60000)   # WL1 = SEG.SEQ and WL2 > SEG.ACK: overtaken on its way
    f.peer.silence()


def test_window_from_a_segment_with_text(upload):   # noqa: F811
    """RFC 9293 3.10.7.4, as above: SND.WL1 < SEG.SEQ."""
    f = upload(5, mss=1000, win=1000)
    takes(f, 0, 0)
    f.peer.send("PA", seq=1, ack=1, win=3000, data=b"hello")
    takes(f, 1, 2)


def test_zero_window_in_the_syn_ack(upload):   # noqa: F811
    """RFC 9293 3.8.6.1: nothing is sent into a zero window, and "Probing of zero (offered) windows MUST be supported (MUST-36)": the probe is answered, the window opens, the data goes."""
    f = upload(3, mss=1000, win=0)
    probe = f.peer.receive()
    assert probe.flags == "A" and probe.seq <= 1 and len(probe.data) <= 1
    f.peer.send("A", seq=1, ack=1, win=3000)
    takes(f, 0, 2)


def test_zero_window_probes_back_off(upload):   # noqa: F811
    """RFC 9293 3.8.6.1: "The transmitting host SHOULD send the first zero-window probe when a zero window has existed for the retransmission timeout period (SHLD-29), and SHOULD increase exponentially the
    interval between successive probes (SHLD-30)"."""
    f = upload(3, mss=1000, win=0, round_trip=0)
    probes = []
    while len(probes) < 3:
        probes.append(f.peer.receive())
        f.peer.send("A", seq=1, ack=1, win=0)
    gaps = [b.at - a.at for a, b in zip(probes, probes[1:])]
    assert gaps[0] > 0.25 and gaps[1] > 0.6, gaps
    assert all(len(probe.data) <= 1 for probe in probes)


@pytest.mark.long
def test_zero_window_may_last(upload):   # noqa: F811
    """RFC 9293 3.8.6.1: "As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP peer MUST allow the connection to stay open (MUST-37)"."""
    f = upload(3, mss=1000, win=0, round_trip=0)
    for _ in range(4):
        f.peer.receive()
        f.peer.send("A", seq=1, ack=1, win=0)
    f.peer.send("A", seq=1, ack=1, win=3000)
    takes(f, 0, 2)


def test_window_closes_with_the_ack(upload):   # noqa: F811
    """RFC 9293 3.8.6.1: the usual case: all that was allowed is acknowledged, and the window is shut."""
    f = upload(10, mss=1000, win=4000)
    takes(f, 0, 3)
    f.peer.send("A", seq=1, ack=start(4), win=0)
    probe = f.peer.receive()
    assert probe.flags == "A" and len(probe.data) <= 1 and probe.seq in (start(4), start(4) - 1)
    f.peer.send("A", seq=1, ack=start(4), win=2000)
    takes(f, 4, 5)


def test_lost_window_update(upload):   # noqa: F811
    """RFC 9293 3.8.6.1: "This retransmission is essential to guarantee that when either TCP peer has a zero window the reopening of the window will be reliably reported to the other": the update is lost, the
    answer to the next probe tells."""
    f = upload(4, mss=1000, win=2000)
    takes(f, 0, 1)
    f.peer.send("A", seq=1, ack=start(2), win=0)
    f.peer.receive()                                  # a probe; our window has grown meanwhile
    f.peer.send("A", seq=1, ack=start(2), win=5000)
    takes(f, 2, 3)


def test_fin_waits_for_the_window(upload):   # noqa: F811
    """RFC 9293 3.8: the FIN occupies sequence space; it comes behind the data that the window holds up."""
    f = upload(2, mss=1000, win=1000)
    f.client.finish()
    takes(f, 0, 0)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=start(1), win=2000)
    last = f.peer.receive()
    assert last.seq == start(1) and last.data
    if "F" not in last.flags:
        f.peer.expect("FA", seq=start(2))


# --- silly windows

def test_sender_does_not_send_into_a_silly_window(upload):   # noqa: F811
    """RFC 9293 3.8.6.2.1: "A TCP implementation MUST include a SWS avoidance algorithm in the sender (MUST-38)": less than a segment goes only when it is "at least a fraction Fs of the maximum window", one half."""
    f = upload(10, mss=1000, win=4000)
    takes(f, 0, 3)
    f.peer.send("A", seq=1, ack=start(4), win=300)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=start(4), win=900)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=start(4), win=1000)
    takes(f, 4, 4)


def test_sender_sends_what_is_half_of_the_largest_window(upload):   # noqa: F811
    """RFC 9293 3.8.6.2.1, (3): "if at least a fraction Fs of the maximum window can be sent": a peer whose window is never larger than a segment is served."""
    f = upload(2, mss=1000, win=600)
    f.peer.expect("A", seq=1, data=octets(600))
    f.peer.send("A", seq=1, ack=601, win=600)
    assert f.peer.receive().seq == 601


def test_silly_window_is_overridden_in_the_end(upload):   # noqa: F811
    """RFC 9293 3.8.6.2.1, (4): "or if the override timeout occurs"."""
    f = upload(10, mss=1000, win=4000)
    takes(f, 0, 3)
    f.peer.send("A", seq=1, ack=start(4), win=300)
    f.peer.expect("A", seq=start(4), data=octets(300, 4000))


# --- windows that are taken back

def test_window_taken_back_stops_new_data(upload):   # noqa: F811
    """RFC 9293 3.8.6: "a sending TCP peer MUST be robust against window shrinking, which may cause the "usable window" [...] to become negative (MUST-34). If this happens, the sender SHOULD NOT send new data
    (SHLD-15)"."""
    f = upload(10, mss=1000, win=6000)
    takes(f, 0, 5)
    f.peer.send("A", seq=1, ack=start(1), win=2000)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=start(6), win=2000)
    takes(f, 6, 7)


def test_window_taken_back_still_retransmits(upload):   # noqa: F811
    """RFC 9293 3.8.6: "but SHOULD retransmit normally the old unacknowledged data between SND.UNA and SND.UNA+SND.WND (SHLD-16)"."""
    f = upload(6, mss=1000, win=6000)
    takes(f, 0, 5)
    f.peer.send("A", seq=1, ack=start(1), win=2000)
    again = f.peer.skim(lambda segment: segment.data)
    assert again.seq == start(1) and again.data == octets(1000, 1000)


def test_window_taken_back_wholly_is_probed(upload):   # noqa: F811
    """RFC 9293 3.8.6: "If the window shrinks to zero, the TCP implementation MUST probe it in the standard way (MUST-35)"."""
    f = upload(4, mss=1000, win=4000)
    takes(f, 0, 3)
    f.peer.send("A", seq=1, ack=start(1), win=0)
    assert f.peer.receive().seq <= start(1)
    f.peer.send("A", seq=1, ack=start(1), win=3000)
    f.peer.skim(lambda segment: segment.seq == start(1) and segment.data == octets(1000, 1000))


# --- ours: what the backend may send

@pytest.fixture
def reader(flow):
    """A flow whose client does not read; fill() sends until the appliance's window is shut and returns how much."""
    def of(**syn):
        f = flow(**(syn or {"mss": 1000}))
        f.world = f.peer.world
        f.world.sockets.pop(f.client.socket)
        f.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return f
    return of


def fill(f):
    """Sends what the window allows until it is shut for good."""
    edge, at = 1 + 65535, 1
    f.edges = [edge]
    for _ in range(1000):
        while at < edge:
            length = min(1000, edge - at)
            f.peer.send("A", seq=at, data=octets(length, at - 1))
            at += length
        f.peer.wire.settle()
        told = [segment.ack + segment.win for segment in f.peer.queue]
        f.edges += told
        f.peer.queue.clear()
        if f.peer.highest_ack == at and (not told or told[-1] == at):
            f.peer.send("A", seq=0, ack=1)   # is that the last word?
            f.peer.wire.settle()
            last = list(f.peer.queue)[-1]
            f.peer.queue.clear()
            if last.ack + last.win == at:
                return at - 1
            told = [last.ack + last.win]
        edge = max(edge, *told) if told else edge
        if f.peer.highest_ack < at and not told:
            f.world.pump(0.05)
    raise AssertionError("the window does not shut")


def reads_on(f):
    f.world.sockets[f.client.socket] = f.client.readable


def test_receive_window_shuts_and_opens(reader):
    """RFC 9293 3.8.6.2.2: "RCV.WND" follows what has been consumed; 3.8.6.1: "When the receiving TCP peer has a zero window and a segment arrives, it must still send an acknowledgment showing its next expected
    sequence number and current window (zero)"; the update comes by itself when there is room."""
    f = reader()
    filled = fill(f)
    f.peer.send("A", seq=filled + 1, data=b"?")
    f.peer.expect("A", ack=filled + 1, win=0)
    reads_on(f)
    update = f.peer.skim(lambda segment: segment.win > 0)
    assert update.ack == filled + 1 and update.win >= 1000
    f.peer.send("PA", seq=filled + 1, data=b"!")
    assert f.client.received(filled + 1) == octets(filled) + b"!"


def test_receive_window_is_never_taken_back(reader):
    """RFC 9293 3.8.6: "A TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left (SHLD-14)"."""
    f = reader()
    fill(f)
    assert all(b >= a for a, b in zip(f.edges[1:], f.edges[2:])), "the edge has moved to the left"


def test_zero_window_takes_acks_and_resets(reader):
    """RFC 9293 3.10.7.4: "If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept valid ACKs, URGs, and RSTs"."""
    f = reader()
    filled = fill(f)
    f.client.write(octets(1000))
    f.peer.expect("A", seq=1, length=1000)
    f.peer.send("A", seq=filled + 1, ack=1001)
    f.client.write(octets(1000))
    assert f.peer.skim(lambda segment: segment.data).seq == 1001
    f.peer.wire.settle()
    f.peer.queue.clear()
    f.peer.send("R", seq=filled + 1)
    f.peer.wire.settle()
    f.peer.queue.clear()
    f.peer.send("A", seq=filled + 1, ack=7777)
    assert f.peer.skim(lambda segment: segment.flags == "R").seq == 7777


def test_zero_window_takes_the_ack_of_a_probe_with_text(reader):
    """RFC 9293 3.10.7.4, as above: a peer's probe carries an octet that is refused and an ACK that is not."""
    f = reader()
    filled = fill(f)
    f.client.write(octets(1000))
    f.peer.expect("A", seq=1, length=1000)
    f.peer.send("A", seq=filled + 1, ack=1001, data=b"p")
    f.peer.skim(lambda segment: segment.ack == filled + 1 and segment.win == 0)
    f.client.write(octets(1000))
    f.peer.skim(lambda segment: segment.data and segment.seq == 1001)


def test_fin_at_a_zero_window_waits(reader):
    """RFC 9293 3.10.7.4, table 6: ">0 | 0 | not acceptable": the FIN is taken when the window has opened."""
    f = reader()
    filled = fill(f)
    f.peer.send("FA", seq=filled + 1)
    f.peer.expect("A", ack=filled + 1, win=0)
    reads_on(f)
    f.peer.skim(lambda segment: segment.win > 0)
    f.peer.send("FA", seq=filled + 1)
    f.peer.skim(lambda segment: segment.ack == filled + 2)
    f.client.received(filled)
    assert f.client.wait_end() == "close_notify"


def test_tiny_segments_do_not_move_the_edge_octet_by_octet(flow):
    """RFC 9293 3.8.6.2.2: "avoid advancing the right window edge RCV.NXT+RCV.WND in small increments, even if data is received from the network in small segments"."""
    f = flow(mss=1000)
    edges = []
    for at in range(1, 101):
        f.peer.send("A", seq=at, data=b"t")
        if at % 10 == 0:
            f.peer.send("A", seq=0, ack=1)
            answer = f.peer.skim(lambda segment: segment.ack > at - 10)
            edges.append(answer.ack + answer.win)
    steps = [b - a for a, b in zip(edges, edges[1:])]
    assert all(step == 0 or step >= 1000 for step in steps), steps


def test_segment_beyond_the_window_is_acknowledged(flow):
    """RFC 9293 3.10.7.4: not acceptable: "an acknowledgment should be sent in reply", and nothing of it is kept."""
    f = flow(mss=1000)
    f.peer.send("A", seq=65537, data=octets(1000))
    f.peer.expect("A", ack=1, length=0)
    f.peer.send("A", seq=1, data=octets(1000))
    f.peer.expect("A", ack=1001)
