"""RFC 2018 and RFC 2883: what we report of octets that came out of order or twice."""

import pytest

from .flows import octets

SACK = {"mss": 1000, "sack_permitted": True}


def part(f, start, end):
    """Octets [start, end) of the stream, whose first is 1."""
    f.peer.send("A", seq=start, data=octets(end - start, start - 1))


def test_block_of_what_came(flow):
    """RFC 2018 3: "Left Edge of Block: This is the first sequence number of this block. Right Edge of Block: This is the sequence number immediately following the last sequence number of
    this block"."""
    f = flow(**SACK)
    part(f, 501, 1001)
    f.peer.expect("A", seq=1, ack=1, sacks=[(501, 1001)])


def test_first_block_is_the_newest(flow):
    """RFC 2018 4: "The first SACK block [...] MUST specify the contiguous block of data containing the segment which triggered this ACK, unless that segment advanced the Acknowledgment Number
    field in the header"."""
    f = flow(**SACK)
    part(f, 2001, 2501)
    f.peer.expect("A", ack=1, sacks=[(2001, 2501)])
    part(f, 1001, 1501)
    f.peer.expect("A", ack=1, sacks=[(1001, 1501), (2001, 2501)])
    part(f, 3001, 3501)
    f.peer.expect("A", ack=1, sacks=[(3001, 3501), (1001, 1501), (2001, 2501)])


def test_blocks_grow_together(flow):
    """RFC 2018 4: "the contiguous block of data containing the segment": neighbours are one block."""
    f = flow(**SACK)
    part(f, 1001, 1501)
    f.peer.expect("A", ack=1, sacks=[(1001, 1501)])
    part(f, 2001, 2501)
    f.peer.expect("A", ack=1, sacks=[(2001, 2501), (1001, 1501)])
    part(f, 1501, 2001)
    f.peer.expect("A", ack=1, sacks=[(1001, 2501)])


@pytest.mark.parametrize("syn, most", [(SACK, 4), ({**SACK, "ts": (1000, 0), "mss": 1012}, 3)])
def test_as_many_blocks_as_fit(flow, syn, most):
    """RFC 2018 3: "A SACK option that specifies n blocks will have a length of 8*n+2 bytes, so the 40 bytes available for TCP options can specify a maximum of 4 blocks. It is expected that SACK
    will often be used in conjunction with the Timestamp option [...]; thus a maximum of 3 SACK blocks will be allowed in this case"."""
    f = flow(**syn)
    starts = [101, 301, 501, 701, 901, 1101]
    for count, start in enumerate(starts, 1):
        part(f, start, start + 100)
        expected = [(s, s + 100) for s in reversed(starts[:count])][:most]
        f.peer.expect("A", ack=1, sacks=expected)


def test_blocks_are_repeated(flow):
    """RFC 2018 4: "The SACK option SHOULD be filled out by repeating the most recently reported SACK blocks [...] that are not subsets of a SACK block already included in the SACK option being
    constructed"."""
    f = flow(**SACK)
    part(f, 1001, 1501)
    f.peer.expect("A", sacks=[(1001, 1501)])
    part(f, 2001, 2501)
    f.peer.expect("A", sacks=[(2001, 2501), (1001, 1501)])
    part(f, 2501, 3001)
    f.peer.expect("A", sacks=[(2001, 3001), (1001, 1501)])


def test_filled_hole_leaves_the_others(flow):
    """RFC 2018 4: "If sent at all, SACK options SHOULD be included in all ACKs which do not ACK the highest sequence number in the data receiver's queue"."""
    f = flow(**SACK)
    part(f, 501, 1001)
    f.peer.expect("A", sacks=[(501, 1001)])
    part(f, 1501, 2001)
    f.peer.expect("A", sacks=[(1501, 2001), (501, 1001)])
    part(f, 1, 501)
    f.peer.expect("A", ack=1001, sacks=[(1501, 2001)])
    part(f, 1001, 1501)
    f.peer.expect("A", ack=2001, sacks=[])
    assert f.client.received(2000) == octets(2000)


def test_no_block_without_a_hole(flow):
    """RFC 2018 4: an ACK of "the highest sequence number in the data receiver's queue" has none."""
    f = flow(**SACK)
    part(f, 1, 1001)
    f.peer.expect("A", ack=1001, sacks=[])


def test_held_octets_are_not_taken_back(flow):
    """RFC 2018 8: discarding reported data "is discouraged": what was reported needs not be sent again."""
    f = flow(**SACK)
    for start in range(1001, 9001, 1000):
        part(f, start, start + 1000)
        f.peer.expect("A", ack=1, sacks=[(1001, start + 1000)])
    part(f, 1, 1001)
    f.peer.expect("A", ack=9001)
    assert f.client.received(9000) == octets(9000)


# --- duplicates

def test_duplicate_of_acknowledged_octets(flow):
    """RFC 2883 4: "Each duplicate contiguous sequence of data received is reported in at most one D-SACK block", the first of the option."""
    f = flow(**SACK)
    part(f, 1, 1001)
    f.peer.expect("A", ack=1001)
    part(f, 501, 1001)
    f.peer.expect("A", ack=1001, sacks=[(501, 1001)])
    f.peer.send("A", seq=0, ack=1)
    f.peer.expect("A", ack=1001, sacks=[])   # once only


def test_duplicate_of_held_octets(flow):
    """RFC 2883 4: "If the D-SACK block reports a duplicate contiguous sequence from a (possibly larger) block of data in the receiver's data queue above the cumulative acknowledgement, then the
    second SACK block in that SACK option should specify that (possibly larger) block of data"."""
    f = flow(**SACK)
    part(f, 501, 1501)
    f.peer.expect("A", ack=1, sacks=[(501, 1501)])
    part(f, 501, 1001)
    f.peer.expect("A", ack=1, sacks=[(501, 1001), (501, 1501)])


def test_duplicate_beside_other_blocks(flow):
    """RFC 2883 4.1, example of a duplicate segment with holes: D-SACK first, then the others."""
    f = flow(**SACK)
    part(f, 1, 501)
    f.peer.expect("A", ack=501)
    part(f, 1001, 1501)
    f.peer.expect("A", ack=501, sacks=[(1001, 1501)])
    part(f, 1, 501)
    f.peer.expect("A", ack=501, sacks=[(1, 501), (1001, 1501)])


def test_partly_old_segment(flow):
    """RFC 2883 4.2: "When the SACK option is used for reporting partial duplicate segments, the first D-SACK block reports the first duplicate sub-segment"."""
    f = flow(**SACK)
    part(f, 1, 501)
    f.peer.expect("A", ack=501)
    part(f, 301, 801)
    f.peer.expect("A", ack=801, sacks=[(301, 501)])


def test_duplicate_is_not_reported_without_sack(flow):
    """RFC 2018 4: "it MUST NOT send SACK options on that connection"."""
    f = flow(mss=1000)
    part(f, 1, 501)
    f.peer.expect("A", ack=501)
    part(f, 1, 501)
    assert f.peer.expect("A", ack=501).kinds == []
