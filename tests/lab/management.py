"""A client of control's management socket: JSON lines, one request at a time."""

import contextlib
import json
import os
import pwd
import socket


class Refused(RuntimeError):
    """Control's error: `code` and what it says."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


@contextlib.contextmanager
def effective_user(name):
    """The peer that a socket has is the effective user at connect()."""
    if name is None:
        yield
        return
    before = os.geteuid()
    os.seteuid(pwd.getpwnam(name).pw_uid)
    try:
        yield
    finally:
        os.seteuid(before)


class Management:
    def __init__(self, path="/run/sallyport/control.sock", *, user=None, timeout=60):
        self.path, self.user, self.timeout = path, user, timeout

    def call(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(self.timeout)
            with effective_user(self.user):
                connection.connect(self.path)
            request = {"version": 1, "id": 1, "command": command.split(), "arguments": arguments}
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                piece = connection.recv(1 << 16)
                if not piece:
                    raise ConnectionError("control ended the connection")
                line += piece
        answer = json.loads(line)
        if answer["ok"]:
            return answer["result"]
        raise Refused(answer["error"]["code"], answer["error"]["text"])


class Candidate:
    """Someone's configuration mode."""

    def __init__(self, management, **arguments):
        self.management = management
        self.opened = management.call("configuration open", **arguments)
        self.session = self.opened["session"]

    def call(self, what, **arguments):
        return self.management.call(f"configuration {what}", session=self.session, **arguments)

    def set(self, words):
        return self.call("set", path=words.split())

    def delete(self, words):
        return self.call("delete", path=words.split())

    def commit(self, **arguments):
        """Done, or the test fails with its problems."""
        answer = self.call("commit", **arguments)
        assert answer["done"], answer
        return answer

    def close(self):
        return self.call("close", discard=True)
