"""Namespaces and links of the lab:

    client namespace          here: the appliance's ends           backend namespace
    eth0 192.0.2.100/24  ==== client-side    backend-side ====     eth0 198.51.100.10 to .19/24
         2001:db8:1::100/64   (no kernel addresses)                     2001:db8:2::10 to ::19/64
"""

import contextlib
import ctypes
import os
import pathlib
import socket
import subprocess

CLIENT_PORT, BACKEND_PORT = "client-side", "backend-side"
PORTS = {"client": CLIENT_PORT, "backend": BACKEND_PORT}
APPLIANCE = {"client": ("192.0.2.1", "2001:db8:1::1"), "backend": ("198.51.100.1", "2001:db8:2::1")}
CLIENT_ADDRESSES = ("192.0.2.100", "2001:db8:1::100")
# Of the kernel's TCP: a busy end has many connections to one address, most of them in TIME-WAIT.
TUNED = ["net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65535", "net.core.somaxconn=8192", "net.ipv4.tcp_no_metrics_save=1", "net.ipv4.tcp_max_syn_backlog=8192"]
MORE_CLIENTS = "10.1.0.0/16"   # behind the first client's address
BACKEND_ADDRESSES = [(f"198.51.100.{n}", f"2001:db8:2::{n}") for n in range(10, 20)]

_libc = ctypes.CDLL(None, use_errno=True)


def run(*command, check=True, **options):
    """Runs a command of the lab's own; an error shows what it said."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def write(path, text):
    pathlib.Path(path).write_text(str(text))


def set_up(mtu=1500, peer_offloads=False):
    """`peer_offloads`: leave the kernel peers' checksum and segmentation offloads on, for an appliance that takes such frames: one on af_packet, or the kernel."""
    # ip netns exec binds /etc/netns/NAME/* over /etc/*: a private tmpfs, since the root is shared.
    os.makedirs("/etc/netns", exist_ok=True)
    run("mount", "-t", "tmpfs", "tmpfs", "/etc/netns")
    # The account that both processes change to; in the image, its package makes it.
    if "sallyport:" not in pathlib.Path("/etc/passwd").read_text():
        for name, line in (("passwd", "sallyport:x:900:900::/nonexistent:/usr/sbin/nologin\n"), ("group", "sallyport:x:900:\n")):
            copy = pathlib.Path(f"/run/{name}-with-sallyport")
            copy.write_text(pathlib.Path(f"/etc/{name}").read_text() + line)
            run("mount", "--bind", copy, f"/etc/{name}")
    for side, port in (("client", CLIENT_PORT), ("backend", BACKEND_PORT)):
        run("ip", "netns", "add", side)
        run("ip", "link", "add", port, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", side)
        # The appliance's own TCP answers here, not the kernel's.
        write(f"/proc/sys/net/ipv6/conf/{port}/disable_ipv6", 1)
        inside = ["ip", "netns", "exec", side]
        run(*inside, "sysctl", "-q", *TUNED)
        offloads_of_link(side, peer_offloads)
        run("ip", "link", "set", port, "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        address_peer(side)


def address_peer(side):
    """Addresses and routes of a namespace's eth0."""
    inside = ["ip", "netns", "exec", side]
    run(*inside, "sysctl", "-q", "net.ipv6.conf.eth0.accept_dad=0", "net.ipv6.conf.eth0.accept_ra=0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    for v4, v6 in [CLIENT_ADDRESSES] if side == "client" else BACKEND_ADDRESSES:
        run(*inside, "ip", "addr", "add", f"{v4}/24", "dev", "eth0")
        run(*inside, "ip", "addr", "add", f"{v6}/64", "dev", "eth0", "nodad")
    v4, v6 = APPLIANCE[side]
    run(*inside, "ip", "route", "add", "default", "via", v4)
    run(*inside, "ip", "-6", "route", "add", "default", "via", v6)


def congestion_control(side, name):
    """Of the kernel's TCP in a namespace towards the appliance; None: the machine's own choice. By routes, since a namespace's default
    can be changed to few of them."""
    for address in APPLIANCE[side]:
        route = ["ip", "-n", side, "-6" if ":" in address else "-4", "route"]
        if name:
            run(*route, "replace", address, "dev", "eth0", "congctl", name)
        else:
            run(*route, "del", address, "dev", "eth0")


def offloads(on, *device):
    """Checksum and segmentation offloads of a device, given as words of a command: [ip netns exec NAMESPACE] ethtool -K DEVICE."""
    state = "on" if on else "off"
    run(*device, "tx", state, "tso", state, "gso", state, "gro", state)


def offloads_of_link(side, on):
    """Both ends of the link between a namespace and the appliance. With offloads a kernel peer leaves checksums unfilled and segments uncut: af_packet takes such
    frames, af_xdp does not."""
    port = PORTS[side]
    for end in (["ip", "netns", "exec", side, "ethtool", "-K", "eth0"], ["ethtool", "-K", port]):
        offloads(on, *end)


def has_offloads(side):
    return "tcp-segmentation-offload: on" in run("ethtool", "-k", PORTS[side]).stdout


_with_offloads = {}   # by side: what its link had before the detour


def detour(side, mtu=1500):
    """Takes the link between a namespace and the appliance apart and puts another namespace, SIDE-way, between: its `near` leads to the
    appliance and its `far` to eth0, which keeps its addresses. A lab_link carries what goes between them: frames as on a wire, so that no end may leave anything to another."""
    way = f"{side}-way"
    _with_offloads[side] = has_offloads(side)
    offloads(False, "ethtool", "-K", PORTS[side])
    mac = run("ip", "netns", "exec", side, "cat", "/sys/class/net/eth0/address").stdout.strip()
    run("ip", "netns", "add", way)
    inside = ["ip", "netns", "exec", way]
    run(*inside, "sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1")
    run("ip", "-n", side, "link", "set", "eth0", "down")
    run("ip", "-n", side, "link", "set", "eth0", "netns", way, "name", "near")
    run("ip", "-n", way, "link", "set", "near", "address", "02:00:00:00:00:02")   # its own is eth0's from now on: nobody has to learn another
    run("ip", "-n", way, "link", "add", "far", "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "address", mac, "netns", side)
    for name in ("near", "far"):
        run("ip", "-n", way, "link", "set", name, "up")
        offloads(False, *inside, "ethtool", "-K", name)
    offloads(False, "ip", "netns", "exec", side, "ethtool", "-K", "eth0")
    address_peer(side)


def no_detour(side):
    way = f"{side}-way"
    mac = run("ip", "netns", "exec", side, "cat", "/sys/class/net/eth0/address").stdout.strip()
    run("ip", "-n", side, "link", "del", "eth0")
    run("ip", "-n", way, "link", "set", "near", "down", "address", mac)
    run("ip", "-n", way, "link", "set", "near", "netns", side, "name", "eth0")
    run("ip", "netns", "del", way)
    offloads_of_link(side, _with_offloads.pop(side))
    address_peer(side)


def kernel_addresses():
    """Gives the appliance's ends to the kernel: for a peer to compare with, or a stand-in."""
    run("sysctl", "-q", *TUNED)
    for side, port in (("client", CLIENT_PORT), ("backend", BACKEND_PORT)):
        write(f"/proc/sys/net/ipv6/conf/{port}/disable_ipv6", 0)
        v4, v6 = APPLIANCE[side]
        run("ip", "addr", "replace", f"{v4}/24", "dev", port)
        run("ip", "addr", "replace", f"{v6}/64", "dev", port, "nodad")
    run("ip", "route", "replace", MORE_CLIENTS, "via", CLIENT_ADDRESSES[0])


def no_kernel_addresses():
    for port in (CLIENT_PORT, BACKEND_PORT):
        run("ip", "addr", "flush", "dev", port)
        write(f"/proc/sys/net/ipv6/conf/{port}/disable_ipv6", 1)


@contextlib.contextmanager
def together():
    """As long as the block lasts, both namespaces' eth0 are in a third one without addresses, where one process speaks for clients and backends: the name of that
    namespace, and of the interface by side. What the namespaces had on eth0 beside its addresses is lost."""
    place, names = "both", {side: f"{side}0" for side in PORTS}
    run("ip", "netns", "add", place)
    run("ip", "netns", "exec", place, "sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1")
    try:
        for side, name in names.items():
            run("ip", "-n", side, "link", "set", "eth0", "netns", place, "name", name)
            run("ip", "-n", place, "link", "set", name, "up")
        yield place, names
    finally:
        for side, name in names.items():
            run("ip", "-n", place, "link", "set", name, "netns", side, "name", "eth0")
            address_peer(side)
        run("ip", "netns", "del", place)


def hosts(names):
    """Names for clients: www.example.com and the like lead to the appliance."""
    os.makedirs("/etc/netns/client", exist_ok=True)
    lines = ["127.0.0.1 localhost"] + [f"{address} {' '.join(names)}" for address in APPLIANCE["client"]]
    write("/etc/netns/client/hosts", "\n".join(lines) + "\n")


@contextlib.contextmanager
def inside(side):
    """This thread is in the namespace of `side`; sockets made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{side}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(there, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {side}")
        yield
    finally:
        if _libc.setns(home, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns back")
        os.close(there)
        os.close(home)


def connect(side, address, port, timeout=10):
    with inside(side):
        return socket.create_connection((address, port), timeout=timeout)
