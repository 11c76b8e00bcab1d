"""ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861), and who tries to come between."""

import itertools

import pytest

from . import wire as w
from .conftest import PATIENT_REDIRECT

BOTH = pytest.mark.parametrize("family", [4, 6])
NOBODY = bytes(6)


@pytest.fixture
def host(world, client):
    """A client's end at an address of its own."""
    def of(family=4):
        number = next(_numbers)
        return client(PATIENT_REDIRECT, family, host=f"192.0.2.{number}" if family == 4 else f"2001:db8:1::{number:x}")
    return of


_numbers = itertools.count(20)   # each test has addresses that no other has used


def answered_to(peer):
    """The MAC address that an answer goes to."""
    peer.send("A", seq=0, ack=1)
    return peer.skim(lambda segment: segment.flags == "A").to_mac


# --- our address

def test_arp_request(world):
    """RFC 826: "Am I the target protocol address? Yes: [...] Swap hardware and protocol fields, putting the local hardware and protocol addresses in the sender fields. Set the ar$op field to ares_op$REPLY. Send the packet to the
    (new) target hardware address on the same hardware on which the request was received"."""
    world.client.arps.clear()
    world.client.arp(1, w.MAC, w.HOST["client"][0], NOBODY, world.client.appliance[0], to=w.BROADCAST)
    assert world.pump(w.PATIENCE, lambda: [a for a in world.client.arps if a[0] == 2 and a[4] == w.MAC and a[2] == w.packed(world.client.appliance[0])])


def test_arp_request_for_another_is_not_answered(world):
    """RFC 826: "Am I the target protocol address?" No: nothing, proxies apart (RFC 1027)."""
    for address in ("192.0.2.2", "198.51.100.1", "192.0.2.255", "203.0.113.1"):
        world.client.arp(1, w.MAC, w.HOST["client"][0], NOBODY, address, to=w.BROADCAST)
    world.client.settle()
    assert not [a for a in world.client.arps if a[0] == 2]


def test_arp_probe_is_answered(world):
    """RFC 5227 1.1, 2.1.1: a probe has the "sender IP address [...] set to all zeroes"; who has the address answers, so that nobody takes it."""
    world.client.arp(1, w.MAC, "0.0.0.0", NOBODY, world.client.appliance[0], to=w.BROADCAST)
    assert world.pump(w.PATIENCE, lambda: [a for a in world.client.arps if a[0] == 2 and a[2] == w.packed(world.client.appliance[0])])


def test_neighbour_solicitation(world):
    """RFC 4861 7.2.4: "A node sends a Neighbor Advertisement in response to a valid Neighbor Solicitation targeting one of the node's assigned addresses [...] the node MUST set the Solicited flag to one"."""
    ours = world.client.appliance[1]
    group = "ff02::1:ff00:1"
    world.client.solicit(ours, source=w.HOST["client"][1], destination=group, mac=w.MAC, to=bytes.fromhex("3333ff000001"))
    assert world.pump(w.PATIENCE, lambda: world.client.advertisements)
    target, flags, mac, destination = world.client.advertisements[0]
    assert (target, mac, destination) == (ours, world.client.appliance_mac, w.HOST["client"][1]) and flags & 0x40


def test_duplicate_address_detection_is_answered_to_all(world):
    """RFC 4861 7.2.4: "If the source of the solicitation is the unspecified address, the node MUST set the Solicited flag to zero and multicast the advertisement to the all-nodes address"."""
    world.client.solicit(world.client.appliance[1], source="::", destination="ff02::1:ff00:1", to=bytes.fromhex("3333ff000001"))
    assert world.pump(w.PATIENCE, lambda: world.client.advertisements)
    target, flags, _, destination = world.client.advertisements[0]
    assert destination == "ff02::1" and not flags & 0x40


@pytest.mark.parametrize("hops", [254, 64, 1])
def test_neighbour_solicitation_from_afar(world, hops):
    """RFC 4861 7.1.1: "The IP Hop Limit field has a value of 255, i.e., the packet could not possibly have been forwarded by a router"; else "MUST silently discard"."""
    world.client.solicit(world.client.appliance[1], source=w.HOST["client"][1], destination="ff02::1:ff00:1", mac=w.MAC, hops=hops, to=bytes.fromhex("3333ff000001"))
    world.client.settle(6)
    assert not world.client.advertisements


def test_solicitation_without_source_must_have_no_address_option(world):
    """RFC 4861 7.1.1: "If the IP source address is the unspecified address, there is no source link-layer address option in the message"."""
    world.client.solicit(world.client.appliance[1], source="::", destination="ff02::1:ff00:1", mac=w.OTHER_MAC, to=bytes.fromhex("3333ff000001"))
    world.client.settle(6)
    assert not world.client.advertisements


def test_our_address_is_defended(world):
    """RFC 5227 2.4 (b): "it MAY elect to attempt to defend its address by recording the time that the conflicting ARP packet was received, and then broadcasting one single ARP Announcement [...]. Having done this, the host can then continue
    to use the address normally", and not again within DEFEND_INTERVAL, ten seconds."""
    for _ in range(5):
        world.client.arp(2, w.OTHER_MAC, world.client.appliance[0], w.OTHER_MAC, world.client.appliance[0], to=w.BROADCAST, from_mac=w.OTHER_MAC)
    world.client.settle()
    said = [a for a in world.client.arps if a[1] == world.client.appliance_mac and a[2] == a[3] == w.packed(world.client.appliance[0]) and a[4] == w.BROADCAST]
    assert len(said) <= 1
    world.client.settle()   # and it is still used


# --- theirs

@BOTH
def test_unknown_neighbour_is_asked_for_and_the_packet_is_not_lost(host, family):
    """RFC 1122 2.3.2.2: "The link layer SHOULD save (rather than discard) at least one (the latest) packet of each set of packets destined to the same unresolved IP address, and transmit the saved packet when the address has been
    resolved"; RFC 4861 7.2.2 the same."""
    peer = host(family)
    sent_at = w.time.clock_gettime(w.time.CLOCK_REALTIME)
    peer.send("S", seq=0, mss=1000)
    answer = peer.expect("SA", seq=0, ack=1)
    kinds = [(kind, unicast) for kind, target, unicast in peer.wire.neighbour_questions if w.packed(target) == w.packed(peer.local[0])]
    assert kinds and kinds[0] == ("arp" if family == 4 else "nd", False)
    assert answer.at >= sent_at


def poison(peer, how):
    """Says in one way or another that the peer's address is at OTHER_MAC."""
    wire, address = peer.wire, peer.local[0]
    ours = peer.remote[0]
    if how == "reply":
        wire.arp(2, w.OTHER_MAC, address, wire.appliance_mac, ours, from_mac=w.OTHER_MAC)
    elif how == "gratuitous reply":
        wire.arp(2, w.OTHER_MAC, address, w.BROADCAST, address, to=w.BROADCAST, from_mac=w.OTHER_MAC)
    elif how == "announcement":
        wire.arp(1, w.OTHER_MAC, address, NOBODY, address, to=w.BROADCAST, from_mac=w.OTHER_MAC)
    elif how == "request":
        wire.arp(1, w.OTHER_MAC, address, NOBODY, ours, to=w.BROADCAST, from_mac=w.OTHER_MAC)
    elif how == "override":
        wire.advertise(address, w.OTHER_MAC, flags=0x20, destination="ff02::1", to=bytes.fromhex("333300000001"), from_mac=w.OTHER_MAC)
    elif how == "solicited override":
        wire.advertise(address, w.OTHER_MAC, flags=0x60, from_mac=w.OTHER_MAC)
    elif how == "solicitation":
        wire.solicit(ours, source=address, destination="ff02::1:ff00:1", mac=w.OTHER_MAC, to=bytes.fromhex("3333ff000001"), from_mac=w.OTHER_MAC)
    elif how == "router's":
        wire.advertise(address, w.OTHER_MAC, flags=0xE0, from_mac=w.OTHER_MAC)


POISON = [(4, "reply"), (4, "gratuitous reply"), (4, "announcement"), (4, "request"), (6, "override"), (6, "solicited override"), (6, "solicitation"), (6, "router's")]


@pytest.mark.parametrize("family, how", POISON)
def test_known_neighbour_is_not_taken_over_by_a_packet(host, family, how):
    """RFC 826 would merge at once ("update the sender hardware address field of the entry"), RFC 4861 7.2.5 with the override flag too; we ask the known address first, and while it answers it stays (as RFC 6583 and RFC 3756 advise
    caution): the connection goes on to where it went."""
    peer = host(family)
    peer.connect()
    for _ in range(3):
        poison(peer, how)
    assert answered_to(peer) == w.MAC
    assert peer.world.pump(w.PATIENCE, lambda: [q for q in peer.wire.neighbour_questions if q[2] and w.packed(q[1]) == w.packed(peer.local[0])]), "the known address is asked"
    assert answered_to(peer) == w.MAC


@pytest.mark.parametrize("family, how", [(4, "announcement"), (6, "override")])
def test_neighbour_that_has_moved_is_found(host, family, how):
    """RFC 4861 7.3 (and RFC 5227's announcements): a host whose address has moved to another interface is found within seconds: the known one is silent, so it is resolved anew."""
    peer = host(family)
    peer.connect()
    peer.wire.hosts[w.packed(peer.local[0])] = w.OTHER_MAC
    begun = w.time.monotonic()
    poison(peer, how)
    while answered_to(peer) != w.OTHER_MAC:
        assert w.time.monotonic() < begun + w.PATIENCE
        peer.world.pump(0.2)


@pytest.mark.parametrize("family, how", [(4, "gratuitous reply"), (4, "reply"), (6, "override"), (6, "solicited override")])
def test_what_nobody_asked_for_is_not_learned(host, family, how):
    """RFC 4861 7.2.5: "If no entry exists, the advertisement SHOULD be silently discarded. There is no need to create an entry if none exists"; RFC 826 the same with its Merge_flag: the address is asked for when it is needed, and its owner
    answers."""
    peer = host(family)
    poison(peer, how)
    peer.connect()
    assert [q for q in peer.wire.neighbour_questions if w.packed(q[1]) == w.packed(peer.local[0])]
    assert answered_to(peer) == w.MAC


def test_advertisement_from_afar_is_discarded(host):
    """RFC 4861 7.1.2: "The IP Hop Limit field has a value of 255": not even a question comes of it."""
    peer = host(6)
    peer.connect()
    peer.wire.neighbour_questions.clear()
    peer.wire.advertise(peer.local[0], w.OTHER_MAC, flags=0x60, hops=254, from_mac=w.OTHER_MAC)
    peer.wire.settle(6)
    assert not [q for q in peer.wire.neighbour_questions if q[2] and w.packed(q[1]) == w.packed(peer.local[0])]
    assert answered_to(peer) == w.MAC


def test_silent_neighbour_is_not_asked_for_ever(world, host):
    """RFC 1122 2.3.2.1: "A mechanism to prevent ARP flooding (repeatedly sending an ARP Request for the same IP address, at a high rate) MUST be included. The recommended maximum rate is 1 per second per destination"."""
    peer = host()
    peer.wire.hosts[w.packed(peer.local[0])] = None
    for port in range(50):
        segment = w.tcp((peer.local[0], 40000 + port), peer.remote, "S", 1000, 0, 65535, opts=w.options(mss=1000))
        peer.wire.packet(w.ipv4(peer.local[0], peer.remote[0], w.TCP, segment))
    begun = w.time.monotonic()
    peer.wire.settle()
    asked = [q for q in peer.wire.neighbour_questions if q[1] == peer.local[0]]
    assert 1 <= len(asked) <= 1 + int(w.time.monotonic() - begun) + 1, asked


def test_martian_neighbours(world):
    """RFC 826 with RFC 1122 3.2.1.3: addresses that nobody can have are not learned, nor answered."""
    for sender in ("127.0.0.1", "224.0.0.1", "255.255.255.255"):
        world.client.arp(1, w.MAC, sender, NOBODY, world.client.appliance[0], to=w.BROADCAST)
    world.client.settle()
    assert not [a for a in world.client.arps if a[0] == 2]

