"""ICMP errors: RFC 9293 3.9.2.2, checked as RFC 5927 advises, and path MTU discovery by RFC 1191 and RFC 8201.

What a host's path MTU has become is remembered, so each test has a host of its own."""

import itertools
import ssl
import struct

import pytest

from tests.system.tls_client import context_for

from . import wire as w
from .conftest import POOLS
from .flows import octets

_hosts = itertools.count(120)


def unreachable(peer, segment, code, rest=0, *, kind=None, source=None, spoil=False):
    """An ICMP error about a segment of the appliance's, as a router or the host would send it."""
    four = peer.family == 4
    kind = kind if kind is not None else (3 if four else 1)
    packet = w.icmp(source or peer.local[0], peer.remote[0], kind, code, rest, segment.packet[:64 if four else 1000])
    peer.wire.packet(packet[:-1] + bytes([packet[-1] ^ 1]) if spoil else packet)


def about(peer, seq, length=1000):
    """What such a segment of the appliance's would have looked like."""
    class Quoted:
        packet = w.ip(peer.remote[0], peer.local[0], w.TCP, w.tcp(peer.remote, peer.local, "A", peer.irs + seq, peer.iss + 1, 1000, data=b"q" * length))
    return Quoted


def too_big(peer, segment, mtu):
    if peer.family == 4:
        unreachable(peer, segment, 4, mtu)
    else:
        unreachable(peer, segment, 0, mtu, kind=2)


@pytest.fixture
def greeted(client, lab):
    """A client's end that has said hello, and to which the server's answer of two segments or more is on its way. `host`: the number of its address."""
    def of(family=4, host=None):
        number = host or next(_hosts)
        peer = client(POOLS[4][0], family, host=f"192.0.2.{number}" if family == 4 else f"2001:db8:1::{number:x}")
        peer.number = number
        peer.connect(mss=1460)
        out = ssl.MemoryBIO()
        tls = context_for(lab.certificates.ca).wrap_bio(ssl.MemoryBIO(), out, server_hostname="www.example.com")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = out.read()
        for at in range(0, len(hello), 1000):
            peer.send("PA", data=hello[at:at + 1000])
        peer.first = peer.skim(lambda segment: segment.data)
        peer.full = 1460 if family == 4 else 1440
        assert len(peer.first.data) == peer.full and peer.first.seq == 1
        return peer
    return of


def again(peer):
    """The first segment, sent again; with it what else has come."""
    return peer.skim(lambda segment: segment.data and segment.seq == 1)


# --- path MTU

@pytest.mark.parametrize("family, mtu, length", [(4, 1400, 1360), (4, 1000, 960), (4, 600, 560), (6, 1400, 1340), (6, 1280, 1220)])
def test_packet_too_big(greeted, family, mtu, length):
    """RFC 1191 3 and RFC 8201 4: the path MTU becomes what the message says; what was dropped is sent again, in pieces that fit (RFC 9293 3.7.2)."""
    peer = greeted(family)
    too_big(peer, peer.first, mtu)
    segment = again(peer)
    assert segment.data == peer.first.data[:length]
    peer.send("A", seq=peer.snd_nxt, ack=1 + length)
    rest = peer.skim(lambda segment: segment.data and segment.seq == 1 + length)
    assert rest.data[:peer.full - length] == peer.first.data[length:][:len(rest.data)]


@pytest.mark.parametrize("mtu", [68, 100, 296, 551])
def test_packet_too_big_has_a_floor(greeted, mtu):
    """RFC 5927 7.2 with RFC 1191 3 ("A host MUST never reduce its estimate of the Path MTU below 68 octets"): nobody may make us send less than 512 octets at a time: 552 octets is the least."""
    peer = greeted()
    too_big(peer, peer.first, mtu)
    assert len(again(peer).data) == 512


@pytest.mark.parametrize("mtu", [0, 68, 1279])
def test_packet_too_big_below_the_least_of_ipv6(greeted, mtu):
    """RFC 8201 4: "If a node receives a Packet Too Big message reporting a next-hop MTU that is less than the IPv6 minimum link MTU, it must discard it"."""
    peer = greeted(6)
    if mtu == 0:
        mtu = 1
    too_big(peer, peer.first, mtu)
    peer.wire.settle(6)
    assert len(again(peer).data) == 1440   # by the timeout


def test_packet_too_big_of_an_old_router(greeted):
    """RFC 1191 4 and 7.1: a next-hop MTU of zero is of a router that does not say; the next plateau of table 7-1 below 1500 is 1492."""
    peer = greeted()
    too_big(peer, peer.first, 0)
    assert len(again(peer).data) == 1452


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_packet_too_big_that_is_not_smaller(greeted, family, mtu):
    """RFC 1191 3: "A host MUST not increase its estimate of the Path MTU in response to the contents of a Datagram Too Big message"; RFC 8201 4 says the same."""
    peer = greeted(family)
    too_big(peer, peer.first, mtu)
    assert len(again(peer).data) == peer.full


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seq", [-100, -100000, 20000, 1 << 30])
def test_packet_too_big_of_what_is_not_in_flight(greeted, family, seq):
    """RFC 5927 4.1: what is quoted must be in flight: "SND.UNA =< SEG.SEQ < SND.NXT"."""
    peer = greeted(family)
    too_big(peer, about(peer, seq), 1280)
    assert len(again(peer).data) == peer.full


def test_packet_too_big_of_another_connection(greeted):
    """RFC 9293 3.9.2.2: the message is for the connection that it quotes, by both sockets."""
    peer = greeted()
    other = about(peer, 1)
    other.packet = other.packet[:20] + struct.pack("!H", peer.remote[1] + 1) + other.packet[22:]
    too_big(peer, other, 600)
    assert len(again(peer).data) == 1460


@pytest.mark.parametrize("family, length", [(4, 960), (6, 1220)])
def test_path_mtu_is_remembered(greeted, family, length):
    """RFC 8201 5.2: it is stored for the destination: the next connection to the same host begins with it (RFC 1191 6.3)."""
    peer = greeted(family)
    too_big(peer, peer.first, length + 40 if family == 4 else length + 60)
    assert len(again(peer).data) == length
    peer.reset()
    with pytest.raises(AssertionError):   # the first segment is not a full one
        greeted(family, peer.number)
    second = peer.world.peers[-1]
    assert len(second.first.data) == length
    peer.world.latest = 0.0


def test_all_segments_say_do_not_fragment(greeted):
    """RFC 1191 3: path MTU discovery works "by setting the Don't Fragment (DF) bit in the IP header"."""
    peer = greeted()
    assert peer.first.dont_fragment and again(peer).dont_fragment


def test_black_hole(flow):
    """RFC 4821 7.7 (and RFC 2923 2.1): long segments vanish without a word: after some timeouts shorter ones are tried, of 1,024 octets."""
    f = flow(mss=1460)
    f.client.write(octets(14600))
    f.peer.skim(lambda segment: segment.seq == 13141)
    lengths = []
    while 1024 not in lengths:
        segment = f.peer.skim(lambda segment: segment.data and segment.seq == 1)
        lengths.append(len(segment.data))
        assert len(lengths) < 8, lengths
    assert lengths.count(1460) >= 2
    f.peer.send("A", seq=1, ack=1025)
    assert len(f.peer.skim(lambda segment: segment.data and segment.seq == 1025).data) <= 1024


# --- other errors

HARD = [(4, 3, 2), (4, 3, 3), (4, 3, 10), (4, 3, 13), (6, 1, 1), (6, 1, 4)]
SOFT = [(4, 3, 0), (4, 3, 1), (4, 3, 5), (4, 11, 0), (4, 12, 0), (4, 4, 0), (4, 5, 1), (6, 1, 0), (6, 1, 3), (6, 3, 0), (6, 4, 0)]


@pytest.mark.parametrize("family, kind, code", HARD)
def test_hard_error_while_connecting(opening, family, kind, code):
    """RFC 9293 3.9.2.2: "Destination Unreachable -- codes 2-4: These are hard error conditions, so TCP implementations SHOULD abort the connection (SHLD-26)": in SYN-SENT (RFC 5461 4.1 leaves it at that)."""
    client, peer = opening(family)
    syn = peer.expect("S")
    unreachable(peer, syn, code, kind=kind)
    peer.wire.settle(family)
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.skim(lambda segment: segment.flags == "R")


@pytest.mark.parametrize("family, kind, code", SOFT)
def test_soft_error_while_connecting(opening, family, kind, code):
    """RFC 9293 3.9.2.2: "Since these Unreachable messages indicate soft error conditions, a TCP implementation MUST NOT abort the connection (MUST-56)"; source quench (type 4): "TCP implementations MUST silently discard
    any received ICMP Source Quench messages (MUST-55)"; redirects are for the IP layer."""
    client, peer = opening(family)
    syn = peer.expect("S")
    unreachable(peer, syn, code, kind=kind)
    peer.silence()
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)


@pytest.mark.parametrize("family, kind, code", HARD)
def test_hard_error_of_an_established_connection_is_soft(flow, family, kind, code):
    """RFC 5927 5.2: in the synchronized states "hard errors" are treated as "soft errors": nobody who guesses a sequence number ends a connection."""
    f = flow(family)
    f.client.write(octets(1000))
    segment = f.peer.expect("A", seq=1, length=1000)
    unreachable(f.peer, segment, code, kind=kind)
    f.peer.wire.settle(family)
    f.peer.send("PA", seq=1, ack=1001, data=b"goes on")
    assert f.client.received(7) == b"goes on"


@pytest.mark.parametrize("family", [4, 6])
def test_error_with_a_bad_checksum(opening, family):
    """RFC 792 and RFC 4443 2.3: the checksum covers the message; one that does not fit is not believed."""
    client, peer = opening(family)
    syn = peer.expect("S")
    unreachable(peer, syn, 3 if family == 4 else 4, spoil=True)
    peer.silence()
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)


@pytest.mark.parametrize("seq", [-1, 1, 100000])
def test_error_about_another_syn(opening, seq):
    """RFC 5927 4.1: "SND.UNA =< SEG.SEQ < SND.NXT": in SYN-SENT that is ISS alone."""
    client, peer = opening()
    peer.expect("S")
    unreachable(peer, about(peer, seq), 3)
    peer.silence()
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)


@pytest.mark.parametrize("cut", [0, 8, 20, 24, 27])
def test_error_with_too_little_of_the_packet(opening, cut):
    """RFC 792: "Internet Header + 64 bits of Original Data Datagram" is the least: what has less says nothing."""
    client, peer = opening()
    syn = peer.expect("S")
    peer.wire.packet(w.icmp(peer.local[0], peer.remote[0], 3, 3, 0, syn.packet[:cut]))
    peer.silence()
    peer.send("SA", seq=0, ack=1, mss=1000)
    peer.expect("A", seq=1, ack=1)
