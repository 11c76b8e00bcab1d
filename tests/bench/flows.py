"""Flows of the kernel's clients to the echo service, held on core 1 for as long as the block lasts."""

import json
import re
import time

from tests.bench.devices import ECHO_PORT
from tests.lab.lab import LabError, program, tail, wait_for


class Flows:
    """`options` of lab_client: how much each of them sends and how often, or how long it holds."""

    def __init__(self, lab, count, *options, patience=120):
        self.lab, self.count = lab, count
        command = ["taskset", "-c", "1", program("lab_client"), "--connect", lab.service(ECHO_PORT), "--ca", lab.certificates.ca, "--name", "www.example.com",
                   "--connections", count, "--opening", 64, "--timeout-ms", 600_000, *options]
        self.process = lab.client_process("flows", *command)
        wait_for(lambda: f"{count} flows, there are {self.established()}: {tail(self.process.log)}", self.all_there, patience, 0.2)

    def all_there(self):
        if not self.process.running():
            raise LabError(f"the flows have ended: {tail(self.process.log)}")
        return self.established() >= self.count

    def established(self):
        """Where a device has done both of a flow's handshakes: the backend's connections."""
        return len(self.lab.in_namespace("backend", "ss", "-Htn", "state", "established", f"( sport = :{ECHO_PORT} )").stdout.splitlines())

    def wait_until_quiet(self, patience=120):
        """Until the backend has heard and said nothing for two seconds: a connection of its own is there before the device's handshakes are done."""
        def quiet():
            before = self.octets()
            time.sleep(2)
            return self.octets() == before
        wait_for(lambda: f"{self.count} flows that say nothing more: {tail(self.process.log)}", quiet, patience, 0.1)

    def octets(self):
        """Of the backend's connections, both ways."""
        lines = self.lab.in_namespace("backend", "ss", "-Htni", "state", "established", f"( sport = :{ECHO_PORT} )").stdout
        return sum(map(int, re.findall(r"bytes_(?:received|acked):(\d+)", lines)))

    def report(self, patience):
        """What they say when they end by themselves."""
        self.process.child.wait(patience)
        return json.loads(self.process.log.read_text().splitlines()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill_group()
        self.lab.clients.remove(self.process)
        self.lab.processes.remove(self.process)
        self.process.log.unlink()
