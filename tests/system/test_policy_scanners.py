"""What testssl.sh and sslscan find, kept as expectations.

Both ask for TLS 1.2 without extended_master_secret, which the policy refuses (9.4.1): they do not see that we speak it. That and the suites
of 1.2 are in test_matrix.py, with clients that ask properly.
"""

import json
import re

import pytest

from tests.lab import network
from .policy_lab import WEB, policy_count

pytestmark = [pytest.mark.needs_appliance, pytest.mark.long]

ADDRESS = network.APPLIANCE["client"][0]
SUITES = {"TLSv1.3": {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}}


def test_sslscan(level2, lab):
    before = policy_count(level2, "no_extended_master_secret")
    done = lab.client("sslscan", "--no-colour", "--show-sigs", "--connect-timeout=10", "--sni-name=www.example.com", f"{ADDRESS}:{WEB}", timeout=110)
    text = done.stdout
    protocols = dict(re.findall(r"^(SSLv2|SSLv3|TLSv1\.\d)\s+(enabled|disabled)", text, re.MULTILINE))
    assert protocols == {"SSLv2": "disabled", "SSLv3": "disabled", "TLSv1.0": "disabled", "TLSv1.1": "disabled", "TLSv1.2": "disabled",
                         "TLSv1.3": "enabled"}, text
    assert policy_count(level2, "no_extended_master_secret") > before
    accepted = {}
    for version, suite in re.findall(r"^(?:Accepted|Preferred)\s+(TLSv1\.\d)\s+\d+ bits\s+(\S+)", text, re.MULTILINE):
        accepted.setdefault(version, set()).add(suite)
    assert accepted == SUITES, text
    assert re.findall(r"^Preferred\s+TLSv1\.3\s+256 bits\s+(\S+)", text, re.MULTILINE) == ["TLS_AES_256_GCM_SHA384"]
    assert "Session renegotiation not supported" in text, text
    assert "Compression disabled" in text, text
    assert "vulnerable to heartbleed" not in text.replace("not vulnerable to heartbleed", ""), text
    groups = set(re.findall(r"^TLSv1\.[23]\s+\d+ bits\s+(\S+)", text, re.MULTILINE)) - set().union(*SUITES.values())
    assert not {group for group in groups if group.lower().startswith(("ffdhe", "x448", "secp521", "sect", "secp224"))}, groups
    assert not re.findall(r"^TLSv1\.[23]\s+(rsa_pkcs1\S*|\S*sha1\S*)", text, re.MULTILINE), text


@pytest.mark.timeout(300)
def test_testssl(level2, lab):
    """Protocols and vulnerabilities; without the parts that try hundreds of suites one by one, which sslscan does faster."""
    findings_file = lab.directory / "testssl.json"
    findings_file.unlink(missing_ok=True)
    lab.client("testssl", "--quiet", "--warnings", "off", "--color", "0", "--nodns", "none", "--ip", ADDRESS, "--add-ca", lab.certificates.ca,
               "--connect-timeout", "10", "--openssl-timeout", "10", "--protocols", "--heartbleed", "--ccs-injection", "--ticketbleed",
               "--robot", "--renegotiation", "--crime", "--tls-fallback", "--jsonfile", findings_file, f"https://www.example.com:{WEB}/", timeout=280)
    findings = {finding["id"]: finding for finding in json.loads(findings_file.read_text())}
    for protocol in ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2"):
        assert findings[protocol]["finding"].startswith("not offered"), findings[protocol]
    assert findings["TLS1_3"]["finding"].startswith("offered"), findings["TLS1_3"]
    bad = {name: finding for name, finding in findings.items() if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN")}
    for name in KNOWN:
        bad.pop(name, None)
    assert not bad, bad
    for name in ("heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_client_renego", "CRIME_TLS"):
        assert findings[name]["severity"] in ("OK", "INFO", "LOW"), findings[name]
    assert findings["fallback_SCSV"]["severity"] in ("OK", "INFO"), findings["fallback_SCSV"]


# What it says of its own means, and of any server on which it sees no TLS 1.2.
KNOWN = {
    "scanProblem": "its own clock and network",
    "engine_problem": "its own OpenSSL",
    "NPN": "a protocol of TLS 1.2 and before, which nobody speaks any more",
}
