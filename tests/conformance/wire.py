"""Hosts that no kernel knows, on the lab's links: frames from and to a packet socket, their parsing and building.

A `Wire` is the link of one side. Its hosts have a MAC address that the namespace's kernel does not own, so that nothing but the test answers;
ARP and neighbour solicitations are answered here whenever the test waits for something. Every checksum of what arrives is verified.
"""

import collections
import ipaddress
import os
import select
import socket
import struct
import time

from tests.lab import network

MAC, OTHER_MAC = bytes.fromhex("02005e100001"), bytes.fromhex("02005e100002")
BROADCAST = b"\xff" * 6
ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
ICMP, TCP, ICMPV6 = 1, 6, 58
FLAGS = "FSRPAUEC"   # from the lowest bit on
SLOW = "asan" in os.environ.get("SALLYPORT_BUILD", "")
PATIENCE = 60 if SLOW else 20   # seconds that anything may take on a busy machine
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33

HOST = {"client": ("192.0.2.101", "2001:db8:1::101"), "backend": ("198.51.100.101", "2001:db8:2::101")}


def packed(address):
    return ipaddress.ip_address(address).packed


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(source, destination, protocol, length):
    source, destination = packed(source), packed(destination)
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!IHBB", length, 0, 0, protocol)


def ipv4(source, destination, protocol, payload, *, options=b"", ident=0, fragment=0x4000, ttl=64, tos=0, total=None, spoil=0):
    header = struct.pack("!BBHHHBBH4s4s", 0x40 | (20 + len(options)) // 4, tos, total or 20 + len(options) + len(payload), ident, fragment, ttl,
                         protocol, 0, packed(source), packed(destination)) + options
    header = header[:10] + struct.pack("!H", checksum(header) ^ spoil) + header[12:]
    return header + payload


def ipv6(source, destination, protocol, payload, *, hops=64, tos=0):
    return struct.pack("!IHBB16s16s", 6 << 28 | tos << 20, len(payload), protocol, hops, packed(source), packed(destination)) + payload


def ip(source, destination, protocol, payload, **more):
    return (ipv6 if ":" in destination else ipv4)(source, destination, protocol, payload, **more)


def options(*, mss=None, wscale=None, sack_permitted=False, ts=None, sacks=(), raw=b""):
    """Options in the order that Linux has them, filled up to a multiple of four with NOPs in front of each."""
    out = b""
    if mss is not None:
        out += struct.pack("!BBH", 2, 4, mss)
    if sack_permitted:
        out += b"\x01\x01\x04\x02"
    if ts is not None:
        out += struct.pack("!BBBBII", 1, 1, 8, 10, *(value & 0xFFFFFFFF for value in ts))
    if wscale is not None:
        out += struct.pack("!BBBB", 1, 3, 3, wscale)
    if sacks:
        out += struct.pack("!BBBB", 1, 1, 5, 2 + 8 * len(sacks)) + b"".join(struct.pack("!II", *block) for block in sacks)
    out += raw
    return out + b"\0" * (-len(out) % 4)


def tcp(source, destination, flags, seq, ack, window, *, opts=b"", data=b"", urgent=0, offset=None, spoil=0):
    """`source` and `destination` are (address, port); `offset` in words instead of the right one; `spoil` is XORed onto the checksum."""
    bits = sum(1 << FLAGS.index(flag) for flag in flags)
    words = 5 + len(opts) // 4 if offset is None else offset
    header = struct.pack("!HHIIBBHHH", source[1], destination[1], seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, words << 4, bits, window, 0, urgent)
    segment = header + opts + data
    right = checksum(pseudo(source[0], destination[0], TCP, len(segment)) + segment) ^ spoil
    return segment[:16] + struct.pack("!H", right) + segment[18:]


def icmp(source, destination, kind, code, rest, body):
    """An ICMP or ICMPv6 message as a packet."""
    message = struct.pack("!BBHI", kind, code, 0, rest) + body
    if ":" in destination:
        right = checksum(pseudo(source, destination, ICMPV6, len(message)) + message)
    else:
        right = checksum(message)
    message = message[:2] + struct.pack("!H", right) + message[4:]
    return ip(source, destination, ICMPV6 if ":" in destination else ICMP, message)


class Segment:
    """A TCP segment that arrived. `seq` and `ack` are absolute; Peer makes them relative."""

    def __init__(self, packet, at):
        self.at = at
        if packet[0] >> 4 == 4:
            header = (packet[0] & 15) * 4
            self.total = struct.unpack_from("!H", packet, 2)[0]
            assert checksum(packet[:header]) == 0, "IPv4 header checksum of the appliance's is wrong"
            self.tos, self.ttl, self.dont_fragment = packet[1], packet[8], bool(packet[6] & 0x40)
            self.source, self.destination = socket.inet_ntop(socket.AF_INET, packet[12:16]), socket.inet_ntop(socket.AF_INET, packet[16:20])
        else:
            header = 40
            self.total = 40 + struct.unpack_from("!H", packet, 4)[0]
            self.tos, self.ttl, self.dont_fragment = struct.unpack_from("!H", packet)[0] >> 4 & 255, packet[7], True
            self.source, self.destination = socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
        segment = packet[header:self.total]
        assert checksum(pseudo(self.source, self.destination, TCP, len(segment)) + segment) == 0, "TCP checksum of the appliance's is wrong"
        self.packet = packet[:self.total]
        self.sport, self.dport, self.seq, self.ack, offset, bits, self.win, _, self.urgent = struct.unpack_from("!HHIIBBHHH", segment)
        self.abs_seq, self.abs_ack = self.seq, self.ack
        self.flags = "".join(flag for i, flag in enumerate(FLAGS) if bits >> i & 1)
        self.raw_options = segment[20:(offset >> 4) * 4]
        self.data = segment[(offset >> 4) * 4:]
        self.mss = self.wscale = self.ts = None
        self.sack_permitted, self.sacks = False, []
        self.user_timeout = None   # the field of RFC 5482 2.2
        self.kinds = []
        rest = self.raw_options
        while rest and rest[0] != 0:
            if rest[0] == 1:
                rest = rest[1:]
                continue
            kind, length = rest[0], rest[1]
            body = rest[2:length]
            self.kinds.append(kind)
            if kind == 2:
                self.mss = struct.unpack("!H", body)[0]
            elif kind == 3:
                self.wscale = body[0]
            elif kind == 4:
                self.sack_permitted = True
            elif kind == 5:
                self.sacks = [struct.unpack_from("!II", body, at) for at in range(0, len(body), 8)]
            elif kind == 8:
                self.ts = struct.unpack("!II", body)
            elif kind == 28:
                self.user_timeout = struct.unpack("!H", body)[0]
            rest = rest[length:]

    @property
    def len(self):
        """SEG.LEN"""
        return len(self.data) + ("S" in self.flags) + ("F" in self.flags)

    def __str__(self):
        text = f"{self.flags} seq {self.seq} len {len(self.data)} ack {self.ack} win {self.win}"
        more = {"mss": self.mss, "wscale": self.wscale, "sack_permitted": self.sack_permitted, "ts": self.ts, "sacks": self.sacks}
        return text + "".join(f" {name}={value}" for name, value in more.items() if value not in (None, False, []))


class Wire:
    def __init__(self, world, side):
        self.world, self.side = world, side
        self.appliance = network.APPLIANCE[side]
        self.hosts = {packed(address): MAC for address in HOST[side]}   # whom ARP and ND questions are answered for, with what
        with network.inside(side):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self.socket.bind(("eth0", 3))   # ETH_P_ALL
        self.socket.setblocking(False)
        self.appliance_mac = None
        self.connections = {}                            # (our address, our port, their address, their port): Peer
        self.listening = {}                              # (address, port): SYNs that nobody has taken
        self.strays = collections.deque(maxlen=1000)     # segments that belong to nobody
        self.neighbour_questions = []                    # what the appliance asked: (kind, target, unicast)
        self.arps = []                                   # all of them: (operation, sender's MAC, sender, target, frame's destination)
        self.advertisements = []                         # (target, flags, MAC, IP destination)
        self.pongs, self.last_pong = set(), None         # identifiers of echo replies; octets of the last

    # --- out

    def frame(self, kind, payload, *, to=None, from_mac=MAC):
        data = (to or self.appliance_mac) + from_mac + struct.pack("!H", kind) + payload
        self.socket.send(data + b"\0" * (60 - len(data)))

    def packet(self, data, **more):
        self.frame(IPV4 if data[0] >> 4 == 4 else IPV6, data, **more)

    def arp(self, operation, sender_mac, sender, target_mac, target, **more):
        self.frame(ARP, struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + sender_mac + packed(sender) + target_mac + packed(target), **more)

    def advertise(self, target, mac, *, flags, destination=None, source=None, hops=255, **more):
        """A neighbour advertisement (RFC 4861 4.4); flags: 0x40 solicited, 0x20 override."""
        body = packed(target) + struct.pack("!BB", 2, 1) + mac
        source, destination = source or target, destination or self.appliance[1]
        message = struct.pack("!BBHI", 136, 0, 0, flags << 24) + body
        right = checksum(pseudo(source, destination, ICMPV6, len(message)) + message)
        self.packet(ipv6(source, destination, ICMPV6, message[:2] + struct.pack("!H", right) + message[4:], hops=hops), **more)

    def solicit(self, target, *, source, destination, mac=None, hops=255, **more):
        """A neighbour solicitation (RFC 4861 4.3), with the source's link-layer address where there is a `mac`."""
        body = packed(target) + (struct.pack("!BB", 1, 1) + mac if mac else b"")
        message = struct.pack("!BBHI", 135, 0, 0, 0) + body
        right = checksum(pseudo(source, destination, ICMPV6, len(message)) + message)
        self.packet(ipv6(source, destination, ICMPV6, message[:2] + struct.pack("!H", right) + message[4:], hops=hops), **more)

    def find_appliance(self):
        for _ in range(PATIENCE):
            self.arp(1, MAC, HOST[self.side][0], bytes(6), self.appliance[0], to=BROADCAST)
            if self.world.pump(1, lambda: self.appliance_mac):
                return
        raise AssertionError("the appliance does not answer ARP")

    # --- in

    def read(self):
        while True:
            try:
                frame, ancillary, flags, address = self.socket.recvmsg(65536, 256)
            except BlockingIOError:
                return
            if address[2] == 4:   # PACKET_OUTGOING
                continue
            at = time.clock_gettime(time.CLOCK_REALTIME)
            for level, kind, data in ancillary:
                if kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = struct.unpack("qq", data[:16])
                    at = seconds + nanoseconds / 1e9
            self.world.latest = max(self.world.latest, time.clock_gettime(time.CLOCK_REALTIME) - at)
            self.dispatch(frame, at)

    def dispatch(self, frame, at):
        destination, source, kind = frame[:6], frame[6:12], struct.unpack_from("!H", frame, 12)[0]
        packet = frame[14:]
        if kind == ARP:
            self.dispatch_arp(packet, source, destination)
        elif destination not in (MAC, OTHER_MAC) and destination[0] & 1 == 0:
            return
        elif kind == IPV4 and packet[9] == TCP:
            self.dispatch_tcp(Segment(packet, at), destination)
        elif kind == IPV4 and packet[9] == ICMP and packet[20] == 0:
            self.pongs.add(struct.unpack_from("!I", packet, 24)[0])
            self.last_pong = packet[28:struct.unpack_from("!H", packet, 2)[0]]
        elif kind == IPV6 and packet[6] == TCP:
            self.dispatch_tcp(Segment(packet, at), destination)
        elif kind == IPV6 and packet[6] == ICMPV6:
            self.dispatch_icmpv6(packet, source, destination)

    def dispatch_arp(self, packet, source, destination):
        operation = struct.unpack_from("!H", packet, 6)[0]
        sender_mac, sender, target = packet[8:14], packet[14:18], packet[24:28]
        self.arps.append((operation, sender_mac, sender, target, destination))
        if sender == packed(self.appliance[0]):
            self.appliance_mac = sender_mac
        if operation == 1 and sender == packed(self.appliance[0]) and target in self.hosts:
            self.neighbour_questions.append(("arp", socket.inet_ntoa(target), destination != BROADCAST))
            mac = self.hosts[target]
            if mac:
                self.arp(2, mac, socket.inet_ntoa(target), sender_mac, socket.inet_ntoa(sender), to=source, from_mac=mac)

    def dispatch_icmpv6(self, packet, source, destination):
        if packet[40] == 129:
            self.pongs.add(struct.unpack_from("!I", packet, 44)[0])
            self.last_pong = packet[48:40 + struct.unpack_from("!H", packet, 4)[0]]
        elif packet[40] == 136:
            self.advertisements.append((socket.inet_ntop(socket.AF_INET6, packet[48:64]), packet[44], packet[66:72],
                                        socket.inet_ntop(socket.AF_INET6, packet[24:40])))
        elif packet[40] == 135:
            target = packet[48:64]
            asker = socket.inet_ntop(socket.AF_INET6, packet[8:24])
            if target in self.hosts and source == self.appliance_mac:
                self.neighbour_questions.append(("nd", socket.inet_ntop(socket.AF_INET6, target), destination[0] != 0x33))
                mac = self.hosts[target]
                if mac:
                    self.advertise(socket.inet_ntop(socket.AF_INET6, target), mac, flags=0x60, destination=asker, to=source, from_mac=mac)

    def dispatch_tcp(self, segment, mac):
        segment.to_mac = mac
        key = (segment.destination, segment.dport, segment.source, segment.sport)
        peer = self.connections.get(key)
        if peer is not None:
            peer.arrives(segment)
        elif segment.flags == "S" and key[:2] in self.listening and key not in self.world.dead:
            self.listening[key[:2]].append(segment)
        else:
            if key not in self.world.dead:
                self.world.note(self.side, "< stray", segment, key)
            self.strays.append(segment)

    # --- is nothing coming?

    def settle(self, family=4):
        """Two echoes, one after the other: what was sent before has been answered when the second is. The first reply may overtake TCP's
        answers to the same burst, the second cannot."""
        index = 0 if family == 4 else 1
        for _ in range(2):
            self.world.echoes += 1
            number = 0x5A110000 + self.world.echoes
            request = icmp(HOST[self.side][index], self.appliance[index], 8 if family == 4 else 128, 0, number, b"settled?")
            for _ in range(PATIENCE * 4):   # echoes are limited by rate
                self.packet(request)
                if self.world.pump(0.25, lambda: number in self.pongs):
                    break
            else:
                raise AssertionError("the appliance does not answer echoes")


class World:
    """Both links, and what was seen on them."""

    def __init__(self):
        self.trace = []
        self.latest = 0.0   # seconds that something has waited for us to look at it
        self.clients = []
        self.begun = time.clock_gettime(time.CLOCK_REALTIME)
        self.dead = set()
        self.peers = []
        self.echoes = 0
        self.client, self.backend = Wire(self, "client"), Wire(self, "backend")
        self.sockets = {}   # further sockets to wait for, and what to do when they are readable
        for wire in (self.client, self.backend):
            wire.find_appliance()

    def pump(self, seconds, condition=lambda: False):
        """Takes what arrives until `condition` holds, which is returned; at most so long."""
        end = time.monotonic() + seconds
        while True:
            self.client.read()
            self.backend.read()
            result = condition()
            left = end - time.monotonic()
            if result or left <= 0:
                return result
            ready, _, _ = select.select([self.client.socket, self.backend.socket, *self.sockets], [], [], min(left, 0.25))
            for sock in ready:
                if sock in self.sockets:
                    self.sockets[sock]()

    def note(self, side, direction, what, key=None):
        now = time.clock_gettime(time.CLOCK_REALTIME) - self.begun
        self.trace.append(f"{now:9.4f} {side:7} {direction} {what}" + (f"  {key}" if key else ""))

    def clear(self):
        """Ends what a test has left, and forgets it."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        for peer in self.peers:
            peer.reset()
            peer.forget()
        self.peers.clear()
        self.pump(0)
        for wire in (self.client, self.backend):
            wire.hosts = {packed(address): MAC for address in HOST[wire.side]}
            for seen in (wire.strays, wire.neighbour_questions, wire.arps, wire.advertisements):
                seen.clear()
            for queue in wire.listening.values():
                self.dead.update((syn.destination, syn.dport, syn.source, syn.sport) for syn in queue)
                queue.clear()
        self.latest = 0.0

    def close(self):
        self.client.socket.close()
        self.backend.socket.close()
