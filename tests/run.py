"""What scripts/test runs inside the firmware root. Builds, runs the parts that were asked for, and adds up their results.

Every runner leaves JUnit XML (GoogleTest one file a program, pytest one a run), which is where the numbers come from; a
program that ended without leaving its file counts as one failed test.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
PARTS = ["exact", "system", "asan", "tsan", "fuzz"]
ASKED = ["unit", "long", "tuned"]   # only when asked for
BEGUN = time.monotonic()


class Results:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def count(self, part, name, outcome, text=""):
        if outcome == "passed":
            self.passed += 1
        elif outcome == "skipped":
            self.skipped += 1
        else:
            self.failed += 1
            self.failures.append((part, name, text))

    def read(self, part, file):
        """Counts the cases of one JUnit file; returns how many failed."""
        before = self.failed
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            name = f"{case.get('classname', '')}.{case.get('name', '')}"
            problem = case.find("failure") if case.find("failure") is not None else case.find("error")
            if problem is not None:
                self.count(part, name, "failed", problem.get("message", ""))
            elif case.find("skipped") is not None or case.get("status") == "notrun":
                self.count(part, name, "skipped")
            else:
                self.count(part, name, "passed")
        return self.failed - before


def say(text):
    print(f"[{time.monotonic() - BEGUN:6.1f} s] {text}", flush=True)


def run_quietly(what, command, log, environment=None):
    """Runs a command with its output in a file; says every 20 s how far it is, and the end of the output when it fails."""
    say(what)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as out:
        child = subprocess.Popen([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT, cwd=CHECKOUT,
                                 env={**os.environ, **(environment or {})})
        done = threading.Event()

        def progress():
            while not done.wait(20):
                lines = log.read_text(errors="replace").strip().splitlines()
                say(f"{what}: {lines[-1][:110] if lines else '...'}")
        threading.Thread(target=progress, daemon=True).start()
        code = child.wait()
        done.set()
    if code != 0:
        lines = log.read_text(errors="replace").splitlines()
        failed = next((at for at, line in enumerate(lines) if line.startswith("FAILED:")), None)
        lines = lines[failed:failed + 40] if failed is not None else lines[-40:]
        print("\n".join(lines), flush=True)
        say(f"{what}: exit code {code}; all of it in {log}")
    return code


class Tests:
    def __init__(self, arguments):
        self.keyword = arguments.k
        self.results = Results()
        self.reports = CHECKOUT / "build/reports"

    def configure(self, preset):
        made = CHECKOUT / "build" / preset / "build.ninja"
        if made.exists() and made.stat().st_mtime >= (CHECKOUT / "CMakePresets.json").stat().st_mtime:
            return True
        # Anew: a cache keeps the compiler and the options of the preset that it was made with.
        if run_quietly(f"{preset}: configure", ["cmake", "--fresh", "--preset", preset], self.reports / f"{preset}-configure.log") == 0:
            return True
        self.results.count(preset, "configure", "failed")
        return False

    def build(self, preset, *targets):
        directory = CHECKOUT / "build" / preset
        if not self.configure(preset):
            return False
        command = ["cmake", "--build", directory] + (["--target", *targets] if targets else [])
        if run_quietly(f"{preset}: build", command, self.reports / f"{preset}-build.log") != 0:
            self.results.count(preset, "build", "failed", "it does not build")
            return False
        return True

    def ctest(self, part, preset, *options, environment=None):
        """GoogleTest programs by ctest, one a core at a time."""
        reports = self.reports / part
        shutil.rmtree(reports, ignore_errors=True)
        reports.mkdir(parents=True)
        summary = self.reports / f"{part}-ctest.xml"
        keyword = ["-R", self.keyword] if self.keyword else []
        run_quietly(f"{part}: unit tests", ["ctest", "--test-dir", CHECKOUT / "build" / preset, "--output-on-failure", "--output-junit", summary,
                                           "-j", os.cpu_count(),
                                           *options, *keyword], self.reports / f"{part}-ctest.log",
                    {"GTEST_OUTPUT": f"xml:{reports}/", "GTEST_BRIEF": "1", **(environment or {})})
        for case in ElementTree.parse(summary).getroot().iter("testcase"):
            name, ran_well = case.get("name"), case.find("failure") is None and case.get("status") == "run"
            file = reports / f"{name}.xml"
            if not file.exists():
                self.results.count(part, name, "passed" if ran_well else "failed", "the program ended early" if not ran_well else "")
            elif self.results.read(part, file) == 0 and not ran_well:
                self.results.count(part, name, "failed", "the program ended badly after its tests")

    def pytest(self, part, preset, environment=None, modules=None):
        """`modules`: of the system tests, without the conformance tests; None: all of both."""
        suites = {suite: [f"tests/{suite}"] for suite in ("system", "conformance")}
        if modules is not None:
            suites = {"system": [f"tests/system/test_{module}.py" for module in modules]}
        for suite, files in suites.items():
            file = self.reports / f"{part}-{suite}-pytest.xml"
            file.unlink(missing_ok=True)
            say(f"{part}: {suite} tests")
            # In namespaces and a /run of its own: nothing of an earlier run is in the way, and nothing of this one stays.
            command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                       'mount -t tmpfs -o mode=755 tmpfs /run && mkdir -p /run/lock /run/netns && ip link set lo up && exec "$@"', "sh",
                       sys.executable, "-B", "-m", "pytest", "-q", *files, f"--junitxml={file}"]
            if self.keyword:
                command += ["-k", self.keyword]
            code = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, "SALLYPORT_BUILD": str(CHECKOUT / "build" / preset),
                                                              **(environment or {})}).returncode
            failed = self.results.read(part, file) if file.exists() else 0
            if code not in (0, 5) and failed == 0:   # 5: no test was chosen
                self.results.count(part, f"pytest tests/{suite}", "failed", f"exit code {code}")

    def unit(self):
        if self.build("dev"):
            self.ctest("unit", "dev")

    def exact(self):
        """Those of the unit tests that count what a sanitizer adds to or replaces. The others are compiled and run once only, in asan: most of the time of a run goes to compiling."""
        if self.build("dev", "exact_tests"):
            self.ctest("exact", "dev", "-L", "exact")

    def system(self):
        if self.build("dev", "programs"):
            self.pytest("system", "dev")

    # Leaks are looked for in both processes; DPDK's own arenas in hugepages are no roots for the search, so what is only
    # reachable through them is named in the suppressions.
    ASAN = {"ASAN_OPTIONS": "abort_on_error=0:exitcode=99:detect_stack_use_after_return=1:external_symbolizer_path=/usr/bin/llvm-symbolizer-19",
            "UBSAN_OPTIONS": "print_stacktrace=1", "LSAN_OPTIONS": f"suppressions={CHECKOUT}/tests/leaks.suppressions:print_suppressions=0"}

    # What peers send is parsed, moved and answered in these; the others have the same code do what they are about.
    ASAN_SYSTEM = ["alerts", "attacks", "backend_legs", "capture", "changes", "clients", "ending", "generator", "lossy_network", "payloads", "policy_flows",
                   "policy_mutual_tls", "records"]

    def asan(self):
        if self.build("asan"):
            self.ctest("asan", "asan", environment=self.ASAN)
            self.pytest("asan", "asan", environment=self.ASAN, modules=self.ASAN_SYSTEM)

    def long(self):
        if self.build("asan"):
            self.pytest("long", "asan", environment=self.ASAN)

    def tuned(self):
        """What is installed: the compiler has laid it out otherwise than what the other parts test. scripts/test has built it."""
        self.pytest("tuned", "tuned")

    def tsan(self):
        """The channel alone: its rings with a producer and a consumer in two threads. Neither the management socket nor control's handshake
        workers, nor the programs as wholes."""
        targets = ["control_channel_test"]
        if self.build("tsan", *targets):
            self.ctest("tsan", "tsan", "-R", "|".join(f"^{target}$" for target in targets),
                       environment={"TSAN_OPTIONS": "halt_on_error=1:exitcode=66"})

    def fuzz(self):
        """Each fuzzer over its corpus, and a fixed number of inputs of its own making."""
        directory = CHECKOUT / "build/asan"
        if not self.configure("asan"):
            return
        known = subprocess.run(["ninja", "-C", directory, "-t", "targets", "all"], capture_output=True, text=True).stdout
        names = sorted(match.group(1) for match in re.finditer(r"^tests/fuzz/(\w+): CXX_EXECUTABLE_LINKER", known, re.MULTILINE)
                       if not self.keyword or self.keyword in match.group(1))
        if not names and not self.keyword:
            self.results.count("fuzz", "fuzzers", "failed", f"{directory} has none")
        if not names or not self.build("asan", *names):
            return
        for fuzzer in (directory / "tests/fuzz" / name for name in names):
            corpus = CHECKOUT / "tests/fuzz/corpus" / fuzzer.name
            scratch = self.reports / "fuzz" / fuzzer.name
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            command = [fuzzer, "-runs=20000", "-seed=1", "-max_total_time=10", "-print_final_stats=0", f"-artifact_prefix={scratch}/", scratch]
            if corpus.is_dir():
                command.append(corpus)
            code = run_quietly(f"fuzz: {fuzzer.name}", command, self.reports / f"fuzz-{fuzzer.name}.log")
            self.results.count("fuzz", fuzzer.name, "passed" if code == 0 else "failed", f"exit code {code}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/test", description="Builds and runs the tests; without arguments all parts but unit, long and tuned, which run nothing new: the unit tests without sanitizers, and the system tests once more, all of them under sanitizers or as what is installed.")
    parser.add_argument("parts", nargs="*", metavar="exact|system|asan|tsan|fuzz|unit|long|tuned")
    parser.add_argument("-k", metavar="EXPR", help="only what matches: pytest's -k, a regular expression of programs for unit tests")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS + ASKED)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    tests = Tests(arguments)
    for part in arguments.parts or PARTS:
        getattr(tests, part)()
    results = tests.results
    if results.failures:
        print("\nFailed:")
        for part, name, text in results.failures:
            print(f"  {part}: {name}" + (f": {text.splitlines()[0][:160]}" if text else ""))
    say("done")
    print(f"{results.passed} passed, {results.failed} failed" + (f", {results.skipped} skipped" if results.skipped else ""), flush=True)
    return 1 if results.failed or not results.passed else 0


if __name__ == "__main__":
    sys.exit(main())
