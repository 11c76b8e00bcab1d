"""System tests: the real programs in the lab. Run by scripts/test, inside the firmware root.

One appliance with the services of `standard_configuration` serves most tests; a test that needs another asks the
`appliance_with` fixture. SALLYPORT_STAND_IN=1 puts nginx in the appliance's place, to develop tests with: its results
say nothing about the appliance.
"""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.lab import certificates, network                                        # noqa: E402
from tests.lab.configuration import Configuration, Pool, Service                   # noqa: E402
from tests.lab.lab import Appliance, Backend, Lab, StandIn, best_profile           # noqa: E402
from .policy_lab import PolicyLab                                                  # noqa: E402
from .tls_client import TlsClient                                                  # noqa: E402

STAND_IN = os.environ.get("SALLYPORT_STAND_IN") == "1"
SLOW_BUILD = "asan" in os.environ.get("SALLYPORT_BUILD", "") or "tsan" in os.environ.get("SALLYPORT_BUILD", "")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_appliance: says nothing with a stand-in")
    config.addinivalue_line("markers", "long: left out under sanitizers")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if STAND_IN and item.get_closest_marker("needs_appliance"):
            item.add_marker(pytest.mark.skip(reason="needs the appliance itself"))
        if SLOW_BUILD and item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="too long under a sanitizer"))


class Standard:
    """The lab with its backends, and the configuration that most tests use. Ports of services by name."""

    def __init__(self, lab):
        self.lab = lab
        self.backends = {}
        self.ports = {}
        # No test of these services may fail because the machine is busy; `web` keeps the default.
        self.patient = {"handshake_timeout_ms": 60000}
        self.pools = lab.standard_pools()
        self.services = lab.standard_services()
        self.services[1].settings = self.patient
        self.ports.update(web=443, echo=4433)
        self.trust = {"server_name": certificates.BACKEND_NAME, "trust": str(lab.certificates.backend_ca)}
        self.both = [lab.certificates.rsa, lab.certificates.ecdsa]
        lab.start_web()
        self.backends["echo"] = Backend(lab, "echo", 4433)
        octets = str(10_000_000)
        self.add("key-updates", 4440, "--key-update-every", "1000", "--write-size", "500")
        self.add("resetting", 4441, "--reset-after", "5000")
        self.add("truncating", 4442, "--fin-after", "5000")
        self.add("closing", 4443, "--close-after", "5000")
        self.add("slow", 4444, "--read-rate", "20000", "--receive-buffer", "8192")
        self.add("stuck", 4445, "--never-read")
        self.add("sink", 4446, "--mode", "sink")
        self.add("source", 4447, "--mode", "source", "--source-octets", octets)
        self.add("tiny-records", 4448, "--write-size", "1")
        self.add("tls12", 4449, "--set", "MaxProtocol=TLSv1.2")
        self.add("wants-certificate", 4450, "--set", "VerifyMode=Require")
        self.add("speaks-plain", 4451, "--plain")
        for port, (name, certificate) in enumerate(lab.certificates.bad_backends().items(), 4452):
            self.add(name, port, certificate=certificate)
        self.add("proxied", 4460, "--proxy", pool={"proxy_protocol": True})
        self.service("dead", 4461, [f"{network.BACKEND_ADDRESSES[0][0]}:4461"])
        self.service("unreachable", 4462, ["198.51.100.200:4462"], connect_timeout_ms=500)
        self.pair("pair", 4470, health={"interval_ms": 200, "timeout_ms": 200, "rise": 2, "fall": 2})
        self.pair("least", 4471, balance="least_connections")
        self.pair("draining", 4472, drained=True)

    def service(self, name, port, members, **pool):
        self.ports[name] = port
        self.pools.append(Pool(name, members, **{**self.trust, **pool}))
        self.services.append(Service(name, port, name, self.both, settings=self.patient))

    def add(self, name, port, *options, certificate=None, pool=None):
        plain = "--plain" in options
        self.backends[name] = Backend(self.lab, name, port, *[o for o in options if o != "--plain"], certificate=certificate, plain=plain)
        self.service(name, port, self.backends[name].members(), **(pool or {}))

    def pair(self, name, port, drained=False, **pool):
        members = []
        for index, letter in ((0, "a"), (1, "b")):
            backend = Backend(self.lab, f"{name}-{letter}", port, "--banner", letter, addresses=(index,))
            self.backends[f"{name}-{letter}"] = backend
            more = {"name": letter, **({"drain": True} if drained and letter == "b" else {})}
            members.append((backend.members(4)[0], more))
        self.service(name, port, members, **pool)

    def configuration(self, **settings):
        return Configuration(self.services, self.pools, profile=best_profile(), **settings)


class Manager:
    """Keeps one appliance running; starts it anew when another configuration is wanted."""

    def __init__(self, lab):
        self.lab = lab
        self.running = self.text = None

    def use(self, config):
        if STAND_IN:
            if self.running is None or self.text is not config:
                self.stop()
                self.running, self.text = StandIn(self.lab, config), config
            return self.running
        path = self.lab.write_configuration(config)
        text = path.read_text()
        if self.running is None or self.text != text:
            self.stop()
            self.running = Appliance(self.lab, path)
            self.text = text
            self.running.start(120 if SLOW_BUILD else 30)
        return self.running

    def stop(self):
        if self.running is not None:
            running, self.running = self.running, None
            running.stop()


@pytest.fixture(scope="session")
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def standard(lab):
    return Standard(lab)


@pytest.fixture(scope="session")
def manager(lab):
    manager = Manager(lab)
    yield manager
    manager.stop()


@pytest.fixture(scope="session")
def standard_configuration(standard):
    return standard.configuration()


@pytest.fixture
def appliance(manager, standard, standard_configuration):
    """The appliance with the standard services. It must still be running after the test."""
    appliance = manager.use(standard_configuration)
    if not STAND_IN:
        appliance.wait_no_flows()   # what the test before has left would be counted as this one's
    for backend in standard.backends.values():
        backend.forget()
    yield appliance
    standard.lab.end_clients()
    TlsClient.close_all()
    if manager.running is not appliance:
        return   # the test has stopped it
    try:
        appliance.check_running()
    except Exception:
        manager.running = None   # the next test gets a new one
        raise


@pytest.fixture(scope="session")
def policy_lab(lab, standard):
    made = PolicyLab(lab, standard)
    yield made
    made.responder.stop()


@pytest.fixture
def level2(manager, policy_lab):
    """The appliance with the policy's services at level 2; the responder is honest."""
    yield from with_policy(manager, policy_lab, policy_lab.level2)


@pytest.fixture
def level3(manager, policy_lab):
    """At level 3."""
    yield from with_policy(manager, policy_lab, policy_lab.level3)


@pytest.fixture
def liars(manager, policy_lab):
    """With a responder that lies about each certificate and list in another way."""
    yield from with_policy(manager, policy_lab, policy_lab.liars)


def with_policy(manager, policy_lab, config):
    policy_lab.responder.honest()
    appliance = manager.use(config)
    appliance.wait_no_flows()   # what the test before has left would be counted as this one's
    policy_lab.forget()
    yield appliance
    TlsClient.close_all()
    policy_lab.lab.end_clients()
    try:
        appliance.check_running()
    except Exception:
        manager.running = None
        raise


@pytest.fixture
def appliance_with(manager):
    """Starts the appliance with a configuration of the test's own."""
    yield manager.use
    if manager.running is not None:
        try:
            manager.running.check_running()
        except Exception:
            manager.running = None
            raise


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and "manager" in item.funcargs and item.funcargs["manager"].running is not None:
        running = item.funcargs["manager"].running
        report.sections.append(("appliance's logs", running.logs()))
        if not STAND_IN:
            report.sections.append(("appliance's counters", told_counters(running)))


def told_counters(running):
    try:
        return "\n".join(f"{name} {value}" for name, value in sorted(running.counters().items()) if value)
    except Exception as error:
        return f"none: {error}"
