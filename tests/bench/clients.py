"""The kernel's clients of rows that are like for like (--client). Each loads a service from core 1 for some seconds and tells {"requests": answered ones, "seconds", "errors",
"output"}; a LabError where it cannot.

wrk and s_time take suite, group and version from OpenSSL's own configuration (wrk has no options for them), h2load from options, since it sets its own.
"""

import re
import time

from tests.bench.devices import LISTEN
from tests.lab.lab import LabError, Process, program

CORE = 1
PINNED = ["taskset", "-c", CORE]
LIMIT = 60   # seconds that a client may take for more than its load


def openssl_conf(lab, load):
    """A file that tells OpenSSL what to negotiate, for a client's OPENSSL_CONF."""
    suite = f"CipherString = {load.suite}" if load.version == "1.2" else f"Ciphersuites = {load.suite}"
    file = lab.directory / "client-openssl.cnf"
    file.write_text(f"openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\nMinProtocol = TLSv{load.version}\n"
                    f"MaxProtocol = TLSv{load.version}\n{suite}\nGroups = {load.groups}\n")
    return file


def url(load, port):
    return f"https://www.example.com:{port}{load.path}"


class Wrk:
    """Any load. It resumes the session of a connection's handshake in its next one; lab_full_handshakes.so takes that from it."""

    @staticmethod
    def can(_):
        return True

    @staticmethod
    def run(lab, load, port, seconds):
        close = ["-H", "Connection: close"] if load.close else []
        preload = [] if load.resumed else [f"LD_PRELOAD={program('lab_full_handshakes.so')}"]
        done = lab.client("env", f"OPENSSL_CONF={openssl_conf(lab, load)}", *preload, *PINNED, "wrk", "-t", "1", "-c", load.connections, "-d", f"{seconds}s", "--timeout", "20s", *close,
                          url(load, port), timeout=seconds + LIMIT)
        return Wrk.told(done)

    @staticmethod
    def told(done):
        match = re.search(r"(\d+) requests in ([\d.]+)(m?s|m),", done.stdout)
        if done.returncode != 0 or not match or match.group(1) == "0":
            raise LabError(f"wrk: {done.stdout}{done.stderr}")
        errors = re.findall(r"(?:connect|read|write|timeout) (\d+)", done.stdout) + re.findall(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
        return {"requests": int(match.group(1)), "seconds": float(match.group(2)) * {"s": 1, "ms": 0.001, "m": 60}[match.group(3)], "errors": sum(map(int, errors)), "output": done.stdout}


class H2load:
    """Kept connections, HTTP/1.1."""

    @staticmethod
    def can(load):
        return not load.close

    @staticmethod
    def run(lab, load, port, seconds):
        done = lab.client(*PINNED, "h2load", "--h1", "-t", "1", "-c", load.connections, "-D", seconds, f"--tls13-ciphers={load.suite}", f"--groups={load.group}", url(load, port),
                          timeout=seconds + LIMIT)
        return H2load.told(done)

    @staticmethod
    def told(done):
        took = re.search(r"finished in ([\d.]+)(m?s),", done.stdout)
        counts = {name: int(count) for count, name in re.findall(r"(\d+) (done|succeeded|failed|errored|timeout)", done.stdout)}
        answered = re.search(r"status codes: (\d+) 2xx", done.stdout)
        if done.returncode != 0 or not took or not counts.get("done") or not answered:
            raise LabError(f"h2load: {done.stdout}{done.stderr}")
        return {"requests": counts["succeeded"], "seconds": float(took.group(1)) * {"s": 1, "ms": 0.001}[took.group(2)], "errors": counts["done"] - counts["succeeded"], "output": done.stdout}


class STime:
    """`openssl s_time`: a connection for each request, one at a time; so there are as many processes as there are to be connections. One ends at its first failure."""

    @staticmethod
    def can(load):
        return load.close

    @staticmethod
    def run(lab, load, port, seconds):
        """Unlike the others it has no name for the service's certificate (SNI), so that it is given the first one."""
        command = ["openssl", "s_time", "-connect", f"{LISTEN}:{port}", "-www", load.path, "-time", seconds, "-reuse" if load.resumed else "-new", "-CAfile", lab.certificates.ca]
        environment, logs = {"OPENSSL_CONF": str(openssl_conf(lab, load))}, [lab.directory / f"s_time-{number}.log" for number in range(load.connections)]
        for log in logs:
            log.unlink(missing_ok=True)
        begun = time.monotonic()
        running = [Process("s_time", command, log=log, namespace="client", cores=[CORE], environment=environment) for log in logs]
        try:
            codes = [process.child.wait(timeout=seconds + LIMIT) for process in running]
        finally:
            for process in running:
                process.kill()
        return STime.told(codes, [log.read_text() for log in logs], time.monotonic() - begun)

    @staticmethod
    def told(codes, told, seconds):
        """Of all processes together."""
        counted = [re.search(r"(\d+) connections in \d+ real seconds", output) for output in told]
        if any(codes) or not all(counted):
            code, output = next(((code, output) for code, output, match in zip(codes, told, counted) if code or not match))
            raise LabError(f"openssl s_time, exit code {code}: {output[-2000:]}")
        return {"requests": sum(int(match.group(1)) for match in counted), "seconds": seconds, "errors": 0, "output": told[0]}


CLIENTS = {"wrk": Wrk, "h2load": H2load, "s_time": STime}
