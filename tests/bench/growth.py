"""Row 25: what an appliance with many services and certificates costs, against one with one of each, in turn; over memif with our own generator, no peer.

The many are beside the one that is used: services on other ports, and certificates of other names in the service that is used.
"""

import dataclasses
import shutil
import subprocess

from tests.bench import memif
from tests.bench.devices import OURS
from tests.bench.row import Sample
from tests.lab.lab import LabError, program

SERVICES, CERTIFICATES = 1000, 10_000
MANY = f"{SERVICES:,} services and {CERTIFICATES:,} certificates"


def directory_of_certificates(lab):
    """Made once, by the program that measures how they are loaded."""
    made = lab.directory / "certificates" / f"{CERTIFICATES}-1"
    if not made.exists():
        done = subprocess.run([program("certificates_bench"), made.parent, str(CERTIFICATES)], capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"certificates_bench: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        shutil.copy(made / "roots" / "ca.pem", lab.certificates.roots / "of-many.pem")
    return made / "s0"


@dataclasses.dataclass(frozen=True)
class Load:
    load: memif.Load

    conditions = "over memif with our own generator, no peer"

    @staticmethod
    def measure(bench, rows):
        many = {"services": SERVICES, "of_service": {"certificate_directory": str(directory_of_certificates(bench.lab))}}
        for number in bench.rounds():
            for row in rows:
                yield from bench.sample(row, OURS, lambda row=row: many_against_one(bench, row, number, many))


def many_against_one(bench, row, number, many):
    load = next(way.load for way in row.ways if isinstance(way, Load))
    one, all_of_them = memif.spend(bench, row, load), memif.spend(bench, row, load, **many)
    details = {"worker cycles a request with one": one.cycles(), "worker cycles a request with many": all_of_them.cycles(),
               "control us a request with one": one.control_us(), "control us a request with many": all_of_them.control_us()}
    return Sample(row, OURS, 100 * (all_of_them.a_request() / one.a_request() - 1), number, details, one.disturbed or all_of_them.disturbed, one.cores.worse(all_of_them.cores))
