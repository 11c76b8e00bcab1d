"""Attacks on TCP, each by count and none by the clock: what is held stays within its bound, each shows in the counter that is meant for it,
flows that were there before lose nothing, and a new client is served while it goes on and afterwards.

The attacker has an address of its own in the clients' network, whose kernel says nothing for it, and forges others' addresses too.
"""

import concurrent.futures
import json
import random
import socket
import ssl
import struct
import time

import pytest

from tests.lab import network
from tests.lab.lab import program, wait_for
from .conftest import SLOW_BUILD
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

WEB, ECHO = 443, 4433
ATTACKER, VICTIM, US = "192.0.2.200", network.CLIENT_ADDRESSES[0], network.APPLIANCE["client"][0]
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
OCTETS_OF_SEQUENCE = 1 << 32


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def packet(source, port, our_port, seq, ack, flags, *, window=65535, options=b"", payload=b""):
    """An IPv4 packet to the appliance; options of a multiple of four octets."""
    header = struct.pack("!HHIIBBHHH", port, our_port, seq % OCTETS_OF_SEQUENCE, ack % OCTETS_OF_SEQUENCE, (20 + len(options)) << 2, flags, window, 0, 0)
    segment = header + options + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(US)
    sum_ = checksum(addresses + struct.pack("!HH", 6, len(segment)) + segment + b"\0" * (len(segment) % 2))
    segment = segment[:16] + struct.pack("!H", sum_) + segment[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + addresses + segment   # the kernel fills the checksum


class Attacker:
    def __init__(self, lab):
        self.lab = lab
        self.random = random.Random(7)
        lab.in_namespace("client", "nft", "-f", "-", check=True, input=f"""
            table ip attacker {{
                chain arriving {{
                    type filter hook input priority 0
                    ip daddr {ATTACKER} drop
                }}
            }}
            """)
        network.run("ip", "-n", "client", "addr", "add", f"{ATTACKER}/24", "dev", "eth0")
        with network.inside("client"):
            self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self.tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            self.tap.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)   # SO_RCVBUFFORCE
            self.tap.bind(("eth0", 0x0800))
        self.tap.settimeout(20)

    def close(self):
        self.raw.close()
        self.tap.close()
        self.lab.in_namespace("client", "nft", "delete", "table", "ip", "attacker")
        network.run("ip", "-n", "client", "addr", "del", f"{ATTACKER}/24", "dev", "eth0")

    def send(self, *arguments, **more):
        self.raw.sendto(packet(*arguments, **more), (US, 0))

    def number(self):
        return self.random.randrange(OCTETS_OF_SEQUENCE)

    def answers(self):
        """(port of the attacker's, flags, seq, ack) of what the appliance sends to it, for ever."""
        while True:
            frame = self.tap.recv(2048)
            if frame[23] != 6 or frame[26:30] != socket.inet_aton(US) or frame[30:34] != socket.inet_aton(ATTACKER):
                continue
            at = 14 + (frame[14] & 15) * 4
            _, port, seq, ack = struct.unpack("!HHII", frame[at:at + 12])
            yield port, frame[at + 13], seq, ack

    def connect(self, ports, our_port):
        """Opens a connection from each port; returns {port: (SND.NXT, RCV.NXT)}."""
        for port in ports:
            self.send(ATTACKER, port, our_port, 1000, 0, SYN, options=b"\2\4" + struct.pack("!H", 1460))
        opened = {}
        for port, flags, seq, _ in self.answers():
            if flags & SYN and port in ports:
                opened[port] = (1001, seq + 1)
                self.send(ATTACKER, port, our_port, 1001, seq + 1, ACK)
            if len(opened) == len(ports):
                return opened


@pytest.fixture
def attacker(lab):
    attacker = Attacker(lab)
    yield attacker
    attacker.close()


@pytest.fixture
def context(lab):
    return context_for(lab.certificates.ca)


class Flow:
    """A client of the kernel's whose connection's numbers the attacker has seen or guessed."""

    def __init__(self, lab, context):
        file = lab.directory / "flow.pcap"
        with lab.capture("client", file, "tcp", "port", str(ECHO)):
            self.client = TlsClient(ECHO, context).handshake()
            self.port = self.client.socket.getsockname()[1]
            self.echo(b"before")
        self.snd_nxt = self.rcv_nxt = 0
        data = file.read_bytes()
        at = 24
        while at < len(data):
            length = struct.unpack("<I", data[at + 8:at + 12])[0]
            frame = data[at + 16:at + 16 + length]
            at += 16 + length
            ip = 14 + (frame[14] & 15) * 4
            source, target, seq = struct.unpack("!HHI", frame[ip:ip + 8])
            end = seq + struct.unpack("!H", frame[16:18])[0] - (ip - 14) - (frame[ip + 12] >> 4) * 4
            if source == self.port:
                self.snd_nxt = end % OCTETS_OF_SEQUENCE
            elif target == self.port:
                self.rcv_nxt = end % OCTETS_OF_SEQUENCE

    def echo(self, text):
        self.client.write(text)
        assert self.client.read_exactly(len(text)) == text

    def outside(self, attacker):
        """A sequence number that is not in the window, nor just before it."""
        return self.snd_nxt + attacker.random.randrange(1 << 24, OCTETS_OF_SEQUENCE - (1 << 24))


def grown(appliance, before, *names):
    now = appliance.counters()
    return sum(now[name] - before[name] for name in names)


def counted(appliance, before, least, *names):
    """Workers publish their counters now and then. Half of them do, and a tenth with a sanitizer: nobody sends again what a device's ring has lost
    where the worker did not come round in time."""
    least = max(1, least // (10 if SLOW_BUILD else 2))
    wait_for(lambda: f"{' + '.join(names)} to grow by {least}, not by {grown(appliance, before, *names)}",
             lambda: grown(appliance, before, *names) >= least, 20)


def within_bounds(appliance):
    for worker in appliance.show("workers"):
        assert worker["pool_free"] > worker["pool_size"] // 16, worker
        assert worker["buffers_held"] <= worker["pool_size"], worker
        assert worker["half_open"] <= 1024, worker   # an eighth of max_flows


def serves(lab):
    lab.lab_client(ECHO, "--connections", 3, "--octets", 20_000, timeout=110)


def test_syn_flood(appliance, lab, attacker):
    before = appliance.counters()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        others = pool.submit(lab.lab_client, ECHO, "--connections", 100, "--octets", 5000, "--interval-ms", 50, "--duration-ms", 20000 if SLOW_BUILD else 5000)

        def under_way():
            assert not others.done(), f"its clients have ended: {others.exception() or others.result()}"
            return appliance.show("flows")["total"] >= 100
        wait_for("100 flows", under_way, 60)
        for number in range(20_000):
            attacker.send(ATTACKER, attacker.random.randrange(1024, 65536), ECHO, attacker.number(), 0, SYN, options=b"\2\4\5\xb4")
            if number == 10_000:
                serves(lab)
                within_bounds(appliance)
        report = others.result()
    assert report["longest_pause_ms"] < 20_000
    counted(appliance, before, 5000, "tcp_cookies_sent")
    within_bounds(appliance)
    serves(lab)


@pytest.mark.timeout(400)
def test_flood_of_handshakes(appliance, lab):
    """Two thousand ClientHellos that wait to be answered, always, however many are: what is under way does not wait behind them, and a client that waits is served."""
    before = appliance.counters()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        others = pool.submit(lab.lab_client, ECHO, "--connections", 100, "--octets", 5000, "--interval-ms", 50, "--duration-ms", 20000 if SLOW_BUILD else 5000)
        wait_for("100 flows", lambda: appliance.show("flows")["total"] >= 100, 60)
        flood = lab.client_process("hellos", program("lab_hellos"), "--to", lab.service(WEB), "--name", "www.example.com", "--rate", 0,
                                   "--at-once", 2000)   # a quarter of the flows that there may be: others than these find room
        wait_for("the flood", lambda: grown(appliance, before, "flows_opened") >= (500 if SLOW_BUILD else 10_000), 60)
        serves(lab)
        within_bounds(appliance)
        report = others.result()
        flood.stop()
    told = json.loads(flood.log.read_text().splitlines()[-1])
    assert told["answered"] > 0 and told["begun"] > told["answered"], told
    assert report["longest_pause_ms"] < 20_000
    appliance.wait_no_flows(60)
    within_bounds(appliance)
    serves(lab)


def test_blind_resets_and_syns(appliance, lab, attacker, context):
    flow = Flow(lab, context)
    before = appliance.counters()
    for _ in range(2000):
        attacker.send(VICTIM, flow.port, ECHO, flow.outside(attacker), 0, RST)
    counted(appliance, before, 2000, "drop_tcp_out_of_window")
    before = appliance.counters()
    for _ in range(200):   # in the window, but not exact: RFC 5961 3.2 and 4.2
        attacker.send(VICTIM, flow.port, ECHO, flow.snd_nxt + attacker.random.randrange(1, 5000), 0, RST)
        attacker.send(VICTIM, flow.port, ECHO, flow.snd_nxt + attacker.random.randrange(1, 5000), 0, SYN)
    counted(appliance, before, 200, "drop_tcp_challenge_ack")
    counted(appliance, before, 200, "drop_tcp_paws")   # the SYNs, for want of a timestamp (RFC 7323 3.2)
    counted(appliance, before, 1, "drop_tcp_challenge_limited")   # ten answers each 250 ms
    flow.echo(b"after")
    within_bounds(appliance)
    serves(lab)


def test_blind_data_and_acks(appliance, lab, attacker, context):
    flow = Flow(lab, context)
    before = appliance.counters()
    dropped = ["drop_tcp_out_of_window", "drop_tcp_paws", "drop_tcp_unacceptable_ack", "drop_tcp_challenge_ack", "drop_tcp_challenge_limited",
               "drop_tcp_no_ack", "drop_tcp_duplicate_octets"]
    for _ in range(3000):
        stamps = b"\1\1\x08\x0a" + struct.pack("!II", attacker.number(), attacker.number())
        attacker.send(VICTIM, flow.port, ECHO, flow.outside(attacker), attacker.number(), ACK | PSH, payload=b"injected", options=stamps)
        attacker.send(VICTIM, flow.port, ECHO, flow.outside(attacker), attacker.number(), ACK, options=stamps)
    counted(appliance, before, 6000, *dropped)
    flow.echo(b"after")
    before = appliance.counters()
    for _ in range(3000):   # of no connection
        attacker.send(ATTACKER, attacker.random.randrange(1024, 65536), ECHO, attacker.number(), attacker.number(), ACK)
    counted(appliance, before, 2900, "drop_tcp_no_connection", "drop_tcp_bad_cookie")
    within_bounds(appliance)
    serves(lab)
    flow.echo(b"afterwards")


def client_hello(context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="www.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_sockstress(appliance, lab, attacker, context):
    """Handshakes that are begun with a window of zero, which never opens: they end when their time is over, and leave nothing."""
    hello = client_hello(context)
    before = appliance.counters()
    ports = range(20000, 20500)
    for port, (seq, ack) in attacker.connect(ports, WEB).items():
        for at in range(0, len(hello), 1400):
            attacker.send(ATTACKER, port, WEB, seq + at, ack, ACK, window=0, payload=hello[at:at + 1400])
    wait_for("their flows", lambda: appliance.show("flows")["total"] >= len(ports), 20)
    within_bounds(appliance)
    serves(lab)
    counted(appliance, before, len(ports), "ended_client_handshake_timeout")
    appliance.wait_no_flows(60)
    within_bounds(appliance)   # what their sender could not get rid of is kept until it may give up
    serves(lab)


def test_slow_readers_in_thousands(appliance, lab):
    """Two thousand clients that ask for more than their windows hold and take an octet every 10 ms."""
    slow = lab.client_process("slow", *slow_client(lab, 2000))
    wait_for("2,000 flows", lambda: appliance.show("flows")["total"] >= 2000, 120)
    # Each holds what its small window leaves of the answer, and its backend the rest.
    wait_for(lambda: f"much to be held: {held(appliance)}", lambda: held(appliance) > 2000, 60)
    within_bounds(appliance)
    serves(lab)
    slow.kill_group()
    appliance.wait_no_flows(120)
    serves(lab)


def slow_client(lab, connections):
    return [program("lab_client"), "--connect", lab.service(ECHO), "--ca", lab.certificates.ca, "--name", "www.example.com", "--connections",
            connections, "--octets", 12_000, "--read-rate", 1, "--receive-buffer", 2048, "--reset-on-exit", "--timeout-ms", 600_000]


def held(appliance):
    return sum(worker["buffers_held"] for worker in appliance.show("workers"))


def held_again(appliance):
    """A little later: workers publish what they hold now and then."""
    time.sleep(0.1)
    return held(appliance)


def test_tiny_segments_out_of_order(appliance, lab, attacker):
    """Every second octet, one a segment: a buffer each, as far as reassembly goes."""
    before, at_first = appliance.counters(), held(appliance)
    connections = attacker.connect(range(21000, 21008), ECHO)
    for at in range(1, 2001, 2):
        for port, (seq, ack) in connections.items():
            attacker.send(ATTACKER, port, ECHO, seq + at, ack, ACK, payload=b"x")
    counted(appliance, before, len(connections) * 700, "drop_tcp_reassembly_full")
    # max_reassembly_segments each, and what a health check holds for a moment.
    assert min(held_again(appliance) for _ in range(10)) - at_first <= len(connections) * 256
    assert appliance.show("flows")["total"] >= len(connections), "they have ended meanwhile, and what they held was given back"
    within_bounds(appliance)
    serves(lab)
    for port, (seq, ack) in connections.items():
        attacker.send(ATTACKER, port, ECHO, seq, ack, RST)
    appliance.wait_no_flows(30)


def test_overlapping_segments_with_different_octets(appliance, lab, attacker, context):
    """Whatever is made of them, it is one stream and not a TLS that anybody meant: it is refused, and costs nobody else anything."""
    hello = client_hello(context)
    before = appliance.counters()
    connections = attacker.connect(range(22000, 22020), WEB)
    for port, (seq, ack) in connections.items():
        for at in range(60, 400, 20):
            attacker.send(ATTACKER, port, WEB, seq + at, ack, ACK, payload=attacker.random.randbytes(attacker.random.randrange(1, 60)))
        attacker.send(ATTACKER, port, WEB, seq, ack, ACK | PSH, payload=hello[:1400])
        attacker.send(ATTACKER, port, WEB, seq + 1400, ack, ACK | PSH, payload=hello[1400:])
    counted(appliance, before, len(connections), "drop_tcp_duplicate_octets")
    within_bounds(appliance)
    serves(lab)
    for port, (seq, ack) in connections.items():
        attacker.send(ATTACKER, port, WEB, seq + len(hello), ack, RST)
    appliance.wait_no_flows(30)
    serves(lab)
