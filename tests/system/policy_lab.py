"""What the tests of the policy share: two configurations, at levels 2 and 3, with everything that the policy is about, and backends
that are bad in every way. Ports of services and of their backends are the same."""

import hashlib

from tests.lab import der, network
from tests.lab.certificates import BACKEND_NAME, PUBLIC_NAME
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Backend, best_profile, wait_for
from tests.lab.responder import CRL_LIES, OCSP_LIES, SENDING_LIES, Responder, liar

WEB, ECHO, REDIRECT = 443, 4433, 80
REQUIRED, OPTIONAL, NAMED, REQUIRED_B = 4600, 4601, 4602, 4603
BAD_BACKENDS = 4610   # and the ports after it
PINNED, WRONG_PIN, NAME_LIST, IDENTIFIED, STAPLING, NOT_TLS, OLD_SUITE, OLD_VERSION = range(4640, 4648)
ECH, CRL_POINTER, NO_CRL = 4650, 4651, 4652
LIARS = 4700   # and the ports after it
INTERNAL_CRL = "/crl/internal-ca"

# What is wrong with a backend's certificate: how it is counted, and the alert that it gets.
REFUSED_BACKENDS = {
    "wrong-name": ("backend_wrong_name", 42),
    "other-ca": ("backend_not_trusted", 48),
    "expired": ("backend_certificate_invalid", 45),
    "self-signed": ("backend_not_trusted", 48),
    "wrong-usage": ("backend_certificate_invalid", 43),
    "not-yet-valid": ("backend_certificate_invalid", 42),
    "public": ("backend_not_trusted", 48),
    "bad-constraints": ("backend_certificate_invalid", 48),
    "path-too-long": ("backend_certificate_invalid", 48),
    "name-constraints": ("backend_certificate_invalid", 46),
    "weak-signature": ("backend_suite", None),   # no scheme in common: the backend itself gives up
    "weak-key": ("backend_certificate_invalid", 42),
    "revoked": ("backend_revoked", 44),
}


class PolicyLab:
    def __init__(self, lab, standard):
        self.lab, self.standard, certificates = lab, standard, lab.certificates
        certificates.clients   # made now, so that the first list has those who are revoked
        self.responder = Responder(certificates).start()
        self.backends = {"echo": standard.backends["echo"]}
        self.ports = {}
        self.identity = tuple(certificates.appliance)
        self.internal = {"server_name": BACKEND_NAME, "trust": str(certificates.backend_ca)}
        self.level2 = self.make_level2()
        self.level3 = self.make_level3()
        self.liars = self.make_liars()

    # --- parts

    def backend(self, name, port, *options, **more):
        self.ports[name] = port
        self.backends[name] = Backend(self.lab, f"policy-{name}", port, *options, **more)
        return self.backends[name].members(4)

    def echo_pool(self, name="echo", **more):
        return Pool(name, [f"{network.BACKEND_ADDRESSES[0][0]}:{ECHO}"], **{**self.internal, **more})

    def client_auth(self, authority, mode="required", **more):
        return {"mode": mode, "trust": [str(authority.file)], "crl": [authority.crl_url], **more}

    # --- level 2

    def make_level2(self):
        c = self.lab.certificates
        both = [c.rsa, c.ecdsa]
        patient = {"handshake_timeout_ms": 60000}
        pools = [self.lab.standard_pools()[0], self.echo_pool(),
                 Pool("forwarded", self.backend("forwarded", REQUIRED, "--proxy"), **self.internal, proxy_protocol=True)]
        services = [Service("web", WEB, "web", [*both, *c.stapled, c.must_staple], alpn=("h2", "http/1.1")),
                    Service("echo", ECHO, "echo", both, settings=patient),
                    Service("required", REQUIRED, "forwarded", both, client_auth=self.client_auth(c.clients_a, forward=True)),
                    Service("optional", OPTIONAL, "echo", both, client_auth=self.client_auth(c.clients_a, "optional")),
                    Service("named", NAMED, "echo", both, client_auth=self.client_auth(c.clients_a, names=["*.example.org"])),
                    Service("required-b", REQUIRED_B, "echo", both, client_auth=self.client_auth(c.clients_b)),
                    Service("ech", ECH, "echo", [*both, c.public], ech={"public_name": PUBLIC_NAME}),
                    Service("crl-pointer", CRL_POINTER, "echo", [c.crl_pointer])]

        def add(name, port, *options, pool=None, **more):
            members = self.backend(name, port, *options, **more)
            pools.append(Pool(name, members, **{**self.internal, **(pool or {})}))
            services.append(Service(name, port, name, both, settings=patient))

        bad = {**c.bad_backends(), **c.worse_backends()}
        if bad.keys() != REFUSED_BACKENDS.keys():
            raise AssertionError(f"bad certificates without an expectation, or the other way round: {bad.keys() ^ REFUSED_BACKENDS.keys()}")
        for port, (name, certificate) in enumerate(bad.items(), BAD_BACKENDS):
            # TLS 1.2, so that a capture shows whether application data came; the level lets the backend load a weak certificate.
            add(name, port, "--set", "MaxProtocol=TLSv1.2", "--set", "CipherString=DEFAULT@SECLEVEL=0", certificate=certificate,
                pool={"crl": (c.internal.crl_url,)} if name == "revoked" else None)
        pinned = bad["self-signed"]
        add("pinned", PINNED, certificate=pinned, pool={"trust": "", "pins": (fingerprint(pinned.certificate),)})
        add("wrong-pin", WRONG_PIN, certificate=pinned, pool={"trust": "", "pins": ("sha256:" + "00" * 32,)})
        add("name-list", NAME_LIST, pool={"names": ("only.example.net",)})
        add("identified", IDENTIFIED, "--set", f"VerifyCAFile={c.backend_ca}", "--set", "VerifyMode=Require", pool={"identity": self.identity})
        add("stapling", STAPLING, "--staple", self.staple_file)
        add("not-tls", NOT_TLS, "--banner", "220 backend.example.net ESMTP\\r\\n", plain=True)
        add("old-suite", OLD_SUITE, "--set", "MaxProtocol=TLSv1.2", "--set", "CipherString=ECDHE-ECDSA-AES128-SHA@SECLEVEL=0")
        add("old-version", OLD_VERSION, "--set", "MaxProtocol=TLSv1.1", "--set", "CipherString=DEFAULT@SECLEVEL=0")
        return Configuration(services, pools, profile=best_profile(), redirects={"to-https": REDIRECT},
                             revocation={"timeout_ms": 2000, "max_octets": 4 << 20, "crl_poll_s": 10},
                             state_directory=self.lab.directory / "state-2")

    @property
    def staple_file(self):
        return self.lab.directory / "backend-staple.der"

    # --- level 3: all that the lower levels ask for, and ECH, identities on both sides, revocation that fails closed

    def make_level3(self):
        c = self.lab.certificates
        own = [c.ecdsa, c.public, c.stapled[1]]
        ech = {"public_name": PUBLIC_NAME}
        protected = {"identity": self.identity, "crl": (c.internal.crl_url,)}
        pools = [self.echo_pool(**protected), self.echo_pool("no-crl", identity=self.identity)]
        no_crl = {"mode": "required", "trust": [str(c.clients_a.file)]}
        services = [Service("web", WEB, "echo", own, ech=ech),
                    Service("echo", ECHO, "echo", own, versions=("1.3", "1.2"), ech=ech),
                    Service("required", REQUIRED, "echo", own, ech=ech, client_auth=self.client_auth(c.clients_a)),
                    Service("client-unknown", OPTIONAL, "echo", own, ech=ech, client_auth=no_crl),
                    Service("no-crl", NO_CRL, "no-crl", own, ech=ech)]
        return Configuration(services, pools, policy_level=3, profile=best_profile(),
                             revocation={"timeout_ms": 2000, "crl_poll_s": 10}, state_directory=self.lab.directory / "state-3")

    # --- all that can be wrong with what a responder says, at once: a certificate, and a service with clients, for each lie

    def make_liars(self):
        c = self.lab.certificates
        own = [c.stapled[1], c.crl_pointer, c.listed]
        own += [c.issuing.issue(f"lie-{lie}", "ecdsa", [f"{lie}.example.com"], ocsp=True, days=30, responder=liar("ocsp", lie))
                for lie in OCSP_LIES + SENDING_LIES]
        services = [Service("web", WEB, "echo", own), Service("echo", ECHO, "echo", [c.ecdsa])]
        for port, lie in enumerate(CRL_LIES + SENDING_LIES, LIARS):
            self.ports[f"crl-{lie}"] = port
            auth = {"mode": "required", "trust": [str(c.clients_a.file)], "crl": [f"{liar('crl', lie)}/crl/{c.clients_a.name}"]}
            services.append(Service(f"crl-{lie}", port, "echo", [c.ecdsa], client_auth=auth))
        return Configuration(services, [self.echo_pool()], profile=best_profile(), state_directory=self.lab.directory / "state-liars",
                             revocation={"timeout_ms": 500, "max_octets": 1 << 20, "crl_poll_s": 10})

    # --- between tests

    def forget(self):
        self.responder.honest()
        for backend in self.backends.values():
            backend.forget()

    def received(self, name):
        """Application octets that a backend has got since forget()."""
        events = self.backends[name].events()
        return sum(event.get("received", 0) for event in events)

    # --- clients

    def s_client(self, port, *options, name="www.example.com", send="", wait=None, family=4, timeout=30):
        """openssl s_client; the octets of `send` go out after the handshake. With `wait`, it stays so many seconds to read."""
        command = ["openssl", "s_client", "-connect", self.lab.service(port, family), "-CAfile", self.lab.certificates.ca,
                   *(["-servername", name] if name else ["-noservername"]), *options]
        if wait is None:
            return self.lab.client(*command, input=send, timeout=timeout)
        script = f"(printf '%s' \"$0\"; sleep {wait}) | \"$@\""
        return self.lab.client("sh", "-c", script, send, *command, timeout=timeout)


def fingerprint(certificate):
    return "sha256:" + hashlib.sha256(der.from_pem(certificate.read_text())).hexdigest()


def policy_count(appliance, violation):
    """How often the policy has objected like this, in all."""
    counters = appliance.counters()
    name = f"policy_{violation}"
    if name not in counters:
        raise AssertionError(f"there is no counter {name}; there are {sorted(n for n in counters if 'policy' in n)}")
    return counters[name]


class Counted:
    """with Counted(appliance, "client_suite"): the counter must have risen at the end, by one or by what is said."""

    def __init__(self, appliance, violation, by=1):
        self.appliance, self.violation, self.by = appliance, violation, by

    def __enter__(self):
        self.before = policy_count(self.appliance, self.violation)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            wait_for(lambda: f"policy_{self.violation} to rise by {self.by} from {self.before}: "
                             f"{[(n, v) for n, v in self.appliance.counters().items() if n.startswith('policy_') and v]}",
                     lambda: policy_count(self.appliance, self.violation) == self.before + self.by, 5)


def requirements(appliance):
    """The table of `show policy` by the draft's ids."""
    return {row["id"]: row for row in appliance.show("policy")}


def control_log(lab):
    return (lab.directory / "control.log").read_text(errors="replace")
