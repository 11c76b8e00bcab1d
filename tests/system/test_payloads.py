"""From no octet to 1 GiB, each way, with equal hashes."""

import hashlib

import pytest

from tests.lab import network

SIZES = [0, 1, 2, 100, 1459, 1460, 1461, 16383, 16384, 16385, 65536, 1_000_003, 16 << 20]
GIB = 1 << 30


def hash_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", SIZES)
def test_download(appliance, lab, size, family):
    wanted = lab.web_file(f"size-{size}", size).read_bytes()
    done = lab.client("curl", "-sS", f"-{family}", "--cacert", lab.certificates.ca, f"https://www.example.com/size-{size}", text=False)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(wanted).digest()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("size", SIZES)
def test_upload(appliance, lab, size, version):
    path = lab.web_file(f"size-{size}", size)
    done = lab.client("curl", "-sS", "--cacert", lab.certificates.ca, f"--tlsv{version}", "--tls-max", version, "--http1.1",
                      "-H", "Expect:", "-T", path, "https://www.example.com/upload")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{size} {hash_of(path)}\n"


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("suite", ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"])
def test_gibibyte_down(appliance, lab, suite):
    path = lab.web_file("1G", GIB)
    done = lab.client("sh", "-c", f"curl -sS --http1.1 --cacert {lab.certificates.ca} --tls13-ciphers {suite} https://www.example.com/1G | sha256sum",
                      timeout=280)
    assert done.stdout.split()[0] == hash_of(path), done.stderr


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_gibibyte_up(appliance, lab, version):
    path = lab.web_file("1G", GIB)
    done = lab.client("curl", "-sS", "--http1.1", "--cacert", lab.certificates.ca, f"--tlsv{version}", "--tls-max", version,
                      "-H", "Expect:", "-T", path, "https://www.example.com/upload", timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{GIB} {hash_of(path)}\n"


@pytest.mark.needs_appliance
def test_sink_hashes_what_was_sent(appliance, lab):
    """An answer that comes after the client has half-closed."""
    report = lab.lab_client(4446, "--octets", 5_000_000, "--expect", "digest", "--set", "MinProtocol=TLSv1.3")
    count, digest = report["answers"][0].split()
    assert int(count) == 5_000_000
    assert len(digest) == 64


def test_source_half_closes(appliance, lab):
    """The backend ends its direction first; the client's goes on."""
    report = lab.lab_client(4447, "--octets", 1000, "--expect", 10_000_000)
    assert report["octets"] == 10_001_000


def test_both_ways_at_once(appliance, lab):
    report = lab.lab_client(4433, "--octets", 50_000_000, timeout=120)
    assert report["octets"] == 100_000_000


@pytest.mark.parametrize("mss", [100, 536])
def test_small_segments(appliance, lab, mss):
    """Records and handshake messages over many small segments, as the client's MSS asks."""
    network.run("ip", "netns", "exec", "client", "ip", "route", "replace", "default", "via", network.APPLIANCE["client"][0],
                "advmss", mss)
    network.run("ip", "netns", "exec", "client", "ip", "route", "replace", "192.0.2.0/24", "dev", "eth0", "advmss", mss)
    try:
        lab.lab_client(4433, "--connections", 5, "--octets", 200_000)
    finally:
        network.run("ip", "netns", "exec", "client", "ip", "route", "replace", "default", "via", network.APPLIANCE["client"][0])
        network.run("ip", "netns", "exec", "client", "ip", "route", "replace", "192.0.2.0/24", "dev", "eth0")
