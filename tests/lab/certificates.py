"""The lab's certificate authorities and certificates, made with the openssl command: one call for each.

Good ones live less than six days: from policy level 2 on, a certificate with neither OCSP nor CRL address may live seven at
most (9.4.3). Bad ones have one fault each, and are in order in every other respect.
"""

import contextlib
import datetime
import functools
import pathlib
import secrets
import shutil
import subprocess

# What clients ask for; 2001:db8::/32, 192.0.2.0/24 and 198.51.100.0/24 are for documentation (RFC 3849, RFC 5737).
SERVICE_NAMES = ["www.example.com", "echo.example.com"]
TENANT_NAMES = ["tenant.example.com", "other.example.com"]   # their certificates have an OCSP address
PUBLIC_NAME = "public.example.com"                           # what the outer ClientHello of ECH asks for
BACKEND_NAME = "backend.example.net"
APPLIANCE_NAME = "appliance.example.net"                     # in the appliance's own client certificate
RESPONDER = "http://127.0.0.1:8880"                          # tests/lab/responder.py, beside the appliance

KEYS = {"rsa": ["rsa:3072"], "rsa1024": ["rsa:1024"], "rsa2048": ["rsa:2048"],
        "ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "p384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]}


def openssl(*arguments, cwd=None):
    done = subprocess.run(["openssl", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def stamp(days, seconds=0):
    """So many days from now, as openssl's -not_before takes it."""
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days, seconds=seconds)
    return when.strftime("%Y%m%d%H%M%SZ")


def owned(path):
    """Only the user whom control becomes may read it; where there is none, whoever runs this."""
    path.chmod(0o600)
    with contextlib.suppress(LookupError, PermissionError):
        shutil.chown(path, "sallyport")


def make(certificate, key, kind, subject, extensions, issuer, *, days=5.5, not_before=None, not_after=None, digest="sha256"):
    """One key and its certificate, signed by `issuer` or by itself. Returns the serial number."""
    serial = secrets.randbits(63) | 1 << 62
    if not not_before:
        expired = not_after and not_after < stamp(0)
        not_before = "20200101000000Z" if expired else stamp(0, -600)   # a clock of the appliance's that is a little behind may read it
    signer = ["-CA", issuer.file, "-CAkey", issuer.key] if issuer else []
    openssl("req", "-x509", "-newkey", *KEYS[kind], "-noenc", "-keyout", key, "-out", certificate, "-subj", subject,
            "-set_serial", hex(serial), f"-{digest}", "-not_before", not_before, "-not_after", not_after or stamp(days),
            *[word for extension in extensions for word in ("-addext", extension)], *signer)
    owned(key)
    return serial


class Issued(tuple):
    """(certificate, key), as configurations take them; and the serial number."""

    def __new__(cls, certificate, key, serial):
        issued = super().__new__(cls, (certificate, key))
        issued.certificate, issued.key, issued.serial = certificate, key, serial
        return issued


class Authority:
    """A CA whose certificate is `file`; `issue` makes certificates under it."""

    def __init__(self, directory, name, subject, issuer=None, *, constraints=None, more=(), days=5.5):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.issuer = issuer
        self.file = self.directory / f"{name}.pem"
        self.key = self.directory / f"{name}.key"
        constraints = constraints or "critical,CA:TRUE" + (",pathlen:0" if issuer else "")
        extensions = [f"basicConstraints={constraints}", "keyUsage=critical,keyCertSign,cRLSign", *more]
        self.serial = make(self.file, self.key, "ecdsa", subject, extensions, issuer, days=days)
        self.revoked = {}   # serial number: when

    def issue(self, name, kind, names, *, subject=None, usage="serverAuth", constraints="critical,CA:FALSE", ocsp=False, crl=False,
              must_staple=False, responder="", **period_and_digest):
        """Makes NAME.pem (leaf first, then intermediates) and NAME.key. `names`: DNS names, or others such as "URI:spiffe://a/b"; `responder`: one
        that lies about it, in place of the honest one."""
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        extensions = [f"basicConstraints={constraints}", "keyUsage=critical,digitalSignature",
                      "subjectAltName=" + ",".join(n if n.split(":")[0] in ("URI", "email", "IP") else f"DNS:{n}" for n in names)]
        if usage:
            extensions.append(f"extendedKeyUsage={usage}")
        if ocsp:
            extensions.append(f"authorityInfoAccess=OCSP;URI:{responder or RESPONDER}/ocsp/{self.name}")
        if crl:
            extensions.append(f"crlDistributionPoints=URI:{self.crl_url}")
        if must_staple:
            extensions.append("tlsfeature=status_request")
        serial = make(certificate, key, kind, subject or f"/CN={names[0].split(':')[-1]}", extensions, self, **period_and_digest)
        authority = self
        with open(certificate, "a") as chain:
            while authority.issuer is not None:
                chain.write(authority.file.read_text())
                authority = authority.issuer
        return Issued(certificate, key, serial)

    @property
    def crl_url(self):
        return f"{RESPONDER}/crl/{self.name}"

    def revoke(self, issued):
        self.revoked[issued.serial] = datetime.datetime.now(datetime.timezone.utc)

    def restore(self, issued):
        self.revoked.pop(issued.serial, None)


def self_signed(directory, name, names, kind="ecdsa"):
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    serial = make(certificate, key, kind, f"/CN={names[0]}",
                  ["subjectAltName=" + ",".join(f"DNS:{n}" for n in names), "extendedKeyUsage=serverAuth"], None)
    return Issued(certificate, key, serial)


class Certificates:
    """Everything the lab needs, in one directory; most of it made when it is first asked for.

    `ca` is what clients trust, and alone in the directory `roots`: what 'publicly trusted' means to the appliance (9.1.4).
    `backend_ca` is what the appliance trusts behind it, `clients_a` and `clients_b` before it.
    """

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.root = Authority(directory, "demo-ca", "/O=Sallyport demonstration/CN=Demo Root")
        self.issuing = Authority(directory, "demo-issuing", "/O=Sallyport demonstration/CN=Demo Issuing", self.root)
        self.ca = self.root.file
        self.roots = directory / "public-roots"
        self.roots.mkdir(exist_ok=True)
        shutil.copy(self.ca, self.roots)
        self.rsa = self.issuing.issue("www-rsa", "rsa", SERVICE_NAMES)
        self.ecdsa = self.issuing.issue("www-ecdsa", "ecdsa", SERVICE_NAMES)
        self.internal = Authority(directory, "internal-ca", "/O=Sallyport demonstration/CN=Internal Root")
        self.backend_ca = self.internal.file
        self.backend = self.internal.issue("backend", "ecdsa", [BACKEND_NAME])

    @functools.cached_property
    def rsa2048(self):
        return self.issuing.issue("www-rsa2048", "rsa2048", SERVICE_NAMES)

    @functools.cached_property
    def other(self):
        """A CA that nobody trusts."""
        return Authority(self.directory, "other-ca", "/O=Somebody else/CN=Other Root")

    @functools.cached_property
    def clients_a(self):
        return Authority(self.directory, "clients-a", "/O=Sallyport demonstration/CN=Clients of A")

    @functools.cached_property
    def clients_b(self):
        return Authority(self.directory, "clients-b", "/O=Sallyport demonstration/CN=Clients of B")

    @functools.cached_property
    def appliance(self):
        """The appliance's own certificate towards backends that ask for one."""
        return self.internal.issue("appliance", "ecdsa", [APPLIANCE_NAME], usage="clientAuth")

    @functools.cached_property
    def public(self):
        """For the public name of ECH."""
        return self.issuing.issue("public", "ecdsa", [PUBLIC_NAME])

    @functools.cached_property
    def stapled(self):
        """With an OCSP address, both kinds of key, long enough that only a staple will do."""
        return [self.issuing.issue(f"tenant-{kind}", kind, [TENANT_NAMES[0]], ocsp=True, days=30) for kind in ("rsa", "ecdsa")]

    @functools.cached_property
    def www_stapled(self):
        return self.issuing.issue("www-stapled", "ecdsa", SERVICE_NAMES, ocsp=True, days=30)

    @functools.cached_property
    def must_staple(self):
        return self.issuing.issue("must-staple", "ecdsa", [TENANT_NAMES[1]], ocsp=True, must_staple=True, days=30)

    @functools.cached_property
    def crl_pointer(self):
        """Without OCSP, too long-lived, with a CRL address: its own revocation is found by polling."""
        return self.issuing.issue("crl-pointer", "ecdsa", ["crl.example.com"], crl=True, days=30)

    @functools.cached_property
    def listed(self):
        """Like crl_pointer, but on that list."""
        issued = self.issuing.issue("crl-listed", "ecdsa", ["listed.example.com"], crl=True, days=30)
        self.issuing.revoke(issued)
        return issued

    def bad_backends(self):
        """Backend certificates that must not be believed, by what is wrong with them."""
        return {
            "wrong-name": self.internal.issue("backend-wrong-name", "ecdsa", ["elsewhere.example.net"]),
            "other-ca": self.other.issue("backend-other-ca", "ecdsa", [BACKEND_NAME]),
            "expired": self.internal.issue("backend-expired", "ecdsa", [BACKEND_NAME], not_after="20210101000000Z"),
            "self-signed": self_signed(self.directory, "backend-self-signed", [BACKEND_NAME]),
            "wrong-usage": self.internal.issue("backend-wrong-usage", "ecdsa", [BACKEND_NAME], usage="clientAuth"),
        }

    def worse_backends(self):
        """More of them: what takes a chain, a clock or a list to see."""
        directory, internal, names = self.directory, self.internal, [BACKEND_NAME]
        no_ca = Authority(directory, "no-ca", "/CN=Not an authority", internal, constraints="critical,CA:FALSE")
        first = Authority(directory, "first-ca", "/CN=First below", internal, constraints="critical,CA:TRUE,pathlen:0")
        second = Authority(directory, "second-ca", "/CN=Second below", first, constraints="critical,CA:TRUE")
        elsewhere = Authority(directory, "elsewhere-ca", "/CN=Only elsewhere", internal,
                              more=["nameConstraints=critical,permitted;DNS:elsewhere.example.net"])
        revoked = internal.issue("backend-revoked", "ecdsa", names)
        internal.revoke(revoked)
        return {
            "not-yet-valid": internal.issue("backend-not-yet-valid", "ecdsa", names, not_before=stamp(2), not_after=stamp(5)),
            "public": self.issuing.issue("backend-public", "ecdsa", names),
            "bad-constraints": no_ca.issue("backend-bad-constraints", "ecdsa", names),
            "path-too-long": second.issue("backend-path-too-long", "ecdsa", names),
            "name-constraints": elsewhere.issue("backend-name-constraints", "ecdsa", names),
            "weak-signature": internal.issue("backend-weak-signature", "ecdsa", names, digest="sha1"),
            "weak-key": internal.issue("backend-weak-key", "rsa1024", names),
            "revoked": revoked,
        }

    @functools.cached_property
    def clients(self):
        """Client certificates by what they are; all but `b` and those that say so are of clients_a."""
        a = self.clients_a
        revoked = a.issue("client-revoked", "ecdsa", ["mallory.example.org"], usage="clientAuth")
        a.revoke(revoked)
        return {
            "good": a.issue("client-good", "ecdsa", ["alice.example.org", "URI:spiffe://example.org/alice"], usage="clientAuth",
                            subject="/CN=Alice"),
            "b": self.clients_b.issue("client-b", "ecdsa", ["bob.example.org"], usage="clientAuth", subject="/CN=Bob"),
            "other-ca": self.other.issue("client-other-ca", "ecdsa", ["alice.example.org"], usage="clientAuth"),
            "public": self.issuing.issue("client-public", "ecdsa", ["alice.example.org"], usage="clientAuth"),
            "expired": a.issue("client-expired", "ecdsa", ["alice.example.org"], usage="clientAuth",
                               not_after="20210101000000Z"),
            "not-yet-valid": a.issue("client-not-yet-valid", "ecdsa", ["alice.example.org"], usage="clientAuth",
                                     not_before=stamp(2), not_after=stamp(5)),
            "wrong-usage": a.issue("client-wrong-usage", "ecdsa", ["alice.example.org"], usage="serverAuth"),
            "wrong-name": a.issue("client-wrong-name", "ecdsa", ["eve.example.net"], usage="clientAuth"),
            "revoked": revoked,
        }
