"""What the daemons are to the system that runs them: their word to the service manager, and what they may still do once they run."""

import base64
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from tests.lab.lab import Appliance, wait_for
from .conftest import SLOW_BUILD
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

BOTH = pytest.mark.parametrize("which", ["control", "dataplane"])
ECHO = 4433


class Manager:
    """A service manager's end of NOTIFY_SOCKET (sd_notify(3))."""

    def __init__(self, path):
        path.unlink(missing_ok=True)
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)   # the daemons change their user
        self.socket.settimeout(0.1)
        self.told = []      # in order

    def listen(self):
        try:
            while True:
                self.told += self.socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return self.told

    def wait(self, line, times=1):
        wait_for(lambda: f"{line}, {times} times: {self.told}", lambda: self.listen().count(line) >= times, 120, 0)


def test_service_manager_hears_of_both(manager, standard, lab):
    """READY=1 once, WATCHDOG=1 again and again, STOPPING=1 at the end; nothing before READY=1 but what is said of its way there."""
    manager.stop()
    config = lab.write_configuration(standard.configuration())
    managers = {name: Manager(lab.directory / f"notify-{name}") for name in ("control", "dataplane")}
    appliance = Appliance(lab, config, environment={name: {"NOTIFY_SOCKET": str(each.path), "WATCHDOG_USEC": "1000000"} for name, each in managers.items()})
    appliance.start(120)
    try:
        for each in managers.values():
            each.wait("READY=1")
            each.wait("WATCHDOG=1", 3)
    finally:
        for name in ("dataplane", "control"):
            getattr(appliance, name).send_signal(signal.SIGTERM)
        codes = appliance.stop(60)
    assert codes == (0, 0)
    for name, each in managers.items():
        told = [line for line in each.listen() if not line.startswith("STATUS=")]
        assert told.count("READY=1") == told.count("STOPPING=1") == 1, (name, told)
        assert set(told) == {"READY=1", "WATCHDOG=1", "STOPPING=1"}, (name, told)
        assert told.index("READY=1") < told.index("STOPPING=1"), (name, told)
        assert told[-1] == "STOPPING=1" or set(told[told.index("STOPPING=1"):]) == {"STOPPING=1", "WATCHDOG=1"}, (name, told)


def statuses(process):
    """By thread: what the kernel says of it (proc_pid_status(5))."""
    found = {}
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found[task.name] = {name: text.strip() for name, text in (line.split(":", 1) for line in lines if ":" in line)}
    return found


def capability(*names):
    numbers = {"net_admin": 12, "net_raw": 13, "bpf": 39}   # linux/capability.h
    return sum(1 << numbers[name] for name in names)


@BOTH
def test_every_thread_has_given_up_what_it_could(appliance, lab, standard_configuration, which):
    """User, groups, capabilities, seccomp filter and no_new_privs of each thread; the dataplane's main thread keeps what AF_XDP needs."""
    lab.lab_client(ECHO, "--octets", 1000)   # whatever threads there are have worked
    process = getattr(appliance, which)
    threads = statuses(process)
    assert len(threads) > 1, threads.keys()   # the main thread and workers
    for number, status in threads.items():
        assert "0" not in status["Uid"].split() + status["Gid"].split(), (number, status["Uid"], status["Gid"])
        assert "0" not in status["Groups"].split(), (number, status["Groups"])
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1"), (number, status["Name"], status["Seccomp"], status["NoNewPrivs"])
        keeps = which == "dataplane" and int(number) == process.pid and standard_configuration.profile == "af_xdp"
        may = capability("net_admin", "net_raw", "bpf") if keeps else 0
        for kind in ("CapPrm", "CapEff"):
            assert int(status[kind], 16) & ~may == 0, (number, status["Name"], kind, status[kind])
        for kind in ("CapInh", "CapAmb"):
            assert int(status[kind], 16) == 0, (number, status["Name"], kind, status[kind])
    assert int(threads[str(process.pid)]["CapBnd"], 16) == 0


@BOTH
def test_no_key_file_is_open(appliance, which):
    """Once it runs. What is in memory, test_private_keys_are_in_control_alone looks at."""
    process = getattr(appliance, which)
    links = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
    assert not any(link.endswith(".key") for link in links), links


@BOTH
@pytest.mark.skipif(SLOW_BUILD, reason="the leak check of a sanitizer needs to look into its own process")
def test_memory_is_not_its_own_users_to_read(appliance, which):
    """The process is undumpable: another one of the same user can neither trace it nor read its memory."""
    process = getattr(appliance, which)
    uid = int(statuses(process)[str(process.pid)]["Uid"].split()[0])
    for file in ("mem", "maps", "environ"):
        done = subprocess.run(["setpriv", f"--reuid={uid}", "--clear-groups", "--bounding-set=-all", "head", "-c", "1", f"/proc/{process.pid}/{file}"],
                              capture_output=True, text=True)
        assert done.returncode != 0 and "denied" in done.stderr, (file, done)


def scalar_of(key):
    """The secret number of an ECDSA key, big-endian."""
    text = subprocess.run(["openssl", "pkey", "-in", key, "-noout", "-text"], capture_output=True, text=True, check=True).stdout
    digits = text.split("priv:", 1)[1].split("pub:", 1)[0]
    return bytes.fromhex("".join(digits.split()).replace(":", ""))[-32:]


def memory_of(process):
    """What is mapped and readable, a piece at a time; rings of the kernel's and devices are left out."""
    with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
        for line in pathlib.Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            span, access, *more = line.split(None, 5)
            if not access.startswith("rw") or (len(more) == 4 and more[3].startswith(("[v", "anon_inode", "/dev/vfio"))):
                continue
            begin, end = (int(text, 16) for text in span.split("-"))
            overlap = b""
            for at in range(begin, end, 1 << 22):
                try:
                    memory.seek(at)
                    piece = memory.read(min(1 << 22, end - at))
                except (OSError, ValueError, OverflowError):
                    break
                yield overlap + piece
                overlap = piece[-64:]


@pytest.mark.long
def test_private_keys_are_in_control_alone(appliance, lab):
    """The secret number of the service's key, as libssl keeps it, and its PEM text: in control's memory (so that the search is known to find it), and
    nowhere in the dataplane's. Another encoding would not be found."""
    key = lab.certificates.ecdsa.key
    scalar = scalar_of(key)
    line = key.read_text().splitlines()[1].encode()
    wanted = {"big-endian": scalar, "little-endian": scalar[::-1], "PEM": line[8:60], "DER": base64.b64decode("".join(key.read_text().splitlines()[1:-1]))[-100:]}
    for _ in range(3):   # it is in use
        with TlsClient(ECHO, context_for(lab.certificates.ca)).handshake() as client:
            client.write(b"x")
            assert client.read_exactly(1) == b"x"
    found = {name: {what for piece in memory_of(process) for what, octets in wanted.items() if octets in piece}
             for name, process in (("control", appliance.control), ("dataplane", appliance.dataplane))}
    assert found["control"] & {"big-endian", "little-endian"}, found
    assert not found["dataplane"], found
