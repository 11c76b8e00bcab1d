"""The record layer and the handshake on the wire: cut, spoilt, tiny, full, with new keys."""

import socket
import ssl
import time

import pytest

from tests.lab.lab import wait_for
from .tls_client import TlsClient, context_for, read_all

ECHO = 4433


@pytest.fixture
def context(lab):
    return context_for(lab.certificates.ca, groups="X25519")


def hello_of(context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="www.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_handshake_octet_by_octet(appliance, lab, version):
    context = context_for(lab.certificates.ca, version=version, groups="X25519")
    with TlsClient(ECHO, context) as client:
        def dribble(data):
            for octet in data:
                client.socket.sendall(bytes([octet]))
        client.transmit = dribble
        client.handshake()
        client.write(b"octet by octet")
        assert client.read_exactly(14) == b"octet by octet"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_handshake_cut_at_every_octet(appliance, lab, version):
    """One connection for each place at which the client's octets can be cut in two segments."""
    context = context_for(lab.certificates.ca, version=version, groups="X25519")
    flights = []
    with TlsClient(ECHO, context) as client:
        client.transmit = lambda data: (flights.append(len(data)), client.socket.sendall(data))
        client.handshake()
    total = sum(flights)
    for cut in range(1, total):
        with TlsClient(ECHO, context) as client:
            sent = 0

            def cutting(data):
                nonlocal sent
                at = cut - sent
                sent += len(data)
                if 0 < at < len(data):
                    client.socket.sendall(data[:at])
                    time.sleep(0.0005)
                    data = data[at:]
                client.socket.sendall(data)
            client.transmit = cutting
            client.handshake()
            client.write(b"x")
            assert client.read_exactly(1) == b"x", f"cut after octet {cut} of {total}"


def test_client_hello_over_several_segments(appliance, lab):
    """X25519MLKEM768's key share alone is 1216 octets."""
    context = context_for(lab.certificates.ca)
    assert len(hello_of(context)) > 1300
    for piece in (1, 100, 536, 1000):
        with TlsClient(ECHO, context) as client:
            def pieces(data):
                for at in range(0, len(data), piece):
                    client.socket.sendall(data[at:at + piece])
            client.transmit = pieces
            client.handshake()
            client.write(b"hello")
            assert client.read_exactly(5) == b"hello"


def test_data_with_the_finished(appliance, lab, context):
    """Application data in the same segment as the client's Finished is neither lost nor taken twice."""
    for data in (b"a", b"b" * 16384, b"c" * 40000):
        with TlsClient(ECHO, context) as client:
            held = []
            sending = client.transmit
            client.pump(lambda: held_until_finished(client, held))
            for at in range(0, len(data), 16384):
                client.tls.write(data[at:at + 16384])
            sending(b"".join(held) + client.outgoing.read())
            assert client.read_exactly(len(data)) == data


def held_until_finished(client, held):
    client.tls.do_handshake()
    held.append(client.outgoing.read())


@pytest.mark.parametrize("size", [1, 2, 16383, 16384])
def test_record_sizes(appliance, lab, context, size):
    with TlsClient(ECHO, context).handshake() as client:
        for number in range(20):
            data = bytes([number]) * size
            client.write(data)
            assert client.read_exactly(size) == data


def test_records_of_one_octet(appliance, lab):
    lab.lab_client(ECHO, "--octets", 20_000, "--write-size", 1)
    lab.lab_client(4448, "--octets", 5_000)


def test_empty_records(appliance, lab):
    """RFC 8446 5.1: zero-length fragments of application data may be sent."""
    done = lab.client("sh", "-c", "for i in 1 2 3; do printf x; sleep 0.1; done | timeout 20 openssl s_client -quiet -no_ign_eof "
                      f"-connect {lab.service(ECHO)} -servername www.example.com -CAfile {lab.certificates.ca} -record_padding 512 -tls1_3")
    assert done.stdout == "xxx", done.stderr


class KeyUpdates:
    """That at least so many come in the block, and that those which ask for an answer get one."""

    def __init__(self, appliance, received, sent=1):
        self.appliance, self.received, self.sent = appliance, received, sent

    def now(self):
        counters = self.appliance.counters()
        return counters["key_updates_received"], counters["key_updates_sent"]

    def __enter__(self):
        self.before = self.now()

    def __exit__(self, kind, *_):
        if kind is None:   # workers publish their counters now and then, not at once
            wait_for(lambda: f"{self.received} key updates and {self.sent} answers: {self.before} became {self.now()}",
                     lambda: self.now()[0] - self.before[0] >= self.received and self.now()[1] - self.before[1] >= self.sent, 5)


@pytest.mark.needs_appliance
def test_key_update_from_client(appliance, lab):
    with KeyUpdates(appliance, 4 * 12):
        lab.lab_client(ECHO, "--connections", 4, "--octets", 500_000, "--write-size", 1000, "--key-update-every", 40_000,
                       "--set", "MinProtocol=TLSv1.3")


@pytest.mark.needs_appliance
def test_key_update_from_s_client(appliance, lab):
    """`K` asks for an answering KeyUpdate, `k` does not."""
    with KeyUpdates(appliance, 2):
        done = lab.client("sh", "-c", "(sleep 0.5; echo one; sleep 0.3; echo K; sleep 0.3; echo two; sleep 0.3; echo k; sleep 0.3; echo three; "
                          "sleep 0.5; echo Q) | openssl s_client -connect "
                          f"{lab.service(ECHO)} -servername www.example.com -CAfile {lab.certificates.ca} -tls1_3")
    assert done.stderr.count("KEYUPDATE") == 2, done.stderr
    lines = done.stdout.splitlines()
    assert all(word in lines for word in ("one", "two", "three")), done.stdout


@pytest.mark.needs_appliance
def test_key_update_from_backend(appliance, lab):
    """Each 1,000 octets, which are sent 500 at most at a time."""
    with KeyUpdates(appliance, 4 * (30_000 // 1500 - 1)):
        lab.lab_client(4440, "--connections", 4, "--octets", 30_000)


@pytest.mark.needs_appliance
def test_key_updates_from_both(appliance, lab):
    with KeyUpdates(appliance, 30_000 // 1500 - 1 + 30_000 // 2200 - 1):
        lab.lab_client(4440, "--octets", 30_000, "--write-size", 700, "--key-update-every", 1500, "--set", "MinProtocol=TLSv1.3")


@pytest.mark.needs_appliance
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 1000, 16384])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_corrupted_record(appliance, lab, standard, version, size, where):
    """bad_record_mac, both legs end, and no octet of the record reaches the backend."""
    echo = standard.backends["echo"]
    before = appliance.counters()
    with TlsClient(ECHO, context_for(lab.certificates.ca, version=version)).handshake() as client:
        client.write(b"good")
        assert client.read_exactly(4) == b"good"

        def spoil(data):
            spoilt = bytearray(data)
            header = 13 if version == ssl.TLSVersion.TLSv1_2 else 5   # with the explicit nonce, RFC 5288 3
            at = {"first": header, "middle": (header + len(data)) // 2, "last": len(data) - 1}[where]
            spoilt[min(at, len(data) - 1)] ^= 0x01
            client.socket.sendall(bytes(spoilt))
        client.transmit = spoil
        client.write(b"e" * size)
        client.transmit = client.socket.sendall
        assert "BAD_RECORD_MAC" in client.end()
    closed = wait_for("the backend's leg to end", lambda: echo.events("close"))
    assert closed[0]["received"] == 4
    appliance.wait_no_flows()
    after = appliance.counters()
    assert any("bad_record" in name and after[name] > before.get(name, 0) for name in after), after


@pytest.mark.needs_appliance
def test_record_overflow(appliance, lab, context, standard):
    """RFC 8446 5.2: longer than 2^14 + 256 is record_overflow."""
    with TlsClient(ECHO, context).handshake() as client:
        client.socket.sendall(bytes([23, 3, 3]) + (16384 + 257).to_bytes(2, "big") + bytes(16384 + 257))
        assert "RECORD_OVERFLOW" in client.end()
    assert all(event["received"] == 0 for event in standard.backends["echo"].events("close"))


@pytest.mark.needs_appliance
def test_unexpected_record_type(appliance, lab, context):
    with TlsClient(ECHO, context).handshake() as client:
        client.socket.sendall(bytes([99, 3, 3, 0, 20]) + bytes(20))
        assert "UNEXPECTED_MESSAGE" in client.end()


@pytest.mark.needs_appliance
@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", b"SSH-2.0-OpenSSH_10.0\r\n", bytes(100), b"\x16\x03\x01\x00\x00"],
                         ids=["http", "ssh", "zeros", "empty-handshake-record"])
def test_not_tls(appliance, lab, standard, octets):
    """Never passed through: the connection ends and the backend hears nothing."""
    from tests.lab import network
    with network.connect("client", network.APPLIANCE["client"][0], ECHO) as sock:
        sock.sendall(octets)
        data, _ = read_all(sock)
    assert len(data) <= 7, data   # an alert at most
    appliance.wait_no_flows()
    assert all(event["received"] == 0 for event in standard.backends["echo"].events("close"))


@pytest.mark.needs_appliance
def test_silent_client_is_timed_out(appliance, lab):
    """handshake_timeout_ms, 10 s as default."""
    from tests.lab import network
    with network.connect("client", network.APPLIANCE["client"][0], 443, timeout=20) as sock:
        begun = time.monotonic()
        read_all(sock)
        assert 5 < time.monotonic() - begun < 15


@pytest.mark.needs_appliance
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_client_leaves_in_the_handshake(appliance, lab, context, share):
    from tests.lab import network
    hello = hello_of(context)
    for how in ("fin", "reset"):
        sock = network.connect("client", network.APPLIANCE["client"][0], ECHO)
        sock.sendall(hello[:int(len(hello) * share)])
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
    appliance.wait_no_flows()


def test_renegotiation_is_refused(appliance, lab):
    done = lab.client("sh", "-c", "(sleep 0.5; echo R; sleep 0.5; echo Q) | openssl s_client -connect "
                      f"{lab.service(ECHO)} -servername www.example.com -CAfile {lab.certificates.ca} -tls1_2 -legacy_renegotiation")
    assert "RENEGOTIATING" in done.stderr + done.stdout
    assert "error" in done.stderr.lower(), done.stderr


@pytest.mark.needs_appliance
def test_key_update_flood_is_ended(appliance, lab):
    report = lab.lab_client(ECHO, "--octets", 100_000, "--write-size", 1, "--key-update-every", 1, "--set", "MinProtocol=TLSv1.3", check=False)
    assert report["ok"] == 0, report
    counters = appliance.counters()
    assert counters.get("key_update_flood", 0) > 0 or any("key_update_flood" in name and value for name, value in counters.items())


