"""From samples to figures: medians, spread, ratios; as text and as JSON."""

import dataclasses
import statistics

from tests.bench.accounting import Nearness
from tests.bench.devices import OURS
from tests.bench.row import DEVICE_BUSY, Sample

PEER_BOUND = 90   # percent: a device that was less busy waited for clients or backends, and its raw rate says little
LEAST_CLEAN = 2   # rounds of each device that nothing disturbed; where one has fewer, all rounds of all count, and the figures say so


@dataclasses.dataclass
class Figure:
    """One device in one row, over its rounds."""
    median: float
    least: float
    most: float
    used: int
    rounds: int
    disturbed: bool     # the rounds that count were
    details: dict       # medians


@dataclasses.dataclass
class Result:
    """One row, measured one way. `figures` by device, ours first."""
    row: object
    way: object
    figures: dict
    why_not: str = ""   # it could not be measured, or not to the end

    @property
    def peers(self):
        return {name: figure for name, figure in self.figures.items() if name != OURS}

    def ratio(self, name):
        """How many times better than that peer we are; None without both, or where there is nothing to divide by."""
        if name not in self.peers or OURS not in self.figures:
            return None
        ours, theirs = self.figures[OURS].median, self.figures[name].median
        over, under = (theirs, ours) if self.row.unit.less_is_better else (ours, theirs)
        return over / under if under > 0 else None

    def best_peer(self):
        if not self.peers:
            return None
        best = min if self.row.unit.less_is_better else max
        return best(self.peers, key=lambda name: self.peers[name].median)

    def verdict(self):
        """Against the wanted ratio, where the row has one: "moonshot", "target", "below the target", or ""."""
        ratio, target, moonshot = self.ratio(self.best_peer()), *(self.row.wanted_ratio(text) for text in (self.row.target, self.row.moonshot))
        if ratio is None or target is None:
            return ""
        return "moonshot reached" if moonshot and ratio >= moonshot else "target reached" if ratio >= target else "below the target"


def mark_far(samples):
    """Marks the rounds as disturbed in which the host of a virtual machine had its cores far from each other, by the nearest that they were, or the device's
    slowed down by somebody else: then all that goes from core to core takes as many times longer, or all that is worked out, and whom that hits is chance."""
    nearness = Nearness()
    for sample in samples:
        nearness.near(sample.cores)
    for sample in samples:
        sample.disturbed |= not nearness.near(sample.cores)


def clean_ones(samples):
    return [sample for sample in samples if not sample.disturbed]


def figure(samples, others=()):
    """Of a device's samples. `others`: of the other devices', by device: one's undisturbed rounds are not held against another's disturbed ones."""
    clean = clean_ones(samples)
    used = clean if all(len(clean_ones(of)) >= min(LEAST_CLEAN, len(of)) for of in (samples, *others)) else samples
    values = [sample.value for sample in used]
    names = dict.fromkeys(name for sample in used for name in sample.details)
    details = {name: statistics.median(sample.details[name] for sample in used if name in sample.details) for name in names}
    return Figure(statistics.median(values), min(values), max(values), len(used), len(samples), used is not clean, details)


def result(row, way, samples: list[Sample], why_not=""):
    devices = sorted(dict.fromkeys(sample.device for sample in samples), key=lambda name: name != OURS)
    of = {name: [sample for sample in samples if sample.device == name] for name in devices}
    return Result(row, way, {name: figure(of[name], of.values()) for name in devices}, why_not)


def number(value):
    """Three digits that tell, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(result):
    row = result.row
    lines = [f"Row {row.number}: {row.title} ({row.unit.name}; target {row.target or 'none'}, moonshot {row.moonshot or 'none'})", f"  {result.way.conditions}"]
    if result.why_not:
        lines.append(f"  {'cut short' if result.figures else 'not measured'}: {result.why_not}")
    for name, of in result.figures.items():
        notes = f"{of.used} of {of.rounds} rounds" + (", the machine was disturbed" if of.disturbed else "")
        notes += ", peer-bound" if of.details.get(DEVICE_BUSY, 100) < PEER_BOUND else ""
        details = "; ".join(f"{what} {number(value)}" for what, value in of.details.items())
        lines.append(f"  {name:22} {number(of.median)} ({number(of.least)} to {number(of.most)}), {notes}" + (f"; {details}" if details else ""))
    for name in result.peers if OURS in result.figures else ():
        best = f", the best peer{result.verdict() and ': '}{result.verdict()}" if name == result.best_peer() else ""
        ratio = result.ratio(name)
        lines.append(f"  ratio to {name}: {'none' if ratio is None else f'{ratio:.2f}'}{best}")
    return "\n".join(lines)


def json_object(result, environment):
    """`spread`: least and most by device, ours among them."""
    row, ours = result.row, result.figures.get(OURS)
    return {"row": row.number, "name": row.title, "unit": row.unit.name, "ours": ours and ours.median, "peers": {name: of.median for name, of in result.peers.items()},
            "ratio": result.ratio(result.best_peer()), "target": row.target, "moonshot": row.moonshot,
            "spread": {name: [of.least, of.most] for name, of in result.figures.items()}, "conditions": result.way.conditions,
            "details": {name: of.details for name, of in result.figures.items()}, "rounds": {name: [of.used, of.rounds] for name, of in result.figures.items()},
            "disturbed": {name: of.disturbed for name, of in result.figures.items()}, "not_measured": result.why_not, "environment": environment}
