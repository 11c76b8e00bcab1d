"""ClientHellos by hand (RFC 8446 4.1.2), for what no TLS library sends; and alerts as they come back."""

import os
import re

from tests.lab import network

# RFC 8446 6 and the extensions that define more
ALERTS = {10: "unexpected message", 40: "handshake failure", 42: "bad certificate", 43: "unsupported certificate", 44: "certificate revoked", 45: "certificate expired",
          46: "certificate unknown", 47: "illegal parameter", 48: "unknown ca", 49: "access denied", 50: "decode error",
          70: "protocol version", 80: "internal error", 86: "inappropriate fallback", 112: "unrecognized name",
          116: "certificate required", 120: "no application protocol", 121: "ech required"}


def alert_in(text):
    """Number of the alert that an error of OpenSSL's is about: in s_client's output, lab_client's failures or ssl.SSLError.reason."""
    if match := re.search(r"alert number (\d+)", str(text)):
        return int(match.group(1))
    words = re.sub(r"[_\W]+", " ", str(text)).lower()
    return next((number for number, name in ALERTS.items() if name in words), None)


def _vector(octets, size):
    return len(octets).to_bytes(size, "big") + octets


def _extension(number, octets):
    return number.to_bytes(2, "big") + _vector(octets, 2)


def client_hello(*, name="www.example.com", version=0x0303, compression=(0,), groups=(0x001d, 0x0017), key_share=True,
                 suites=(0x1301, 0x1302), versions=(0x0304,), more=()):
    """One record with a ClientHello of TLS 1.3. `more`: (number, octets) of further extensions."""
    extensions = [_extension(10, _vector(b"".join(g.to_bytes(2, "big") for g in groups), 2)),
                  _extension(13, _vector(bytes.fromhex("0403080408090501"), 2)),
                  _extension(43, _vector(b"".join(v.to_bytes(2, "big") for v in versions), 1))]
    if name:
        extensions.insert(0, _extension(0, _vector(b"\0" + _vector(name.encode(), 2), 2)))
    if key_share:   # any 32 octets are a public key of X25519
        extensions.append(_extension(51, _vector((0x001d).to_bytes(2, "big") + _vector(os.urandom(32), 2), 2)))
    extensions += [_extension(number, octets) for number, octets in more]
    body = (version.to_bytes(2, "big") + os.urandom(32) + _vector(os.urandom(32), 1)
            + _vector(b"".join(s.to_bytes(2, "big") for s in suites), 2) + _vector(bytes(compression), 1) + _vector(b"".join(extensions), 2))
    handshake = b"\x01" + _vector(body, 3)
    return b"\x16\x03\x01" + _vector(handshake, 2)


def exchange(port, octets, *, family=4, seconds=15):
    """Sends the octets on a new connection and returns all that comes back until the other side ends it."""
    with network.connect("client", network.APPLIANCE["client"][0 if family == 4 else 1], port, seconds) as sock:
        sock.sendall(octets)
        answer = b""
        try:
            while piece := sock.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def alert_record(answer):
    """Number of the alert in clear that an answer ends with; None: there is none."""
    return answer[-1] if len(answer) >= 7 and answer[-7] == 21 else None
