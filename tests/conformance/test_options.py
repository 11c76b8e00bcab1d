"""Options of segments, good and bad: RFC 9293 3.2 and 3.7.1, RFC 7323 2, RFC 2018 2."""

import pytest

from .conftest import PATIENT_REDIRECT
from .flows import octets

REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
MSS, NOP, END = b"\x02\x04\x03\xe8", b"\x01", b"\x00"   # 1000


@pytest.fixture
def syn(client):
    """Sends a SYN with these octets as options."""
    def of(raw, family=4):
        peer = client(PATIENT_REDIRECT, family)
        peer.send("S", seq=0, raw=raw)
        return peer
    return of


# --- the list

@pytest.mark.parametrize("raw", [b"", NOP * 4, END + b"\0" * 3, NOP * 40, MSS + END + b"\xff\xff\xff", NOP + END + b"\x02\x04"])
def test_end_of_list_and_no_operation(syn, raw):
    """RFC 9293 3.1: "A TCP implementation MUST be able to receive a TCP Option in any segment (MUST-5)"; 3.2: "This option code indicates the end of the option
    list": what follows is padding, whatever it says."""
    syn(raw).expect("SA", seq=0, ack=1)


def test_no_operations_between_options(syn):
    """RFC 9293 3.2: "there is no guarantee that senders will use this option, so receivers MUST be prepared to process options even if they do not begin on a word
    boundary (MUST-64)"."""
    peer = syn(NOP + MSS + NOP * 2 + b"\x04\x02" + b"\x03\x03\x07" + NOP * 3 + b"\x08\x0a\x00\x00\x03\xe8\x00\x00\x00\x00")
    answer = peer.expect("SA", ack=1, tsecr=1000)
    assert answer.sack_permitted and answer.wscale is not None


@pytest.mark.parametrize("kind, length", [(6, 6), (9, 2), (14, 3), (19, 18), (30, 12), (34, 2), (253, 4), (254, 38)])
def test_unknown_option_is_ignored(syn, kind, length):
    """RFC 9293 3.1: "A TCP implementation MUST (MUST-6) ignore without error any TCP Option it does not implement, assuming that the option has a length field"."""
    answer = syn(bytes([kind, length]) + b"\xaa" * (length - 2)).expect("SA", seq=0, ack=1)
    assert answer.kinds == [2]


def test_unknown_option_of_a_data_segment_is_ignored(client):
    """RFC 9293 3.1 (MUST-6): in any segment."""
    peer = client()
    peer.connect()
    peer.send("PA", seq=1, ack=1, data=REQUEST, raw=b"\xfd\x08\x12\x34\x56\x78\x9a\xbc")
    assert peer.expect("FA", ack=1 + len(REQUEST)).data


@pytest.mark.parametrize("raw", [b"\x02\x00\x03\xe8", b"\x02\x01\x03\xe8", b"\x02\x03\x03\xe8", b"\x02\x05\x03\xe8", b"\x02\x28\x03\xe8", b"\x01\x01\x01\x02",
                                 b"\x03\x02\x01\x01", b"\x03\x04\x07\x01", b"\x04\x03\x01\x01", b"\x08\x0a\x00\x00", b"\x08\x09" + b"\x01" * 10,
                                 b"\x05\x0b" + b"\x01" * 10, b"\xfd\x00\x01\x01", b"\xfd\x01\x01\x01", b"\xfd\xff\x01\x01"])
def test_illegal_length_does_no_harm(syn, client, raw):
    """RFC 9293 3.1: "TCP implementations MUST be prepared to handle an illegal option length (e.g., zero); a suggested procedure is to reset the connection and log
    the error cause (MUST-7)": we drop and count the segment; the service goes on."""
    syn(raw).silence()
    client().connect()


def test_illegal_length_in_a_data_segment(client):
    """RFC 9293 3.1 (MUST-7): the segment is as if it had not come, and the connection lives."""
    peer = client()
    peer.connect()
    peer.send("PA", seq=1, ack=1, data=REQUEST, raw=b"\x08\x00\x01\x01")
    peer.silence()
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", ack=1 + len(REQUEST)).data


@pytest.mark.parametrize("raw", [b"\x02\x04\x00\x64" + MSS, MSS + MSS])
def test_options_twice(syn, raw):
    """RFC 9293 3.2: an option that comes twice does no harm."""
    syn(raw).expect("SA", seq=0, ack=1)


# --- MSS

@pytest.mark.parametrize("family, mss", [(4, 1460), (6, 1440)])
def test_our_mss(syn, family, mss):
    """RFC 9293 3.7.1: "The MSS value to be sent in an MSS Option should be equal to the effective MTU minus the fixed IP and TCP headers", whether or not the peer
    sends one ("MAY send it always (MAY-3)")."""
    syn(b"", family).expect("SA", mss=mss)


def test_our_mss_takes_no_options_off(client):
    """RFC 9293 3.7.1: "By ignoring both IP and TCP Options when calculating the value for the MSS Option": with timestamps the option says the same, and segments are
    twelve octets shorter than the peer's option ("the sender must decrease the size of the TCP data accordingly")."""
    peer = client()
    peer.send("S", seq=0, **peer.FULL)
    peer.expect("SA", mss=1460)


@pytest.mark.parametrize("syn_options, length", [({"mss": 1000}, 1000), ({"mss": 1000, "ts": (1000, 0)}, 988), ({"mss": 536}, 536), ({"mss": 88}, 88),
                                                 ({"mss": 1460}, 1460), ({"mss": 9000}, 1460), ({"mss": 65535}, 1460), ({"mss": 65535, "ts": (1, 0)}, 1448)])
def test_effective_send_mss(flow, syn_options, length):
    """RFC 9293 3.7.1: "The maximum size of a segment that a TCP endpoint really sends, the "effective send MSS", MUST be the smaller (MUST-16) of the send MSS [...] and
    the largest transmission size permitted by the IP layer (EMTU_S)"."""
    f = flow(**syn_options)
    f.client.write(octets(4 * length))
    for at in range(4):
        f.peer.expect("A", seq=1 + at * length, data=octets(length, at * length))


@pytest.mark.parametrize("mss", [0, 1, 63, 87])
def test_tiny_mss_is_raised(flow, mss):
    """RFC 9293 3.7.1 knows no least MSS; a peer may not make us send octets one by one (CVE-2019-11479): 88, as Linux has it."""
    f = flow(mss=mss)
    f.client.write(octets(176))
    f.peer.expect("A", seq=1, length=88)
    f.peer.expect("A", seq=89, length=88)


def test_effective_send_mss_of_ipv6(flow):
    """RFC 9293 3.7.1: EMTU_S of IPv6 is 1500 - 40 - 20."""
    f = flow(6, mss=1460)
    f.client.write(octets(2880))
    f.peer.expect("A", seq=1, length=1440)
    f.peer.expect("A", seq=1441, length=1440)


def test_mss_option_outside_of_a_syn_is_ignored(flow):
    """RFC 9293 3.2: "This field may be sent in the initial connection request (i.e., in segments with the SYN control bit set) and MUST NOT be sent in other segments
    (MUST-65)"."""
    f = flow()
    f.peer.send("A", seq=1, ack=1, mss=100)
    f.client.write(octets(2000))
    f.peer.expect("A", seq=1, length=1000)


# --- window scale

def test_window_scale_only_when_asked(client):
    """RFC 7323 2.2: "This option is an offer, not a promise; both sides MUST send Window Scale options in their <SYN> segments to enable window scaling in either
    direction"."""
    peer = client()
    peer.send("S", seq=0, mss=1000)
    assert peer.expect("SA").wscale is None
    other = client()
    other.send("S", seq=0, mss=1000, wscale=0)
    assert other.expect("SA").wscale is not None


@pytest.mark.parametrize("shift, field, segments", [(0, 3000, 3), (1, 1500, 3), (7, 24, 3), (14, 1, 10), (15, 1, 10), (255, 1, 10)])
def test_window_scale_of_the_peer(flow, shift, field, segments):
    """RFC 7323 2.3: "If a Window Scale option is received with a shift.cnt value larger than 14, the TCP SHOULD log the error but MUST use 14 instead of the specified
    value"; "The window field (SEG.WND) in the header of every incoming segment, with the exception of <SYN> segments, MUST be left-shifted by Snd.Wind.Shift bits"."""
    f = flow(mss=1000, wscale=shift, win=0)
    f.client.write(octets(10000))
    f.peer.wire.settle()
    f.peer.queue.clear()
    f.peer.send("A", seq=1, ack=1, win=field)
    for at in range(segments):
        f.peer.skim(lambda segment: segment.seq == 1 + at * 1000 and len(segment.data) == 1000)
    f.peer.wire.settle()
    assert not [segment for segment in f.peer.queue if segment.seq >= 1 + 1000 * segments and segment.data]


def test_window_scale_outside_of_a_syn_is_ignored(flow):
    """RFC 7323 2.2: "A Window Scale option in a segment without a SYN bit MUST be ignored"."""
    f = flow(mss=1000, win=2000)
    f.peer.send("A", seq=1, ack=1, win=2000, raw=b"\x03\x03\x07\x01")
    f.client.write(octets(5000))
    f.peer.expect("A", seq=1, length=1000)
    f.peer.expect("A", seq=1001, length=1000)
    f.peer.silence()


def test_our_scaled_window(flow):
    """RFC 7323 2.3: "The window field (SEG.WND) of every outgoing segment, with the exception of <SYN> segments, MUST be right-shifted by Rcv.Wind.Shift bits": more than
    16 bits could say once the flow is open, and never more than the buffer."""
    f = flow(mss=1000, wscale=7)
    f.peer.send("A", seq=0, ack=1)
    window = f.peer.expect("A").win << f.peer.their_wscale
    assert 65535 < window <= 262144


def test_without_scaling_the_window_fits_16_bits(flow):
    """RFC 7323 2.2: without the option the shift is zero."""
    f = flow(mss=1000)
    f.peer.send("A", seq=0, ack=1)
    assert f.peer.expect("A").win == 65535


# --- SACK permitted

def test_sack_permitted_only_when_offered(client):
    """RFC 2018 2: "This two-byte option may be sent in a SYN by a TCP that has been extended to receive (and presumably process) the SACK option once the connection has
    opened"; ours goes to those who have sent theirs."""
    without, with_it = client(), client()
    without.send("S", seq=0, mss=1000)
    assert not without.expect("SA").sack_permitted
    with_it.send("S", seq=0, mss=1000, sack_permitted=True)
    assert with_it.expect("SA").sack_permitted


def test_no_sack_to_whom_did_not_ask(flow):
    """RFC 2018 4: "If the data receiver has not received a SACK-Permitted option for a given connection, it MUST NOT send SACK options on that connection"."""
    f = flow(mss=1000)
    f.peer.send("A", seq=1001, data=octets(1000))
    assert f.peer.expect("A", ack=1).kinds == []


def test_sack_permitted_outside_of_a_syn_is_ignored(flow):
    """RFC 2018 2: "It MUST NOT be sent on non-SYN segments"."""
    f = flow(mss=1000)
    f.peer.send("A", seq=1001, data=octets(1000), raw=b"\x04\x02\x01\x01")
    assert f.peer.expect("A", ack=1).kinds == []
