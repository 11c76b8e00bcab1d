"""What IP and Ethernet do to segments: fragments, options, extension headers, lengths, stations."""

import struct

import pytest

from . import wire as w
from .conftest import PATIENT_REDIRECT

REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


def syn(peer):
    return w.tcp(peer.local, peer.remote, "S", peer.iss, 0, 65535, opts=w.options(mss=1000))


def refused(peer):
    """Nothing comes of it, and an ordinary SYN has its answer."""
    peer.silence()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)


def accepted(peer):
    peer.expect("SA", seq=0, ack=1)


# --- fragments

@pytest.mark.parametrize("pieces", [[(0, 16, 1), (16, None, 0)], [(16, None, 0), (0, 16, 1)], [(0, 8, 1)], [(0, 24, 1), (8, None, 0)], [(0, None, 1)]])
def test_ipv4_fragments_are_refused(client, pieces):
    """RFC 791 3.2 and RFC 1858: fragments, whole, overlapping or alone, are dropped and counted, not reassembled: TCP is told by path MTU discovery what fits, and fragments carry attacks."""
    peer = client()
    segment = syn(peer)
    for start, end, more in pieces:
        peer.wire.packet(w.ipv4(peer.local[0], peer.remote[0], w.TCP, segment[start:end], ident=99, fragment=more << 13 | start // 8))
    refused(peer)


def test_fragment_is_counted(client, appliance):
    """RFC 1122 3.3.2 asks for reassembly; where we do not, a counter says so."""
    before = appliance.counters()["drop_ip_fragment"]
    peer = client()
    peer.wire.packet(w.ipv4(peer.local[0], peer.remote[0], w.TCP, syn(peer), ident=99, fragment=0x2000))
    peer.silence()
    assert appliance.counters()["drop_ip_fragment"] == before + 1


@pytest.mark.parametrize("offset, more", [(0, 1), (0, 0), (8, 0)])
def test_ipv6_fragments_are_refused(client, offset, more):
    """RFC 8200 4.5: a Fragment header, also of a single one: dropped and counted, as for IPv4."""
    peer = client(PATIENT_REDIRECT, 6)
    header = struct.pack("!BBHI", w.TCP, 0, offset << 3 | more, 0x1234)
    peer.wire.packet(w.ipv6(peer.local[0], peer.remote[0], 44, header + syn(peer)))
    refused(peer)


# --- IPv4 headers

@pytest.mark.parametrize("options", [b"\x01" * 4, b"\x94\x04\x00\x00", b"\x07\x07\x04\x00\x00\x00\x00\x00", b"\x44\x08\x05\x00\x00\x00\x00\x00", b"\x82\x0b" + b"\0" * 10,
                                     b"\x1e\x04\xff\xff", b"\x00\xff\xff\xff", b"\x01" * 40])
def test_ipv4_options_are_passed_over(client, options):
    """RFC 9293 3.9.2.1: "When received options are passed up to TCP from the IP layer, a TCP implementation MUST ignore options that it does not understand (MUST-50)"."""
    peer = client()
    peer.send("S", seq=0, mss=1000, ip_options=options)
    accepted(peer)


@pytest.mark.parametrize("options", [b"\x83\x07\x04\xc0\x00\x02\x09\x00", b"\x89\x07\x04\xc0\x00\x02\x09\x00", b"\x01\x83\x03\x04"])
def test_ipv4_source_routes_are_refused(client, options):
    """RFC 9293 3.9.2.1 would save a source route and answer along it (MUST-53); RFC 7126 4.3 and 4.4: packets with LSRR or SSRR should be dropped, since they get around filters."""
    peer = client()
    peer.send("S", seq=0, mss=1000, ip_options=options)
    refused(peer)


@pytest.mark.parametrize("options", [b"\x07\x00\x00\x00", b"\x07\x01\x00\x00", b"\x07\x09\x04\x00", b"\x01\x01\x01\x07"])
def test_ipv4_option_of_an_illegal_length(client, options):
    """RFC 1122 3.2.1.8: options that run over the header or do not advance: the datagram is dropped."""
    peer = client()
    peer.send("S", seq=0, mss=1000, ip_options=options)
    refused(peer)


def test_ipv4_header_checksum(client):
    """RFC 1122 3.2.1.2: "A host MUST verify the IP header checksum on every received datagram and silently discard every datagram that has a bad checksum"."""
    peer = client()
    peer.send("S", seq=0, mss=1000, spoil_ip=1)
    refused(peer)


@pytest.mark.parametrize("version", [0x05, 0x35, 0x55, 0x65, 0xF5])
def test_ip_version(client, version):
    """RFC 1122 3.2.1.1: "A datagram whose version number is not 4 MUST be silently discarded"."""
    peer = client()
    packet = bytes([version | 0x40 if version == 0x05 else version]) + w.ipv4(peer.local[0], peer.remote[0], w.TCP, syn(peer))[1:]
    if version == 0x05:
        packet = bytes([0x44]) + packet[1:]   # version 4 with a header of 16 octets
    peer.wire.frame(w.IPV4, packet)
    refused(peer)


@pytest.mark.parametrize("total", [0, 19, 20, 39, 45, 2000])
def test_ipv4_total_length(client, total):
    """RFC 791 3.1: "Total Length is the length of the datagram, measured in octets, including internet header and data": what does not hold a segment or is more than came is none."""
    peer = client()
    packet = w.ipv4(peer.local[0], peer.remote[0], w.TCP, syn(peer))
    packet = packet[:2] + struct.pack("!H", total) + packet[4:10] + b"\0\0" + packet[12:]
    packet = packet[:10] + struct.pack("!H", w.checksum(packet[:20])) + packet[12:]
    peer.wire.frame(w.IPV4, packet)
    refused(peer)


@pytest.mark.parametrize("family", [4, 6])
def test_padding_of_the_frame_is_no_text(client, family):
    """RFC 1122 2.3.1 and RFC 894: octets behind the datagram's total length are the link's padding."""
    peer = client(PATIENT_REDIRECT, family)
    peer.connect()
    segment = w.tcp(peer.local, peer.remote, "PA", peer.iss + 1, peer.irs + 1, 65535, data=REQUEST)
    peer.wire.packet(w.ip(peer.local[0], peer.remote[0], w.TCP, segment) + b"PADDING" * 10)
    peer.expect("FA", seq=1, ack=1 + len(REQUEST))


@pytest.mark.parametrize("ttl", [1, 64, 255])
def test_any_ttl_is_taken(client, ttl):
    """RFC 1122 3.2.1.7: "A host MUST NOT discard a datagram just because it was received with TTL less than 2"."""
    peer = client()
    peer.send("S", seq=0, mss=1000, ttl=ttl)
    accepted(peer)


@pytest.mark.parametrize("family", [4, 6])
def test_our_ttl(client, family):
    """RFC 9293 3.9.2: "the TTL value used to send TCP segments MUST be configurable (MUST-49)"; RFC 1700's default is 64."""
    peer = client(PATIENT_REDIRECT, family)
    peer.send("S", seq=0, mss=1000)
    assert peer.expect("SA").ttl == 64


@pytest.mark.parametrize("protocol", [0, 17, 50, 132, 255])
def test_other_protocols_are_not_answered(world, protocol):
    """RFC 1122 3.2.2.1 lets a host send an ICMP error; ours says nothing to what it does not speak."""
    world.client.packet(w.ipv4(w.HOST["client"][0], world.client.appliance[0], protocol, b"x" * 40))
    world.client.settle()
    assert not world.client.strays


# --- IPv6 extension headers

PAD = b"\x01\x04\x00\x00\x00\x00"


@pytest.mark.parametrize("chain", [[(0, PAD)], [(60, PAD)], [(0, PAD), (60, PAD)], [(60, PAD), (60, PAD)], [(60, b"\x00" * 6)], [(60, b"\x1e\x04abcd")]])
def test_ipv6_extension_headers_are_passed_over(client, chain):
    """RFC 8200 4.2: options of which "the highest-order 2 bits" are "00 - skip over this option and continue processing the header"."""
    peer = client(PATIENT_REDIRECT, 6)
    payload, following = syn(peer), w.TCP
    for kind, options in reversed(chain):
        payload, following = bytes([following, 0]) + options + payload, kind
    peer.wire.packet(w.ipv6(peer.local[0], peer.remote[0], following, payload))
    accepted(peer)


@pytest.mark.parametrize("kind, body", [(60, b"\x5e\x04abcd"), (60, b"\x9e\x04abcd"), (60, b"\xde\x04abcd"), (0, b"\x5e\x04abcd"), (60, b"\x01\x10\x00\x00\x00\x00"),
                                        (43, b"\x00\x00" + b"\0" * 4), (43, b"\x02\x01" + b"\0" * 4)])
def test_ipv6_extension_headers_that_are_refused(client, kind, body):
    """RFC 8200 4.2: "01 - discard the packet"; RFC 5095 3: "an IPv6 node that receives a packet with a destination address assigned to it and that contains an RH0 extension header MUST NOT execute the algorithm"; other routing
    headers end here too."""
    peer = client(PATIENT_REDIRECT, 6)
    peer.wire.packet(w.ipv6(peer.local[0], peer.remote[0], kind, bytes([w.TCP, 0]) + body + syn(peer)))
    refused(peer)


def test_ipv6_hop_by_hop_only_in_front(client):
    """RFC 8200 4.1: the Hop-by-Hop Options header "is restricted to appear immediately after an IPv6 header only"."""
    peer = client(PATIENT_REDIRECT, 6)
    peer.wire.packet(w.ipv6(peer.local[0], peer.remote[0], 60, bytes([0, 0]) + PAD + bytes([w.TCP, 0]) + PAD + syn(peer)))
    refused(peer)


def test_ipv6_many_extension_headers(client):
    """RFC 8200 4.1 lists each header once, destination options twice: a chain of dozens is no packet but an attack."""
    peer = client(PATIENT_REDIRECT, 6)
    payload, following = syn(peer), w.TCP
    for _ in range(40):
        payload, following = bytes([following, 0]) + PAD + payload, 60
    peer.wire.packet(w.ipv6(peer.local[0], peer.remote[0], following, payload))
    refused(peer)


# --- Ethernet

def test_frame_for_another_station(client):
    """RFC 1122 2.4: the link layer delivers what is for us: a frame for another station is not, also when a switch floods it."""
    peer = client()
    peer.wire.packet(w.ipv4(peer.local[0], peer.remote[0], w.TCP, syn(peer)), to=bytes.fromhex("0200deadbeef"))
    refused(peer)


@pytest.mark.parametrize("tag", [0, 1, 100])
def test_frame_of_another_vlan(client, tag):
    """IEEE 802.1Q: this port carries no tag; a priority tag (0) says no VLAN, others are another network's."""
    peer = client()
    packet = w.ipv4(peer.local[0], peer.remote[0], w.TCP, syn(peer))
    peer.wire.frame(0x8100, struct.pack("!HH", tag, w.IPV4) + packet)
    if tag == 0:
        accepted(peer)
    else:
        refused(peer)


@pytest.mark.parametrize("kind", [0x0800, 0x86DD, 0x0806])
def test_short_frames_do_no_harm(world, kind):
    """RFC 1122 1.2.2: "be liberal in what you accept" and survive the rest: frames that end within their headers."""
    for length in (0, 1, 19, 27, 39):
        world.client.socket.send(world.client.appliance_mac + w.MAC + struct.pack("!H", kind) + b"\x45" * length)
    world.client.settle()
    assert not world.client.strays


# --- echoes

@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 56, 1400])
def test_echo(world, family, length):
    """RFC 1122 3.2.2.6: "Every host MUST implement an ICMP Echo server function"; "Data received in an ICMP Echo Request MUST be entirely included in the resulting Echo Reply"; RFC 4443 4.2 the same."""
    index = 0 if family == 4 else 1
    number = 0x77770000 + 2 * length + index
    world.client.last_pong = None
    world.client.packet(w.icmp(w.HOST["client"][index], world.client.appliance[index], 8 if family == 4 else 128, 0, number, b"e" * length))
    assert world.pump(w.PATIENCE, lambda: number in world.client.pongs)
    assert world.client.last_pong == b"e" * length


@pytest.mark.parametrize("destination", ["192.0.2.255", "255.255.255.255", "224.0.0.1"])
def test_echo_to_a_group(world, destination):
    """RFC 1122 3.2.2.6: "An ICMP Echo Request destined to an IP broadcast or IP multicast address MAY be silently discarded": or we would amplify attacks (RFC 6192)."""
    world.client.packet(w.icmp(w.HOST["client"][0], destination, 8, 0, 0x66660001, b"smurf"), to=w.BROADCAST)
    world.client.settle()
    assert 0x66660001 not in world.client.pongs
