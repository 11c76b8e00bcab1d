"""Against the kernel's TCP over links with faults: what comes through is what was sent, always.

In each case four transfers run at once, over IPv4 and IPv6: a download and an upload whose SHA-256 are compared, and connections that
send and receive at the same time and check each octet. The faults are on the client's link, the backend's, or both, in both directions,
seeded by the case's name; a failure prints the seed, and SALLYPORT_SEED=N runs a case (pytest -k NAME) with another.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import re
import zlib

import pytest

from tests.lab import network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Link, best_profile

pytestmark = pytest.mark.needs_appliance

DEFAULTS = {"net.ipv4.tcp_sack": 1, "net.ipv4.tcp_timestamps": 1, "net.ipv4.tcp_window_scaling": 1, "net.ipv4.tcp_ecn": 2,
            "net.ipv4.tcp_mtu_probing": 0}


@dataclasses.dataclass
class Case:
    name: str
    client: dict = dataclasses.field(default_factory=dict)    # faults of the client's link
    backend: dict = dataclasses.field(default_factory=dict)
    size: int = 2_000_000      # of the download and of the upload
    echoed: int = 500_000      # by each of four connections
    sysctl: dict = dataclasses.field(default_factory=dict)    # of the kernel's TCP at both ends, without "net.ipv4.tcp_"


def both(name, faults, **more):
    return Case(name, faults, faults, **more)


SMALL = {"size": 100_000, "echoed": 25_000}
MIDDLE = {"size": 600_000, "echoed": 150_000}
HARD = {"loss": 0.01, "reorder": 0.05, "reorder-us": 1500, "duplicate": 0.01, "delay-us": 1000}

CASES = [
    both("clean", {}, size=8_000_000, echoed=2_000_000),
    Case("client-0.1", {"loss": 0.001, "delay-us": 50}, size=4_000_000),
    Case("backend-0.1", {}, {"loss": 0.001, "delay-us": 50}, size=4_000_000),
    both("both-1", {"loss": 0.01, "delay-us": 50}),
    Case("client-1-10ms", {"loss": 0.01, "delay-us": 5000}, **MIDDLE),
    Case("backend-1-10ms", {}, {"loss": 0.01, "delay-us": 5000}, **MIDDLE),
    both("both-3", {"loss": 0.03, "delay-us": 50}, **MIDDLE),
    Case("client-3-50ms", {"loss": 0.03, "delay-us": 25000}, **SMALL),
    Case("client-10", {"loss": 0.1, "delay-us": 50}, **SMALL),
    Case("backend-10", {}, {"loss": 0.1, "delay-us": 50}, **SMALL),
    both("both-10ms", {"delay-us": 5000, "jitter-us": 2000}),
    Case("client-50ms", {"delay-us": 25000, "jitter-us": 5000}),
    Case("backend-50ms", {}, {"delay-us": 25000, "jitter-us": 5000}),
    both("bursts", {"burst": 0.002, "burst-length": 8, "delay-us": 500}, **MIDDLE),
    both("reordering", {"reorder": 0.1, "reorder-us": 1000, "delay-us": 500}),
    both("reordering-wild", {"reorder": 0.3, "reorder-us": 20000, "delay-us": 500}, **MIDDLE),
    both("duplicates", {"duplicate": 0.1, "reorder-us": 700, "delay-us": 100}),
    both("corruption", {"corrupt": 0.01, "delay-us": 100}, **MIDDLE),
    both("narrow", {"rate": 40_000_000, "queue": 30_000, "delay-us": 1000}),
    both("one-way-loss", {"there:loss": 0.02, "delay-us": 100}),
    both("lost-acks", {"back:loss": 0.2, "delay-us": 100}, **SMALL),
    both("everything", {**HARD, "corrupt": 0.002, "burst": 0.0005, "jitter-us": 1000, "rate": 100_000_000, "queue": 60_000}, **MIDDLE),
    both("no-sack", HARD, sysctl={"sack": 0}, **MIDDLE),
    both("no-timestamps", HARD, sysctl={"timestamps": 0}, **MIDDLE),
    both("no-window-scaling", HARD, sysctl={"window_scaling": 0}, **MIDDLE),
    both("no-options", HARD, sysctl={"sack": 0, "timestamps": 0, "window_scaling": 0}, **MIDDLE),
    both("ecn", HARD, sysctl={"ecn": 1}, **MIDDLE),
    both("mtu-probing", HARD, sysctl={"mtu_probing": 2}, **MIDDLE),
    both("reno", HARD, sysctl={"congestion_control": "reno"}, **MIDDLE),
    both("bbr", HARD, sysctl={"congestion_control": "bbr"}, **MIDDLE),
]

# A loss that depends on the segment's octets: a retransmission has another timestamp, and so another fate; without timestamps it might
# never come through. Not in the namespaces of the kernel's TCP: a drop on its own way out is told to it, and is no loss.
RULES = """
table netdev faults {{
  chain there {{ type filter hook ingress device "near" priority 0;
    jhash ip saddr . tcp sequence . tcp checksum mod 1000 seed {seed} < {there} counter drop
    jhash ip6 saddr . tcp sequence . tcp checksum mod 1000 seed {seed} < {there} counter drop
    fwd to "far"
  }}
  chain back {{ type filter hook ingress device "far" priority 0;
    jhash ip saddr . tcp sequence . tcp checksum mod 1000 seed {seed} < {back} counter drop
    jhash ip6 saddr . tcp sequence . tcp checksum mod 1000 seed {seed} < {back} counter drop
    fwd to "near"
  }}
}}
"""


def seed_of(name):
    seed = int(os.environ.get("SALLYPORT_SEED", zlib.crc32(name.encode())))
    print(f"{name}: seed {seed}")
    return seed


def set_kernels(congestion_control="cubic", **settings):
    chosen = DEFAULTS | {f"net.ipv4.tcp_{name}": value for name, value in settings.items()}
    for side in ("client", "backend"):
        network.run("ip", "netns", "exec", side, "sysctl", "-q", *[f"{name}={value}" for name, value in chosen.items()])
        network.congestion_control(side, congestion_control)


@pytest.fixture(scope="module")
def links(lab, standard):
    links = [Link(lab, "client"), Link(lab, "backend")]
    yield links
    for link in links:
        link.remove()
    set_kernels()
    for side in ("client", "backend"):
        network.congestion_control(side, None)


@pytest.fixture
def patient(links, lab, appliance_with):
    """An appliance that gives up no handshake and no connection because of the network, and tries no other member."""
    pools, services = lab.standard_pools(), lab.standard_services()
    for link in links:
        link.carry()
    for pool in pools:
        pool.connect_timeout_ms = 60000
    for service in services:
        service.settings = {"handshake_timeout_ms": 60000}
    return appliance_with(Configuration(services, pools, profile=best_profile()))


def digest(data):
    return hashlib.sha256(data).hexdigest()


def transfers(lab, name, size, echoed):
    """All four at once; returns nothing, or fails telling which and how."""
    wanted = lab.web_file(f"lossy-{size}", size)
    curl = ["curl", "-sS", "--http1.1", "--cacert", lab.certificates.ca, "--max-time", 90]

    def download(family):
        done = lab.client(*curl, f"-{family}", f"https://www.example.com/{wanted.name}", text=False, timeout=100)
        assert done.returncode == 0, f"download over IPv{family}: {done.stderr}"
        assert digest(done.stdout) == digest(wanted.read_bytes()), f"download over IPv{family}: {len(done.stdout)} octets that differ"

    def upload(family):
        done = lab.client(*curl, f"-{family}", "-H", "Expect:", "-T", wanted, "https://www.example.com/upload", timeout=100)
        assert done.returncode == 0, f"upload over IPv{family}: {done.stderr}"
        assert done.stdout == f"{size} {digest(wanted.read_bytes())}\n", f"upload over IPv{family}"

    def echo(family):
        report = lab.lab_client(4433, "--connections", 2, "--octets", echoed, family=family, timeout=130)
        assert report["octets"] == 4 * echoed

    first = 4 if zlib.crc32(name.encode()) % 2 else 6
    work = [(download, first), (upload, 10 - first), (echo, 4), (echo, 6)]
    with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(what, family) for what, family in work]:
            future.result()


def options(faults):
    """lab_link's; "there:" or "back:" before a name is that way alone (there: to the namespace)."""
    words = []
    for name, value in faults.items():
        way, _, rest = name.rpartition(":")
        words += [f"--{way}", f"{rest}={value}"] if way else [f"--{name}", value]
    return words


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equal_whatever_the_links_do(patient, links, lab, case):
    seed = seed_of(case.name)
    wanted = case.sysctl.get("congestion_control", "cubic")
    if wanted not in pathlib.Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        pytest.skip(f"this kernel has no {wanted}")
    set_kernels(**case.sysctl)
    for number, (link, faults) in enumerate(zip(links, (case.client, case.backend))):
        link.carry("--seed", seed + number, *options(faults))
    transfers(lab, case.name, case.size, case.echoed)
    for link, faults in zip(links, (case.client, case.backend)):
        counts = link.halt()
        print(link.side, counts)
        for way in ("there", "back"):
            assert counts[way]["too_long"] == 0, "an offload is on"
            for fault, count in (("loss", "lost"), ("burst", "lost"), ("duplicate", "duplicated"), ("reorder", "reordered"), ("corrupt", "corrupted")):
                expected = counts[way]["segments"] * faults.get(f"{way}:{fault}", faults.get(fault, 0))
                assert counts[way][count] > 0 or expected < 20, f"no segment was {count}"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name, client, backend, more", [("client-1", (10, 10), (0, 0), MIDDLE), ("backend-1", (0, 0), (10, 10), MIDDLE),
                                                         ("both-3", (30, 30), (30, 30), SMALL)])
def test_equal_with_losses_by_nftables(patient, links, lab, name, client, backend, more):
    """The same with nothing between the two stacks but the kernel's own filter, which drops by a hash of the segment."""
    seed = seed_of(f"nftables-{name}")
    set_kernels()
    for link, (there, back) in zip(links, (client, backend)):
        link.halt()
        lab.in_namespace(f"{link.side}-way", "nft", "-f", "-", input=RULES.format(seed=seed, there=there, back=back), check=True)
    try:
        transfers(lab, name, **more)
        for link, shares in zip(links, (client, backend)):
            rules = lab.in_namespace(f"{link.side}-way", "nft", "list", "ruleset").stdout
            dropped = [int(count) for count in re.findall(r"packets (\d+)", rules)]
            assert len(dropped) == 4 and bool(sum(dropped)) == bool(sum(shares)), dropped
    finally:
        for link in links:
            lab.in_namespace(f"{link.side}-way", "nft", "flush", "ruleset", check=True)
