"""Programs that people use, as clients."""

import json
import re

import pytest

from tests.lab import network


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(appliance, lab, family, version):
    done = lab.client("curl", "-sS", f"-{family}", "--cacert", lab.certificates.ca, f"--tlsv{version}", "--tls-max", version,
                      "--http1.1", "https://www.example.com/100", text=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (lab.directory / "www/100").read_bytes()


@pytest.mark.needs_appliance
def test_curl_http2(appliance, lab):
    done = lab.client("curl", "-sS", "--http2", "--cacert", lab.certificates.ca, "-w", "%{http_version}",
                      "https://www.example.com/whoami")
    assert done.returncode == 0, done.stderr
    assert "HTTP/2.0" in done.stdout and done.stdout.endswith("2"), done.stdout


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_openssl_s_client(appliance, lab, family, version):
    request = "GET /100 HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
    done = lab.client("openssl", "s_client", "-connect", lab.service(443, family), "-servername", "www.example.com",
                      "-verify_hostname", "www.example.com", "-CAfile", lab.certificates.ca, "-verify_return_error", f"-{version}",
                      "-alpn", "http/1.1", "-ign_eof", input=request)
    assert done.returncode == 0 or lab.lenient, done.stderr
    assert "Verify return code: 0 (ok)" in done.stdout or "Verification: OK" in done.stdout
    assert "HTTP/1.1 200 OK" in done.stdout
    assert "ALPN protocol: http/1.1" in done.stdout


@pytest.mark.parametrize("priority", ["NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"])
def test_gnutls_cli(appliance, lab, priority):
    request = "GET /100 HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
    done = lab.client("sh", "-c", f"(printf '%s' '{request}'; sleep 1) | gnutls-cli --x509cafile {lab.certificates.ca}"
                      f" --priority '{priority}' --alpn http/1.1 -p 443 www.example.com")
    assert "The certificate is trusted" in done.stdout, done.stdout + done.stderr
    assert "HTTP/1.1 200 OK" in done.stdout, done.stdout + done.stderr


def test_gnutls_resumes_with_a_ticket(appliance, lab):
    done = lab.client("sh", "-c", f"(sleep 2) | gnutls-cli --resume --waitresumption --x509cafile {lab.certificates.ca} --priority NORMAL:-VERS-ALL:+VERS-TLS1.3 --alpn http/1.1 -p 443 www.example.com")
    assert "This is a resumed session" in done.stdout, done.stdout + done.stderr


@pytest.mark.needs_appliance
@pytest.mark.parametrize("without, tickets", [("", 2), (":%NO_TICKETS", 0)])
def test_tickets_are_for_who_can_use_them(appliance, lab, without, tickets):
    """RFC 8446 4.2.9: a client that offers no psk_key_exchange_modes."""
    done = lab.client("sh", "-c", f"(sleep 1) | gnutls-cli -d 4 --x509cafile {lab.certificates.ca} --priority NORMAL:-VERS-ALL:+VERS-TLS1.3{without} --alpn http/1.1 -p 443 www.example.com")
    assert "Handshake was completed" in done.stdout, done.stdout + done.stderr
    received = [line for line in done.stderr.splitlines() if "NEW SESSION TICKET" in line and "received" in line]
    assert len(received) == tickets, done.stderr


def test_wrk(appliance, lab):
    done = lab.client("wrk", "-t", "1", "-c", "16", "-d", "2s", "https://www.example.com/1k")
    assert done.returncode == 0, done.stderr
    assert int(re.search(r"(\d+) requests in", done.stdout).group(1)) > 0
    assert "Socket errors" not in done.stdout and "Non-2xx" not in done.stdout, done.stdout


@pytest.mark.needs_appliance
def test_h2load(appliance, lab):
    done = lab.client("h2load", "-n", "2000", "-c", "10", "-m", "10", "https://www.example.com/1k")
    assert done.returncode == 0, done.stderr
    assert "Application protocol: h2" in done.stdout
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout


@pytest.mark.needs_appliance
def test_no_common_alpn_is_refused(appliance, lab):
    done = lab.client("openssl", "s_client", "-connect", lab.service(443), "-servername", "www.example.com",
                      "-alpn", "gopher", "-CAfile", lab.certificates.ca)
    assert done.returncode != 0
    assert "no application protocol" in done.stderr, done.stderr


@pytest.mark.needs_appliance
def test_unknown_name_is_refused(appliance, lab):
    done = lab.client("openssl", "s_client", "-connect", lab.service(443), "-servername", "unknown.example.org",
                      "-CAfile", lab.certificates.ca)
    assert done.returncode != 0
    assert "unrecognized name" in done.stderr, done.stderr


@pytest.mark.needs_appliance
@pytest.mark.parametrize("family", [4, 6])
def test_ping(appliance, lab, family):
    done = lab.client("ping", "-c", "3", "-i", "0.1", "-W", "2", network.APPLIANCE["client"][0 if family == 4 else 1])
    assert " 0% packet loss" in done.stdout, done.stdout


def test_session_is_resumed(appliance, lab):
    session = lab.directory / "session.pem"
    base = ["openssl", "s_client", "-connect", lab.service(443), "-servername", "www.example.com", "-CAfile", lab.certificates.ca,
            "-alpn", "http/1.1"]
    request = "GET /1 HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
    for version in ("-tls1_3", "-tls1_2"):
        first = lab.client(*base, version, "-ign_eof", "-sess_out", session, input=request)
        assert "New, TLSv1" in first.stdout, first.stdout + first.stderr
        second = lab.client(*base, version, "-ign_eof", "-sess_in", session, input=request)
        assert "Reused, TLSv1" in second.stdout, second.stdout + second.stderr
        assert "200 OK" in second.stdout


@pytest.mark.needs_appliance
def test_negotiated_parameters_are_shown(appliance, lab, standard):
    hold = lab.client_process("hold", "sh", "-c", "sleep 3 | openssl s_client -quiet -connect " + lab.service(4433) +
                              f" -servername echo.example.com -CAfile {lab.certificates.ca} -tls1_3 -ciphersuites"
                              " TLS_CHACHA20_POLY1305_SHA256 -groups P-384")
    from tests.lab.lab import wait_for
    flow = wait_for("the flow to be shown", lambda: next((f for f in appliance.flows() if f["state"] == "open"), None))
    hold.kill_group()
    assert flow["service"] == "echo" and flow["pool"] == "echo"
    assert flow["version"] == "TLS 1.3" and flow["suite"] == "TLS_CHACHA20_POLY1305_SHA256"
    assert flow["group"] in ("secp384r1", "P-384")
    assert flow["server_name"] == "echo.example.com"
    assert flow["client"].startswith("192.0.2.100:")
    assert json.dumps(flow)
