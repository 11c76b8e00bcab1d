"""A TCP peer that does exactly what a test says, in the manner of packetdrill: sequence numbers are relative, ours to ISS, theirs to IRS."""

import collections
import random
import time

from . import wire as w

AUTO = object()


class Peer:
    """One end of one connection. `seq` and `ack` left out are the next ones; timestamps go along once both sides have offered them."""

    _ports = iter(range(20000, 60000))

    def __init__(self, wire, local, remote, *, iss=None):
        self.wire, self.world = wire, wire.world
        self.local, self.remote = local, remote
        self.family = 6 if ":" in local[0] else 4
        self.iss = random.getrandbits(32) if iss is None else iss
        self.irs = None
        self.snd_nxt = self.rcv_nxt = 0     # relative
        self.win = 65535                    # the field, not scaled
        self.wscale = 0                     # what we have offered
        self.their_wscale = 0
        self.timestamps = False
        self.ts_offered = False
        self.tsval, self.tsecr = 1000, 0
        self.highest_ack = 0
        self.queue = collections.deque()
        self.ended = False
        self.key = (local[0], local[1], remote[0], remote[1])
        assert self.key not in wire.connections
        wire.connections[self.key] = self
        self.world.peers.append(self)

    # --- made by

    @classmethod
    def to_service(cls, world, port, family=4, *, local_port=None, host=None, **more):
        """A client's end towards a service of the appliance."""
        index = 0 if family == 4 else 1
        address = host or w.HOST["client"][index]
        world.client.hosts.setdefault(w.packed(address), w.MAC)
        return cls(world.client, (address, local_port or next(cls._ports)), (world.client.appliance[index], port), **more)

    # --- out

    def send(self, flags, *, seq=None, ack=None, win=None, data=b"", ts=AUTO, mss=None, wscale=None, sack_permitted=False, sacks=(), raw=b"",
             urgent=0, offset=None, spoil=0, spoil_ip=0, source=None, ip_options=None, **ip):
        """Sends one segment. `sacks` are relative to their sequence numbers; `raw` are option octets; `ts` None leaves timestamps out."""
        if seq is None:
            seq = self.snd_nxt
        if ack is None:
            ack = self.rcv_nxt if "A" in flags else None
        if ts is AUTO:
            ts = (self.tsval, self.tsecr if "A" in flags else 0) if self.timestamps else None
        if "S" in flags:
            self.ts_offered = ts is not None
            self.tsval = ts[0] if ts else self.tsval
            if wscale is not None:
                self.wscale = min(wscale, 14)
            if "A" in flags:
                self.timestamps = self.timestamps_asked and self.ts_offered
        absolute_ack = 0 if ack is None else self.absolute_ack(ack)
        blocks = [tuple((self.irs + edge) & 0xFFFFFFFF for edge in block) for block in sacks]
        opts = w.options(mss=mss, wscale=wscale, sack_permitted=sack_permitted, ts=ts, sacks=blocks, raw=raw)
        segment = w.tcp(source or self.local, self.remote, flags, self.iss + seq, absolute_ack, self.win if win is None else win, opts=opts,
                        data=data, urgent=urgent, offset=offset, spoil=spoil)
        end = seq + len(data) + ("S" in flags) + ("F" in flags)
        if "R" not in flags:
            self.snd_nxt = max(self.snd_nxt, end)
        shown = {"win": win, "ts": ts, "mss": mss, "wscale": wscale, "sack_permitted": sack_permitted, "sacks": list(sacks), "raw": raw}
        self.world.note(self.wire.side, ">", f"{flags} seq {seq} len {len(data)} ack {ack}"
                        + "".join(f" {name}={value}" for name, value in shown.items() if value not in (None, False, [], b"")), self.local[1])
        if ip_options is not None:
            ip["options"] = ip_options
        if spoil_ip:
            ip["spoil"] = spoil_ip
        self.wire.packet(w.ip((source or self.local)[0], self.remote[0], w.TCP, segment, **ip))

    def absolute_ack(self, ack):
        return (ack if self.irs is None else self.irs + ack) & 0xFFFFFFFF

    timestamps_asked = False   # their SYN had timestamps

    # --- in

    def arrives(self, segment):
        if "S" in segment.flags:
            if self.irs is None or segment.seq != self.irs and self.fresh:
                self.irs = segment.seq
            self.timestamps_asked = segment.ts is not None
            if "A" in segment.flags or self.ts_offered:
                self.timestamps = self.ts_offered and segment.ts is not None
            self.their_wscale = segment.wscale or 0
        if "A" in segment.flags:
            segment.ack = self.relative(segment.ack - self.iss)
        if "A" in segment.flags and "R" not in segment.flags:
            self.highest_ack = segment.ack if self.fresh else max(self.highest_ack, segment.ack)
        if self.irs is not None:
            segment.seq = self.relative(segment.seq - self.irs)
            segment.sacks = [(self.relative_to_us(a), self.relative_to_us(b)) for a, b in segment.sacks]
        if segment.ts is not None:
            self.tsecr = segment.ts[0]
        if self.irs is not None and "R" not in segment.flags and segment.seq <= self.rcv_nxt < segment.seq + segment.len:
            self.rcv_nxt = segment.seq + segment.len
        if "R" in segment.flags:
            self.ended = True
        self.world.note(self.wire.side, "<", segment, self.local[1])
        self.queue.append(segment)

    fresh = False   # an IRS may be replaced: the same ports are used for one connection after another

    def relative_to_us(self, seq):
        return self.relative(seq - self.iss)

    @staticmethod
    def relative(difference):
        difference &= 0xFFFFFFFF
        return difference - (1 << 32) if difference >= 1 << 31 else difference

    def receive(self, seconds=None):
        assert self.world.pump(seconds or w.PATIENCE, lambda: self.queue), "nothing has come"
        return self.queue.popleft()

    def expect(self, flags, *, seq=None, ack=None, win=None, data=None, length=None, sacks=None, ts=None, tsecr=None, mss=None, seconds=None):
        """The next segment is this one. Returns it."""
        segment = self.receive(seconds)
        wanted = {"flags": "".join(sorted(flags, key=w.FLAGS.index)), "seq": seq, "ack": ack, "win": win, "data": data, "length": length,
                  "sacks": sacks, "ts": ts, "tsecr": tsecr, "mss": mss}
        found = {"flags": segment.flags, "seq": segment.seq, "ack": segment.ack, "win": segment.win, "data": segment.data,
                 "length": len(segment.data), "sacks": segment.sacks, "ts": segment.ts, "tsecr": segment.ts and segment.ts[1], "mss": segment.mss}
        if "P" not in flags:
            found["flags"] = found["flags"].replace("P", "")   # PSH is of no consequence unless a test asks for it
        wrong = {name: (found[name], value) for name, value in wanted.items() if value is not None and found[name] != value}
        assert not wrong, f"{segment}: " + ", ".join(f"{name} is {is_!r:.80}, expected {should!r:.80}" for name, (is_, should) in wrong.items())
        return segment

    def expect_reset(self, *, seq=None, ack=None, flags=None, seconds=None):
        segment = self.expect(flags or ("R" if ack is None else "RA"), seq=seq, ack=ack, seconds=seconds)
        assert segment.data == b""
        return segment

    def silence(self):
        """All that was sent has been looked at, and nothing came of it."""
        self.wire.settle(self.family)
        assert not self.queue, f"not silent: {self.queue[0]}"

    def skim(self, condition, seconds=None):
        """Takes segments until one fulfils `condition`, which is returned."""
        end = time.monotonic() + (seconds or w.PATIENCE)
        while time.monotonic() < end:
            segment = self.receive(end - time.monotonic())
            if condition(segment):
                return segment
        raise AssertionError("it has not come")

    # --- phrases

    SYN = {"mss": 1000}
    FULL = {"mss": 1000, "wscale": 7, "sack_permitted": True, "ts": (1000, 0)}

    def connect(self, **syn):
        """The three-way handshake of RFC 9293 3.5. Returns the SYN,ACK."""
        self.send("S", seq=0, **(syn or self.SYN))
        answer = self.expect("SA", seq=0, ack=1)
        self.send("A", seq=1, ack=1)
        return answer

    def reset(self):
        """Ends it without a word, whatever became of it."""
        if self.irs is None or self.ended:
            return
        for _ in range(2):
            self.queue.clear()
            self.send("R" if self.highest_ack else "RA", seq=self.highest_ack or 1, ack=None if self.highest_ack else self.rcv_nxt)
            self.wire.settle(self.family)
            if self.ended or not any("A" in segment.flags for segment in self.queue):   # a challenge tells RCV.NXT
                return

    def forget(self):
        self.wire.connections.pop(self.key, None)
        self.world.dead.add(self.key)


class Listener:
    """A backend's port; takes the SYNs that the appliance sends there."""

    def __init__(self, world, port):
        self.world, self.port = world, port
        for address in w.HOST["backend"]:
            world.backend.listening.setdefault((address, port), collections.deque()).clear()

    def queues(self):
        return [self.world.backend.listening[(address, self.port)] for address in w.HOST["backend"]]

    def take(self, **more):
        """The next connection that the appliance opens; its SYN is in the queue."""
        queue = self.world.pump(w.PATIENCE, lambda: next((q for q in self.queues() if q), None))
        assert queue, f"no SYN came to port {self.port}"
        syn = queue.popleft()
        peer = Peer(self.world.backend, (syn.destination, syn.dport), (syn.source, syn.sport), **more)
        peer.syn = syn
        peer.arrives(syn)
        return peer

