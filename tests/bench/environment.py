"""Where and with what was measured."""

import os
import pathlib
import re
import subprocess
import time

from tests.lab.lab import processor

PACKAGES = ["dpdk", "libipsec-mb2", "lib25519-1", "libcrypto-mb11", "libssl4", "libssl3t64", "nginx", "haproxy", "hitch", "wrk"]


def environment(arguments):
    clock = re.search(r"cpu MHz\s*:\s*(\S+)", pathlib.Path("/proc/cpuinfo").read_text())
    packages = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PACKAGES], capture_output=True, text=True).stdout.split("\n")
    return {"processor": processor(), "mhz": clock.group(1) if clock else "?", "cores": os.cpu_count(), "kernel": os.uname().release,
            "packages": [package for package in packages if package],
            "commit": os.environ.get("SALLYPORT_COMMIT", "?"),
            "build": os.environ.get("SALLYPORT_BUILD", ""), "profile": arguments.profile or "each row's",
            "rounds": arguments.rounds, "seconds": arguments.seconds, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
