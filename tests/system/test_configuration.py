"""Bad configurations, each with the exact words that the user gets (`sallyport-control --check`)."""

import os
import re
import shutil
import subprocess

import pytest

from tests.lab import certificates
from tests.lab.configuration import Configuration, Pool, Service, libconfig
from tests.lab.lab import program

pytestmark = pytest.mark.needs_appliance

BAD_CONFIGURATION = 78   # EX_CONFIG


@pytest.fixture(scope="module")
def files(lab):
    """Certificates and keys that are not what they should be, beside good ones; all by short relative names."""
    directory = lab.directory / "configurations"
    directory.mkdir(exist_ok=True)
    authority = certificates.Authority(directory, "ca", "/CN=Test Root")
    names = certificates.SERVICE_NAMES
    authority.issue("good", "ecdsa", names)
    authority.issue("other", "ecdsa", names)
    authority.issue("rsa2048", "rsa2048", names)
    authority.issue("rsa1024", "rsa1024", names)
    authority.issue("expired", "ecdsa", names, not_after="20210101000000Z")
    authority.issue("client", "ecdsa", names, usage="clientAuth")
    authority.issue("long", "ecdsa", names, days=90)
    authority.issue("readable", "ecdsa", names)
    (directory / "readable.key").chmod(0o644)
    certificates.openssl("pkey", "-in", str(directory / "good.key"), "-aes256", "-passout", "pass:secret", "-out", str(directory / "locked.key"))
    (directory / "locked.key").chmod(0o600)
    for key in directory.glob("*.key"):   # root's: whatever user a case names
        os.chown(key, 0, 0)
    (directory / "roots").mkdir(exist_ok=True)
    shutil.copy(authority.file, directory / "roots")
    certificates.Authority(directory, "internal", "/CN=Internal Root")
    (directory / "empty.pem").write_text("")
    (directory / "text.pem").write_text("no certificate\n")
    good = Configuration([Service("web", 443, "web", [("good.pem", "good.key")], alpn=("h2", "http/1.1"))],
                         [Pool("web", ["198.51.100.10:443"], certificates.BACKEND_NAME, "internal.pem")], public_roots="roots")
    return directory, libconfig(good)


def check(directory, text):
    file = directory / "test.conf"
    file.write_text(text)
    done = subprocess.run([program("sallyport-control"), "--config", "test.conf", "--check"], cwd=directory, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_good(files):
    code, out, err = check(*files)
    assert (code, out, err) == (0, "test.conf: good\n", "")


def test_missing_file():
    done = subprocess.run([program("sallyport-control"), "--config", "/nowhere/x.conf", "--check"], capture_output=True, text=True)
    assert done.returncode == BAD_CONFIGURATION
    assert done.stderr.startswith("/nowhere/x.conf:"), done.stderr


# What is replaced, by what, and what the user is told. {line} is the line of what was replaced.
CASES = [
    ('policy = { level = 2; };', 'policy = { level = 2 ',
     ['{line+38}: syntax error; NAME = VALUE; with { } around groups, [ ] around arrays, ( ) around lists and commas between items; the mistake may be just before this line']),
    ('policy = {', 'polcy = {',
     ['{line}: polcy = { ... }: there is no such setting; probably policy']),
    ('pool = "web"; }', 'pool = "web"; cipher = "all"; }',
     ['{line}: services.[0].cipher = "all": there is no such setting; one of name, listen, certificates, certificate_directory, client_auth, ech, alpn, versions, session_tickets, idle_timeout_s, handshake_timeout_ms or pool']),
    ('server_name = "backend.example.net"; }', 'server_name = "backend.example.net"; verify = false; }',
     ['{line}: pools.[0].tls.verify = false: there is no such setting; one of trust, server_name, pins, names, identity, crl or versions']),
    ('level = 2', 'level = 4',
     ['{line}: policy.level = 4: is too large; 1 to 3']),
    ('level = 2', 'level = "two"',
     ['{line}: policy.level = "two": is a string; an integer']),
    ('cores = [ 0 ]', 'cores = [ ]',
     ['{line}: dataplane.cores = [ ]: is empty; at least one: processor cores; each runs one worker, which polls all the time']),
    ('cores = [ 0 ]', 'cores = [ -1 ]',
     ['{line}: dataplane.cores.[0] = -1: is too small; 0 to 1023']),
    ('cores = [ 0 ]', 'cores = [ 0 ]; max_flows = 0',
     ['{line+1}: duplicate setting name; each setting once']),
    ('handshake_workers = 1', 'handshake_workers = 0',
     ['{line}: control.handshake_workers = 0: is too small; 1 to 64']),
    ('user = "sallyport"', 'user = "root"',
     ['{line}: control.user = "root": is the superuser: the processes would keep every privilege; a user of their own, such as "sallyport"']),
    ('level = "info"', 'level = "loud"',
     ['{line}: log.level = "loud": is not known; one of trace, debug, info, warning or error']),
    ('profile = "af_xdp"', 'profile = "dpdk"',
     ['{line}: ports.[0].profile = "dpdk": is not known; one of pci, af_xdp, af_packet, memif, virtio_user or tap']),
    ('name = "clients";', '',
     ['{line}: ports.[0].name: is missing; what to call it']),
    ('name = "backends"', 'name = "clients"',
     ['{line}: ports.[1].name = "clients": is the name of another port too, at line {line-2}; a name of its own']),
    ('device = "backend-side"', 'device = "client-side"',
     ['{line}: ports.[1].device = "client-side": is the device of another port too, at line {line-2}; one port for each device']),
    ('"192.0.2.1/24"', '"192.0.2.1"',
     ['{line}: ports.[0].addresses.[0] = "192.0.2.1": has no prefix length; ADDRESS/LENGTH, such as "192.0.2.1/24" or "2001:db8::1/64"']),
    ('"192.0.2.1/24"', '"192.0.2.256/24"',
     ['{line}: ports.[0].addresses.[0] = "192.0.2.256/24": \'192.0.2.256\' is not an IPv4 or IPv6 address; ADDRESS/LENGTH, such as "192.0.2.1/24" or "2001:db8::1/64"']),
    ('"192.0.2.1/24"', '"192.0.2.1/33"',
     ['{line}: ports.[0].addresses.[0] = "192.0.2.1/33": has no prefix length from 0 to 32; ADDRESS/LENGTH, such as "192.0.2.1/24" or "2001:db8::1/64"']),
    ('"198.51.100.1/24"', '"192.0.2.1/24"',
     ['{line}: ports.[1].addresses.[0] = "192.0.2.1/24": is given to a port already; each address once']),
    ('"2001:db8:1::1/64" ];', '"2001:db8:1::1/64" ]; mtu = 100;',
     ['{line}: ports.[0].mtu = 100: is too small; 576 to 9600']),
    ('"2001:db8:1::1/64" ];', '"2001:db8:1::1/64" ]; descriptors = 100;',
     ['{line}: ports.[0].descriptors = 100: is not a length that rings can have; a power of two from 64 to 32768, or 0']),
    ('"2001:db8:1::1/64" ];', '"2001:db8:1::1/64" ]; mac = "01:00:5e:00:00:01";',
     ['{line}: ports.[0].mac = "01:00:5e:00:00:01": is a group address; an even first octet']),
    ('"2001:db8:1::1/64" ];', '"2001:db8:1::1/64" ]; routes = ( { to = "0.0.0.0/0"; via = "203.0.113.1"; } );',
     ['{line}: ports.[0].routes.[0].via = "203.0.113.1": is in no prefix of this port; a gateway in a prefix of the port\'s addresses']),
    ('"192.0.2.1:443"', '"192.0.2.9:443"',
     ['{line}: services.[0].listen.[0] = "192.0.2.9:443": has an address that no port has; one of 192.0.2.1, 2001:db8:1::1, 198.51.100.1, 2001:db8:2::1']),
    ('"192.0.2.1:443"', '"192.0.2.1"',
     ['{line}: services.[0].listen.[0] = "192.0.2.1": has no port; ADDRESS:PORT or [IPV6-ADDRESS]:PORT']),
    ('"192.0.2.1:443"', '"192.0.2.1:0"',
     ['{line}: services.[0].listen.[0] = "192.0.2.1:0": has no port from 1 to 65535; ADDRESS:PORT or [IPV6-ADDRESS]:PORT']),
    ('"192.0.2.1:443"', '"192.0.2.1:443", "192.0.2.1:443"',
     ['{line}: services.[0].listen.[1] = "192.0.2.1:443": is listened at already, at line {line}; each address and port once; the server name tells certificates apart within a service']),
    ('pool = "web"; }', 'pool = "wob"; }',
     ['{line}: services.[0].pool = "wob": there is no pool of this name; web']),
    ('certificates = ( { certificate = "good.pem"; key = "good.key"; } );', '',
     ["{line-2}: services.[0].certificates: is missing; certificates with their keys; the client's server name and abilities choose among them [9.1.1 (12.2.1)]"]),
    ('certificates = ( { certificate = "good.pem"; key = "good.key"; } );', 'certificates = ( );',
     ["{line}: services.[0].certificates = ( ): is empty; at least one: certificates with their keys; the client's server name and abilities choose among them [9.1.1 (12.2.1)]"]),
    ('"good.pem"', '"missing.pem"',
     ['{line}: services.[0].certificates.[0].certificate = "missing.pem": cannot be read: No such file or directory; a PEM file with certificates']),
    ('"good.key"', '"missing.key"',
     ['{line}: services.[0].certificates.[0].key = "missing.key": cannot be read: No such file or directory; a PEM file with the private key']),
    ('"good.key"', '"other.key"',
     ['{line}: services.[0].certificates.[0].key = "other.key": is not the key of the certificate {directory}/good.pem; the private key that was made for it [9.1.4 (12.2.2)]']),
    ('"good.key"', '"locked.key"',
     ['{line}: services.[0].certificates.[0].key = "locked.key": is encrypted, and nobody is there to type its password; passphrase = "FILE" with the password in a file of mode 0600, or a key without one']),
    ('certificate = "good.pem"; key = "good.key"', 'certificate = "readable.pem"; key = "readable.key"',
     ['{line}: services.[0].certificates.[0].key = "readable.key": has mode 0644, so that others than its owner have access to the private key; mode 0600 or 0400']),
    ('"good.pem"', '"text.pem"',
     ['{line}: services.[0].certificates.[0].certificate = "text.pem": has no certificate in it; PEM: -----BEGIN CERTIFICATE-----']),
    ('"good.pem"', '"empty.pem"',
     ['{line}: services.[0].certificates.[0].certificate = "empty.pem": is empty; a PEM file with certificates']),
    ('certificate = "good.pem"; key = "good.key"', 'certificate = "expired.pem"; key = "expired.key"',
     ['{line}: services.[0].certificates.[0].certificate = "expired.pem": the certificate expired at 2021-01-01 00:00:00 UTC; a certificate that is in date [9.1.4 (12.2.2)]',
      '{line}: services.[0].certificates.[0].certificate = "expired.pem": does not lead to a public root of {directory}/roots: certificate is not yet valid or the system clock is incorrect; a certificate of a public authority, with its chain [9.1.4 (12.2.2)]',
      '{line}: services.[0].certificates.[0].certificate = "expired.pem": could not be revoked: it names no OCSP responder and no CRL, and is valid for more than 7 days; a certificate with an http OCSP or CRL URL, or one valid for at most 7 days [9.4.3 (12.1.4)]']),
    ('certificate = "good.pem"; key = "good.key"', 'certificate = "client.pem"; key = "client.key"',
     ['{line}: services.[0].certificates.[0].certificate = "client.pem": the certificate is not for servers: its extendedKeyUsage lacks serverAuth; a certificate with extendedKeyUsage serverAuth [9.1.4 (12.2.2)]',
      '{line}: services.[0].certificates.[0].certificate = "client.pem": does not lead to a public root of {directory}/roots: unsuitable certificate purpose; a certificate of a public authority, with its chain [9.1.4 (12.2.2)]']),
    ('certificate = "good.pem"; key = "good.key"', 'certificate = "rsa2048.pem"; key = "rsa2048.key"',
     ['{line}: services.[0].certificates.[0].certificate = "rsa2048.pem": the certificate has the key type RSA 2048; ECDSA P-256 or P-384, or RSA from 3072 bits, at level 2 [9.4.1 (12.1.2)]']),
    ('certificate = "good.pem"; key = "good.key"', 'certificate = "rsa1024.pem"; key = "rsa1024.key"',
     ['{line}: services.[0].certificates.[0].certificate = "rsa1024.pem": the certificate has the key type RSA 1024; ECDSA P-256 or P-384, or RSA from 3072 bits, at level 2 [9.4.1 (12.1.2)]']),
    ('"h2"', '""',
     ['{line}: services.[0].alpn.[0] = "": is empty; no empty strings']),
    ('"h2", "http/1.1"', '"h2", "h2"',
     ['{line}: services.[0].alpn.[1] = "h2": is there twice; each protocol once']),
    ('pool = "web"; }', 'versions = [ "1.1" ]; pool = "web"; }',
     ['{line}: services.[0].versions.[0] = "1.1": is not known; one of 1.3 or 1.2 [9.4.2 (12.1.1)]']),
    ('pool = "web"; }', 'versions = [ ]; pool = "web"; }',
     ['{line}: services.[0].versions = [ ]: is empty; at least one: versions of TLS; at level 3 the default is 1.3 alone [9.4.2 (12.1.1)]']),
    ('pool = "web"; }', 'session_tickets = 9; pool = "web"; }',
     ['{line}: services.[0].session_tickets = 9: is too large; 0 to 8']),
    ('pool = "web"; }', 'handshake_timeout_ms = 1; pool = "web"; }',
     ['{line}: services.[0].handshake_timeout_ms = 1: is too small; 100 to 600000']),
    ('members = ( { address = "198.51.100.10:443"; } );', 'members = ( );',
     ['{line}: pools.[0].members = ( ): is empty; at least one: the servers']),
    ('"198.51.100.10:443"', '"198.51.100.10"',
     ['{line}: pools.[0].members.[0].address = "198.51.100.10": has no port; ADDRESS:PORT or [IPV6-ADDRESS]:PORT']),
    ('"198.51.100.10:443"', '"backend.example.net:443"',
     ['{line}: pools.[0].members.[0].address = "backend.example.net:443": is not ADDRESS:PORT or [IPV6-ADDRESS]:PORT; ADDRESS:PORT or [IPV6-ADDRESS]:PORT']),
    ('"198.51.100.10:443"', '"203.0.113.5:443"',
     ['{line}: pools.[0].members.[0].address = "203.0.113.5:443": cannot be reached: it is in no prefix of a port, and no route leads there; a route in the port that its network lies behind']),
    ('address = "198.51.100.10:443";', 'address = "198.51.100.10:443"; weight = 0;',
     ['{line}: pools.[0].members.[0].weight = 0: is too small; 1 to 256']),
    ('tls = { trust = [ "internal.pem" ]; server_name = "backend.example.net"; };', '',
     ['{line-2}: pools.[0].tls: is missing: connections to the members would be plain text, which the policy forbids from level 2 on; tls: { trust = [ "ca.pem" ]; server_name = "NAME"; }, or policy level 1 [9.2.2 (12.3.1)]',
      '{line-2}: pools.[0].tls: is missing: an internal service would be spoken to without TLS; tls: { trust = [ "ca.pem" ]; server_name = "NAME"; }, or policy level 1 [9.3.1 (12.3.3)]']),
    ('tls = { trust = [ "internal.pem" ]; server_name = "backend.example.net"; };', 'proxy_protocol = true;',
     ['{line-2}: pools.[0].tls: is missing: connections to the members would be plain text, which the policy forbids from level 2 on; tls: { trust = [ "ca.pem" ]; server_name = "NAME"; }, or policy level 1 [9.2.2 (12.3.1)]',
      '{line-2}: pools.[0].tls: is missing: an internal service would be spoken to without TLS; tls: { trust = [ "ca.pem" ]; server_name = "NAME"; }, or policy level 1 [9.3.1 (12.3.3)]',
      '{line}: pools.[0].proxy_protocol = true: would tell of clients in plain text; proxy_protocol in pools with tls only']),
    ('trust = [ "internal.pem" ]; ', '',
     ['{line}: pools.[0].tls.trust: is missing or empty, and there are no pins: no member could be verified; trust = [ "ca.pem" ] with server_name, or pins [9.2.6 (12.3.2)]']),
    ('trust = [ "internal.pem" ]', 'trust = [ ]',
     ['{line}: pools.[0].tls.trust: is missing or empty, and there are no pins: no member could be verified; trust = [ "ca.pem" ] with server_name, or pins [9.2.6 (12.3.2)]']),
    ('trust = [ "internal.pem" ]', 'trust = [ "missing.pem" ]',
     ['{line}: pools.[0].tls.trust.[0] = "missing.pem": cannot be read: No such file or directory; a PEM file with certificates']),
    ('trust = [ "internal.pem" ]', 'trust = [ "good.pem" ]',
     ['{line}: pools.[0].tls.trust.[0] = "good.pem": certificate 1 in the file (CN=www.example.com) is not one of a certification authority; certificates with basicConstraints CA [9.3.2 (12.3.4)]']),
    ('server_name = "backend.example.net"', 'server_name = ""',
     ['{line}: pools.[0].tls.server_name = "": is empty; name that the members\' certificates must cover; sent as server name indication; left out: pins and no trust [9.2.6 (12.3.2)]',
      '{line}: pools.[0].tls.server_name: is missing: any certificate of the authorities would do; server_name = "NAME", or pins and no trust [9.2.6 (12.3.2)]']),
    ('server_name = "backend.example.net"', 'server_name = "not a name"',
     ['{line}: pools.[0].tls.server_name = "not a name": is neither a DNS name nor an address; the name in the members\' certificates, such as "web.internal" [9.2.6 (12.3.2)]']),
    ('tls = {', 'balance = "random"; tls = {',
     ['{line}: pools.[0].balance = "random": is not known; one of round_robin or least_connections']),
    ('tls = {', 'health = { interval_ms = 100; timeout_ms = 500; }; tls = {',
     ['{line}: pools.[0].health.timeout_ms = 500: is longer than interval_ms = 100; at most the interval']),
    ('tls = {', 'health = { interval_ms = 1; }; tls = {',
     ['{line}: pools.[0].health.interval_ms = 1: is too small; 100 to 3600000']),
]


@pytest.mark.parametrize("old, new, said", CASES, ids=[str(number) for number in range(1, len(CASES) + 1)])
def test_bad(files, old, new, said):
    directory, good = files
    assert old in good
    code, out, err = check(directory, good.replace(old, new, 1))
    assert (code, out) == (BAD_CONFIGURATION, "")
    line = good[:good.index(old)].count("\n") + 1

    def filled(text):
        text = re.sub(r"\{line([+-]\d+)?\}", lambda match: str(line + int(match.group(1) or 0)), text)
        return text.replace("{directory}", str(directory))
    assert err == "".join(f"test.conf:{filled(text)}\n" for text in said)


def test_every_problem_is_reported(files):
    directory, good = files
    text = good.replace("level = 2", "level = 7", 1).replace('pool = "web"', 'pool = "wob"', 1).replace('"h2"', '""', 1)
    code, _, err = check(directory, text)
    assert code == BAD_CONFIGURATION
    lines = err.splitlines()
    assert len(lines) == 3, err
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)


def test_refused_configuration_does_not_start(files):
    directory, good = files
    (directory / "test.conf").write_text(good.replace("level = 2", "level = 9", 1))
    done = subprocess.run([program("sallyport-control"), "--config", "test.conf"], cwd=directory, capture_output=True, text=True, timeout=30)
    assert done.returncode == BAD_CONFIGURATION
