"""An OCSP responder (RFC 6960) and CRL server (RFC 5280 5) that tells the truth until it is told to lie.

It runs in threads of the caller, on the loopback of the namespace that the appliance's kernel side is in:

    with Responder(certificates) as responder:
        responder.lie("/ocsp/demo-issuing", "old")
        ...
        responder.honest()

Each path stands for an authority: /ocsp/NAME answers about what NAME has issued, /crl/NAME has its list. Below /lie/LIE the same
paths always lie like that; liar() gives each of them an address of its own, since those who ask shun one that fails again and
again. `asked` counts requests by path, whatever is answered.
"""

import base64
import collections
import datetime
import hashlib
import http.server
import pathlib
import subprocess
import threading
import time
import urllib.parse

from . import der
from .certificates import RESPONDER

ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
DAY = datetime.timedelta(days=1)
MINUTE = datetime.timedelta(minutes=1)
KEY_COMPROMISE = 1

# What may be wrong with an answer in itself; the rest of the lies are about how it is sent.
OCSP_LIES = ["revoked", "unknown", "old", "not-yet-valid", "wrong-signer", "undelegated", "wrong-serial", "broken-signature", "try-later"]
CRL_LIES = ["old", "not-yet-valid", "wrong-signer", "broken-signature", "empty-of-another"]
SENDING_LIES = ["garbage", "empty", "huge", "slow", "redirect", "500", "cut-off"]


def liar(kind, lie):
    """URL below which everything is a lie. `kind`: "ocsp" or "crl"."""
    lies = (OCSP_LIES if kind == "ocsp" else CRL_LIES) + SENDING_LIES
    port = urllib.parse.urlsplit(RESPONDER).port
    return f"http://127.0.{1 if kind == 'ocsp' else 2}.{lies.index(lie) + 1}:{port}/lie/{lie}"


def sign(key, octets):
    """ECDSA with SHA-256, as DER."""
    return subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(key)], input=octets, capture_output=True, check=True).stdout


def signed(authority_key, to_be_signed, *more, broken=False):
    signature = bytearray(sign(authority_key, to_be_signed))
    if broken:
        signature[-1] ^= 1
    return der.sequence(to_be_signed, ECDSA_SHA256, der.bits(bytes(signature)), *more)


def fields_of(file):
    return der.CertificateFields(der.from_pem(pathlib.Path(file).read_text()))


def ocsp_answer(authority, certificate_ids, lie=None, *, other=None, leaf=None, life=2 * DAY, now=None):
    """DER of an OCSPResponse about `certificate_ids` (CertID, DER each). `other`: an authority that has no say; `leaf`: a certificate of the
    authority's that it has not made a responder."""
    if lie == "try-later":
        return der.sequence(der.tlv(der.ENUMERATED, b"\x03"))
    now = now or datetime.datetime.now(datetime.timezone.utc)
    this_update, next_update = now - 5 * MINUTE, now - 5 * MINUTE + life
    if lie == "old":
        this_update, next_update = now - 12 * DAY, now - 5 * DAY
    if lie == "not-yet-valid":
        this_update, next_update = now + DAY, now + 3 * DAY
    signer_file, signer_key, certificates = authority.file, authority.key, b""
    if lie == "wrong-signer":
        signer_file, signer_key = other.file, other.key
    if lie == "undelegated":
        signer_file, signer_key = leaf
    if lie in ("wrong-signer", "undelegated"):
        certificates = der.explicit(0, der.sequence(der.from_pem(pathlib.Path(signer_file).read_text())))
    answers = []
    for certificate_id in certificate_ids:
        algorithm, name_hash, key_hash, serial = der.children(certificate_id)
        number = int.from_bytes(der.content(serial), "big")
        if lie == "wrong-serial":
            certificate_id = der.sequence(algorithm, name_hash, key_hash, der.integer(number + 1))
        if lie == "revoked" or number in authority.revoked:
            when = authority.revoked.get(number, now - 10 * MINUTE)
            status = der.tlv(0xa1, der.generalized_time(when), der.explicit(0, der.tlv(der.ENUMERATED, bytes([KEY_COMPROMISE]))))
        elif lie == "unknown":
            status = b"\x82\x00"
        else:
            status = b"\x80\x00"
        answers.append(der.sequence(certificate_id, status, der.generalized_time(this_update), der.explicit(0, der.generalized_time(next_update))))
    responder = der.explicit(1, fields_of(signer_file).subject)
    data = der.sequence(responder, der.generalized_time(this_update), der.sequence(*answers))
    basic = signed(signer_key, data, certificates, broken=lie == "broken-signature")
    return der.sequence(der.tlv(der.ENUMERATED, b"\x00"),
                        der.explicit(0, der.sequence(der.oid("1.3.6.1.5.5.7.48.1.1"), der.tlv(der.OCTET_STRING, basic))))


def certificate_id(leaf, issuer):
    """The CertID of a certificate, from its fields and its issuer's (RFC 6960 4.1.1)."""
    return der.sequence(der.sequence(der.oid("1.3.14.3.2.26"), der.tlv(der.NULL)),
                        der.tlv(der.OCTET_STRING, hashlib.sha1(issuer.subject).digest()),
                        der.tlv(der.OCTET_STRING, hashlib.sha1(issuer.key_bits).digest()), leaf.serial)


def crl(authority, lie=None, *, other=None, life=2 * DAY, number=None, now=None):
    """DER of the authority's CertificateList."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    this_update, next_update = now - 5 * MINUTE, now - 5 * MINUTE + life
    if lie == "old":
        this_update, next_update = now - 12 * DAY, now - 5 * DAY
    if lie == "not-yet-valid":
        this_update, next_update = now + DAY, now + 3 * DAY
    named = other if lie == "empty-of-another" else authority
    revoked = [] if lie == "empty-of-another" else [der.sequence(der.integer(serial), der.utc_time(when))
                                                    for serial, when in authority.revoked.items()]
    fields = fields_of(named.file)
    key_id = der.sequence(der.tlv(0x80, hashlib.sha1(fields.key_bits).digest()))
    number = int(now.timestamp() * 1000) if number is None else number   # grows with each list
    extensions = der.explicit(0, der.sequence(
        der.sequence(der.oid("2.5.29.35"), der.tlv(der.OCTET_STRING, key_id)),
        der.sequence(der.oid("2.5.29.20"), der.tlv(der.OCTET_STRING, der.integer(number)))))
    to_be_signed = der.sequence(der.integer(1), ECDSA_SHA256, fields.subject, der.utc_time(this_update), der.utc_time(next_update),
                                *([der.sequence(*revoked)] if revoked else []), extensions)
    key = other.key if lie in ("wrong-signer", "empty-of-another") else authority.key
    return signed(key, to_be_signed, broken=lie == "broken-signature")


def certificate_ids(request):
    """The CertIDs of an OCSPRequest (RFC 6960 4.1.1)."""
    fields = [field for field in der.children(der.children(request)[0]) if field[0] == der.SEQUENCE]   # without version and requestor
    return [der.children(one)[0] for one in der.children(fields[0])]


class Responder:
    def __init__(self, certificates):
        self.certificates = certificates
        self.lies = {}
        self.life = 2 * DAY
        self.asked = collections.Counter()
        self.server = None
        self.ended = threading.Event()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Listens again after stop(), too."""
        self.ended.clear()
        self.server = Server(("0.0.0.0", urllib.parse.urlsplit(RESPONDER).port), self)   # all of 127.0.0.0/8
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self):
        self.ended.set()   # those who answer slowly give up
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def lie(self, path, lie):
        """From now on. A path of CRLs or of OCSP; `lie` is one of those above."""
        known = OCSP_LIES if path.startswith("/ocsp/") else CRL_LIES
        if lie not in known + SENDING_LIES:
            raise ValueError(f"{lie}: no such lie; one of {', '.join(known + SENDING_LIES)}")
        self.lies[path] = lie

    def honest(self):
        self.lies.clear()

    def authority(self, name):
        c = self.certificates
        return next(authority for authority in (c.root, c.issuing, c.internal, c.clients_a, c.clients_b) if authority.name == name)

    def body(self, path, lie, request):
        """What is answered there, but for how it is sent; None: there is nothing."""
        other = self.certificates.other
        try:
            _, kind, name, *rest = path.split("/")
            authority = self.authority(name)
        except (ValueError, StopIteration):
            return None
        if kind == "crl":
            return crl(authority, lie, other=other, life=self.life)
        if kind == "ocsp":
            leaf = tuple(self.certificates.backend if authority is self.certificates.internal else self.certificates.ecdsa)
            return ocsp_answer(authority, certificate_ids(request), lie, other=other, leaf=leaf, life=self.life)
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address, responder):
        self.responder = responder
        super().__init__(address, Answer)

    def handle_error(self, request, client_address):
        pass   # those who ask may hang up whenever they like


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        pass

    def do_GET(self):   # RFC 6960 A.1: the request in base64 behind the path
        path = urllib.parse.unquote(self.path)
        request = b""
        if "/ocsp/" in path:
            before, after = path.split("/ocsp/")
            name, _, encoded = after.partition("/")
            path, request = f"{before}/ocsp/{name}", base64.b64decode(encoded)
        self.answer(path, request)

    def do_POST(self):
        self.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, path, request):
        responder = self.server.responder
        responder.asked[path] += 1
        lie = responder.lies.get(path)
        if path.startswith("/lie/"):
            _, _, lie, path = path.split("/", 3)
            path = "/" + path
        if lie == "500":
            return self.send(500, b"")
        if lie == "redirect":
            responder.asked["redirects sent"] += 1
            return self.send(302, b"", ("Location", f"{RESPONDER}/elsewhere{path}"))
        if lie == "garbage":
            return self.send(200, bytes(range(256)) * 8)
        if lie == "empty":
            return self.send(200, b"")
        if lie == "huge":
            return self.trickle(b"\x30\x84\x7f\xff\xff\xff" + bytes(1 << 20), 1 << 31, pause=0)
        if path.startswith("/elsewhere"):
            path = path.removeprefix("/elsewhere")
            responder.asked["redirects followed"] += 1
        body = responder.body(path, lie, request)
        if body is None:
            return self.send(404, b"")
        if lie == "slow":
            return self.trickle(body, len(body), pause=0.5, piece=1)
        if lie == "cut-off":
            return self.trickle(body[:len(body) // 2], len(body), pause=0, once=True)
        kind = "application/ocsp-response" if "/ocsp/" in path else "application/pkix-crl"
        return self.send(200, body, ("Content-Type", kind))

    def send(self, code, body, *headers):
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def trickle(self, octets, claimed, *, pause, piece=1 << 16, once=False):
        """Sends piece by piece, again and again until as much as was claimed has gone or nobody listens."""
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        self.close_connection = True
        sent = 0
        while sent < claimed and not self.server.responder.ended.is_set():
            for at in range(0, len(octets), piece):
                self.wfile.write(octets[at:at + piece])
                sent += len(octets[at:at + piece])
                if pause:
                    time.sleep(pause)
                if self.server.responder.ended.is_set():
                    return
            if once:
                return
