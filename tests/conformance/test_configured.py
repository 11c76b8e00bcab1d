"""What `dataplane.tcp` of the configuration says: keepalive, user timeouts, Nagle's algorithm. Of times only lower bounds are checked, from a moment on before
the appliance could have begun to count."""

import fcntl
import struct
import termios
import time

import pytest

from . import wire as w
from .flows import octets

BOTH = pytest.mark.parametrize("family", [4, 6])
REQUEST = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"
PROBES, INTERVAL = 5, 15   # Settings::keepalive_probes, keepalive_interval
ROUND_TRIP = 0.5 if w.SLOW else 0.3   # so that the timers do not come before what a test sends

keepalive = pytest.mark.tcp(keepalive_s=1)
user_timeout = pytest.mark.tcp(user_timeout_s=10, user_timeout_option=True)
nagle = pytest.mark.tcp(nagle=True)


def told(seconds):
    """RFC 5482 2.2: kind 28, a bit for minutes, and the value."""
    return struct.pack("!BBH", 28, 4, seconds)


# --- keepalive

@keepalive
@BOTH
def test_idle_connection_is_probed(client, family):
    """RFC 9293 3.8.4: "Keep-alive packets MUST only be sent when no sent data is outstanding, and no data or acknowledgment packets have been received for the connection within an interval (MUST-26)"."""
    peer = client(family=family)
    start = time.monotonic()
    peer.connect()
    peer.expect("A", seq=0, ack=1, length=0)   # SND.NXT - 1, which a peer must answer
    assert time.monotonic() - start >= 1


@keepalive
def test_probe_that_is_answered_changes_nothing(client):
    """RFC 9293 3.8.4: "it is extremely important to remember that ACK segments that contain no data are not reliably transmitted by TCP": a probe asks for one, and with it the connection goes on."""
    peer = client()
    peer.connect()
    peer.expect("A", seq=0, ack=1, length=0)
    peer.send("A", seq=1, ack=1)
    peer.send("PA", seq=1, ack=1, data=REQUEST)
    answer = peer.skim(lambda segment: segment.data)
    assert answer.seq == 1 and answer.ack == 1 + len(REQUEST)


@keepalive
@pytest.mark.long
def test_probes_without_an_answer_end_the_connection(client):
    """RFC 9293 3.8.4: "Consequently, if a keep-alive mechanism is implemented it MUST NOT interpret failure to respond to any specific probe as a dead connection (MUST-29)": after five it is one."""
    peer = client()
    start = time.monotonic()
    peer.connect()
    for probe in range(PROBES):
        peer.expect("A", seq=0, ack=1, length=0, seconds=w.PATIENCE + INTERVAL)
        assert time.monotonic() - start >= 1 + probe * INTERVAL
    reset = peer.expect_reset(seq=1, ack=1, seconds=w.PATIENCE + INTERVAL)
    assert time.monotonic() - start >= 1 + PROBES * INTERVAL and reset.len == 0


@keepalive
def test_unacknowledged_data_is_not_probed(flow):
    """RFC 9293 3.8.4, as above: "no sent data is outstanding"; what comes are retransmissions."""
    f = flow(mss=1000)
    start = time.monotonic()
    f.client.write(octets(1000))
    while time.monotonic() - start < 3:
        f.peer.expect("A", seq=1, ack=1, data=octets(1000))


# --- user timeout

@user_timeout
def test_user_timeout_is_told(client, opening):
    """RFC 5482 3.1: "ADV_UTO ... is the UTO value that is advertised to the remote TCP peer"; 2.2: granularity bit 0, seconds."""
    peer = client()
    assert peer.connect().user_timeout == 10
    _, backend = opening()
    assert backend.expect("S", seq=0).user_timeout == 10


def test_user_timeout_is_not_told_unless_configured(client, opening):
    """RFC 5482 3.1: "ENABLED ... defaults to false"."""
    peer = client()
    assert peer.connect(mss=1000, raw=told(600)).user_timeout is None
    _, backend = opening()
    assert backend.expect("S", seq=0).user_timeout is None


def given_up(f):
    """The client uploads, and its backend acknowledges nothing. Returns how long that was borne."""
    start = time.monotonic()
    f.client.write(octets(1000))
    reset = f.peer.skim(lambda segment: "R" in segment.flags, seconds=w.PATIENCE + 30)
    borne = time.monotonic() - start + 0.005   # moments are kept in milliseconds, rounded either way
    assert reset.seq == 1001 and reset.ack == 1
    f.client.wait_end()
    return borne


@user_timeout
@BOTH
def test_unacknowledged_for_the_user_timeout(flow, family):
    """RFC 9293 3.8.3: "When the number of transmissions of the same segment reaches a threshold R2 greater than R1, close the connection"; "An application MUST (MUST-21) be able to set the value for R2"."""
    assert given_up(flow(family, mss=1000)) >= 10


@user_timeout
def test_user_timeout_of_the_peer_is_followed(flow):
    """RFC 5482 3.1: "USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT))"."""
    assert given_up(flow(mss=1000, raw=told(20))) >= 20


@user_timeout
def test_user_timeout_of_the_peer_below_ours(flow):
    """RFC 5482 3.1, as above: the larger of both."""
    assert given_up(flow(mss=1000, raw=told(1))) >= 10


# --- Nagle

def acknowledged(client):
    """All that the client has written is with the appliance. Nothing wakes who waits for that: it is looked at every few milliseconds, so that no
    retransmission of what the backend was sent comes before it is seen."""
    end = time.monotonic() + w.PATIENCE
    while struct.unpack("i", fcntl.ioctl(client.socket, termios.TIOCOUTQ, bytes(4)))[0] != 0:
        assert time.monotonic() < end, "the appliance does not acknowledge"
        client.world.pump(0.002)


@nagle
@BOTH
def test_small_segment_waits_for_the_acknowledgment(flow, family):
    """RFC 9293 3.7.4: "If there is unacknowledged data (i.e., SND.NXT > SND.UNA), then the sending TCP endpoint buffers all user data (regardless of the PSH bit) until the outstanding data has been acknowledged or until the TCP endpoint can send a full-sized segment"."""
    f = flow(family, mss=1000, round_trip=ROUND_TRIP)
    f.client.write(octets(100))
    f.peer.expect("A", seq=1, data=octets(100))
    for at in (100, 150):
        f.client.write(octets(50, at))
        acknowledged(f.client)
    f.peer.silence()
    f.peer.send("A", seq=1, ack=101)
    f.peer.expect("A", seq=101, data=octets(100, 100))


@nagle
def test_full_segment_does_not_wait(flow):
    """RFC 9293 3.7.4, as above: "or until the TCP endpoint can send a full-sized segment"; what is left over waits."""
    f = flow(mss=1000, round_trip=ROUND_TRIP)
    f.client.write(octets(100))
    f.peer.expect("A", seq=1, data=octets(100))
    f.client.write(octets(50, 100))
    acknowledged(f.client)
    f.peer.silence()
    f.client.write(octets(1000, 150))
    acknowledged(f.client)
    f.peer.expect("A", seq=101, data=octets(1000, 100))
    f.peer.silence()
    f.peer.send("A", seq=1, ack=1101)
    f.peer.expect("A", seq=1101, data=octets(50, 1100))


@nagle
def test_end_does_not_wait(flow):
    """RFC 9293 3.9.1.4 (CLOSE): "send a FIN" after what is queued: nothing can follow that would fill the segment."""
    f = flow(mss=1000, round_trip=ROUND_TRIP)
    f.client.write(octets(100))
    f.peer.expect("A", seq=1, data=octets(100))
    f.client.write(octets(50, 100))
    f.client.finish()
    f.peer.expect("FA", seq=101, data=octets(50, 100))


def test_small_segment_does_not_wait_unless_configured(flow):
    """RFC 9293 3.7.4: "there MUST be a way for an application to disable the Nagle algorithm on an individual connection (MUST-17)": here it is off."""
    f = flow(mss=1000, round_trip=ROUND_TRIP)
    f.client.write(octets(100))
    f.peer.expect("A", seq=1, data=octets(100))
    f.client.write(octets(50, 100))
    f.peer.expect("A", seq=101, data=octets(50, 100))
