"""RFC 9293 3.10.7.4 in ESTABLISHED: which segments are acceptable, what their ACK field may say, what becomes of their text."""

import time

import pytest

from .conftest import PATIENT_REDIRECT
from .flows import octets

BOTH = pytest.mark.parametrize("family", [4, 6])
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


@pytest.fixture
def open_to(client):
    """A connection of a client, established, of which nothing has been said yet."""
    def of(family=4, **syn):
        peer = client(PATIENT_REDIRECT, family)
        peer.connect(**syn)
        peer.silence()
        return peer
    return of


def lives(peer):
    """The connection is as it was: its request is answered."""
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data.startswith(b"HTTP/1.1 308 ")


# --- first: the sequence number

@BOTH
@pytest.mark.parametrize("seq, octets_", [(0, 0), (-1, 0), (-100, 50), (0, 1), (65537, 0), (65536, 1), (1 << 30, 10), (-(1 << 30), 10)])
def test_unacceptable_segment_is_acknowledged(open_to, family, seq, octets_):
    """RFC 9293 3.10.7.4, table 6: for a segment of length 0 "RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND", for others the same of the first octet or the last;
    "If an incoming segment is not acceptable, an acknowledgment should be sent in reply <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>". The window is 65,535."""
    peer = open_to(family)
    peer.send("A", seq=seq, ack=1, data=b"z" * octets_)
    peer.expect("A", seq=1, ack=1, length=0)
    lives(peer)


@pytest.mark.parametrize("seq", [1, 2, 1000, 65535])
def test_acceptable_ack_says_nothing_and_is_not_answered(open_to, seq):
    """RFC 9293 3.10.7.4, table 6, and 3.4: an ACK occupies no sequence space ("if it did, we would wind up ACKing ACKs!", 3.5)."""
    peer = open_to()
    peer.send("A", seq=seq, ack=1)
    peer.silence()
    lives(peer)


def test_ack_at_the_right_edge_is_taken(open_to):
    """RFC 9293 3.10.7.4, table 6 refuses SEG.SEQ = RCV.NXT+RCV.WND; we take an ACK there, as Linux does (Where we deviate): so acknowledges a peer that has
    filled the window while a segment of it is lost."""
    peer = open_to()
    peer.send("A", seq=65536, ack=1)
    peer.silence()
    lives(peer)


def test_text_that_begins_before_the_window_is_trimmed(open_to):
    """RFC 9293 3.10.7.4: "If a segment's contents straddle the boundary between old and new, only the new parts are processed"."""
    peer = open_to()
    peer.send("PA", seq=-9, ack=1, data=b"0123456789" + REQUEST)
    answer = peer.skim(lambda segment: segment.data)
    assert answer.ack == 1 + len(REQUEST) and answer.data.startswith(b"HTTP/1.1 308 ")


def test_text_behind_the_window_is_trimmed(flow):
    """RFC 9293 3.10.7.4: "trimming off any portions that lie outside the window (including SYN and FIN)": of a segment at the right edge only what the
    window has room for is kept."""
    f = flow()
    f.peer.send("A", seq=2, data=octets(65000, 1)[:1000])
    window = f.peer.expect("A", ack=1).win
    assert window == 65535
    f.peer.send("FA", seq=1 + 65535 - 10, data=b"e" * 100)   # ten octets are inside; neither the others nor the FIN
    f.peer.expect("A", ack=1)
    f.peer.send("PA", seq=1, data=b"!")
    f.peer.expect("A", ack=1002)
    for at in range(1002, 65526, 1000):
        f.peer.send("A", seq=at, data=b"m" * min(1000, 65526 - at))
    f.peer.skim(lambda segment: segment.ack == 65536)
    f.peer.send("PA", seq=65536, data=b"?")
    f.peer.skim(lambda segment: segment.ack == 65537)
    got = f.client.received(65536)
    assert got[-11:] == b"e" * 10 + b"?" and not f.client.ended


def test_segment_larger_than_the_window_on_both_sides(flow):
    """RFC 9293 3.10.7.4: "the idealized segment that begins at RCV.NXT and does not exceed the window": a segment that begins before and ends behind has
    octets that are wanted."""
    f = flow()
    f.peer.send("PA", seq=1, data=b"a" * 10)
    f.peer.expect("A", ack=11)
    f.peer.send("PA", seq=6, data=b"b" * 1000)
    f.peer.expect("A", ack=1006)
    assert f.client.received(1005) == b"a" * 10 + b"b" * 995


# --- fourth: SYN

@pytest.mark.parametrize("seq", [0, 1, 100, 70000, -50000])
def test_syn_is_challenged_whatever_its_sequence_number(open_to, seq):
    """RFC 9293 3.10.7.4: "in these synchronized states, if the SYN bit is set, irrespective of the sequence number, TCP endpoints MUST send a "challenge
    ACK" to the remote peer: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>"."""
    peer = open_to()
    peer.send("S", seq=seq, mss=1000)
    peer.expect("A", seq=1, ack=1)
    lives(peer)


def test_rebooted_peer(open_to):
    """RFC 9293 3.5.1, figure 9: SYN, "<SEQ=300><ACK=100><CTL=ACK>", "<SEQ=100><CTL=RST>", and the next SYN is answered."""
    peer = open_to()
    peer.send("S", seq=400000, mss=1000)
    told = peer.expect("A", seq=1, ack=1)
    peer.send("R", seq=told.ack)
    peer.silence()
    peer.irs, peer.fresh = None, True
    peer.send("S", seq=400000, mss=1000)
    assert peer.receive().flags == "SA"


@pytest.mark.parametrize("seq", [0, 1])
def test_syn_ack_is_challenged(open_to, seq):
    """RFC 9293 3.10.7.4, fourth: as for a SYN."""
    peer = open_to()
    peer.send("SA", seq=seq, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)
    lives(peer)


# --- fifth: ACK

@pytest.mark.parametrize("flags", ["", "P", "F", "U"])
def test_without_ack_is_dropped(open_to, flags):
    """RFC 9293 3.10.7.4: "if the ACK bit is off, drop the segment and return"."""
    peer = open_to()
    peer.send(flags, seq=1, data=b"" if flags == "F" else b"data")
    peer.silence()
    lives(peer)


@pytest.mark.parametrize("ack", [2, 1000, 1 << 30])
@pytest.mark.parametrize("data", [b"", b"injected"])
def test_ack_of_what_was_not_sent(open_to, ack, data):
    """RFC 9293 3.10.7.4: "If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment, and return"."""
    peer = open_to()
    peer.send("A", seq=1, ack=ack, data=data)
    peer.expect("A", seq=1, ack=1)
    lives(peer)


@pytest.mark.parametrize("ack", [-100000, -(1 << 30)])
def test_ack_that_is_too_old(open_to, ack):
    """RFC 5961 5.2: "The ACK value is considered acceptable only if it is in the range of ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT). All incoming
    segments whose ACK value doesn't satisfy the above condition MUST be discarded and an ACK sent back"."""
    peer = open_to()
    peer.send("A", seq=1, ack=ack, data=b"injected")
    peer.expect("A", seq=1, ack=1)
    lives(peer)


def test_old_ack_in_the_range_is_a_duplicate(open_to):
    """RFC 9293 3.10.7.4: "If the ACK is a duplicate (SEG.ACK =< SND.UNA), it can be ignored": its text is taken."""
    peer = open_to()
    peer.send("PA", seq=1, ack=-1000, data=REQUEST)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data


# --- sixth: URG

@pytest.mark.parametrize("pointer", [0, 1, 5, 41, 65535])
def test_urgent_octets_stay_in_line(open_to, pointer):
    """RFC 6093 4 recommends that "urgent data" be delivered in-line; RFC 9293 3.8.5: "a TCP receiver should be robust to invalid urgent pointer
    values"."""
    peer = open_to()
    peer.send("UPA", seq=1, ack=1, data=REQUEST, urgent=pointer)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data.startswith(b"HTTP/1.1 308 ")


def test_urgent_pointer_without_urg_is_ignored(open_to):
    """RFC 9293 3.1: "This field is only to be interpreted in segments with the URG control bit set"."""
    peer = open_to()
    peer.send("PA", seq=1, ack=1, data=REQUEST, urgent=10)
    assert peer.expect("FA", ack=1 + len(REQUEST)).data


# --- seventh: text

@BOTH
def test_text_is_delivered_and_acknowledged(flow, family):
    """RFC 9293 3.10.7.4: "When the TCP endpoint takes responsibility for delivering the data to the user, it must also acknowledge the receipt of the
    data"."""
    f = flow(family)
    f.peer.send("PA", seq=1, data=octets(1000))
    f.peer.expect("A", seq=1, ack=1001, length=0)
    assert f.client.received(1000) == octets(1000)


def test_every_second_full_segment_is_acknowledged(flow):
    """RFC 9293 3.8.6.3: "An ACK SHOULD be generated for at least every second full-sized segment or 2*RMSS bytes of new data"."""
    f = flow()
    for at in range(0, 8000, 2000):
        f.peer.send("A", seq=1 + at, data=octets(1000, at))
        f.peer.send("A", seq=1001 + at, data=octets(1000, at + 1000))
        f.peer.wire.settle()   # not a delay later
        assert f.peer.highest_ack >= 1001 + at   # fewer than two wait: a window that opens meanwhile is told with an acknowledgment of the first
    assert f.client.received(8000) == octets(8000)


def test_one_segment_is_acknowledged_after_a_delay(flow):
    """RFC 9293 3.8.6.3: "A TCP endpoint SHOULD implement a delayed ACK (SHLD-18), but an ACK should not be excessively delayed; in particular, the delay
    MUST be less than 0.5 seconds (MUST-40)". That it comes by itself is the point; of the upper bound a busy machine says nothing."""
    f = flow()
    before = time.clock_gettime(time.CLOCK_REALTIME)
    f.peer.send("PA", seq=1, data=b"one")
    ack = f.peer.expect("A", seq=1, ack=4, length=0)
    assert ack.at - before >= 0.03   # 40 ms after the burst in which it came, whose time may have been read a little before


def test_acknowledgment_goes_with_an_answer(open_to):
    """RFC 9293 3.10.7.4: "This acknowledgment should be piggybacked on a segment being transmitted if possible without incurring undue delay"."""
    peer = open_to()
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    answer = peer.expect("FA", seq=1, ack=1 + len(REQUEST))
    assert answer.data


def test_out_of_order_text_is_held(flow):
    """RFC 9293 3.10.7.4: "Segments with higher beginning sequence numbers SHOULD be held for later processing (SHLD-31)"; RFC 5681 4.2: "a TCP receiver
    SHOULD send an immediate ACK when the incoming segment fills in all or part of a gap in the sequence space"."""
    f = flow()
    f.peer.send("A", seq=1001, data=octets(100, 1000))
    f.peer.wire.settle()       # at once: no delay has passed
    assert f.peer.queue
    f.peer.expect("A", seq=1, ack=1)
    f.peer.send("A", seq=1, data=octets(1000))
    f.peer.wire.settle()
    assert f.peer.queue
    f.peer.expect("A", seq=1, ack=1101)
    assert f.client.received(1100) == octets(1100)


def test_reversed_order(flow):
    """RFC 9293 3.10.7.4: "Segments are processed in sequence", in whatever order they come."""
    f = flow()
    for at in range(19, -1, -1):
        f.peer.send("A", seq=1 + at * 500, data=octets(500, at * 500))
    f.peer.skim(lambda segment: segment.ack == 10001)
    assert f.client.received(10000) == octets(10000)


def test_duplicate_text_is_acknowledged_at_once(flow):
    """RFC 9293 3.10.7.4: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply"."""
    f = flow()
    f.peer.send("A", seq=1, data=octets(1000))
    f.peer.expect("A", ack=1001)
    f.peer.send("A", seq=1, data=octets(1000))
    f.peer.expect("A", ack=1001)
    f.peer.send("A", seq=1001, data=octets(10, 1000))
    assert f.client.received(1010) == octets(1010)


@pytest.mark.parametrize("first, second, held", [((11, b"A" * 10), (11, b"B" * 10), b"A" * 10), ((11, b"A" * 10), (16, b"B" * 10), b"A" * 10 + b"B" * 5),
                                                 ((11, b"A" * 10), (6, b"B" * 10), b"B" * 5 + b"A" * 10)])
def test_overlapping_segments_what_came_first_stays(flow, first, second, held):
    """RFC 9293 3.10.7.4: "If a segment's contents straddle the boundary between old and new, only the new parts are processed": octets that are held already
    do not change, so that nobody who looks on can be told another stream than the one that is delivered (RFC 5961's attacker, RFC 1858)."""
    f = flow()
    for seq, data in (first, second):
        f.peer.send("A", seq=seq, data=data)
        f.peer.expect("A", ack=1)
    start = min(first[0], second[0])
    f.peer.send("A", seq=1, data=b"." * (start - 1))
    f.peer.expect("A", ack=start + len(held))
    assert f.client.received(start - 1 + len(held)) == b"." * (start - 1) + held


def test_tiny_segments_in_disorder(flow):
    """RFC 9293 3.10.7.4, seventh: hundreds of single octets with gaps; those for which there is no room are not acknowledged, and what is
    acknowledged is delivered."""
    f = flow()
    text = octets(1000)
    for at in range(1, 1000, 2):
        f.peer.send("A", seq=1 + at, data=text[at:at + 1])
    for at in range(0, 1000, 2):
        f.peer.send("A", seq=1 + at, data=text[at:at + 1])
    f.peer.wire.settle()
    while f.peer.highest_ack < 1001:
        at = f.peer.highest_ack - 1
        f.peer.queue.clear()
        f.peer.send("PA", seq=1 + at, data=text[at:at + 100])
        assert f.peer.world.pump(20, lambda: f.peer.highest_ack > at + 1)
    assert f.client.received(1000) == text


def test_psh_is_of_no_consequence(flow):
    """RFC 9293 3.9.1.2: PSH asks for no more than prompt delivery, which there always is."""
    f = flow()
    f.peer.send("A", seq=1, data=b"without PSH")
    assert f.client.received(11) == b"without PSH"


def test_ecn_bits_of_an_established_connection_do_not_matter(open_to):
    """RFC 9293 3.1: "must be ignored in received segments if the corresponding future features are not implemented"."""
    peer = open_to()
    peer.send("PAEC", seq=1, ack=1, data=REQUEST)
    assert peer.skim(lambda segment: segment.data).data.startswith(b"HTTP/1.1 308 ")


# --- what attackers do

def test_challenges_are_limited(open_to):
    """RFC 5961 7: "an ACK throttling mechanism is suggested": ten a quarter of a second, each connection for itself."""
    peer = open_to()
    for _ in range(60):
        peer.send("S", seq=500, mss=1000)
        peer.wire.settle()   # or they would be answered together
    answers = list(peer.queue)
    peer.queue.clear()
    assert answers and all((segment.flags, segment.seq, segment.ack) == ("A", 1, 1) for segment in answers)
    elapsed = answers[-1].at - answers[0].at
    assert len(answers) <= 10 * (int(elapsed / 0.25) + 2), (len(answers), elapsed)
    lives(peer)


def test_limit_of_challenges_is_not_shared(open_to):
    """RFC 5961 7 with CVE-2016-5696 in mind: a limit that all connections share tells one of them how many challenges another had."""
    noisy, quiet = open_to(), open_to()
    for _ in range(400):
        noisy.send("S", seq=500, mss=1000)
    noisy.wire.settle()
    quiet.send("S", seq=500, mss=1000)
    quiet.expect("A", seq=1, ack=1)
    lives(quiet)


def test_ack_flood_is_not_answered(open_to):
    """RFC 9293 3.5: acknowledgments are not acknowledged, however many there are."""
    peer = open_to()
    for _ in range(2000):
        peer.send("A", seq=1, ack=1)
    peer.silence()
    lives(peer)


def test_not_tls_on_a_tls_service_is_reset(client, listening):
    """RFC 9293 3.10.5: ABORT sends "<SEQ=SND.NXT><CTL=RST>": what does not begin with a TLS record gets no more than that."""
    port, _ = listening()
    peer = client(port)
    peer.connect()
    peer.send("PA", seq=1, ack=1, data=b"GET / HTTP/1.1\r\n\r\n")
    peer.expect_reset(seq=1, flags="RA")
    peer.send("A", seq=19, ack=1)
    peer.expect_reset(seq=1)
