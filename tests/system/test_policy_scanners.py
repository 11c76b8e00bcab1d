"""What testssl.sh and sslscan find, kept as expectations."""

import json
import re

import pytest

from tests.lab import network
from .policy_lab import WEB

pytestmark = [pytest.mark.needs_appliance, pytest.mark.long]

ADDRESS = network.APPLIANCE["client"][0]
SUITES = {"TLSv1.3": {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"},
          "TLSv1.2": {f"ECDHE-{kind}-{suite}" for kind in ("ECDSA", "RSA") for suite in ("AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-GCM-SHA256")}}


def test_sslscan(level2, lab):
    done = lab.client("sslscan", "--no-colour", "--show-sigs", "--connect-timeout=10", "--sni-name=www.example.com", f"{ADDRESS}:{WEB}", timeout=110)
    text = done.stdout
    protocols = dict(re.findall(r"^(SSLv2|SSLv3|TLSv1\.\d)\s+(enabled|disabled)", text, re.MULTILINE))
    assert protocols == {"SSLv2": "disabled", "SSLv3": "disabled", "TLSv1.0": "disabled", "TLSv1.1": "disabled", "TLSv1.2": "enabled",
                         "TLSv1.3": "enabled"}, text
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
    """Protocols, categories of suites, server's preference, vulnerabilities; without the parts that try hundreds of suites one by one."""
    findings_file = lab.directory / "testssl.json"
    findings_file.unlink(missing_ok=True)
    lab.client("testssl", "--quiet", "--warnings", "off", "--color", "0", "--nodns", "none", "--ip", ADDRESS, "--add-ca", lab.certificates.ca,
               "--connect-timeout", "10", "--openssl-timeout", "10", "--protocols", "--std", "--renegotiation", "--crime", "--breach",
               "--poodle", "--tls-fallback", "--heartbleed", "--ccs-injection", "--ticketbleed", "--freak", "--logjam", "--drown", "--beast",
               "--lucky13", "--rc4", "--sweet32", "--robot", "--jsonfile", findings_file, f"https://www.example.com:{WEB}/", timeout=280)
    findings = {finding["id"]: finding for finding in json.loads(findings_file.read_text())}
    for protocol in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
        assert findings[protocol]["finding"].startswith("not offered"), findings[protocol]
    for protocol in ("TLS1_2", "TLS1_3"):
        assert findings[protocol]["finding"].startswith("offered"), findings[protocol]
    bad = {name: finding for name, finding in findings.items() if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN")}
    for name in KNOWN:
        bad.pop(name, None)
    assert not bad, bad
    for name in ("cipherlist_NULL", "cipherlist_aNULL", "cipherlist_EXPORT", "cipherlist_LOW", "cipherlist_3DES_IDEA", "cipherlist_OBSOLETED"):
        assert findings[name]["finding"].startswith("not offered"), findings[name]
    for name in ("heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_client_renego", "CRIME_TLS", "POODLE_SSL", "SWEET32", "FREAK", "DROWN",
                 "LOGJAM", "BEAST", "LUCKY13", "RC4"):
        assert findings[name]["severity"] in ("OK", "INFO", "LOW"), findings[name]
    assert findings["fallback_SCSV"]["severity"] in ("OK", "INFO"), findings["fallback_SCSV"]


# What it says of any server like ours, and why that is right.
KNOWN = {
    "BREACH": "about the backend's HTTP compression, which is not the appliance's",
    "scanProblem": "its own clock and network",
}
