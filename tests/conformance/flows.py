"""Flows through the appliance: a TLS client on one side, a scripted peer as the backend in plain text on the other."""

import socket
import ssl

from tests.lab import network

from . import wire as w


class Client:
    """A TLS client over the kernel's TCP, or over a scripted `Peer`. It does nothing but when the world is pumped."""

    def __init__(self, world, context, port, family=4, *, peer=None):
        self.world, self.peer = world, peer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="www.example.com")
        self.waiting = b""
        self.plain = b""            # what the appliance has sent us, opened
        self.ended = None           # "close_notify", "FIN" or "reset"
        self.socket = None
        if peer is None:
            self.socket = network.connect("client", network.APPLIANCE["client"][0 if family == 4 else 1], port, timeout=w.PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
            world.sockets[self.socket] = self.readable
        world.clients.append(self)

    def handshake(self):
        done = self.world.pump(w.PATIENCE, self.try_handshake)
        assert done, "the TLS handshake with the appliance has not ended"

    def try_handshake(self):
        if self.peer is not None:
            self.take_segments()
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()

    def take_segments(self, taken=None):
        """Takes in and acknowledges what the scripted end has received; adds it to `taken`."""
        while self.peer.queue:
            segment = self.peer.queue.popleft()
            if taken is not None:
                taken.append(segment)
            if segment.data and segment.seq == self.expected:
                self.expected += len(segment.data)
                self.incoming.write(segment.data)
            if segment.len:
                self.peer.send("A", ack=self.peer.rcv_nxt)

    expected = 1

    def readable(self):
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionError:
            self.end("reset")
            return
        if data:
            self.incoming.write(data)
        else:
            self.end("FIN")
        self.open_records()

    def end(self, how):
        self.ended = self.ended or how
        self.world.sockets.pop(self.socket, None)

    def open_records(self):
        try:
            while True:
                data = self.tls.read(1 << 16)
                if not data:
                    self.ended = "close_notify"
                    return
                self.plain += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.ended = self.ended or "alert"
        finally:
            self.flush()

    def flush(self):
        self.waiting += self.outgoing.read()
        if self.peer is not None:
            while self.waiting:
                self.peer.send("PA", data=self.waiting[:1000], ack=self.expected)
                self.waiting = self.waiting[1000:]
            return
        try:
            while self.waiting:
                self.waiting = self.waiting[self.socket.send(self.waiting):]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.end("reset")

    def write(self, data):
        """One TLS record for at most 16,384 octets: the appliance passes a record on as a whole."""
        self.tls.write(data)
        self.flush()
        self.world.pump(w.PATIENCE, self.flushed)

    def flushed(self):
        self.flush()
        return not self.waiting

    def received(self, octets):
        """Waits until so many octets of application data have come; returns all that have."""
        assert self.world.pump(w.PATIENCE, lambda: len(self.plain) >= octets), f"only {len(self.plain)} octets of {octets} have come"
        return self.plain

    def finish(self):
        """close_notify and FIN: no more from this side."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        self.flush()
        if self.peer is None:
            self.socket.shutdown(socket.SHUT_WR)

    def wait_end(self):
        assert self.world.pump(w.PATIENCE, lambda: self.ended), "the client's side has not ended"
        return self.ended

    def close(self):
        if self.socket is not None:
            self.world.sockets.pop(self.socket, None)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")   # RST, so that the flow ends at once
            self.socket.close()


class Flow:
    """`client` is connected by TLS; `peer` is the backend's end, scripted. `syn` are the options of the backend's SYN,ACK, {} for none."""

    def __init__(self, client, peer):
        self.client, self.peer = client, peer

    def upload(self, *records):
        for record in records:
            self.client.write(record)


def octets(count, start=0):
    """Octets by which their place can be told."""
    return bytes((at * 7 + at // 251 + 3) & 0xFF for at in range(start, start + count))
