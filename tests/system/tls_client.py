"""A TLS client over a raw socket, so that a test can cut, delay, spoil and watch what goes over the wire."""

import socket
import ssl
import struct

from tests.lab import network

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
# RFC 8446 6
CLOSE_NOTIFY, UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW, HANDSHAKE_FAILURE = 0, 10, 20, 22, 40
DECODE_ERROR, PROTOCOL_VERSION, INTERNAL_ERROR, UNRECOGNIZED_NAME = 50, 70, 80, 112


def context_for(ca, *, version=None, groups=None, alpn=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if version:
        context.minimum_version = context.maximum_version = version
    if groups:
        context.set_ecdh_curve(groups)   # one group only
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsClient:
    """One connection. `transmit` may be replaced to change what is sent. close_all() ends those that a test left open."""

    open_sockets = []

    @classmethod
    def close_all(cls):
        for sock in cls.open_sockets:
            sock.close()
        cls.open_sockets.clear()

    def __init__(self, port, context, *, name="www.example.com", family=4, timeout=10):
        self.attach(network.connect("client", network.APPLIANCE["client"][0 if family == 4 else 1], port, timeout), timeout)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)

    def attach(self, sock, timeout):
        self.socket = sock
        self.socket.settimeout(timeout)
        self.open_sockets.append(self.socket)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.transmit = self.socket.sendall
        self.received_fin = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.transmit(data)

    def pump(self, step):
        """Calls `step` until it has what it needs; reads and writes the socket in between."""
        while True:
            try:
                result = step()
                self.flush()
                return result
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                if data:
                    self.incoming.write(data)
                else:
                    self.received_fin = True
                    self.incoming.write_eof()
            except ssl.SSLError:
                try:
                    self.flush()
                except OSError:
                    pass
                raise

    def handshake(self):
        self.pump(self.tls.do_handshake)
        return self

    def write(self, data):
        """As one record (at most 2^14 octets)."""
        self.pump(lambda: self.tls.write(data))

    def read(self, size=65536):
        """b"" after close_notify; ssl.SSLError for an alert or a FIN without close_notify."""
        try:
            return self.pump(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""

    def read_exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.read(size - len(data))
            if not piece:
                raise AssertionError(f"ended after {len(data)} of {size} octets")
            data += piece
        return data

    def close_notify(self):
        """Sends it, without awaiting the other side's."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def end(self):
        """How the connection ends: "close_notify", "fin" (truncated), "reset", or the alert's name in OpenSSL's spelling."""
        try:
            while self.read():
                pass
            return "close_notify"
        except ssl.SSLEOFError:
            return "fin"
        except ssl.SSLError as error:
            return error.reason
        except ConnectionResetError:
            return "reset"


def records(data):
    """(type, whole record) of each record in `data`."""
    at = 0
    while at + 5 <= len(data):
        length = int.from_bytes(data[at + 3:at + 5], "big")
        yield data[at], data[at:at + 5 + length]
        at += 5 + length


def read_all(sock):
    """What a plain socket receives until it ends; None for the end of a reset one."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        return data, "reset"
    return data, "fin"
