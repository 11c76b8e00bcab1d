"""Port 80 answers 308 to https, and does nothing else (9.1.1)."""

import pytest

from tests.lab import network
from tests.lab.lab import wait_for
from .client_hello import exchange
from .policy_lab import REDIRECT

pytestmark = pytest.mark.needs_appliance


def ask(lines, **more):
    return exchange(REDIRECT, "\r\n".join([*lines, "", ""]).encode(), **more).decode(errors="replace")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_same_host_and_path_over_https(level2, family, method):
    answer = ask([f"{method} /a/b?c=%20d HTTP/1.1", "Host: www.example.com"], family=family)
    assert answer.startswith("HTTP/1.1 308 "), answer
    head = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in answer.split("\r\n")[1:] if ":" in line)}
    assert head["location"] == "https://www.example.com/a/b?c=%20d"
    assert "strict-transport-security" not in head   # means nothing over http (RFC 6797 7.2)
    assert answer.endswith("\r\n\r\n") and head["content-length"] == "0"


def test_curl_follows(level2, lab):
    done = lab.client("curl", "-sS", "-L", "--cacert", lab.certificates.ca, "http://www.example.com/100", text=False)
    assert done.stdout == (lab.directory / "www/100").read_bytes(), done.stderr


@pytest.mark.parametrize("lines", [
    ["GET / HTTP/1.1"],
    ["GET / HTTP/1.1", "Host: www.example.com", "Host: other.example.com"],
    ["GET / HTTP/1.1", "Host: www.example.com/x"],
    ["GET / HTTP/1.1", "Host: a b"],
    ["GET / HTTP/1.1", "Host: user@www.example.com"],
    ["GET / HTTP/1.1", "Host: \"><script>"],
    ["CONNECT www.example.com:443 HTTP/1.1", "Host: www.example.com"],
    ["nonsense"],
    ["GET /" + "a" * 20_000 + " HTTP/1.1", "Host: www.example.com"],
    ["GET /\r\nSet-Cookie: a=b HTTP/1.1", "Host: www.example.com"],
], ids=["no-host", "two-hosts", "host-with-path", "host-with-space", "host-with-user", "host-with-quotes", "connect", "nonsense", "long", "split"])
def test_anything_else_is_refused(level2, lines):
    answer = ask(lines)
    assert answer == "" or answer.startswith("HTTP/1.1 400 "), answer
    assert "Location" not in answer and "script" not in answer and "Set-Cookie" not in answer


def test_tls_on_port_80_gets_nothing(level2, policy_lab):
    done = policy_lab.s_client(REDIRECT)
    assert done.returncode != 0 and "New, TLS" not in done.stdout


def test_slow_request_is_ended(level2):
    """timeout_ms, 5 s as default: a head that never ends holds nothing for long."""
    with network.connect("client", network.APPLIANCE["client"][0], REDIRECT, 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: ")
        try:
            assert sock.recv(1000)[:12] in (b"", b"HTTP/1.1 400")
        except ConnectionResetError:
            pass


def test_is_counted(level2):
    def redirected():
        return sum(value for name, value in level2.counters().items() if name.endswith("redirected"))
    before = redirected()
    ask(["GET / HTTP/1.1", "Host: www.example.com"])
    wait_for("the count", lambda: redirected() == before + 1)
