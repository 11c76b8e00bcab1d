"""The command line as engineers meet it: through a real OpenSSH server with real keys, in a terminal and without one."""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess

import pexpect
import pytest

from tests.lab.configuration import Configuration
from tests.lab.lab import CHECKOUT, Process, best_profile, program, tail, wait_for
from .conftest import SLOW_BUILD

pytestmark = pytest.mark.needs_appliance

PORT = 2222
PROMPT = r"[a-z]+@[^\s>#]+> "
EDIT_PROMPT = r"[a-z]+@[^\s>#]+# "
PATIENCE = 60    # seconds that a busy machine may need


class Access:
    """sshd as scripts/ssh-access sets it up, and a user for each role. /etc and /home are copies that end with this run."""

    USERS = {"anna": "administrator", "otto": "operator", "rita": "read-only", "nemo": None}

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        shutil.copytree("/etc", directory / "etc", symlinks=True)
        subprocess.run(["mount", "--bind", directory / "etc", "/etc"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/home"], check=True)
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        # The shell lies where everybody can go.
        self.shell = pathlib.Path("/run/sallyport-cli/sallyport")
        self.shell.parent.mkdir(exist_ok=True)
        self.shell.touch()
        subprocess.run(["mount", "--bind", program("sallyport"), self.shell], check=True)
        self.run("--port", str(PORT), "--listen", "127.0.0.1")
        self.known = directory / "known_hosts"
        for user, role in self.USERS.items():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key(user)], check=True)
            self.run("--port", str(PORT), "--listen", "127.0.0.1", "--user", user, "--role", role or "read-only", "--key", f"{self.key(user)}.pub",
                     "--shell", str(self.shell))
        subprocess.run(["gpasswd", "--delete", "nemo", "sallyport-read"], check=True, capture_output=True)
        # Without a group the drop-in's place for keys does not hold: they are where sshd looks by default.
        ssh = pathlib.Path("/home/nemo/.ssh")
        ssh.mkdir(mode=0o700)
        shutil.copy(f"{self.key('nemo')}.pub", ssh / "authorized_keys")
        entry = pwd.getpwnam("nemo")
        for path in (ssh, ssh / "authorized_keys"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        for name in ("ed25519", "rsa"):
            key = pathlib.Path(f"/etc/ssh/ssh_host_{name}_key.pub").read_text().split()
            with open(self.known, "a") as out:
                out.write(f"[127.0.0.1]:{PORT} {key[0]} {key[1]}\n")
        self.server = None

    def run(self, *arguments, check=True):
        return subprocess.run([CHECKOUT / "scripts/ssh-access", *arguments], check=check, capture_output=True, text=True)

    def start(self, lab):
        self.log = self.directory / "sshd.log"
        self.server = lab.track(Process("sshd", ["/usr/sbin/sshd", "-D", "-e"], log=self.log))
        wait_for(lambda: f"sshd to listen: {tail(self.log)}", lambda: "Server listening" in self.log.read_text())

    def key(self, user):
        return self.directory / f"{user}.key"

    def command(self, user, *more, options=()):
        return ["ssh", "-F", "none", "-p", str(PORT), "-i", str(self.key(user)), "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={self.known}",
                "-o", "StrictHostKeyChecking=yes", "-o", "SendEnv=NO_COLOR", *options, "-o", "LogLevel=ERROR", f"{user}@127.0.0.1", *(["--", *more] if more else [])]

    def ssh(self, user, *line, options=(), stdin=None, environment=None):
        """One command; what it printed and how it ended."""
        return subprocess.run(self.command(user, *line, options=options), capture_output=True, text=True, timeout=PATIENCE * 2,
                              **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
                              env={**os.environ, **(environment or {})})

    def shell_of(self, user, *line, rows=40, columns=120, environment=None, options=()):
        """A terminal in which the user has logged in."""
        child = pexpect.spawn("ssh", [str(w) for w in self.command(user, *line, options=("-t", *options))[1:]], timeout=PATIENCE, encoding="utf-8",
                              dimensions=(rows, columns), env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", **(environment or {})})
        child.delaybeforesend = None
        return child


@pytest.fixture(scope="module")
def access(lab, tmp_path_factory):
    made = Access(pathlib.Path("/run/lab/ssh"))
    made.start(lab)
    yield made
    made.server.stop()


@pytest.fixture(scope="module")
def config(lab, access):
    """Its own, so that control looks the groups up anew."""
    return Configuration(lab.standard_services()[:1], lab.standard_pools(), profile=best_profile(), expiry_alarm_days=2)


@pytest.fixture
def box(access, appliance_with, config):
    appliance = appliance_with(config)
    access.appliance = appliance
    return access


def logged_in(access, user="anna", **more):
    child = access.shell_of(user, **more)
    child.expect(PROMPT)
    return child


def ask(child, line, prompt=PROMPT):
    """What the line prints."""
    child.sendline(line)
    child.expect(r"\r\n")      # its echo
    child.expect(prompt)
    return child.before.replace("\r", "")


# --- one line

def test_one_line_prints_and_its_exit_code_comes_through(box):
    done = box.ssh("rita", "show services")
    assert done.returncode == 0, done.stderr
    assert "web" in done.stdout and "\x1b" not in done.stdout
    assert box.ssh("rita", "show services --json").stdout.startswith("[")
    assert box.ssh("rita", "sh ser | match web | count").stdout.startswith("Count: ")
    assert box.ssh("rita", "sallyport show version").returncode == 0
    wrong = box.ssh("rita", "show nothing")
    assert wrong.returncode == 64 and "^" in wrong.stderr
    assert box.ssh("rita", "reload").returncode == 77


def test_who_has_no_role_is_told_so(box):
    done = box.ssh("nemo", "show version")
    assert done.returncode == 77, (done.stdout, done.stderr)
    assert "role" in done.stderr


def test_lines_from_stdin_are_a_script(box):
    done = box.ssh("rita", stdin="# two questions\nshow version | match Sallyport\nshow pools | count\n")
    assert done.returncode == 0 and "Count: " in done.stdout, done.stderr
    assert "\x1b" not in done.stdout
    assert box.ssh("rita", stdin="show nothing\nshow pools\n").returncode == 64


def test_control_away_is_75_and_the_shell_outlives_it(box, manager):
    child = logged_in(box)
    appliance = box.appliance
    appliance.kill_control()
    away = box.ssh("rita", "show version")
    assert away.returncode == 75 and "control is not running" in away.stderr
    assert "control is not running" in ask(child, "show version")
    child.send("drain service ?")
    child.expect(r"\(no names\)\s+control is not running")
    child.expect(PROMPT + "drain service ")
    child.send("\x03")
    child.expect(r"\^C")
    child.expect(PROMPT)
    appliance.start_control()
    appliance.wait_ready()
    assert "Sallyport" in ask(child, "show version") or "control" in child.before
    child.sendline("exit")
    child.expect(pexpect.EOF)


# --- nothing but the CLI

@pytest.mark.parametrize("line", ["/bin/sh", "sh -c id", "show version; id", "show version && id", "`id`", "$(id)", "!sh", "/usr/lib/openssh/sftp-server",
                                  "show version | /bin/sh", "--socket /tmp/x show version", "show version --socket /tmp/x"])
def test_no_line_leads_elsewhere(box, line):
    done = box.ssh("anna", line)
    assert done.returncode == 64, (done.stdout, done.stderr)
    assert "uid=" not in done.stdout


def test_files_are_at_home_only(box):
    assert box.ssh("anna", "show version | save version.txt").returncode == 0
    saved = pathlib.Path("/home/anna/version.txt")
    assert saved.stat().st_uid == pwd.getpwnam("anna").pw_uid and saved.stat().st_mode & 0o777 == 0o600
    for path in ("/tmp/x", "../x", ".ssh/authorized_keys", "~/.ssh/rc", "/etc/ssh/sallyport-keys/anna"):
        done = box.ssh("anna", f"show version | save {path}")
        assert done.returncode == 71, path
        assert not pathlib.Path("/home/anna/.ssh").exists()


def test_editing_keys_lead_nowhere_else(box):
    """libedit's own commands, one of which starts an editor, cannot be reached; nor can a signal stop the shell."""
    child = logged_in(box)
    child.send("\x1bx")
    child.send("bind -v\r")
    child.expect("unknown word")
    child.expect(PROMPT)
    child.send("\x1bv\x1a\x1c")
    child.send("\x03")
    child.expect(PROMPT)
    assert "Sallyport" in ask(child, "show version") or "control" in child.before
    running = subprocess.run(["ps", "-u", "anna", "-o", "comm="], capture_output=True, text=True).stdout.split()
    assert set(running) <= {"sallyport", "sshd-session", "sshd"}, running
    child.sendline("quit")
    child.expect(pexpect.EOF)
    child.close()
    if not SLOW_BUILD:   # a sanitizer ends it with 1: libedit leaves the names of the functions that it was given behind
        assert child.exitstatus == 0


def test_no_sftp_no_forwarding(box):
    assert box.ssh("anna", "sftp", options=("-s",)).returncode == 64    # the subsystem is a line that the CLI does not know
    through = box.ssh("anna", options=("-W", "127.0.0.1:22"))
    assert through.returncode != 0
    back = box.ssh("anna", "show version", options=("-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:2299:127.0.0.1:22"))
    assert back.returncode == 255
    agent = box.ssh("anna", "show version", options=("-A",))
    assert agent.returncode == 0    # asked for, not given: there is no way to see it, and no shell to use it


# --- sshd as 9.2.2 asks for it

def test_script_is_idempotent_and_its_check_finds_what_deviates(access):
    assert access.run("--check", "--shell", str(access.shell)).stdout == "ssh-access: everything is as it should be\n"
    assert access.run("--port", str(PORT), "--listen", "127.0.0.1").stdout == ""
    drop_in = pathlib.Path("/etc/ssh/sshd_config.d/00-sallyport.conf")
    before = drop_in.read_text()
    try:
        drop_in.write_text(before.replace("PasswordAuthentication no", "PasswordAuthentication yes").replace("MaxAuthTries 3\n", ""))
        done = access.run("--check", check=False)
        assert done.returncode == 1
        assert "PasswordAuthentication is yes, not no" in done.stdout and "MaxAuthTries is 6, not 3" in done.stdout
    finally:
        drop_in.write_text(before)
    assert access.run("--check").returncode == 0
    refused = access.run("--user", "eve", "--role", "root", "--key", f"{access.key('anna')}.pub", check=False)
    assert refused.returncode == 64
    private = access.run("--user", "eve", "--role", "operator", "--key", str(access.key("anna")), "--shell", str(access.shell), check=False)
    assert private.returncode == 65 and "private key" in private.stderr


def offered(access):
    """The server's own proposal, by kind, as the client saw it in the handshake."""
    done = subprocess.run(access.command("rita", "show version", options=("-vv", "-o", "LogLevel=DEBUG2")), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=PATIENCE)
    text = done.stderr[done.stderr.index("peer server KEXINIT proposal"):]
    found = {}
    for kind in ("KEX algorithms", "host key algorithms", "ciphers stoc", "ciphers ctos", "MACs stoc", "MACs ctos", "compression stoc"):
        found[kind] = re.search(rf"debug2: {kind}: (\S+)", text).group(1).split(",")
    chosen = re.search(r"debug1: kex: algorithm: (\S+)", done.stderr).group(1)
    return found, chosen


def test_live_handshake_offers_current_algorithms_only(access):
    found, chosen = offered(access)
    assert chosen == "mlkem768x25519-sha256"
    kex = [name for name in found["KEX algorithms"] if not name.startswith(("ext-info", "kex-strict"))]
    assert set(kex) == {"mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256",
                        "curve25519-sha256@libssh.org"}
    assert "kex-strict-s-v00@openssh.com" in found["KEX algorithms"]     # against Terrapin
    for side in ("stoc", "ctos"):
        assert all("gcm" in name or "poly1305" in name for name in found[f"ciphers {side}"])
        assert all("-etm@" in name and "sha1" not in name for name in found[f"MACs {side}"])
    assert set(found["host key algorithms"]) <= {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"}
    assert found["compression stoc"] == ["none"]


@pytest.mark.parametrize("option", ["KexAlgorithms=diffie-hellman-group14-sha256", "KexAlgorithms=ecdh-sha2-nistp256", "Ciphers=aes128-ctr", "Ciphers=aes256-cbc",
                                    "HostKeyAlgorithms=ecdsa-sha2-nistp256"])
def test_older_algorithms_find_no_match(access, option):
    done = access.ssh("rita", "show version", options=("-o", option, "-o", "LogLevel=INFO"))
    assert done.returncode == 255 and "no matching" in done.stderr, done.stderr


def test_password_is_never_asked_for(access):
    """Even for a user who has one."""
    subprocess.run(["chpasswd"], input="nemo:secret\n", text=True, check=True)
    child = pexpect.spawn("ssh", ["-F", "none", "-p", str(PORT), "-o", f"UserKnownHostsFile={access.known}", "-o", "PubkeyAuthentication=no", "-o",
                                  "PreferredAuthentications=password,keyboard-interactive", "nemo@127.0.0.1"], timeout=PATIENCE, encoding="utf-8")
    assert child.expect([r"Permission denied \(publickey\)", "assword:"]) == 0
    child.close()
    # And root has no password login either; a key of nobody is refused.
    done = access.ssh("anna", "show version", options=("-o", f"IdentityFile={access.key('rita')}", "-o", "IdentitiesOnly=yes", "-l", "root"))
    assert done.returncode == 255


def test_login_is_logged_with_the_keys_fingerprint(access):
    access.ssh("otto", "help show version")
    fingerprint = subprocess.run(["ssh-keygen", "-l", "-f", f"{access.key('otto')}.pub"], capture_output=True, text=True, check=True).stdout.split()[1]
    wait_for("the login in sshd's log", lambda: fingerprint in access.log.read_text())


# --- the shell

def test_help_and_completion_at_every_word(box):
    child = logged_in(box)
    child.send("?")
    child.expect("show +show what is going on")
    child.expect(PROMPT)
    child.send("show s?")
    child.expect("services +services: listeners")
    child.expect("sessions")
    child.expect(PROMPT + "show s")
    child.send("e\t")                      # show se: two
    child.expect("services")
    child.expect(PROMPT + "show se")
    child.send("rv\t")
    child.expect("ices ")
    child.send("?")
    child.expect("<enter>")
    child.expect(PROMPT + "show services ")
    child.send("\r")
    child.expect("web")
    child.expect(PROMPT)
    child.send("drain service w\t")        # a name of the running configuration
    child.expect(r"w(\r\x1b\[\d+G)?eb ")  # libedit may move the cursor to where it goes on
    child.send("\x03")
    child.expect(r"\^C")
    child.expect(PROMPT)
    child.send("drain pool ?")
    child.expect("  web")
    child.expect("  echo")
    child.expect(PROMPT + "drain pool ")
    child.send("\x15")                     # Ctrl-U
    child.send("show log match \"what?\"")  # in quotes it is a question mark
    child.expect(r'what(\r\x1b\[\d+G)?\?"')
    child.send("\x03")
    child.expect(PROMPT)
    child.sendline("exit")
    child.expect(pexpect.EOF)


def test_abbreviations_errors_with_a_caret_and_history(box):
    child = logged_in(box)
    assert "web" in ask(child, "sh serv")
    child.sendline("show flwos")
    child.expect(r"\r\n( +)\^\r\n")
    prompt = len(child.before.splitlines()[0]) if child.before.splitlines() else 0
    assert len(child.match.group(1)) >= 5, prompt
    child.expect('unknown word "flwos"; did you mean "flows"')
    child.expect(PROMPT)
    assert "ambiguous: ports, pools, policy" in ask(child, "show po")
    assert "Count: " in ask(child, "show pools | count")
    child.send("\x1b[A")                   # up
    child.expect(r"show pools \| count")
    child.send("\x1b[A\x1b[A")
    child.expect("flwos")
    child.send("\x03")
    child.expect(PROMPT)
    child.send("\x12serv")                 # Ctrl-R
    child.expect("sh serv")
    child.send("\r")
    child.expect("web")
    child.expect(PROMPT)
    child.send("Zürich ø\r")               # UTF-8 is text, not keys
    child.expect('unknown word "Zürich"')
    child.expect(PROMPT)
    child.sendeof()
    child.expect(pexpect.EOF)
    history = pathlib.Path("/home/anna/.local/state/sallyport/history")
    assert history.stat().st_mode & 0o777 == 0o600
    assert "show pools | count" in history.read_text().splitlines()
    again = logged_in(box)
    again.send("\x1b[A")
    again.expect("Zürich")
    again.send("\x03")
    again.expect(PROMPT)
    again.close()


def test_pager_and_pipes(box):
    child = logged_in(box, rows=10)
    child.sendline("show counters all")
    child.expect("--- \\d+ % ---")
    child.send(" ")
    child.expect("--- \\d+ % ---")
    child.send("/control_sessions\r")
    child.expect("control_sessions")
    child.expect("--- \\d+ % ---")
    child.send("q")
    child.expect(PROMPT)
    assert "---" not in ask(child, "show counters all | no-more")
    lines = ask(child, "show counters all | match \"^ *[0-9]+  tcp_\" | last 2").strip().splitlines()
    assert len(lines) == 2
    assert '"name"' in ask(child, "show services | json | no-more")
    child.close()


def test_colours_only_where_they_are_wanted(box):
    plain = logged_in(box)
    assert "\x1b[3" not in ask(plain, "show ports")
    plain.close()
    coloured = box.shell_of("anna", environment={"NO_COLOR": ""})
    coloured.expect(PROMPT.rstrip())
    coloured.sendline("show ports | no-more")
    coloured.expect("\x1b\\[32mup\x1b\\[0m")
    coloured.close()


def test_roles_decide(box):
    child = logged_in(box, "rita")
    assert "needs the role" in ask(child, "reload")
    child.sendline("configure")
    assert child.expect([PROMPT, EDIT_PROMPT]) == 0
    child.close()
    assert box.ssh("otto", "refresh revocation").returncode == 0
    assert box.ssh("otto", "reload").returncode == 77


def test_monitor_fills_the_screen_of_a_terminal(box):
    """tmux is the terminal: what it shows is what a person sees, also when the window changes."""
    def tmux(*words):
        return subprocess.run(["tmux", "-L", "cli", *words], capture_output=True, text=True, check=True).stdout
    command = " ".join(f"'{word}'" for word in box.command("anna"))
    tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "20", "-s", "s", command)
    try:
        screen = lambda: tmux("capture-pane", "-p", "-t", "s")                                  # noqa: E731
        wait_for(lambda: f"the prompt: {screen()}", lambda: re.search(PROMPT.rstrip(), screen()), PATIENCE)
        tmux("send-keys", "-t", "s", "monitor ports interval 1", "Enter")
        wait_for(lambda: f"rates: {screen()}", lambda: "packets in/s" in screen() and "rates come" not in screen(), PATIENCE)
        assert "q: end" in screen().splitlines()[0]
        tmux("resize-window", "-t", "s", "-x", "60", "-y", "12")
        wait_for(lambda: f"the new size: {screen()}", lambda: "packets in/s" in screen() and len(screen().rstrip("\n").splitlines()) <= 12, PATIENCE)
        tmux("send-keys", "-t", "s", "q")
        wait_for(lambda: f"the prompt: {screen()}", lambda: re.search(PROMPT.rstrip() + r"\s*$", screen()), PATIENCE)
        assert "packets in/s" not in screen()
        tmux("send-keys", "-t", "s", "exit", "Enter")
    finally:
        subprocess.run(["tmux", "-L", "cli", "kill-server"], capture_output=True)


def test_monitor_counted_prints_lines(box):
    done = box.ssh("rita", "monitor ports count 2 interval 1")
    assert done.returncode == 0 and done.stdout.count("packets in/s") == 2


def test_interrupt_ends_a_command_and_not_the_shell(box):
    child = logged_in(box)
    box.appliance.control.send_signal(signal.SIGSTOP)
    try:
        child.sendline("show version")
        child.expect("\r\n")
        for _ in range(20):      # one that comes before the terminal is back in its ordinary mode is a key, and clears the next line
            child.send("\x03")
            if child.expect(["interrupted", pexpect.TIMEOUT], timeout=1) == 0:
                break
        else:
            pytest.fail(child.before)
        child.expect(PROMPT)
    finally:
        box.appliance.control.send_signal(signal.SIGCONT)
    assert "unknown word" in ask(child, "nothing")
    child.close()
