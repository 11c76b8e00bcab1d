"""The management socket, spoken to without the CLI: as root, or as another user with groups of the test's choice."""

import base64
import dataclasses
import json
import socket
import subprocess
import sys

# Run by another user, who need not be able to read the checkout: given as text.
ASK = r"""
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n")
answer = b""
while not answer.endswith(b"\n"):
    part = s.recv(1 << 16)
    if not part:
        break
    answer += part
sys.stdout.write(answer.decode())
"""


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


@dataclasses.dataclass
class User:
    uid: int
    groups: tuple = ()

    def ask(self, path, words, arguments=None, said_from=""):
        command = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}",
                   f"--groups={','.join(map(str, self.groups))}" if self.groups else "--clear-groups",
                   sys.executable, "-c", ASK, path, request(words, arguments, said_from)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        return result(done.stdout)


def request(words, arguments=None, said_from=""):
    return json.dumps({"command": words.split(), "arguments": arguments or {}, **({"from": said_from} if said_from else {})})


def result(line):
    answer = json.loads(line)
    if not answer["ok"]:
        raise Refused(**answer["error"])
    return answer["result"]


class Management:
    """One connection, as the user that the tests run as."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def ask(self, words, said_from="", **arguments):
        self.socket.sendall(request(words, arguments, said_from).encode() + b"\n")
        return result(self.file.readline())

    def read_bundle(self, name):
        octets, offset = b"", 0
        while True:
            part = self.ask("support read", file=name, offset=offset)
            octets += base64.b64decode(part["data"])
            offset = part["next"]
            if part["last"]:
                return octets

    def close(self):
        self.file.close()
        self.socket.close()
