"""The scripts that a person starts with: what makes the firmware root, and the lab that stays up. They run as on a machine of their own: within the
firmware root scripts/enter finds everything that it needs where it is, and makes its namespaces in those of the tests."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from tests.lab import certificates
from tests.lab.configuration import Configuration, libconfig
from tests.lab.lab import CHECKOUT, best_profile, build_directory, wait_for
from .conftest import SLOW_BUILD

# ---- scripts/firmware-root

MMDEBSTRAP = """#!/bin/bash
# In mmdebstrap's place: a root with one file in it, as far as $FAKE says.
for word; do [ "${before:-}" != trixie ] || target=$word; before=$word; done
mkdir -p "$target/var/cache/apt/archives"
echo half >"$target/file"
case $FAKE in
fail) echo "E: a package is not to be had"; exit 100 ;;
hang) exec sleep 600 ;;
esac
echo whole >"$target/file"
"""


class FirmwareRoot:
    def __init__(self, directory):
        self.cache = directory / "cache"
        programs = directory / "bin"
        programs.mkdir()
        for name, text in (("mmdebstrap", MMDEBSTRAP), ("chroot", "#!/bin/sh\necho OpenSSL 4.0.0\n"), ("apt-get", "#!/bin/sh\nexit 0\n")):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "SALLYPORT_USE_HOST": "never", "SALLYPORT_CACHE": str(self.cache),
                            "SALLYPORT_MIRROR": "http://mirror.invalid/debian"}

    def begin(self, fake):
        return subprocess.Popen([CHECKOUT / "scripts/firmware-root"], env={**self.environment, "FAKE": fake}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, start_new_session=True)

    def run(self, fake="work"):
        child = self.begin(fake)
        out, said = child.communicate(timeout=60)
        return child.returncode, out.strip(), said

    def left(self, what):
        return sorted(path.name for path in self.cache.glob(what))


@pytest.fixture
def root(tmp_path):
    return FirmwareRoot(tmp_path)


def whole(root, path):
    path = pathlib.Path(path)
    assert path.parent == root.cache and (path / ".complete").exists() and (path / "file").read_text() == "whole\n", path
    assert root.left("making-*") == [] and root.left("root-*") == [path.name]


def test_root_is_made_once(root):
    code, path, _ = root.run()
    assert code == 0
    whole(root, path)
    assert root.run("fail")[:2] == (0, path)   # nothing is made again


def test_attempt_that_was_cut_off_is_removed(root):
    """By a loss of power, say: nothing of it could clean up after itself."""
    child = root.begin("hang")
    wait_for("the attempt to have begun", lambda: list(root.cache.glob("making-*/file")), 30)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    (left,) = root.left("making-*")
    code, path, said = root.run()
    assert code == 0 and f"removing {left} " in said, said
    whole(root, path)


def test_attempt_that_fails_leaves_nothing_but_its_log(root):
    code, path, said = root.run("fail")
    assert code != 0 and path == "" and "a package is not to be had" in said, said
    assert root.left("making-*") == root.left("root-*") == []
    assert "a package is not to be had" in (root.cache / "firmware-root.log").read_text()
    code, path, _ = root.run()
    assert code == 0
    whole(root, path)


def test_superseded_root_is_removed(root):
    (root.cache / "root-of-an-older-list").mkdir(parents=True)
    code, path, said = root.run()
    assert code == 0 and "removing root-of-an-older-list " in said, said
    whole(root, path)


def test_root_whose_making_was_cut_off_before_its_end_is_not_taken(root):
    """A directory with the right name, but without the mark that is set last."""
    _, path, _ = root.run()
    (pathlib.Path(path) / ".complete").unlink()
    (pathlib.Path(path) / "file").write_text("half\n")
    code, again, _ = root.run()
    assert (code, again) == (0, path)
    whole(root, path)


# ---- scripts/lab, scripts/demo

TALKATIVE = """#!/usr/bin/env bash
# In place of scripts/enter: a lab that says much.
for word; do [ "${before:-}" != --keep ] || state=$word; before=$word; done
for _ in {1..100}; do seq 20000; done
touch "$state/ready"
until [ -e "$state/stop" ]; do sleep 0.1; done
"""


@pytest.mark.timeout(200)
def test_what_a_lab_says_is_shown_whole(tmp_path):
    """Though more has come whenever a part of it is read."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(CHECKOUT / "scripts/lab", scripts)
    (scripts / "enter").write_text(TALKATIVE)
    (scripts / "enter").chmod(0o755)
    environment = {**os.environ, "SALLYPORT_BUILD": str(tmp_path), "SALLYPORT_LAB": str(tmp_path / "state")}
    try:
        done = subprocess.run([scripts / "lab", "--start"], env=environment, capture_output=True, text=True, timeout=100)
    finally:
        subprocess.run([scripts / "lab", "--stop"], env=environment, capture_output=True, check=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 100 * "".join(f"{number}\n" for number in range(1, 20001))


class KeptLab:
    def __init__(self, directory):
        self.state = CHECKOUT / "build/lab-of-the-tests"
        self.environment = {**os.environ, "SALLYPORT_BUILD": str(build_directory()), "SALLYPORT_CACHE": str(directory / "cache"),
                            "SALLYPORT_LAB": str(self.state)}
        if host := os.environ.get("SALLYPORT_USE_HOST"):
            self.environment["SALLYPORT_USE_HOST"] = host

    def run(self, script, *arguments, code=0):
        done = subprocess.run([CHECKOUT / "scripts" / script, *map(str, arguments)], env=self.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, f"scripts/{script} {arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def whoami(self):
        return self.run("lab", "client", "curl", "-sS", "--cacert", "/run/lab/certificates/demo-ca.pem", "https://www.example.com/whoami")


@pytest.fixture
def kept(manager, tmp_path):
    """Nothing else of the tests' needs the huge pages meanwhile."""
    manager.stop()
    kept = KeptLab(tmp_path)
    yield kept
    subprocess.run([CHECKOUT / "scripts/lab", "--stop"], env=kept.environment, capture_output=True, timeout=120)
    pathlib.Path(f"{kept.state}.conf").unlink(missing_ok=True)


@pytest.mark.needs_appliance
@pytest.mark.timeout(400)
@pytest.mark.skipif(SLOW_BUILD, reason="its time-outs are those of a person who waits")
def test_lab_with_a_configuration_of_ones_own(kept, lab, tmp_path):
    """As scripts/lab says: with the names and files of the lab."""
    pools = lab.standard_pools()
    for pool in pools:
        pool.identity = tuple(lab.certificates.directory / f"appliance.{kind}" for kind in ("pem", "key"))
    config = Configuration(lab.standard_services(), pools, profile=best_profile(), public_roots=str(lab.certificates.roots), state_directory="/run/lab/state")
    assert str(lab.certificates.directory) == "/run/lab/certificates"   # as that of the lab that is to come
    file = tmp_path / "own.conf"
    file.write_text(libconfig(config))
    said = kept.run("lab", "--config", file)
    assert "The lab stays up" in said, said
    assert certificates.APPLIANCE_NAME in kept.whoami()
    view = json.loads(kept.run("lab", "appliance", "sallyport", "show", "services", "--json"))
    assert {service["name"]: service["flows_total"] for service in view} == {"web": 1, "echo": 0}
    assert "198.51.100.10" in kept.run("lab", "backend", "ip", "address")
    assert "a lab is up already" in kept.run("lab", "--config", file, code=1)
    assert "everything is stopped" in kept.run("lab", "--stop")
    assert not kept.state.exists()
    assert "no lab is up" in kept.run("lab", "client", "true", code=1)
    assert "none is up" in kept.run("lab", "--stop")


@pytest.mark.needs_appliance
@pytest.mark.timeout(400)
@pytest.mark.skipif(SLOW_BUILD, reason="its time-outs are those of a person who waits")
def test_lab_with_a_bad_configuration_of_ones_own(kept, tmp_path):
    """The problem is shown, and nothing stays up."""
    file = tmp_path / "bad.conf"
    file.write_text("policy = { level = 4; };\n")
    said = kept.run("lab", "--config", file, code=1)
    assert "policy.level = 4" in said, said
    assert "none is up" in kept.run("lab", "--stop")


@pytest.mark.needs_appliance
@pytest.mark.timeout(400)
@pytest.mark.skipif(SLOW_BUILD, reason="its time-outs are those of a person who waits")
def test_demonstration_that_is_kept(kept):
    said = kept.run("demo", "--keep")
    assert "100 of 100 in order" in said and "The lab stays up" in said, said
    assert certificates.APPLIANCE_NAME in kept.whoami()
    assert "9.1.1" in kept.run("lab", "appliance", "sallyport", "show", "policy")
    assert "everything is stopped" in kept.run("demo", "--stop")
    assert "none is up" in kept.run("demo", "--stop")
