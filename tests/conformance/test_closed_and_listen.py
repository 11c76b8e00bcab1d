"""RFC 9293 3.10.7.1 and 3.10.7.2: segments for which there is no connection yet."""

import pytest

from . import wire as w
from .conftest import CLOSED, PATIENT_REDIRECT
from .peer import Peer

BOTH = pytest.mark.parametrize("family", [4, 6])


# --- CLOSED

@BOTH
def test_closed_syn_is_reset(client, family):
    """RFC 9293 3.10.7.1: "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"."""
    peer = client(CLOSED, family)
    peer.send("S", seq=0, mss=1000)
    peer.expect_reset(seq=0, ack=1)


@pytest.mark.parametrize("flags, octets, length", [("S", 10, 11), ("F", 0, 1), ("SF", 0, 2), ("SF", 5, 7), ("P", 4, 4), ("", 0, 0), ("FPU", 3, 4)])
def test_closed_without_ack_acknowledges_what_occupies_sequence_space(client, flags, octets, length):
    """RFC 9293 3.5.2: "otherwise, the reset has sequence number zero and the ACK field is set to the sum of the sequence number and segment
    length of the incoming segment"."""
    peer = client(CLOSED)
    peer.send(flags, seq=100, data=b"x" * octets)
    peer.expect_reset(seq=0, ack=100 + length)


@BOTH
@pytest.mark.parametrize("flags, octets", [("A", 0), ("SA", 0), ("FA", 0), ("PA", 20)])
def test_closed_with_ack_takes_its_sequence_number(client, family, flags, octets):
    """RFC 9293 3.10.7.1: "If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>"."""
    peer = client(CLOSED, family)
    peer.send(flags, seq=7, ack=0xCAFE0001, data=b"x" * octets)
    reset = peer.expect_reset(seq=0xCAFE0001)
    assert reset.raw_options == b""


@pytest.mark.parametrize("flags", ["R", "RA", "SR", "RFA"])
def test_closed_reset_is_discarded(client, flags):
    """RFC 9293 3.10.7.1: "An incoming segment containing a RST is discarded"."""
    peer = client(CLOSED)
    peer.send(flags, seq=5, ack=9 if "A" in flags else None)
    peer.silence()


# --- LISTEN

@pytest.mark.parametrize("flags", ["R", "RA", "SR"])
def test_listen_reset_is_ignored(client, flags):
    """RFC 9293 3.10.7.2: "An incoming RST should be ignored. Return." """
    peer = client()
    peer.send(flags, seq=5, ack=9 if "A" in flags else None)
    peer.silence()


@BOTH
@pytest.mark.parametrize("flags, octets", [("A", 0), ("SA", 0), ("FA", 0), ("PA", 20)])
def test_listen_ack_is_reset(client, family, flags, octets):
    """RFC 9293 3.10.7.2: "Any acknowledgment is bad if it arrives on a connection still in the LISTEN state. An acceptable reset segment should
    be formed for any arriving ACK-bearing segment. [...] <SEQ=SEG.ACK><CTL=RST>"."""
    peer = client(family=family)
    peer.send(flags, seq=7, ack=0x12345678, data=b"x" * octets)
    peer.expect_reset(seq=0x12345678)


@pytest.mark.parametrize("flags, octets", [("F", 0), ("P", 20), ("", 0), ("U", 1)])
def test_listen_other_segments_are_dropped(client, flags, octets):
    """RFC 9293 3.10.7.2: "Fourth, other data or control: This should not be reached. Drop the segment and return." """
    peer = client()
    peer.send(flags, seq=7, data=b"x" * octets)
    peer.silence()


@BOTH
def test_listen_syn_is_answered(client, family):
    """RFC 9293 3.10.7.2: "ISS should be selected and a SYN segment sent of the form: <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>"."""
    peer = client(family=family)
    peer.send("S", seq=0, mss=1000)
    answer = peer.expect("SA", seq=0, ack=1)
    assert answer.data == b"" and answer.win > 0
    peer.send("A", seq=1, ack=1)
    peer.silence()


@pytest.mark.parametrize("flags", ["SP", "SU", "SPU"])
def test_listen_other_bits_of_a_syn_do_not_matter(client, flags):
    """RFC 9293 3.10.7.2: "If the SYN bit is set": PSH and URG say nothing without text."""
    peer = client()
    peer.send(flags, seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)


def test_listen_syn_with_fin_is_dropped(client):
    """RFC 9293 3.10.7.2: "any other control or text should be queued for processing later": that we deviate from for a FIN, which nobody but a
    scanner sends with a SYN; the same ports serve an honest one afterwards."""
    peer = client()
    peer.send("SF", seq=0, mss=1000)
    peer.silence()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)


def test_listen_text_of_a_syn_comes_again(client):
    """RFC 9293 3.10.7.2: "RCV.NXT is set to SEG.SEQ+1": the text is not kept, so it is not acknowledged, and taken when it is sent again."""
    peer = client()
    request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
    peer.send("S", seq=0, mss=1000, data=request)
    peer.expect("SA", seq=0, ack=1)
    peer.send("PA", seq=1, ack=1, data=request)
    answer = peer.expect("FA", seq=1, ack=1 + len(request))
    assert answer.data.startswith(b"HTTP/1.1 308 ")


def test_listen_many_at_once(client):
    """RFC 9293 3.9.1.1: "A TCP implementation that supports multiple concurrent connections MUST provide an OPEN call that will functionally allow
    an application to LISTEN on a port while a connection block with the same local port is in SYN-SENT or SYN-RECEIVED state (MUST-42)"."""
    peers = [client() for _ in range(20)]
    for peer in peers:
        peer.send("S", seq=0, mss=1000)
    for peer in peers:
        peer.expect("SA", seq=0, ack=1)


def test_listen_same_ports_at_another_address_are_another_connection(world, client):
    """RFC 9293 4: a connection is "a logical communication path identified by a pair of sockets"."""
    four, six = client(local_port=11111), client(family=6, local_port=11111)
    for peer in (four, six):
        peer.connect()
    four.send("R", seq=1)
    four.silence()
    six.send("A", seq=0, ack=1)
    six.expect("A", seq=1, ack=1)


# --- sequence numbers and addresses of what opens

def test_isn_differs_between_connections(client):
    """RFC 6528 3: "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)": of the clock alone, numbers of two connections made within a
    second would be at most 250,000 apart."""
    numbers = []
    for _ in range(8):
        peer = client()
        peer.send("S", seq=0, mss=1000)
        numbers.append(peer.expect("SA", ack=1).abs_seq)
    distances = [(b - a) & 0xFFFFFFFF for a, b in zip(numbers, numbers[1:])]
    assert all(300_000 < distance < (1 << 32) - 300_000 for distance in distances), numbers


def test_isn_of_the_same_ports_grows(world, client):
    """RFC 6528 3: "M is the 4 microsecond timer": a new connection of the same ports goes on behind the old one."""
    numbers = []
    for _ in range(4):
        peer = client(local_port=11112)
        peer.send("S", seq=0, mss=1000)
        numbers.append(peer.expect("SA", ack=1).abs_seq)
        peer.send("R", seq=1)
        peer.silence()
        world.client.connections.pop(peer.key)
        world.peers.remove(peer)
    steps = [(b - a) & 0xFFFFFFFF for a, b in zip(numbers, numbers[1:])]
    assert all(0 < step < 60 * 250_000 for step in steps), steps


def raw_syn(world, source, destination, *, to=None, port=PATIENT_REDIRECT, family=4):
    """A SYN of which nothing is right but what is asked for."""
    segment = w.tcp((source, 33333), (destination, port), "S", 1000, 0, 65535, opts=w.options(mss=1000))
    world.client.packet(w.ip(source, destination, w.TCP, segment), to=to)


def no_answer(world, family=4):
    world.client.settle(family)
    assert not world.client.strays, str(world.client.strays[0])


@pytest.mark.parametrize("destination, to", [("192.0.2.255", w.BROADCAST), ("255.255.255.255", w.BROADCAST), ("224.0.0.1", bytes.fromhex("01005e000001")),
                                             ("192.0.2.1", w.BROADCAST), ("ff02::1", bytes.fromhex("333300000001"))])
def test_syn_to_a_group_is_discarded(world, destination, to):
    """RFC 9293 3.9.2.3: "A TCP implementation MUST silently discard an incoming SYN segment that is addressed to a broadcast or multicast address
    (MUST-57)"."""
    raw_syn(world, w.HOST["client"][":" in destination], destination, to=to)
    no_answer(world)


@pytest.mark.parametrize("source", ["127.0.0.1", "0.0.0.0", "224.0.0.5", "255.255.255.255", "240.0.0.1", "::1", "ff02::1", "::"])
def test_syn_from_an_invalid_source_is_ignored(world, source):
    """RFC 9293 3.9.2.3: "An incoming SYN with an invalid source address MUST be ignored either by TCP or by the IP layer (MUST-63)"."""
    raw_syn(world, source, world.client.appliance[":" in source])
    no_answer(world)


@BOTH
def test_land_attack(world, family):
    """RFC 9293 3.9.2.3 (MUST-63): our own address is no valid source, with our own port least of all."""
    address = world.client.appliance[0 if family == 4 else 1]
    segment = w.tcp((address, PATIENT_REDIRECT), (address, PATIENT_REDIRECT), "S", 1000, 0, 65535)
    world.client.packet(w.ip(address, address, w.TCP, segment))
    no_answer(world, family)
    Peer.to_service(world, PATIENT_REDIRECT, family).connect()


@BOTH
def test_bad_checksum_is_dropped(client, family):
    """RFC 9293 3.1: "The TCP checksum is never optional. The sender MUST generate it (MUST-2) and the receiver MUST check it (MUST-3)"."""
    peer = client(family=family)
    peer.send("S", seq=0, mss=1000, spoil=0x0100)
    peer.silence()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", ack=1)


@pytest.mark.parametrize("offset", [0, 4, 15])
def test_bad_data_offset_is_dropped(client, offset):
    """RFC 9293 3.1, Data Offset: "The number of 32-bit words in the TCP header. This indicates where the data begins": never before the end of the
    fixed header, never behind that of the segment."""
    peer = client()
    peer.send("S", seq=0, mss=1000, offset=offset)
    peer.silence()
