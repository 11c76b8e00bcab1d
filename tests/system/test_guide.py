"""The README's way from a bare server to a first service, command by command as it stands there."""

import os
import pathlib
import re
import shlex
import subprocess
import textwrap

import pytest

from tests.lab import certificates, network
from tests.lab.lab import CHECKOUT, LabError, build_directory, tail, wait_for

pytestmark = [pytest.mark.needs_appliance, pytest.mark.long]

# What an engineer has at hand whose machine is the lab: names of devices, and one core.
STARTER = {'"eth1"': f'"{network.CLIENT_PORT}"', '"eth2"': f'"{network.BACKEND_PORT}"', "cores = [ 1 ]": "cores = [ 0 ]"}
# There is no systemd here: a unit's ExecStart is what is started.
SYSTEMCTL = r"""#!/bin/sh -e
[ "$1 $2" = "enable --now" ]
shift 2
mkdir -p -m 755 /run/sallyport /run/sallyport-dataplane
chown sallyport:sallyport /run/sallyport
for unit; do
    line=$(sed -n 's/^ExecStart=//p' "/usr/lib/systemd/system/$unit.service")
    RUNTIME_DIRECTORY=/run/sallyport-dataplane setsid $line >"/run/lab/guide/$unit.log" 2>&1 </dev/null &
    echo $! >"/run/lab/guide/$unit.pid"
done
"""


def commands():
    """The indented block of the guide, a here-document as one command."""
    section = re.search(r"^## From a bare server to a first service\n(.*?)^## ", (CHECKOUT / "README.md").read_text(), re.MULTILINE | re.DOTALL).group(1)
    block = textwrap.dedent(re.search(r"(?:^    .*\n)+", section, re.MULTILINE).group())
    return re.findall(r"^(.*<<'END'\n(?:.*\n)*?END|.+)\n", block, re.MULTILINE)


class BareServer:
    """A mount namespace in which /usr, /etc, /root, /home, /var/lib and the checkout may be written to; nothing of it stays."""

    def __init__(self, lab):
        self.directory = lab.directory / "guide"
        self.directory.mkdir()
        self.checkout = self.directory / "sallyport"
        self.checkout.mkdir()
        layers = self.directory / "layers"
        layers.mkdir()
        mounts = [f"mount -t tmpfs tmpfs {layers}"]
        for name, lower, at in (("usr", "/usr", "/usr"), ("checkout", CHECKOUT, self.checkout)):
            mounts += [f"mkdir {layers}/{name} {layers}/{name}.work",
                       f"mount -t overlay -o lowerdir={lower},upperdir={layers}/{name},workdir={layers}/{name}.work overlay {at}"]
        mounts += [f"cp -a /etc {layers}/etc", f"mount --bind {layers}/etc /etc", "mount -t tmpfs -o mode=700 tmpfs /root", "mount -t tmpfs -o mode=755 tmpfs /home",
                   "mount -t tmpfs -o mode=755 tmpfs /var/lib/sallyport" if pathlib.Path("/var/lib/sallyport").exists() else "true"]
        self.holder = subprocess.Popen(["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, "echo ready", "exec sleep infinity"])], stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise LabError("the bare server could not be made")
        self.write("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
        self.sshd = None

    def run(self, command, check=True, stdin=None):
        done = subprocess.run(["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "bash", "-c", f"cd {self.checkout}\n{command}"], capture_output=True, text=True,
                              timeout=300, input=stdin, env={**os.environ, "HOME": "/root", "SALLYPORT_BUILD": str(build_directory())})
        if check and done.returncode != 0:
            raise LabError(f"{command}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path, text, mode=0o644):
        self.run(f"mkdir -p $(dirname {shlex.quote(path)}) && cat >{shlex.quote(path)} && chmod {mode:o} {shlex.quote(path)}", stdin=text)

    def start_sshd(self):
        self.run("ssh-keygen -A && mkdir -p /run/sshd")
        self.sshd = subprocess.Popen(["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "/usr/sbin/sshd", "-D", "-E", str(self.directory / "sshd.log")])
        wait_for(lambda: f"sshd to listen: {tail(self.directory / 'sshd.log')}",
                 lambda: (self.directory / "sshd.log").exists() and "Server listening" in (self.directory / "sshd.log").read_text())

    def stop(self):
        for unit in ("sallyport-dataplane", "sallyport-control"):
            file = self.directory / f"{unit}.pid"
            if file.exists():
                subprocess.run(["kill", file.read_text().strip()], check=False)
        wait_for("the programs to end", lambda: not any(pathlib.Path(f"/proc/{file.read_text().strip()}/exe").exists() for file in self.directory.glob("*.pid")), 30)
        for process in (self.sshd, self.holder):
            if process is not None:
                process.terminate()
                process.wait(10)


@pytest.fixture
def server(lab, manager):
    manager.stop()
    made = BareServer(lab)
    yield made
    made.stop()


def test_from_a_bare_server_to_a_first_service(server, lab, standard):
    c = lab.certificates
    issued = c.issuing.issue("guide", "ecdsa", ["www.example.com"], days=6)   # so short a life needs no revocation
    for name, path in (("www.pem", issued.certificate), ("www.key", issued.key), ("internal-ca.pem", c.backend_ca)):
        server.run(f"cp {path} {name}")
    server.run(f"cp -rT {c.roots} /etc/ssl/certs")   # the lab's public authority is as public as any
    server.run("mkdir -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 && cp /root/.ssh/id_ed25519.pub ann.pub")
    server.write("/root/.ssh/config", "Host box\n    HostName 127.0.0.1\n    StrictHostKeyChecking accept-new\n    LogLevel ERROR\n", 0o600)
    lines = commands()
    assert len(lines) == 10
    said = []
    for line in lines:
        if line.startswith("ssh ") and server.sshd is None:
            server.start_sshd()   # a server that is managed over SSH has one
        if line.startswith("ssh ") and len(said) == 7:
            wait_for(lambda: f"the appliance: {tail(server.directory / 'sallyport-control.log')}", lambda: "dataplane_attached" in (
                server.directory / "sallyport-control.log").read_text(), 60)
        line = line.replace("web.internal", certificates.BACKEND_NAME)
        said.append(server.run(line))
        if "starter.conf" in line:
            for ours, theirs in STARTER.items():
                server.run(f"grep -qF {shlex.quote(ours)} /etc/sallyport/sallyport.conf && sed -i {shlex.quote(f's/{re.escape(ours)}/{theirs}/')} /etc/sallyport/sallyport.conf")
    assert "+" in said[7] and "198.51.100.10:443" in said[7]          # show | compare
    assert "www.example.com" in said[8] and "TLS 1.3" in said[8]
    assert "9.4.1" in said[9] and "violated" not in said[9], said[9]
    page = lab.client("curl", "-sS", "--cacert", c.ca, "https://www.example.com/", timeout=60)
    assert page.returncode == 0 and page.stdout, page.stderr
    assert "the first service" in server.run("sallyport show configuration history")
