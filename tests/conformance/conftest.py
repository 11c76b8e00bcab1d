"""Conformance tests: scripted TCP peers on the wire against one running appliance. See README.md."""

import collections
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.lab.configuration import Configuration, Pool, Service       # noqa: E402
from tests.lab.lab import Appliance, Lab, best_profile                  # noqa: E402
from tests.system.tls_client import context_for                         # noqa: E402
from . import wire as w                                                 # noqa: E402
from .flows import Client, Flow                                         # noqa: E402
from .peer import Listener, Peer                                        # noqa: E402

REDIRECT, PATIENT_REDIRECT, CLOSED = 80, 81, 4999
POOLS = {4: range(7000, 7016), 6: range(7600, 7608)}   # a service and its backend on the same port; taken in turn
HALF_OPEN = 1024                                       # max_flows / 8: from there on SYN cookies


def pytest_configure(config):
    config.addinivalue_line("markers", "long: left out under sanitizers")
    config.addinivalue_line("markers", "last: leaves something behind in the appliance that other tests would see")
    config.addinivalue_line("markers", "tcp(**settings): with an appliance whose dataplane.tcp says that")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: (sorted(tcp_of(item).items()), item.get_closest_marker("last") is not None))   # few restarts
    for item in items:
        if w.SLOW and item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="too long under a sanitizer"))


def tcp_of(item):
    """The settings of dataplane.tcp that a test wants; without a mark those that an appliance has by itself."""
    mark = item.get_closest_marker("tcp")
    return mark.kwargs if mark else {}


@pytest.fixture(scope="session")
def lab():
    with Lab() as lab:
        yield lab


def write_configuration(lab, tcp):
    settings = {"handshake_timeout_ms": 120000}
    pools = [Pool(f"plain-{port}", [f"{w.HOST['backend'][0]}:{port}" if family == 4 else f"[{w.HOST['backend'][1]}]:{port}"],
                  connect_timeout_ms=60000) for family, ports in POOLS.items() for port in ports]
    services = [Service(pool.name, int(pool.name[6:]), pool.name, [lab.certificates.rsa, lab.certificates.ecdsa], settings=settings)
                for pool in pools]
    config = Configuration(services, pools, policy_level=1, profile=best_profile(), dataplane={"max_flows": HALF_OPEN * 8, **({"tcp": tcp} if tcp else {})},
                           redirects={"redirect": REDIRECT, "patient": PATIENT_REDIRECT})
    path = lab.write_configuration(config)
    text = path.read_text()
    path.write_text(text.replace('name = "patient";', 'name = "patient"; timeout_ms = 120000;'))
    return path


class Appliances:
    """One at a time: it is started anew when a test wants other settings than the one before."""

    def __init__(self, lab):
        self.lab, self.running, self.tcp = lab, None, None

    def with_tcp(self, tcp):
        if self.running is None or self.tcp != tcp:
            self.stop()
            self.running, self.tcp = Appliance(self.lab, write_configuration(self.lab, tcp)), tcp
            self.running.start(120 if w.SLOW else 30)
        return self.running

    def stop(self):
        if self.running is not None:
            self.running.stop()
            self.running = None


@pytest.fixture(scope="session")
def appliances(lab):
    all_of_them = Appliances(lab)
    yield all_of_them
    all_of_them.stop()


@pytest.fixture
def appliance(request, appliances):
    return appliances.with_tcp(tcp_of(request.node))


@pytest.fixture(scope="session")
def whole_world(appliances):
    """Asked for when an appliance runs."""
    world = w.World()
    yield world
    world.close()


@pytest.fixture
def world(request, appliance):
    """Both links, empty. What a test leaves open is reset."""
    whole_world = request.getfixturevalue("whole_world")
    whole_world.clear()
    whole_world.trace.clear()
    yield whole_world
    whole_world.clear()
    appliance.check_running()


LATE = 0.05   # seconds; what the appliance's timers must not be blamed for


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A peer that a busy machine keeps waiting is answered by retransmissions and probes that no test expects. Where that is how a test failed, as the times
    show at which the kernel has taken the segments in, it is begun anew; and with a sanitizer, whose appliance is late by itself, in any case."""
    world = pyfuncitem.funcargs.get("world")
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for left in (2, 1, 0):
        try:
            pyfuncitem.obj(**arguments)
            return True
        except AssertionError:
            if world is None or left == 0 or (world.latest < LATE and not w.SLOW):
                raise
            world.clear()
            world.note("", "", "late: once more")


@pytest.fixture
def client(world):
    """client(port, family): a peer on the clients' side, not connected."""
    return lambda port=PATIENT_REDIRECT, family=4, **more: Peer.to_service(world, port, family, **more)


_turns = {family: collections.deque(ports) for family, ports in POOLS.items()}


@pytest.fixture
def listening(world):
    """listening(family): (service's port, listener at its backend)."""
    def of(family=4):
        _turns[family].rotate(-1)
        port = _turns[family][0]
        return port, Listener(world, port)
    return of


@pytest.fixture
def opening(world, lab, listening):
    """opening(family): (TLS client, backend's end in front of which the appliance's SYN lies)."""
    context = context_for(lab.certificates.ca)

    def of(family=4, **more):
        port, listener = listening(family)
        client = Client(world, context, port, family)
        client.handshake()
        return client, listener.take(**more)
    return of


@pytest.fixture
def flow(world, opening):
    """flow(family, SYN,ACK options): a flow with a scripted backend, established. Its timers follow the round trip that the SYN,ACK lets them measure."""
    def of(family=4, *, win=None, round_trip=0, **syn):
        client, peer = opening(family)
        peer.expect("S", seq=0)
        world.pump(round_trip)
        peer.send("SA", seq=0, ack=1, win=win, **(syn or Peer.SYN))
        peer.expect("A", seq=1, ack=1)
        return Flow(client, peer)
    return of


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed or "world" not in item.funcargs:
        return
    report.sections.append(("segments", "\n".join(item.funcargs["world"].trace[-120:])))
    running = item.funcargs["appliance"]
    report.sections.append(("appliance's logs", running.logs()))
