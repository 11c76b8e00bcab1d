"""Configuration mode on the real programs, through the management socket: candidates, commits that are all or nothing, the way back, and
control killed in the middle of it."""

import contextlib
import hashlib
import json
import random
import re
import shutil
import threading
import time

import pytest

from tests.lab import network
from tests.lab.configuration import Configuration, Pool, Service
from tests.lab.lab import Appliance, best_profile, wait_for
from tests.lab.management import Candidate, Management, Refused
from .conftest import SLOW_BUILD
from .test_live import Changer, Load, live_configuration
from .tls_client import TlsClient, context_for

pytestmark = pytest.mark.needs_appliance

ECHO, NEW = 4433, 4950


class Site:
    """An appliance whose configuration file stands in a directory that control's user may write."""

    def __init__(self, lab, standard, config=None):
        self.lab, self.directory = lab, lab.directory / "changes"
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        both = [lab.certificates.rsa, lab.certificates.ecdsa]
        patient = {"handshake_timeout_ms": 60000}
        config = config or Configuration([Service("web", 443, "web", both, alpn=("h2", "http/1.1")), Service("echo", ECHO, "echo", both, settings=patient)],
                                         lab.standard_pools(), profile=best_profile())
        config.state_directory = self.directory / "state"
        self.file = lab.write_configuration(config, "changes/sallyport.conf")
        shutil.chown(self.directory, "sallyport", "sallyport")
        self.original = self.file.read_text()
        self.management = Management()
        self.appliance = Appliance(lab, self.file).start(120 if SLOW_BUILD else 60)

    def history(self):
        return self.management.call("configuration history")

    def revisions(self):
        """As they stand in the state directory, which must be whole: (number, what is known of it), oldest first."""
        directory = self.directory / "state/revisions"
        found = []
        for file in sorted(directory.glob("*.json")):
            known = json.loads(file.read_text())
            text = file.with_suffix(".conf").read_bytes()
            assert hashlib.sha256(text).hexdigest() == known["digest"]
            found.append((known["number"], known))
        return found

    def taken_back(self):
        """Revisions that the audit log says were made of commits that nobody confirmed."""
        return [entry["arguments"]["revision"] for entry in self.management.call("show audit", limit=50)["entries"]
                if entry["event"] == "configuration" and "not confirmed" in entry["arguments"].get("by", "")]

    def restart_control(self):
        self.appliance.start_control()
        self.appliance.wait_ready(120)

    def echoes(self, port=ECHO):
        with TlsClient(port, context_for(self.lab.certificates.ca), timeout=30).handshake() as client:
            client.write(b"hello")
            return client.read_exactly(5) == b"hello"

    def refuses(self, port):
        with contextlib.suppress(OSError):
            network.connect("client", network.APPLIANCE["client"][0], port, 2).close()
            return False
        return True

    def new_service(self, candidate):
        client = network.APPLIANCE["client"][0]
        rsa, key = self.lab.certificates.rsa
        candidate.set(f"services new listen {client}:{NEW}")
        candidate.set(f"services new certificates {rsa} key {key}")
        candidate.set("services new pool echo")
        candidate.set("services new handshake_timeout_ms 60000")


@pytest.fixture
def site(lab, standard, manager):
    manager.stop()
    site = Site(lab, standard)
    yield site
    TlsClient.close_all()
    site.appliance.stop()


def problem_lines(answer):
    assert not answer["done"] and answer["problems"]
    return answer["problems"]


def test_commit_compare_history_and_rollback(site):
    with TlsClient(ECHO, context_for(site.lab.certificates.ca), timeout=30).handshake() as alive:
        candidate = Candidate(site.management)
        candidate.set("services echo idle_timeout_s 1800")
        site.new_service(candidate)
        difference = candidate.call("compare")["text"]
        assert re.search(r"^\+ +idle_timeout_s = 1800;", difference, re.M), difference
        assert candidate.call("validate")["problems"] == []
        assert site.refuses(NEW)
        assert candidate.commit(comment="a new service")["revision"] == 2
        assert site.echoes(NEW)
        newest = site.history()[0]
        assert (newest["user"], newest["comment"], newest["how"], newest["running"]) == ("root", "a new service", "commit", True)
        text = site.file.read_text()
        assert "# A service is what clients reach" in text   # comments are kept
        assert newest["digest"] == hashlib.sha256(text.encode()).hexdigest()
        candidate.call("rollback", number=1)
        candidate.commit()
        assert site.file.read_text() == site.original
        assert site.refuses(NEW)
        assert site.history()[0]["how"] == "rollback"
        alive.write(b"still here")
        assert alive.read_exactly(10) == b"still here"
    assert site.file.stat().st_mode & 0o777 == 0o644


def test_refused_commit_names_line_and_mend_and_changes_nothing(site):
    candidate = Candidate(site.management)
    with pytest.raises(Refused) as refused:
        candidate.set("services echo idle_timeuot_s 5")
    assert refused.value.code == "bad_path" and "idle_timeout_s" in refused.value.text
    with pytest.raises(Refused) as refused:
        candidate.set("policy level 4")
    assert refused.value.code == "bad_value" and "1 to 3" in refused.value.text
    candidate.set("services echo pool ehco")
    [problem] = problem_lines(candidate.call("commit"))
    line = next(number for number, text in enumerate(candidate.call("show")["text"].splitlines(), 1) if "ehco" in text)
    assert problem.startswith(f"{site.file}:{line}: services.[1].pool") and "echo" in problem
    candidate.set("services echo pool echo")
    # What only a start changes is refused, and stored for one when that is asked for.
    port = "backends"
    candidate.set(f"ports {port} mtu 1400")
    assert f"ports.[1].mtu" in " ".join(problem_lines(candidate.call("commit", check=True)))
    assert candidate.call("commit", check=True, at_restart=True)["note"] == "is good"
    assert f"ports.[1].mtu" in " ".join(problem_lines(candidate.call("commit")))
    assert site.file.read_text() == site.original and [r["number"] for r in site.history()] == [1]
    answer = candidate.commit(at_restart=True, comment="smaller packets")
    assert "start" in answer["note"]
    assert "mtu = 1400" in site.file.read_text()
    newest, first = site.history()
    assert not newest["running"] and first["running"]
    assert site.echoes()


def test_commit_confirmed_is_taken_back_or_kept(site):
    candidate = Candidate(site.management)
    site.new_service(candidate)
    answer = candidate.commit(confirmed_seconds=3)
    assert answer["confirm_until"]
    assert site.echoes(NEW)
    wait_for("the commit to be taken back", lambda: site.history()[0]["how"] == "confirmed-rollback", 60)
    assert site.refuses(NEW)
    assert site.file.read_text() == site.original
    assert [revision["confirmed"] for revision in site.history()] == [True, False, True]
    assert site.taken_back() == [3]
    # And again, confirmed in time. The candidate still has the change, but what runs has moved on: it is taken up again.
    candidate.close()
    candidate = Candidate(site.management)
    candidate.call("rollback", number=2)
    candidate.commit(confirmed_minutes=10)
    alarm = next(alarm for alarm in site.management.call("show alarms")["active"] if alarm["kind"] == "commit_unconfirmed")
    assert "waits to be confirmed until" in alarm["text"]
    site.management.call("configuration confirm")
    alarms = site.management.call("show alarms")
    assert not any(each["kind"] == "commit_unconfirmed" for each in alarms["active"])
    assert [each["kind"] for each in alarms["recent"]].count("commit_unconfirmed") == 2   # the one that was taken back too
    with pytest.raises(Refused) as refused:
        site.management.call("configuration confirm")
    assert refused.value.code == "nothing_pending"
    assert site.echoes(NEW) and site.history()[0]["confirmed"]


def test_commit_confirmed_whose_time_passes_while_control_is_away(site):
    candidate = Candidate(site.management)
    site.new_service(candidate)
    candidate.commit(confirmed_seconds=4)
    deadline = time.time() + 4
    site.appliance.kill_control()
    assert site.file.read_text() != site.original
    time.sleep(max(0, deadline + 1 - time.time()))
    site.restart_control()
    assert site.file.read_text() == site.original
    assert site.history()[0]["how"] == "confirmed-rollback"
    assert site.taken_back() == [site.history()[0]["number"]]
    wait_for("the new service to be gone", lambda: site.refuses(NEW), 30)
    assert site.echoes()
    # The candidate has outlived control too.
    assert Candidate(site.management).opened["resumed"]


def test_two_editors_lose_nothing_and_an_exclusive_one_keeps_others_out(site):
    alice, bob = Candidate(site.management), Candidate(Management(user="sallyport"))
    assert bob.opened["others"][0]["user"] == "root"
    alice.set("services echo idle_timeout_s 1000")
    bob.set("services web idle_timeout_s 2000")
    alice.commit()
    assert bob.commit()["note"]
    text = site.file.read_text()
    assert "idle_timeout_s = 1000" in text and "idle_timeout_s = 2000" in text
    bob.set("services echo idle_timeout_s 3000")
    alice.set("services echo idle_timeout_s 4000")
    bob.commit()
    with pytest.raises(Refused) as refused:
        alice.commit()
    assert refused.value.code == "conflicts" and "sallyport" in refused.value.text
    [conflict] = alice.call("update")["conflicts"]
    assert (conflict["path"], conflict["running"], conflict["candidate"]) == ("services echo idle_timeout_s", "3000", "4000")
    alice.commit()
    with pytest.raises(Refused) as refused:   # not root's
        Management(user="sallyport").call("configuration show", session=alice.session)
    assert refused.value.code == "no_session"
    alice.close()
    owner = Candidate(site.management, kind="exclusive")
    with pytest.raises(Refused) as refused:
        Candidate(Management(user="sallyport"))
    assert refused.value.code == "locked"
    bob.set("log level warning")
    with pytest.raises(Refused) as refused:
        bob.commit()
    assert refused.value.code == "locked"
    owner.close()
    bob.commit()


def test_file_changed_by_hand_is_not_overwritten(site):
    candidate = Candidate(site.management)
    candidate.set("services echo idle_timeout_s 1000")
    site.file.write_text(site.original + "# by hand\n")
    with pytest.raises(Refused) as refused:
        candidate.commit()
    assert refused.value.code == "file_changed" and "reload" in refused.value.text
    site.appliance.cli("reload")
    assert site.history()[0]["how"] == "file"
    candidate.commit()
    assert "# by hand" in site.file.read_text() and "1000" in site.file.read_text()


def test_directory_that_control_may_not_write(site):
    shutil.chown(site.directory, "root", "root")
    site.directory.chmod(0o755)
    candidate = Candidate(site.management)
    candidate.set("services echo idle_timeout_s 1000")
    with pytest.raises(Refused) as refused:
        candidate.commit()
    assert refused.value.code == "cannot_write" and "chown" in refused.value.text and str(site.directory) in refused.value.text
    assert site.file.read_text() == site.original


class Committer(Changer):
    """Changes the configuration in configuration mode."""

    def __init__(self, site, config, copies):
        super().__init__(site.lab, site.appliance, config, copies)
        self.candidate, self.commits = Candidate(site.management), 0

    def apply(self, text=None):
        self.commits += 1
        assert not self.candidate.call("load", text=text or self.text(), how="override")["problems"]
        self.candidate.commit(comment=f"change {self.commits}")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_hundred_commits_of_every_kind_under_load(lab, standard, manager):
    """No connection is lost, and the history is whole: each revision with its digest, its comment and its number."""
    manager.stop()
    config, copies = live_configuration(lab, standard)
    site = Site(lab, standard, config)
    try:
        committer = Committer(site, config, copies)
        with Load(lab, site.appliance) as load:
            for n in range(100):
                committer.change(n)
                load.check_alive()
        known = [entry for _, entry in site.revisions()]
        assert [entry["number"] for entry in known] == list(range(1, len(known) + 1))
        # A change that changes no text (a certificate is replaced in its file) makes no revision of its own.
        comments = [int(entry["comment"].split()[1]) for entry in known[1:]]
        assert comments == sorted(set(comments)) and len(comments) >= 80, comments
        assert known[-1]["digest"] == hashlib.sha256(site.file.read_bytes()).hexdigest()
    finally:
        TlsClient.close_all()
        lab.end_clients()
        site.appliance.stop()


@pytest.mark.long
def test_control_killed_in_the_middle_of_commits(site):
    """At moments of chance; every step by itself is killed in tests/unit/control/changes. Flows that no commit concerns go on."""
    chance = random.Random(11)
    with Load(site.lab, site.appliance, new_connections=False) as load:
        for turn in range(8):
            before = site.file.read_text()
            candidate = Candidate(site.management)
            candidate.set(f"services web idle_timeout_s {1000 + turn}")
            after = candidate.call("show")["text"]

            def commit():
                with contextlib.suppress(OSError, ValueError, Refused, AssertionError):
                    candidate.call("commit", comment=f"turn {turn}")
            thread = threading.Thread(target=commit)
            thread.start()
            time.sleep(chance.uniform(0, 0.15))
            site.appliance.kill_control()
            thread.join()
            assert site.file.read_text() in (before, after)
            site.restart_control()
            number, known = site.revisions()[-1]
            assert known["digest"] == hashlib.sha256(site.file.read_bytes()).hexdigest()
            assert known["how"] in ("boot", "commit")
            assert (known["comment"] == f"turn {turn}") == (site.file.read_text() == after)
            assert site.history()[0]["number"] == number
            load.check_alive()
