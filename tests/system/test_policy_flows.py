"""What the policy refuses in a flow, from clients and from backends: the right alert, the counter, and not one octet passed on."""

import hashlib
import os
import ssl

import pytest

from tests.lab import network
from tests.lab.lab import wait_for
from .client_hello import alert_in, alert_record, client_hello, exchange
from .policy_lab import (ECHO, IDENTIFIED, NAME_LIST, NOT_TLS, OLD_SUITE, OLD_VERSION, PINNED, REFUSED_BACKENDS, WEB, WRONG_PIN, Counted,
                         control_log, requirements)
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

OLD = ["-cipher", "ALL@SECLEVEL=0"]

# By name: what is counted, the alert, and what s_client is asked to offer.
REFUSED_CLIENTS = {
    "version-1.1": ("client_version", 70, ["-tls1_1", *OLD]),
    "version-1.0": ("client_version", 70, ["-tls1", *OLD]),
    "cbc-sha1": ("client_suite", 40, ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"]),
    "cbc-sha384": ("client_suite", 40, ["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"]),
    "rsa-key-transport": ("client_suite", 40, ["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-GCM-SHA384"]),
    "finite-field-dh": ("client_suite", 40, ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"]),
    "ccm": ("client_suite", 40, ["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"]),
    "ffdhe2048": ("client_group", 40, ["-tls1_3", "-groups", "ffdhe2048"]),
    "x448": ("client_group", 40, ["-tls1_3", "-groups", "X448"]),
    "p-521-on-1.2": ("client_group", 40, ["-tls1_2", "-groups", "P-521"]),
    "pkcs1-v1.5": ("client_signature_scheme", 40, ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-sigalgs", "RSA+SHA256"]),
    "no-extended-master-secret": ("no_extended_master_secret", 40, ["-tls1_2", "-no_ems"]),
    "fall-back": ("downgrade", 86, ["-tls1_2", "-fallback_scsv"]),
    "unknown-protocol": ("no_application_protocol", 120, ["-alpn", "gopher"]),
    "unknown-name": ("unknown_name", 112, ["-servername", "unknown.example.org"]),
}


@pytest.mark.parametrize("what", REFUSED_CLIENTS)
def test_client_is_refused(level2, policy_lab, what):
    violation, alert, options = REFUSED_CLIENTS[what]
    port = WEB if "-alpn" in options else ECHO
    with Counted(level2, violation):
        done = policy_lab.s_client(port, *options, name="unknown.example.org" if what == "unknown-name" else "www.example.com", send="secret")
        assert done.returncode != 0
        assert alert_in(done.stderr) == alert, done.stderr
    level2.wait_no_flows()
    assert policy_lab.received("echo") == 0


def test_compression_is_refused(level2, policy_lab):
    """RFC 8446 4.1.2: a ClientHello of TLS 1.3 has the one compression method null."""
    with Counted(level2, "compression"):
        assert alert_record(exchange(ECHO, client_hello(compression=(1, 0)))) == 47
    assert policy_lab.received("echo") == 0


def test_compression_of_tls12_is_not_done(level2):
    """A client that offers DEFLATE beside null, in a ClientHello of 1.2, is answered with null (RFC 5246 7.4.1.3)."""
    hello = client_hello(version=0x0303, versions=(0x0303,), suites=(0xc02b, 0xc02f), compression=(1, 0), key_share=False, more=[(23, b""), (11, b"\x01\x00")])
    with network.connect("client", network.APPLIANCE["client"][0], ECHO, 15) as sock:
        sock.sendall(hello)
        answer = b""
        while len(answer) < 5 + 4 + 2 + 32 + 1 or len(answer) < 5 + 4 + 2 + 32 + 1 + answer[43] + 3:
            piece = sock.recv(65536)
            assert piece, answer
            answer += piece
    assert (answer[0], answer[5]) == (22, 2), answer   # a handshake record with a ServerHello
    assert answer[44 + answer[43] + 2] == 0, answer    # behind session id and suite


def test_early_data_is_skipped(level2, policy_lab):
    """The client is told nothing of it and its octets go nowhere (RFC 8446 4.2.10): the handshake goes on behind them, to which a Finished that
    does not open is the end, where early data that were taken for a record of the handshake would have been."""
    hello = client_hello(more=[(42, b"")])
    early = b"\x17\x03\x03\x00\x40" + os.urandom(64)
    with Counted(level2, "early_data"):
        with network.connect("client", network.APPLIANCE["client"][0], ECHO, 15) as sock:
            sock.sendall(hello + early * 3)
            answer = sock.recv(65536)
            assert (answer[0], answer[5]) == (22, 2), answer   # a ServerHello, and no alert
            sock.settimeout(1)
            with pytest.raises(TimeoutError):                  # it waits for the Finished
                while piece := sock.recv(65536):
                    assert piece[0] != 21, piece
    level2.wait_no_flows()
    assert policy_lab.received("echo") == 0


def test_tickets_allow_no_early_data(level2, policy_lab):
    done = policy_lab.s_client(ECHO, "-tls1_3", send="x", wait=0.5)
    assert "Max Early Data: 0" in done.stdout, done.stdout


def test_renegotiation_is_refused(level2, policy_lab):
    """s_client asks for it by a line with an R, and is told no (RFC 5746 4.5, RFC 5246 7.2.2)."""
    before = level2.counters()["renegotiations_refused"]
    done = policy_lab.s_client(ECHO, "-tls1_2", send="R\n", wait=1)
    assert "RENEGOTIATING" in done.stdout + done.stderr, done.stdout + done.stderr
    assert "no renegotiation" in done.stderr, done.stderr
    level2.wait_no_flows()
    assert level2.counters()["renegotiations_refused"] == before + 1


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", b"SSH-2.0-OpenSSH_9.9\r\n", bytes(64), b"\x80\x2e\x01\x00\x02",
                                   b"\x17\x03\x03\x00\x10" + bytes(16)], ids=["http", "ssh", "zeros", "sslv2", "application-data"])
def test_no_tls_is_dropped(level2, policy_lab, first):
    """Plain HTTP and garbage on a TLS port: no answer in clear, nothing for the backend (9.1.1)."""
    with Counted(level2, "plain_text"):
        answer = exchange(WEB, first)
        assert len(answer) in (0, 7), answer   # nothing, or an alert
        assert not answer or answer[0] == 21
    level2.wait_no_flows()
    assert requirements(level2)["9.1.1"]["state"] == "ok"   # clear octets forwarded: none


def test_failed_handshake_never_becomes_pass_through(level2, policy_lab):
    """What follows a refused ClientHello goes nowhere."""
    answer = exchange(ECHO, client_hello(suites=(0x1304,)) + b"secret" * 100)
    assert alert_record(answer) == 40
    level2.wait_no_flows()
    assert policy_lab.received("echo") == 0


def test_no_control_no_service(level2, policy_lab):
    """9.1.1: without the process that knows the policy, new connections get nothing."""
    level2.kill_control()
    try:
        answer = exchange(ECHO, client_hello(), seconds=20)
        assert b"secret" not in answer and answer[:1] in (b"", b"\x15")
    finally:
        level2.start_control()
        level2.wait_ready()
    assert policy_lab.received("echo") == 0


# --- backends

@pytest.fixture(scope="module")
def capture(policy_lab, lab):
    """Everything that goes to the backends from here to the end of the module's backend tests."""
    with lab.capture("backend", lab.directory / "bad-backends.pcap", "dst", "portrange", "4610-4650") as file:
        yield file


def record_types(file):
    """By port: types of the TLS records that the appliance sent there, and all octets that it sent."""
    from scapy.all import IP, TCP, IPv6, PcapReader
    streams = {}
    with PcapReader(str(file)) as packets:
        for packet in packets:
            if TCP not in packet:
                continue
            segment, ip = packet[TCP], packet[IP] if IP in packet else packet[IPv6]
            payload = bytes(segment.payload)[:ip.len - ip.ihl * 4 - segment.dataofs * 4] if IP in packet else bytes(segment.payload)
            if payload:
                streams.setdefault((segment.dport, segment.sport), {})[segment.seq] = payload
    seen = {}
    for (port, _), segments in streams.items():
        octets = b"".join(segments[seq] for seq in sorted(segments))
        types, everything = seen.get(port, (set(), b""))
        at = 0
        while at + 5 <= len(octets):
            types.add(octets[at])
            at += 5 + int.from_bytes(octets[at + 3:at + 5], "big")
        seen[port] = types, everything + octets
    return seen


SECRET = b"clear secret octets"


def knock(port, lab):
    """Connects, sends if it may; returns how it ended."""
    with TlsClient(port, context_for(lab.certificates.ca), timeout=30) as client:
        try:
            client.handshake()
            client.write(SECRET)
            assert client.read() == b""
            return "close_notify"
        except ssl.SSLEOFError:
            return "fin"
        except ssl.SSLError as error:
            return error.reason
        except (ConnectionResetError, BrokenPipeError):
            return "reset"


@pytest.mark.parametrize("what", REFUSED_BACKENDS)
def test_backend_is_refused(level2, policy_lab, lab, capture, what):
    violation, alert = REFUSED_BACKENDS[what]
    if what == "revoked":
        wait_for("the CRL to be fetched", lambda: policy_lab.responder.asked["/crl/internal-ca"], 15)
    with Counted(level2, violation):
        how = knock(policy_lab.ports[what], lab)
        assert how not in ("reset", "fin"), how   # an orderly end or an alert, as for any failure behind the appliance
    level2.wait_no_flows()
    assert policy_lab.received(what) == 0
    refused = policy_lab.backends[what].events("refused")
    assert refused and (alert is None or alert_in(refused[0]["error"]) == alert), refused


OTHER_BACKENDS = {
    "wrong-pin": (WRONG_PIN, "backend_not_trusted", 48),
    "name-list": (NAME_LIST, "backend_name_not_allowed", 49),
    "not-tls": (NOT_TLS, "backend_not_tls", None),
    "old-suite": (OLD_SUITE, "backend_suite", None),       # the backend finds nothing in common and says so itself
    "old-version": (OLD_VERSION, "backend_version", None),
}


@pytest.mark.parametrize("what", OTHER_BACKENDS)
def test_backend_outside_the_policy(level2, policy_lab, lab, capture, what):
    port, violation, alert = OTHER_BACKENDS[what]
    with Counted(level2, violation):
        how = knock(port, lab)
        assert how not in ("reset", "fin"), how
    level2.wait_no_flows()
    if what != "not-tls":   # to that one, everything is application data
        assert policy_lab.received(what) == 0
    if alert:
        events = [event for event in policy_lab.backends[what].events() if event.get("error")]
        assert events and alert_in(events[0]["error"]) == alert, events


def test_nothing_was_passed_on(level2, capture):
    """The capture of the two tests before: on TLS 1.2 application data has a record type of its own, 23 (RFC 8446 B.1)."""
    seen = record_types(capture)
    assert len(seen) >= len(REFUSED_BACKENDS), sorted(seen)
    for port, (types, octets) in seen.items():
        assert SECRET not in octets, port
        if port < PINNED or port in (OLD_SUITE, OLD_VERSION):
            assert 23 not in types, (port, types)
    assert seen[NOT_TLS][0] <= {21, 22}, seen[NOT_TLS]   # a ClientHello and perhaps an alert; never a retry in clear


def test_pinned_backend_is_believed(level2, policy_lab, lab):
    lab.lab_client(PINNED, "--octets", 10_000)


def test_backend_that_asks_gets_the_certificate(level2, policy_lab, lab):
    lab.lab_client(IDENTIFIED, "--connections", 3, "--concurrent", 1, "--octets", 10_000)
    opened = policy_lab.backends["identified"].events("open")
    assert len(opened) == 3 and all(event["client"] == "CN=appliance.example.net" for event in opened), opened


def test_anchor_is_shown(level2, policy_lab, lab):
    """9.3.2: which anchor a backend's certificate led to."""
    for port, anchor in ((ECHO, "Internal Root"), (PINNED, "pin")):
        with TlsClient(port, context_for(lab.certificates.ca)).handshake() as client:
            client.write(b"x")
            client.read_exactly(1)
            flow = wait_for("the flow", lambda: next((f for f in level2.flows() if f["backend_suite"]), None))
            assert anchor in flow["anchor"], flow
        level2.wait_no_flows()


def failures(appliance):
    return appliance.show("failures")["failures"]


def test_failure_leaves_one_record(level2, policy_lab, lab):
    """Source, service, names, what was offered, fingerprint, alert and whose, requirement: in the list of failures and in the log."""
    known, logged = len(failures(level2)), control_log(lab).count("t12d")
    policy_lab.s_client(ECHO, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384")
    wait_for("the failure", lambda: len(failures(level2)) > known)
    assert len(failures(level2)) == known + 1
    failure = failures(level2)[0]
    assert failure["side"] == "client" and failure["source"].startswith(f"{network.CLIENT_ADDRESSES[0]}:")
    assert failure["service"] == "echo" and failure["server_name"] == "www.example.com"
    assert (failure["violation"], failure["requirement"], failure["final_requirement"]) == ("client_suite", "9.4.1", "12.1.2")
    assert failure["alert"] == 40 and failure["alert_by"] == "us"
    assert failure["ja4"].startswith("t12d"), failure["ja4"]
    assert failure["versions"] and failure["groups"] and failure["signature_schemes"] and failure["suites"]
    assert control_log(lab).count("t12d") == logged + 1


def ja4_of(hello):
    """JA4 of a ClientHello of client_hello() with a name, TLS 1.3 and no ALPN, by the format's description, from what is in the record."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    length = int.from_bytes(hello[at:at + 2], "big")
    suites = sorted(hello[at + 2 + i:at + 4 + i].hex() for i in range(0, length, 2))
    at += 2 + length
    at += 1 + hello[at] + 2
    extensions = {}
    while at < len(hello):
        number, size = hello[at:at + 2].hex(), int.from_bytes(hello[at + 2:at + 4], "big")
        extensions[number] = hello[at + 4:at + 4 + size]
        at += 4 + size
    schemes = extensions["000d"][2:]
    rest = ",".join(sorted(set(extensions) - {"0000"})) + "_" + ",".join(schemes[i:i + 2].hex() for i in range(0, len(schemes), 2))
    hashed = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in (",".join(suites), rest)]
    return f"t13d{len(suites):02}{len(extensions):02}00_{hashed[0]}_{hashed[1]}"


def test_fingerprint_has_extensions_that_no_library_knows(level2):
    """JA4 is the same as anyone's who saw the ClientHello on the wire: with record_size_limit, a browser's application settings, and a private one."""
    known = len(failures(level2))
    hello = client_hello(suites=(0x1304, 0x1305), more=((28, b"\x40\x01"), (0x44cd, b"\x00\x03\x02h2"), (0xfafb, b"")))
    exchange(ECHO, hello)
    wait_for("the failure", lambda: len(failures(level2)) > known)
    assert failures(level2)[0]["ja4"] == ja4_of(hello)


def test_failure_of_a_backend_leaves_one_record(level2, policy_lab, lab):
    known = len(failures(level2))
    knock(policy_lab.ports["wrong-name"], lab)
    new = wait_for("the failure", lambda: [f for f in failures(level2)[:len(failures(level2)) - known] if f["side"] == "backend"])
    assert len(new) == 1, new
    assert new[0]["violation"] == "backend_wrong_name" and new[0]["pool"] == "wrong-name"
    assert "elsewhere.example.net" in new[0]["peer_subject"], new[0]


def test_gnutls_is_held_to_the_policy(level2, policy_lab, lab):
    """An independent stack: what it may not have, and what it gets."""
    for priority, works in (("NORMAL:-VERS-ALL:+VERS-TLS1.1", False), ("NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC", False),
                            ("NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA", False), ("NORMAL:-VERS-ALL:+VERS-TLS1.3", True)):
        done = lab.client("sh", "-c", f"sleep 0.5 | gnutls-cli --x509cafile {lab.certificates.ca} --priority '{priority}' -p {ECHO} www.example.com")
        assert ("Handshake was completed" in done.stdout) == works, (priority, done.stdout, done.stderr)
