"""RFC 4987: what happens when more connections are half open than are kept. Afterwards an ACK of no connection is not answered for two minutes, so this is
the last of the tests."""

import ssl

import pytest

from tests.system.tls_client import context_for

from . import wire as w
from .conftest import HALF_OPEN, PATIENT_REDIRECT, POOLS

pytestmark = pytest.mark.last
FLOODER = "192.0.2.30"
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"


class Flood:
    """So many SYNs of one host, none of which it goes on with."""

    def __init__(self, world, appliance):
        self.wire, self.appliance = world.client, appliance
        self.wire.hosts[w.packed(FLOODER)] = w.MAC
        self.remote = (self.wire.appliance[0], PATIENT_REDIRECT)
        self.ports = range(20000, 20000 + HALF_OPEN + 50)

    def segment(self, port, flags, seq):
        self.wire.packet(w.ipv4(FLOODER, self.remote[0], w.TCP, w.tcp((FLOODER, port), self.remote, flags, seq, 0, 65535)))

    def begin(self):
        for port in self.ports:
            self.segment(port, "S", 1000)
            if port % 100 == 0:
                self.wire.settle()
        self.wire.settle()
        self.answers = {segment.dport: segment for segment in self.wire.strays if segment.destination == FLOODER and segment.flags == "SA"}
        return self

    def end(self):
        for port in self.ports:
            self.segment(port, "R", 1001)
            if port % 100 == 0:
                self.wire.settle()
        self.wire.settle()
        self.wire.strays.clear()


@pytest.fixture
def flood(world, appliance):
    flood = Flood(world, appliance).begin()
    yield flood
    flood.end()


def counter(appliance, name):
    return appliance.counters()[name]


def test_every_syn_is_answered(flood, appliance):
    """RFC 4987 3.6: "SYN cookies go further and allocate no state at all for connections in SYN-RECEIVED": beyond the bound SYNs are still answered, all of them."""
    assert set(flood.answers) >= set(list(flood.ports)[-40:])
    assert counter(appliance, "tcp_cookies_sent") > 0


@pytest.mark.parametrize("family", [4, 6])
def test_cookie_completes(flood, client, appliance, family):
    """RFC 4987 3.6: "the acknowledgement number (along with several other fields) in the ACK that completes the handshake can be used to reconstruct the state to be put into the TCB": the connection
    is as any other."""
    accepted = counter(appliance, "tcp_cookies_accepted")
    peer = client(PATIENT_REDIRECT, family)
    peer.connect()
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data.startswith(b"HTTP/1.1 308 ")
    assert counter(appliance, "tcp_cookies_accepted") == accepted + 1


def test_cookie_completes_with_text(flood, client):
    """RFC 4987 3.6: the ACK that completes it may be that of the first data, when the third segment was lost."""
    peer = client()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data.startswith(b"HTTP/1.1 308 ")


def test_cookie_keeps_window_scale_and_sack(flood, client):
    """RFC 4987 3.6, on options that cookies lose; with timestamps they do not: the window of 1 means 128 octets (shift 7), and what comes out of order is reported."""
    peer = client()
    peer.send("S", seq=0, mss=1000, wscale=7, sack_permitted=True, ts=(1000, 0))
    answer = peer.expect("SA", seq=0, ack=1)
    assert answer.wscale is not None and answer.sack_permitted and answer.ts is not None
    peer.send("A", seq=1, ack=1, win=1)
    peer.send("A", seq=11, data=REQUEST[10:], win=1)
    assert peer.skim(lambda segment: segment.sacks).sacks == [(11, 1 + len(REQUEST))]
    peer.send("A", seq=1, data=REQUEST[:10], win=1)
    assert len(peer.skim(lambda segment: segment.data).data) == 128


def test_cookie_without_timestamps_has_no_other_options(flood, client):
    """RFC 4987 3.6: without timestamps there is no place to remember them, so they are not offered: neither side then uses what the other does not know of."""
    peer = client()
    peer.send("S", seq=0, mss=1000, wscale=7, sack_permitted=True)
    answer = peer.expect("SA", seq=0, ack=1)
    assert answer.wscale is None and not answer.sack_permitted and answer.mss == 1460


@pytest.mark.parametrize("mss, length", [(1460, 1460), (1440, 1440), (1400, 1400), (1399, 1360), (1300, 1280), (700, 536), (None, 536)])
def test_cookie_keeps_the_mss(flood, client, lab, mss, length):
    """RFC 4987 3.6: the cookie has room for an approximation of the MSS: never more than the peer said."""
    peer = client(POOLS[4][0])
    peer.connect(**({"mss": mss} if mss else {"win": 65535}))
    out = ssl.MemoryBIO()
    tls = context_for(lab.certificates.ca).wrap_bio(ssl.MemoryBIO(), out, server_hostname="www.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = out.read()
    for at in range(0, len(hello), 500):
        peer.send("PA", data=hello[at:at + 500])
    assert len(peer.skim(lambda segment: segment.data).data) == length


@pytest.mark.parametrize("off", [1, -1, 1 << 24, 1 << 31])
def test_guessed_cookie(flood, client, off):
    """RFC 4987 3.6: the cookie cannot be forged; one that is not ours makes no connection, and (Where we deviate) has no answer."""
    peer = client()
    peer.send("S", seq=0, mss=1000)
    peer.expect("SA", seq=0, ack=1)
    peer.send("A", seq=1, ack=1 + off)
    peer.silence()
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", seq=1).data


def test_cookie_of_another_connection(flood, client):
    """RFC 4987 3.6: the cookie is of the sockets and of the peer's ISN: it completes nothing else."""
    one, other = client(), client()
    one.send("S", seq=0, mss=1000)
    cookie = one.expect("SA", seq=0, ack=1).abs_seq
    other.irs = cookie
    other.send("A", seq=1, ack=1)
    other.silence()
    one.send("A", seq=50, ack=1)
    one.silence()
    one.send("PA", seq=1, ack=1, data=REQUEST)
    assert one.expect("FA", seq=1).data


def test_cookies_look_random(flood):
    """RFC 6528 1: sequence numbers that can be guessed let others in: cookies differ in their high bits too."""
    numbers = [flood.answers[port].abs_seq for port in list(flood.ports)[-40:]]
    assert len({number >> 24 for number in numbers}) > 10 and len(set(numbers)) == len(numbers)


def test_established_connections_do_not_notice(client, world, appliance):
    """RFC 4987 1: "SYN flooding" fills what is half open; connections that are open go on."""
    peer = client()
    peer.connect()
    flood = Flood(world, appliance).begin()
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    assert peer.expect("FA", seq=1, ack=1 + len(REQUEST)).data
    flood.end()


def test_half_open_connections_end_by_reset(world, appliance, client):
    """RFC 9293 3.10.7.4, SYN-RECEIVED: "return this connection to LISTEN state": when the flood has been reset there are no cookies any more."""
    Flood(world, appliance).begin().end()
    before = counter(appliance, "tcp_cookies_sent")
    client().connect()
    assert counter(appliance, "tcp_cookies_sent") == before
