"""The rows: what each is, what is wanted of it, and how it is measured. One that is not here is not measured."""

from tests.bench import away, echo, flood, growth, hellos, idle, kernel, latency, links, loss, memif, memory, workers
from tests.bench.devices import POOLED_PORT, RESUMING_PORT, SUITE_PORTS
from tests.bench.row import CONNECTIONS, GIGABITS, REQUESTS, Row, Unit

MEGABYTE = kernel.MEGABYTE
NGINX_HAPROXY, ALL = ("nginx", "haproxy"), ("nginx", "haproxy", "hitch")
KIB_A_FLOW, KEPT, MEGABITS = Unit("KiB a flow", less_is_better=True), Unit("% of the goodput kept"), Unit("Mb/s a flow")


def ways(kernel_load, *of, **more):
    """A load of kernel clients, and the same of our own generator: of everybody on the veth links, and over memif and virtio. Without the first memif is the usual one."""
    of_generator = {"peers": kernel_load.peers} if kernel_load else {}
    of_own = tuple(kind(*of, **{**of_generator, **more}) for kind in (memif.Load, memif.OverVirtio, links.Load))
    return (kernel_load, *of_own) if kernel_load else of_own


def bulk(kernel_load=(), **more):
    return ways(kernel.Load("/bulk", 16, NGINX_HAPROXY, answer=MEGABYTE, **dict(kernel_load)), 16, MEGABYTE, **more)


def bulk_with(suite):
    return bulk({"port": SUITE_PORTS[suite], "suite": suite}, suite=suite)


def handshakes(peers, kernel_load=(), **more):
    return ways(kernel.Load("/1k", 16, peers, close=True, **dict(kernel_load)), 16, 1024, "close", **more)


def terminated(kernel_load=(), **more):
    return handshakes(ALL, {"port": kernel.PLAIN_PORT, **dict(kernel_load)}, plain=True, **more)


ROWS = [
    Row(1, "bulk, TLS to TLS, 1 MB answers, 16 flows", GIGABITS, "2.5x", "3.5x", bulk()),
    Row(2, "bulk, TLS to TLS, 1 MB answers, 16 flows, MTU 9000 over memif and virtio", GIGABITS, "3.5x", "5.5x", ways(None, 16, MEGABYTE, mtu=9000)[:2]),
    Row(3, "bulk, TLS to plain, 1 MB answers, 16 flows", GIGABITS, "2.5x", "4x", bulk({"port": kernel.PLAIN_PORT}, plain=True)),
    Row(4, "bulk, TLS to TLS, AES-256-GCM", GIGABITS, "3x", "5x", bulk_with("TLS_AES_256_GCM_SHA384")),
    Row(4, "bulk, TLS to TLS, ChaCha20-Poly1305", GIGABITS, "1.5x", "2.5x", bulk_with("TLS_CHACHA20_POLY1305_SHA256")),
    Row(5, "1 KB on kept connections, TLS to TLS, 64 flows", REQUESTS, "10x", "20x", ways(kernel.Load("/1k", 64, NGINX_HAPROXY), 64, 1024)),
    Row(6, "16 KB on kept connections, TLS to TLS, 64 flows", REQUESTS, "3.5x", "5.5x", ways(kernel.Load("/16k", 64, NGINX_HAPROXY), 64, 16384)),
    Row(7, "1 KB on kept connections, TLS to TLS, 10,000 active flows", REQUESTS, "8x", "15x", ways(None, 10_000, 1024, most_rounds=3)),
    Row(7, "1 KB on kept connections, TLS to TLS, 100,000 active flows", REQUESTS, "8x", "15x", ways(None, 100_000, 1024, most_rounds=1, peers=())[:2]),
    Row(8, "full handshake, 1 KB, close; TLS to plain, 16 at a time", CONNECTIONS, "2x", "4x", terminated()),
    Row(9, "full handshake, 1 KB, close; TLS to TLS, a backend connection each", CONNECTIONS, "2.5x", "5x", handshakes(NGINX_HAPROXY)),
    Row(10, "full handshake, 1 KB, close; TLS to TLS, peer's backend sessions resumed", CONNECTIONS, "1.8x", "3.5x",
        handshakes(NGINX_HAPROXY, {"port": RESUMING_PORT}, peer_port=RESUMING_PORT)),
    Row(10, "full handshake, 1 KB, close; TLS to TLS, peer's backend connections pooled (HTTP)", CONNECTIONS, "1.8x", "3.5x",
        handshakes(NGINX_HAPROXY, {"port": RESUMING_PORT, "port_of": tuple((peer, POOLED_PORT) for peer in NGINX_HAPROXY)}, peer_port=POOLED_PORT)),
    Row(11, "full handshake with an RSA-2048 key, 1 KB, close; TLS to plain", CONNECTIONS, "1.25x", "2.5x", terminated({"port": kernel.RSA_PORT}, rsa=True)),
    Row(12, "full handshake with X25519MLKEM768, 1 KB, close; TLS to plain", CONNECTIONS, "1.5x", "3x", terminated({"group": "X25519MLKEM768"}, group="X25519MLKEM768")),
    Row(13, "resumed handshake (TLS 1.3, PSK with DHE), 1 KB, close; TLS to plain", CONNECTIONS, "1.6x", "4x", terminated({"resumed": True}, resumed=True)),
    Row(13, "resumed handshake (TLS 1.2, ticket), 1 KB, close; TLS to plain", CONNECTIONS, "2x", "6x",
        terminated({"resumed": True, "version": "1.2", "suite": "ECDHE-ECDSA-AES128-GCM-SHA256"}, resumed=True, version="1.2", suite="TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")),
    Row(14, "memory of an idle flow, TLS to TLS", KIB_A_FLOW, "20x", "50x", (memory.Load(),)),
    Row(15, "idle flows held, each of which answers a probe at the end", Unit("M flows"), "1 M", "4 M", (idle.Load(),)),
    Row(16, "1,000 active flows beside idle ones, against without", Unit("% more cycles", less_is_better=True), "+10 %", "+2 %", (idle.Beside(),)),
    Row(17, "connections accepted and closed, nothing said", CONNECTIONS, "10x", "20x",
        (hellos.Accepted(ALL), *ways(None, 64, 0, "close", plain=True, silent=True, peers=ALL)[::-1])),
    Row(17, "1,000 established flows under a SYN flood", KEPT, "95 %", "99 %", (flood.Load(),)),
    Row(18, "1,000 established flows under a flood of handshakes at 5 times capacity", KEPT, "95 %", "99 %", (hellos.Flood(NGINX_HAPROXY),)),
    *(Row(19, f"added latency at half {load}, {size} KB answers", Unit("us at p99", less_is_better=True), "2x", "5x",
          (latency.Added(1024 * size, own), latency.AddedOverMemif(1024 * size, own), latency.AddedOverVirtio(1024 * size, own))) for own, load in ((True, "load"), (False, "the slowest device's load")) for size in (1, 16, 64)),
    Row(20, "certificates and policy reloaded under row 5's load", Unit("% more at p99", less_is_better=True), "+10 %, none fails", "+2 %, none fails", (latency.Reloaded(),)),
    Row(21, "control killed and started again under load", Unit("s until new connections are served", less_is_better=True), "2 s, none breaks", "0.3 s, none breaks",
        (away.Load(),)),
    *(Row(22, f"bulk through 100 Mb/s, {path.title}, against CUBIC", MEGABITS, "0.95x", "1.05x", (path,)) for path in loss.PATHS),
    *(Row(23, f"device path alone: echo over {profile}, frames of {octets} octets", Unit("M frames a core-second"), "none", "none", (echo.Load(profile, octets),))
      for profile in ("memif", "af_xdp") for octets in (64, 1500)),
    Row(24, "two workers against one, 1 KB on kept connections, TLS to TLS", Unit("times the rate of one"), "1.8", "1.94", (workers.Load(),)),
    *(Row(25, f"{growth.MANY}, against one of each: {title}", Unit("% more cycles", less_is_better=True), "+5 %", "none", (growth.Load(load),))
      for title, load in (("1 KB on kept connections, TLS to TLS, 64 flows", memif.Load(64, 1024)),
                          ("full handshake, 1 KB, close; TLS to plain, 16 at a time", memif.Load(16, 1024, "close", plain=True)))),
]
QUICK = (1, 3, 5, 8, 14)
NUMBERS = range(1, 26)   # that the benchmark has


def asked(text):
    """The numbers in "1,5-8", or all that are measured. ValueError for what is none."""
    if text == "all":
        return sorted({row.number for row in ROWS})
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    if wrong := [number for number in numbers if number not in NUMBERS]:
        raise ValueError(f"there is no row {', '.join(map(str, wrong))}")
    return numbers
