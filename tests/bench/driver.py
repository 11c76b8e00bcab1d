"""What scripts/bench runs inside the firmware root: the command line, the rows one after the other, and what comes of them."""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import pathlib
import subprocess
import sys
import time

from tests.bench import accounting, chart, devices, idle, kernel, report, rows
from tests.bench.clients import CLIENTS
from tests.bench.environment import environment
from tests.bench.row import NotMeasured
from tests.lab.lab import Backend, Lab, LabError

BEGUN = time.monotonic()
QUICK_SECONDS = 560
PATIENCE = 20   # seconds
FAILURES = (LabError, RuntimeError, OSError, subprocess.SubprocessError)   # of a measurement
DEFAULT_DEVICES = "sallyport,nginx,haproxy,hitch,nginx-plain"
EPILOG = """
Core 0 is the device's under test (its dataplane and control, or its worker), core 1 the clients' and backends': leave the machine alone meanwhile.
Figures are work per core-second of the device; ratios are to the best peer. Order A B A B, median with least and most over the rounds; a round in which
something else had over 2 % of the machine, or the hypervisor over 1 %, or in which the cores were far from each other, is taken again, three times at most, and
does not count where each device has two others.

--json: an array of objects: row, name, unit, ours (median), peers (medians by name), ratio (to the best peer, null without one; above 1 we are better), target,
moonshot, spread (least and most by device); and conditions, details (medians by device: raw rate, load, cost), rounds ([counted, measured] by device),
disturbed (by device), not_measured (why, or empty), environment (processor, clock, kernel, versions, commit).
"""


class Bench:
    """What the ways of measuring share."""

    def __init__(self, lab, arguments):
        self.lab, self.arguments = lab, arguments
        self.devices = arguments.devices
        self.nearness = accounting.Nearness()
        self.failed = {}   # by row and device: why it is measured no more
        self.until = math.inf   # of time.monotonic(): when what is measured now is to be over

    def rounds(self):
        """Their numbers: as many as are asked for, or fewer where another as long as those before would not be over in time."""
        begun = time.monotonic()
        for number in range(self.arguments.rounds):
            if number > 0 and time.monotonic() + (time.monotonic() - begun) / number > self.until:
                return
            yield number

    def sample(self, row, device, take):
        """take()'s sample of a moment in which the machine was ours (accounting.undisturbed); none of a device that failed in this row once, which keeps no other from being measured."""
        if (row, device) in self.failed:
            return
        try:
            yield accounting.undisturbed(take, self.nearness, self.arguments.patience)
        except FAILURES as failure:
            self.failed[row, device] = str(failure)
            say(f"row {row.number} {row.title}: {device}, which is measured no more, failed: {failure}")

    def why_failed(self, row):
        """Of all devices; empty where none has."""
        whys = [f"{device}: {why}" for (of, device), why in self.failed.items() if of is row]
        return f"failed: {'; '.join(whys)}" if whys else ""

    @functools.cache
    def backends(self):
        return kernel.start_backends(self.lab)

    @functools.cache
    def echo(self):
        return Backend(self.lab, "echo", devices.ECHO_PORT, cores=[1])


def say(text):
    print(f"[{time.monotonic() - BEGUN:6.1f} s] {text}", file=sys.stderr, flush=True)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="This appliance against nginx, HAProxy and hitch, or alone where no peer can stand.",
                                     epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="all", help="such as 1,5-8; without it all that are measured (--list)")
    parser.add_argument("--list", action="store_true", help="say which rows there are")
    parser.add_argument("--quick", action="store_true", help=f"rows {', '.join(map(str, rows.QUICK))} in three rounds of two seconds, or fewer: under ten minutes")
    another = parser.add_mutually_exclusive_group()
    another.add_argument("--generator", dest="links", action="store_true", help="rows with our own generator for clients and backends of every device, on the veth links")
    another.add_argument("--memif", action="store_true", help="rows with our own generator for clients and backends, ours over memif, peers on the veth links")
    another.add_argument("--virtio", action="store_true", help="as --memif, ours over virtio, where it has the offloads that peers have on the veth links")
    another.add_argument("--client", choices=CLIENTS, help="rows like for like with this client on the kernel's sockets, where it can be: wrk (what they have unless another is asked for), h2load (kept connections), s_time (openssl's; a connection for each request)")
    parser.add_argument("--only", default="", help="only rows with this in their title, such as '50 ms, 1.0%% loss'")
    parser.add_argument("--rounds", type=int, help="7 unless said")
    parser.add_argument("--seconds", type=int, help="of one measurement; 4 unless said")
    parser.add_argument("--devices", default=DEFAULT_DEVICES, help=f"of {', '.join(devices.DEVICES)} (-plain: without the kernel's offloads, MTU 1500); {DEFAULT_DEVICES} unless said")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS",
                        help=f"before each measurement of rows 1 to 13, 20 and 25, and of row 17's connections, so long at most it waits for the host of a virtual machine to have the cores near each other, the first time {accounting.FIRST} times as long; {PATIENCE} unless said")
    parser.add_argument("--flows", type=int, help=f"rows 15 and 16: how many idle ones; {idle.DEFAULT} unless said")
    parser.add_argument("--profile", help="port profile of ours on veth, in place of each row's own")
    parser.add_argument("--json", help="also write everything to this file (a path in the checkout)")
    parser.add_argument("--chart", help="also draw the ratios to FILE.svg and FILE.png (a path in the checkout, without suffix)", metavar="FILE")
    arguments = parser.parse_args()
    try:
        numbers = rows.QUICK if arguments.quick and arguments.rows == "all" else rows.asked(arguments.rows)
    except ValueError as error:
        parser.error(f"--rows {arguments.rows}: {error}")
    arguments.devices = arguments.devices.split(",")
    if wrong := [name for name in arguments.devices if name not in devices.DEVICES]:
        parser.error(f"--devices: there is no {', '.join(wrong)}")
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 7)
    arguments.seconds = arguments.seconds or (2 if arguments.quick else 4)
    return arguments, numbers


def choose(numbers, arguments):
    """(row, way) of each that is asked for; says which are not measured, or not on the path that is asked for."""
    chosen = []
    path = next((path for path in ("memif", "virtio", "links") if getattr(arguments, path)), None)
    mine = [row for row in rows.ROWS if row.number in numbers and arguments.only in row.title]
    for number in numbers:
        if not any(row.number == number for row in rows.ROWS):
            print(f"Row {number} is not measured.")
        for row in (row for row in mine if row.number == number):
            if arguments.client:
                row = dataclasses.replace(row, ways=tuple(dataclasses.replace(way, client=arguments.client) for way in row.ways
                                                          if isinstance(way, kernel.Load) and CLIENTS[arguments.client].can(way)))
            ways = [way for way in row.ways if path is None or getattr(way, f"over_{path}", False)]
            chosen += [(row, way) for way in ways[:1]]
            if not ways:
                print(f"Row {number}, {row.title}, is not measured with --{f'client {arguments.client}' if arguments.client else 'generator' if path == 'links' else path}.")
    if arguments.only and not mine:
        print(f"--only {arguments.only!r} is in no title of the rows that are asked for (--list has them).")
    return chosen


def measure(bench, chosen):
    """Rows that are measured alike are measured together, round by round."""
    results, done = [], 0
    for kind, group in itertools.groupby(chosen, key=lambda pair: type(pair[1])):
        group, samples, why = list(group), [], ""
        done += len(group)
        if bench.arguments.quick:   # each row has as much of the time as any other
            bench.until = BEGUN + QUICK_SECONDS * done / len(chosen)
        try:
            for sample in kind.measure(bench, [row for row, _ in group]):
                samples.append(sample)
                told = [f"round {sample.round + 1}, row {sample.row.number} {sample.row.title}: {sample.device} {report.number(sample.value)} {sample.row.unit.name}",
                        sample.disturbed and "disturbed", str(sample.cores)]
                say(", ".join(filter(None, told)))
        except NotMeasured as reason:
            why = str(reason)
        except FAILURES as failure:   # what has been measured is not lost
            why = f"failed: {failure}"
        report.mark_far(samples)
        for row, way in group:
            results.append(report.result(row, way, [sample for sample in samples if sample.row is row], bench.why_failed(row) or why))
            print(f"\n{report.text(results[-1])}", flush=True)
    return results


def main():
    arguments, numbers = parse()
    if arguments.list:
        for row in rows.ROWS:
            print(f"{row.number:2}  {row.title} ({row.unit.name}; {' or '.join(way.conditions for way in row.ways)})")
        return 0
    chosen = choose(numbers, arguments)
    if not chosen:
        return 1
    about = environment(arguments)
    for name, value in about.items():
        print(f"{name:12} {', '.join(value) if isinstance(value, list) else value}")
    with Lab() as lab:
        results = measure(Bench(lab, arguments), sorted(chosen, key=lambda pair: str(type(pair[1]))))
    results.sort(key=lambda result: result.row.number)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps([report.json_object(result, about) for result in results], indent=1) + "\n")
    if arguments.chart:
        written = chart.write(arguments.chart, results, f"As a multiple of the best peer's figure, more is better ({about['processor']}, {about['commit']})")
        print("\n" + (", ".join(map(str, written)) if written else "no chart: no row with a peer"))
    return 1 if any(result.why_not.startswith("failed") for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
