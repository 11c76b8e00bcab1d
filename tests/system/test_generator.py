"""The load generator (tests/bench/generator): against itself, over a wire within the process and over memif, and with the appliance between its clients
and its backends. Counts are exact; nothing is asked of speed."""

import concurrent.futures
import contextlib
import itertools
import os
import signal
import socket

import pytest

from tests.lab import certificates, network
from tests.lab.between import MEMIF, VIRTIO, Between, generator
from tests.lab.lab import LabError, wait_for

SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES_12 = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"]


def generate(lab, *options, code=0, **more):
    """Runs the generator; returns its report, or what it says instead."""
    return told(*generator(lab, *options, **more), code)


def told(done, report, code=0):
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return report if report is not None else done.stderr


def looped(lab, *options, **more):
    """Clients against backends of the same process, verified."""
    certificate, key = lab.certificates.backend
    tls = ["--backend-certificate", certificate, "--backend-key", key] if "--backend-plain" not in options else []
    if "--plain" not in options:
        more.setdefault("ca", lab.certificates.backend_ca)
    more = {"duration": 0.3, "warm_up": 0.1, "host": certificates.BACKEND_NAME, "open_rate": 0, **more}
    return generate(lab, "--loopback", *tls, *options, **more)


def agree(report):
    """Both sides of one process count the same."""
    clients, backends = report["clients"], report["backends"]
    assert clients["messages_in"] == clients["messages_out"] == backends["messages_in"] == backends["messages_out"] > 0
    assert clients["octets_out"] == backends["octets_in"] and clients["octets_in"] == backends["octets_out"]
    for side in (clients, backends):
        assert side["mismatched_octets"] == 0
        assert side["failed"] == 0, side
        assert side["opened"] == side["closed"]
    assert clients["negotiated"] == backends["negotiated"]
    assert clients["handshakes"] == backends["handshakes"] and clients["resumed"] == backends["resumed"]
    return clients


@pytest.mark.parametrize("suite", SUITES_13 + SUITES_12)
def test_each_suite_with_itself(lab, suite):
    version = "1.3" if suite in SUITES_13 else "1.2"
    report = looped(lab, suite=suite, backend_suite=suite, groups="x25519,secp256r1", connections=4, request_size=3000, answer_size=40_000)
    clients = agree(report)
    assert clients["negotiated"] == [{"version": version, "suite": suite, "group": "x25519", "resumed": False, "count": 4}]
    assert clients["octets_in"] > clients["messages_in"] * 40_000
    assert clients["octets_out"] == clients["messages_out"] * 3000


def test_plain_text_with_itself(lab):
    clients = agree(looped(lab, "--plain", "--backend-plain", connections=4, request_size=70_000, answer_size=300_000))
    assert clients["opened"] == 4 and clients["handshakes"] == 0


def test_ipv6_and_small_records(lab):
    clients = agree(looped(lab, client_address="2001:db8::1/64", backend_address="2001:db8::2/64", connections=2, record_size=64, answer_size=5000))
    assert clients["records_in"] > clients["messages_in"] * 5000 / 64


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_sessions_are_resumed(lab, version):
    report = looped(lab, mode="close", connections=2, tls=version, resume=100, groups="x25519,secp256r1", answers=40, duration=60)
    clients = agree(report)
    assert 0 < clients["resumed"] < clients["handshakes"] == clients["opened"] == clients["messages_in"]
    assert (clients["tickets"] > 0) == (version == "1.3")
    assert {n["version"] for n in clients["negotiated"]} == {version}
    assert sum(n["count"] for n in clients["negotiated"] if n["resumed"]) == clients["resumed"]
    # One that has been opened once is enough for all that follow.
    assert clients["resumed"] >= clients["handshakes"] / 2


def test_keys_are_updated(lab):
    """Each side changes its key every few records, and asks the other to, which answers: by RFC 8446 4.6.3 at once or later."""
    report = looped(lab, connections=2, tls="1.3", key_update_every=5, answer_size=50_000, request_size=20_000, answers=100, duration=60)
    for side, other in (("clients", "backends"), ("backends", "clients")):
        assert report[side]["key_updates_in"] == pytest.approx(report[other]["key_updates_out"], abs=2) and report[side]["key_updates_in"] > 20
    agree(report)


def test_no_tickets_no_resumption(lab):
    clients = agree(looped(lab, mode="close", connections=2, answers=10, duration=60))
    assert clients["resumed"] == 0


def test_several_requests_on_each_connection(lab):
    clients = agree(looped(lab, mode="close", requests=3, connections=2, answers=10, duration=60))
    assert clients["messages_in"] == 3 * clients["opened"]


@pytest.mark.parametrize("tls", [True, False])
def test_connections_without_a_request(lab, tls):
    report = looped(lab, *([] if tls else ["--plain", "--backend-plain"]), mode="close", requests=0, connections=4, open_rate=2000)
    clients, backends = report["clients"], report["backends"]
    assert clients["opened"] == clients["closed"] == backends["opened"] == backends["closed"] > 4
    assert clients["messages_out"] == backends["messages_in"] == clients["failed"] == backends["failed"] == 0
    assert clients["handshakes"] == (clients["opened"] if tls else 0)
    assert report["window"]["opened_per_second"] > 0 and report["window"]["ended"] > report["window"]["began"]


def test_idle_connections_answer_the_probe(lab):
    report = looped(lab, mode="idle", connections=100)
    assert agree(report)["messages_in"] == report["probed"] == report["most_ready"] == 100
    assert report["not_probed"] == 0 and report["latency"]["last_octet"]["count"] == 100


def test_idle_ones_beside_active_ones(lab):
    """A closed loop has a request of each active connection under way whenever it ends, and none of the others."""
    report = looped(lab, connections=50, active=5, answer_size=200_000, drain=0, most_failures=100)
    assert report["most_ready"] == 50
    assert 0 < report["unanswered"] <= 5
    assert report["clients"]["messages_in"] > 5


@pytest.mark.parametrize("spacing", ["constant", "poisson"])
def test_open_loop_sends_what_is_due(lab, spacing):
    """What was due in the window was measured or is told to be unsent, however slow the machine."""
    report = looped(lab, rate=1000, duration=1, connections=20, spacing=spacing, drain=60, timeout=60)
    agree(report)
    assert report["load"]["model"] == "open" and report["unanswered"] == 0
    due = report["latency"]["last_octet"]["count"] + report["unsent"]
    assert due == pytest.approx(1000, abs=1 if spacing == "constant" else 200)   # six deviations


def test_open_loop_counts_waiting_for_a_connection(lab):
    """One connection for which ten times what it can carry is due: waiting is in the latency."""
    report = looped(lab, "--plain", "--backend-plain", rate=1000, spacing="constant", answer_size=50_000_000, connections=1, duration=1, warm_up=0, drain=60, timeout=60)
    assert report["unsent"] > 500
    latency = report["latency"]["last_octet"]
    assert latency["max"] > 0.9e9, "the last one sent in the window was due long before"
    assert latency["count"] + report["unsent"] == pytest.approx(1000, abs=1)


def test_open_loop_of_connections(lab):
    report = looped(lab, mode="close", rate=100, spacing="constant", duration=1, connections=50, drain=60, timeout=60)
    clients = agree(report)
    assert clients["opened"] == clients["messages_in"]
    assert report["latency"]["setup"]["count"] > 0
    assert report["latency"]["last_octet"]["count"] + report["unsent"] == pytest.approx(100, abs=1)


def test_many_client_addresses(lab):
    clients = agree(looped(lab, "--plain", "--backend-plain", clients="10.1.0.0/16", connections=300))
    assert clients["opened"] == 300


def test_certificate_of_another_authority_is_refused(lab):
    report = looped(lab, mode="close", connections=1, ca=lab.certificates.ca, code=1)
    assert report["clients"]["failures"]["certificate_refused"] == report["clients"]["failed"] > 0
    assert report["backends"]["failures"]["alert_received"] > 0
    assert not report["good"] and report["clients"]["messages_in"] == 0
    assert looped(lab, mode="close", connections=1, ca=lab.certificates.ca, most_failures=100, code=1)["why"].startswith("nothing")


def test_versions_that_do_not_meet(lab):
    report = looped(lab, mode="close", connections=1, tls="1.2", backend_tls="1.3", code=1)
    assert set(report["clients"]["failures"]) == {"alert_received"}
    assert "protocol_version" in " ".join(report["clients"]["first_failures"])


def test_nothing_listens(lab):
    report = looped(lab, mode="close", connections=1, target="192.0.2.2:444", code=1)
    assert set(report["clients"]["failures"]) == {"refused"}


def test_percentiles_are_written(lab):
    file = lab.directory / "percentiles.txt"
    looped(lab, "--plain", "--backend-plain", connections=1, percentiles=file)
    assert file.read_text().startswith("       Value     Percentile TotalCount 1/(1-Percentile)\n")


def test_course_of_a_window(lab):
    window = looped(lab, "--plain", "--backend-plain", connections=4, rate=2000, duration=1, course=0.1)["window"]
    course = window["course"]
    assert window["began"] <= course[0]["monotonic"] and course[-1]["monotonic"] <= window["ended"]
    assert 2 <= len(course) <= 2 + window["seconds"] / 0.1   # fewer where the machine stopped it for a while
    for before, after in itertools.pairwise(course):
        assert after["monotonic"] > before["monotonic"] and after["messages"] >= before["messages"] and after["opened"] == before["opened"] == 4
    assert 0 < course[-1]["messages"] - course[0]["messages"] <= window["messages"]
    assert "course" not in looped(lab, "--plain", "--backend-plain", connections=1)["window"]


def test_latencies_by_slices(lab):
    report = looped(lab, "--plain", "--backend-plain", connections=4, rate=2000, duration=1, slice=0.1)
    slices = report["latency"]["slices"]
    assert slices["count"] == 10 and slices["seconds"] == 0.1
    whole = report["latency"]["last_octet"]
    for octet in ("first_octet", "last_octet"):
        assert 0 < slices[octet]["p50"] <= slices[octet]["p99"] <= slices[octet]["p99.99"]
        assert slices[octet]["p99.99"] <= whole["max"] * 1.01   # two digits
    assert "slices" not in looped(lab, "--plain", "--backend-plain", connections=1)["latency"]


def test_memif_pair(lab):
    """Two ports of one process that meet over a socket."""
    certificate, key = lab.certificates.backend
    socket = lab.directory / "pair.sock"
    report = generate(lab, "--client-port", f"memif:{socket},role=server", "--client-address", "192.0.2.1/24",
                      "--backend-port", f"memif:{socket},role=client", "--backend-address", "192.0.2.2/24",
                      "--backend-certificate", certificate, "--backend-key", key, "--ca", lab.certificates.backend_ca, "--host", certificates.BACKEND_NAME,
                      connections=8, duration=0.3, warm_up=0.1, answer_size=20_000)
    assert agree(report)["opened"] == 8


def test_usage_errors_name_what_would_be_right(lab):
    assert "--backend-certificate" in generate(lab, "--loopback", code=64)


# --- the appliance between

@contextlib.contextmanager
def kernel_between(request):
    """The kernel in the appliance's place, as a router: the namespace in which the generator has both ends, and the interfaces by side."""
    if os.environ.get("SALLYPORT_STAND_IN") != "1":
        request.getfixturevalue("manager").stop()
    network.kernel_addresses()
    network.run("sysctl", "-q", "net.ipv4.ip_forward=1")
    try:
        with network.together() as (place, interfaces):
            yield place, interfaces
    finally:
        network.run("sysctl", "-q", "net.ipv4.ip_forward=0")
        network.no_kernel_addresses()


@pytest.mark.parametrize("offloads", [True, False])
def test_over_kernel_interfaces(lab, request, offloads):
    """A router that looks at each header's checksum, and takes merged frames or does not."""
    certificate, key = lab.certificates.backend
    had = {side: network.has_offloads(side) for side in network.PORTS}
    try:
        for side in network.PORTS:
            network.offloads_of_link(side, offloads)
        with kernel_between(request) as (place, interfaces):
            agree(generate(lab, "--client-port", f"af_packet:{interfaces['client']}", "--client-address", f"{network.CLIENT_ADDRESSES[0]}/24",
                           "--client-gateway", network.APPLIANCE["client"][0], "--target", f"{network.BACKEND_ADDRESSES[0][0]}:443",
                           "--backend-port", f"af_packet:{interfaces['backend']}", "--backend-address", f"{network.BACKEND_ADDRESSES[0][0]}/24",
                           "--backend-gateway", network.APPLIANCE["backend"][0], "--backend-certificate", certificate, "--backend-key", key,
                           within=("ip", "netns", "exec", place), ca=lab.certificates.backend_ca, host=certificates.BACKEND_NAME, connections=8, request_size=30_000,
                           answer_size=200_000, duration=0.5, warm_up=0.1, open_rate=0))
    finally:
        for side, on in had.items():
            network.offloads_of_link(side, on)


def test_backends_that_go_reset_what_is_kept_open(lab, request):
    """Who keeps connections would else lose its next requests on them."""
    address = network.BACKEND_ADDRESSES[0][0]
    with kernel_between(request) as (place, interfaces), concurrent.futures.ThreadPoolExecutor() as run:
        backends = run.submit(generate, lab, "--backend-port", f"af_packet:{interfaces['backend']}", "--backend-address", f"{address}/24", "--backend-gateway",
                              network.APPLIANCE["backend"][0], "--backend-plain", "--listen", f"{address}:80", within=("ip", "netns", "exec", place), duration=1)
        kept = wait_for("the backends", lambda: connected(address, 80), 20)
        with kept, pytest.raises(ConnectionResetError):
            kept.settimeout(20)
            kept.recv(1)
        assert backends.result()["backends"]["opened"] == 1


def connected(address, port):
    try:
        return socket.create_connection((address, port), 0.5)
    except OSError:
        return None


class Checked(Between):
    def run(self, *options, **more):
        try:
            report = told(*super().run(*options, **{"duration": 0.5, "warm_up": 0.2, "timeout": 60, "drain": 60, **more}))
        except AssertionError as error:
            raise AssertionError(f"{error}{self.appliance.logs()}") from None
        self.appliance.check_running()
        return report


@pytest.fixture(scope="module", params=[MEMIF, VIRTIO], ids=lambda wire: wire.profile)
def between(lab, request):
    """Each run() is another generator: the other side of the appliance's ports ends, and comes again."""
    if os.environ.get("SALLYPORT_STAND_IN") == "1":
        pytest.skip("needs the appliance itself")
    manager = request.getfixturevalue("manager")
    manager.stop()   # one appliance at a time: they share core and sockets
    made = Checked(lab, wire=request.param)
    yield made
    made.stop()


def both(report):
    """What the appliance must keep: every message, in order, to the last octet."""
    clients, backends = report["clients"], report["backends"]
    assert clients["failed"] == clients["mismatched_octets"] == backends["mismatched_octets"] == 0, (clients, backends)
    assert clients["messages_out"] == clients["messages_in"] == backends["messages_in"] == backends["messages_out"] > 0
    assert clients["octets_in"] == backends["octets_out"] and clients["octets_out"] == backends["octets_in"]
    return clients, backends


def test_appliance_that_cannot_start_says_why(lab, request):
    """And nobody waits a minute for its sockets."""
    if os.environ.get("SALLYPORT_STAND_IN") == "1":
        pytest.skip("needs the appliance itself")
    request.getfixturevalue("manager").stop()
    without_memory = Between(lab, dataplane={"hugepages": False, "buffers": 1_000_000})
    try:
        with pytest.raises(LabError, match=r"sallyport-dataplane ended with exit code[\s\S]*1000000 buffers was not made"):
            without_memory.run(connections=1)
    finally:
        without_memory.stop()


def test_appliance_that_waits_for_a_switch_can_be_stopped(lab, request):
    if os.environ.get("SALLYPORT_STAND_IN") == "1":
        pytest.skip("needs the appliance itself")
    request.getfixturevalue("manager").stop()
    alone = Between(lab, wire=VIRTIO)
    try:
        wait_for("the appliance to make a socket", alone.socket_made, 60)
        dataplane = alone.appliance.dataplane
        assert "port_waits" in dataplane.log.read_text()
        assert dataplane.stop() == -signal.SIGTERM
    finally:
        alone.stop()


def test_appliance_kept_connections(between):
    clients, backends = both(between.run(connections=16, answer_size=1024))
    assert clients["opened"] == backends["opened"] == 16
    assert clients["negotiated"][0]["version"] == backends["negotiated"][0]["version"] == "1.3"


def test_appliance_large_messages(between):
    both(between.run(connections=4, answer_size=1_000_000, request_size=200_000))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_appliance_connection_a_request(between, version):
    clients, backends = both(between.run(mode="close", connections=4, tls=version, resume=50, answers=60, duration=60))
    assert clients["opened"] == backends["opened"] == clients["messages_in"]
    assert clients["resumed"] > 0 and {n["version"] for n in clients["negotiated"]} == {version}
    assert backends["resumed"] > 0, "the appliance resumes its sessions with the backend"


def test_appliance_keys_are_updated(between):
    clients, backends = both(between.run(connections=4, tls="1.3", backend_tls="1.3", key_update_every=20, answer_size=100_000, answers=200, duration=60))
    assert clients["key_updates_out"] > 5 and clients["key_updates_in"] > 5, "the appliance answers each that asks for its own"
    assert backends["key_updates_out"] > 20 and backends["key_updates_in"] > 20


def test_appliance_idle_flows_from_many_addresses(between):
    report = between.run(mode="idle", connections=200, clients="10.1.0.0/16")
    both(report)
    assert report["probed"] == 200


def test_appliance_comes_again(between):
    """Its ports meet the generator's once more, which was there all the time."""
    if between.wire is MEMIF:
        pytest.skip("a memif client connects again when its link is looked at, which the generator does at its beginning only")
    def served(more):
        before = between.appliance.show("services")[0]["flows_total"]
        wait_for(f"{more} flows", lambda: between.appliance.show("services")[0]["flows_total"] >= before + more, seconds=60)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(Between.run, between, mode="close", connections=4, duration=10, warm_up=0.1, timeout=2, drain=5, most_failures=100)
        served(5)
        between.appliance.dataplane.kill()
        between.appliance.start_dataplane()
        wait_for("the dataplane", lambda: between.appliance.show("version")["dataplane_attached"])
        served(5)
        done, report = running.result()
    assert report is not None, done.stderr
    assert report["clients"]["mismatched_octets"] == report["backends"]["mismatched_octets"] == 0
    both(between.run(connections=4))
    assert "port_waits" in (between.lab.directory / "dataplane.log").read_text(), "whoever looks why it does not start is told"


def test_appliance_open_loop(between):
    report = between.run(rate=500, connections=20, duration=1)
    both(report)
    assert report["latency"]["last_octet"]["count"] + report["unsent"] == pytest.approx(500, abs=140)


def test_appliance_connections_that_say_nothing(between):
    """They are counted, as failed handshakes, and never more than a thousand a second described."""
    both(between.run(connections=1))   # it is up after that
    before, failures = between.appliance.show("services")[0], between.appliance.show("failures")
    report = between.run("--plain", mode="close", requests=0, connections=8, open_rate=5000, duration=0.5)
    opened = report["clients"]["opened"]
    assert opened == report["clients"]["closed"] > 8 and report["clients"]["failed"] == report["backends"]["opened"] == 0
    wait_for(f"{opened} flows to be over", lambda: between.appliance.show("services")[0]["handshakes_failed"] == before["handshakes_failed"] + opened)
    assert between.appliance.show("services")[0]["flows_total"] == before["flows_total"] + opened
    assert between.appliance.show("failures")["total"] == failures["total"] + opened
