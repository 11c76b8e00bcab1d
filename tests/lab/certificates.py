"""The lab's certificate authorities and certificates, made with the openssl command.

All of them live six days: at policy level 2 a certificate without an OCSP or CRL address may live seven at most.
"""

import pathlib
import subprocess

# What clients ask for; 2001:db8::/32, 192.0.2.0/24 and 198.51.100.0/24 are for documentation (RFC 3849, RFC 5737).
SERVICE_NAMES = ["www.example.com", "echo.example.com"]
BACKEND_NAME = "backend.example.net"


def openssl(*arguments, cwd=None):
    done = subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


class Authority:
    """A CA whose certificate is `file`; `issue` makes certificates under it."""

    def __init__(self, directory, name, subject, issuer=None):
        self.directory = pathlib.Path(directory)
        self.name = name
        self.issuer = issuer
        self.file = self.directory / f"{name}.pem"
        self.key = self.directory / f"{name}.key"
        make_key(self.key, "ecdsa")
        extensions = ["-addext", "basicConstraints=critical,CA:TRUE" + (",pathlen:0" if issuer else ""),
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        request(self.file, self.key, subject, extensions, issuer, days=6)

    def issue(self, name, kind, names, *, subject=None, days=6, not_after=None, usage="serverAuth"):
        """Makes NAME.pem (leaf first, then intermediates) and NAME.key; returns both paths."""
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        make_key(key, kind)
        extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature",
                      "-addext", f"extendedKeyUsage={usage}",
                      "-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names)]
        request(certificate, key, subject or f"/CN={names[0]}", extensions, self, days=days, not_after=not_after)
        authority = self
        with open(certificate, "a") as chain:
            while authority.issuer is not None:
                chain.write(authority.file.read_text())
                authority = authority.issuer
        return certificate, key


def make_key(path, kind):
    algorithm = {"rsa": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"],
                 "rsa1024": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
                 "rsa2048": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                 "ecdsa": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
                 "p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]}[kind]
    openssl("genpkey", *algorithm, "-out", str(path))
    path.chmod(0o600)


def request(certificate, key, subject, extensions, issuer, *, days, not_after=None):
    period = ["-not_before", "20200101000000Z", "-not_after", not_after] if not_after else ["-days", str(days)]
    signer = ["-CA", str(issuer.file), "-CAkey", str(issuer.key)] if issuer else []
    openssl("req", "-x509", "-new", "-key", str(key), "-subj", subject, "-out", str(certificate), *period, *extensions, *signer)


class Certificates:
    """Everything the lab needs, in one directory. `ca` is what clients trust, `backend_ca` what the appliance trusts."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.root = Authority(directory, "demo-ca", "/O=Sallyport demonstration/CN=Demo Root")
        self.issuing = Authority(directory, "demo-issuing", "/O=Sallyport demonstration/CN=Demo Issuing", self.root)
        self.ca = self.root.file
        self.rsa = self.issuing.issue("www-rsa", "rsa", SERVICE_NAMES)
        self.ecdsa = self.issuing.issue("www-ecdsa", "ecdsa", SERVICE_NAMES)
        self.internal = Authority(directory, "internal-ca", "/O=Sallyport demonstration/CN=Internal Root")
        self.backend_ca = self.internal.file
        self.backend = self.internal.issue("backend", "ecdsa", [BACKEND_NAME])

    def bad_backends(self):
        """Backend certificates that must not be believed, by what is wrong with them."""
        other = Authority(self.directory, "other-ca", "/O=Somebody else/CN=Other Root")
        self_signed = (self.directory / "backend-self-signed.pem", self.directory / "backend-self-signed.key")
        make_key(self_signed[1], "ecdsa")
        request(self_signed[0], self_signed[1], f"/CN={BACKEND_NAME}",
                ["-addext", f"subjectAltName=DNS:{BACKEND_NAME}", "-addext", "extendedKeyUsage=serverAuth"], None, days=6)
        return {
            "wrong-name": self.internal.issue("backend-wrong-name", "ecdsa", ["elsewhere.example.net"]),
            "other-ca": other.issue("backend-other-ca", "ecdsa", [BACKEND_NAME]),
            "expired": self.internal.issue("backend-expired", "ecdsa", [BACKEND_NAME], not_after="20210101000000Z"),
            "self-signed": self_signed,
            "wrong-usage": self.internal.issue("backend-wrong-usage", "ecdsa", [BACKEND_NAME], usage="clientAuth"),
        }
