"""What the policy refuses when a configuration is loaded: every requirement, with `sallyport-control --check`. Each case changes one thing
in a configuration that is good; the message names file, line, setting, requirement and what would be right."""

import datetime
import re
import subprocess

import pytest

from tests.lab.certificates import BACKEND_NAME, PUBLIC_NAME, SERVICE_NAMES, stamp
from tests.lab.configuration import Configuration, Pool, Service, libconfig
from tests.lab.lab import program

pytestmark = pytest.mark.needs_appliance

BAD_CONFIGURATION = 78   # EX_CONFIG


class Files:
    """Certificates for configurations that are only checked."""

    def __init__(self, lab):
        c = self.lab = lab.certificates
        self.directory = lab.directory / "policy-load"
        self.directory.mkdir(exist_ok=True)
        self.internal = str(c.backend_ca)

    def issue(self, name, authority=None, kind="ecdsa", names=SERVICE_NAMES, **more):
        return (authority or self.lab.issuing).issue(f"load-{name}", kind, names, **more)

    def base(self, level):
        """A configuration that is good at this level."""
        c = self.lab
        pool = Pool("web", ["198.51.100.10:443"], BACKEND_NAME, self.internal)
        service = Service("web", 443, "web", [c.ecdsa], alpn=("h2", "http/1.1"))
        if level == 3:
            pool.identity, pool.crl = tuple(c.appliance), (c.internal.crl_url,)
            service.certificates, service.ech = [c.ecdsa, c.public], {"public_name": PUBLIC_NAME}
        return Configuration([service], [pool], policy_level=level, public_roots=str(c.roots))

    def check(self, config, edit=None):
        text = libconfig(config)
        if edit:
            assert edit[0] in text
            text = text.replace(*edit, 1)
        file = self.directory / "test.conf"
        file.write_text(text)
        done = subprocess.run([program("sallyport-control"), "--config", file, "--check"], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def files(lab):
    return Files(lab)


CASES = {}


def case(requirement, name, level, said):
    """Registers a change of the good configuration; `said` is what the message must hold, besides the requirement."""
    def register(change):
        CASES[name] = (requirement, level, change, said)
        return change
    return register


# --- 9.1.1: no external service without TLS

@case("9.1.1", "service-without-certificates", 1, "certificates")
def _(config, files):
    config.services[0].certificates = []


@case("9.1.1", "service-where-clients-speak-plain-http", 1, "308")
def _(config, files):
    config.services[0].port = 80


@case("9.1.1", "redirect-where-clients-speak-tls", 1, "443")
def _(config, files):
    config.services[0].port = 4433
    config.redirects = {"to-https": 443}


@case("9.1.1", "waiver-for-plain-text", 1, "waiver")
def _(config, files):
    config.waivers = (waiver("9.1.1", "service web"),)


# --- 9.1.4: publicly trusted certificates

@case("9.1.4", "certificate-of-an-unknown-root", 1, "certificate")
def _(config, files):
    config.services[0].certificates = [files.issue("unknown-root", files.lab.other)]


@case("9.1.4", "certificate-of-an-internal-authority", 2, "certificate")
def _(config, files):
    config.services[0].certificates = [files.issue("internal", files.lab.internal)]


@case("9.1.4", "certificate-not-for-servers", 1, "serverAuth")
def _(config, files):
    config.services[0].certificates = [files.issue("client", usage="clientAuth")]


@case("9.1.4", "certificate-expired", 1, "expired")
def _(config, files):
    config.services[0].certificates = [files.issue("expired", not_after="20210101000000Z")]


@case("9.1.4", "certificate-not-yet-valid", 1, "valid")
def _(config, files):
    config.services[0].certificates = [files.issue("early", not_before=stamp(2), not_after=stamp(4))]


@case("9.1.4", "certificate-with-another-key", 1, "key")
def _(config, files):
    config.services[0].certificates = [(files.lab.ecdsa.certificate, files.lab.public.key)]


@case("9.1.4", "certificate-that-lives-too-long-for-its-issue-date", 1, "days")
def _(config, files):
    config.services[0].certificates = [files.issue("too-long", ocsp=True, not_before=stamp(-1), not_after=stamp(398))]


# --- 9.2.2 and 9.3.1: everything is encrypted

@case("9.2.2", "pool-in-plain-text", 2, "plain text")
def _(config, files):
    config.pools[0].server_name = ""


@case("9.3.1", "internal-pool-in-plain-text", 2, "tls")
def _(config, files):
    config.pools[0].server_name = ""


# --- 9.2.6: backends are validated

@case("9.2.6", "pool-without-trust", 1, "trust")
def _(config, files):
    config.pools[0].trust = ""


@case("9.2.6", "pool-with-a-bad-pin", 1, "pins")
def _(config, files):
    config.pools[0].pins = ("sha256:1234",)


@case("9.2.6", "pool-with-an-empty-name", 1, "server_name")
def _(config, files):
    return ('server_name = "backend.example.net"', 'server_name = ""')


# --- 9.3.2: only named internal authorities

@case("9.3.2", "pool-trusts-a-public-root", 2, "public")
def _(config, files):
    config.pools[0].trust = str(files.lab.ca)


@case("9.3.2", "pool-trusts-no-authority", 2, "certification authority")
def _(config, files):
    config.pools[0].trust = str(files.lab.backend.certificate)


# --- 9.3.3: mutual TLS between services

@case("9.3.3", "pool-without-client-certificate", 3, "certificate")
def _(config, files):
    config.pools[0].identity = ()


@case("9.3.3", "client-certificate-not-for-clients", 3, "clientAuth")
def _(config, files):
    config.pools[0].identity = tuple(files.lab.backend)


# --- 9.4.1: keys

@case("9.4.1", "rsa-key-of-2048-bits", 2, "RSA 2048")
def _(config, files):
    config.services[0].certificates = [files.issue("rsa2048", kind="rsa2048")]


@case("9.4.1", "rsa-key-of-1024-bits", 1, "RSA 1024")
def _(config, files):
    config.services[0].certificates = [files.issue("rsa1024", kind="rsa1024")]


@case("9.4.1", "rsa-key-at-level-3", 3, "RSA 3072")
def _(config, files):
    config.services[0].certificates = [files.lab.rsa, files.lab.public]


# --- 9.4.2: versions

@case("9.4.2", "version-1.1", 1, "versions")
def _(config, files):
    config.services[0].versions = ("1.3", "1.1")


@case("9.4.2", "no-version", 1, "versions")
def _(config, files):
    return ("certificates = (", "versions = [ ]; certificates = (")


# --- 9.4.3: revocation

@case("9.4.3", "no-way-to-learn-of-revocation", 2, "certificate")
def _(config, files):
    config.services[0].certificates = [files.issue("no-revocation", days=30)]


@case("9.4.3", "must-staple-without-responder", 1, "OCSP")
def _(config, files):
    config.policy_level = 2
    config.services[0].certificates = [files.issue("no-responder", must_staple=True)]


# --- 9.4.4: ECH

@case("9.4.4", "service-without-ech", 3, "ech")
def _(config, files):
    config.services[0].ech = None


@case("9.4.4", "public-name-without-certificate", 3, "public_name")
def _(config, files):
    config.services[0].ech = {"public_name": "cover.example.org"}


# --- 9.4.5: client certificates

@case("9.4.5", "clients-of-a-public-root", 2, "public")
def _(config, files):
    config.services[0].client_auth = {"mode": "required", "trust": [str(files.lab.ca)]}


@case("9.4.5", "clients-without-authorities", 2, "trust")
def _(config, files):
    config.services[0].client_auth = {"mode": "required"}


@case("9.4.5", "identity-forwarded-without-asking-for-one", 2, "forward")
def _(config, files):
    config.services[0].client_auth = {"mode": "off", "forward": True}


def waiver(requirement, what, days=30, reason="the other side is being replaced"):
    until = datetime.date.today() + datetime.timedelta(days=days)
    return {"requirement": requirement, "object": what, "reason": reason, "until": until.isoformat()}


@pytest.mark.parametrize("level", [1, 2, 3])
def test_good(files, level):
    assert files.check(files.base(level)) == (0, f"{files.directory}/test.conf: good\n", "")


@pytest.mark.parametrize("name", CASES)
def test_refused(files, name):
    requirement, level, change, said = CASES[name]
    config = files.base(level)
    edit = change(config, files)
    code, out, err = files.check(config, edit if isinstance(edit, tuple) else None)
    assert (code, out) == (BAD_CONFIGURATION, ""), (code, out, err)
    lines = [line for line in err.splitlines() if requirement in line and said in line]
    assert lines, err
    # FILE:LINE: SETTING...: WHAT IS WRONG; WHAT WOULD BE RIGHT [DRAFT (FINAL)]
    assert re.fullmatch(rf"{re.escape(str(files.directory))}/test\.conf:\d+: \S+.*: .*; .+ \[[^]]*\b{re.escape(requirement)} \(12\.\d\.\d\)[^]]*\]",
                        lines[0]), lines[0]


def dates(*days):
    """Certificate periods by first and last day."""
    return [(datetime.date.fromisoformat(a).strftime("%Y%m%d000000Z"), datetime.date.fromisoformat(b).strftime("%Y%m%d000000Z")) for a, b in days]


@pytest.mark.parametrize("period", dates(("2026-03-01", "2027-03-20"), ("2026-11-01", "2027-05-15")), ids=["398", "200"])
def test_lifetime_within_the_limit_of_its_issue_date(files, period):
    """398 days for what was issued before 2026-03-15, 200 days for a year after that (CA/Browser Forum, ballot SC-081)."""
    if datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%d") > period[1]:
        pytest.skip("these dates have passed")
    config = files.base(2)
    config.services[0].certificates = [files.issue("within", ocsp=True, not_before=period[0], not_after=period[1])]
    code, out, err = files.check(config)
    assert code == 0, err


@pytest.mark.parametrize("requirement, change, what", [
    ("9.4.3", lambda config, files: setattr(config.services[0], "certificates", [files.issue("waived", days=30)]), "service web"),
    ("9.3.1", lambda config, files: setattr(config.pools[0], "server_name", ""), "pool web"),
])
def test_waiver(files, requirement, change, what):
    """It lets through what it names, until it expires, and nothing else."""
    needed = {"9.3.1": ["9.3.1", "9.2.2"]}.get(requirement, [requirement])   # what a plain pool violates

    def with_waivers(**more):
        config = files.base(2)
        change(config, files)
        config.waivers = tuple(waiver(name, **{"what": what, **more}) for name in needed)
        return files.check(config)
    assert with_waivers()[0] == 0, with_waivers()[2]
    for more in ({"what": what.split()[0] + " other"}, {"days": -1}, {"days": 800}, {"reason": ""}):
        code, _, err = with_waivers(**more)
        assert code == BAD_CONFIGURATION, more
        assert "waivers" in err, err


def test_every_requirement_has_a_case():
    from tests.policy.table import REQUIREMENTS
    assert {requirement for requirement, *_ in CASES.values()} == set(REQUIREMENTS)
