"""What a row of the benchmark is, and one measurement of it."""

import dataclasses
import re

from tests.bench.accounting import Cores


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a figure counts. `less_is_better`: ratios are the peer's figure over ours."""
    name: str
    less_is_better: bool = False


GIGABITS = Unit("Gb a core-second")
REQUESTS = Unit("k requests a core-second")
CONNECTIONS = Unit("k connections a core-second")
DEVICE_BUSY = "device busy %"   # a detail of samples


@dataclasses.dataclass(frozen=True)
class Row:
    """`ways`: how it can be measured, the one that is taken unless another is asked for first. Each is an object with a function
    `measure(bench, rows)`, which yields samples of all rows that are measured that way, and the text `conditions`.
    `target` and `moonshot`: "2.5x" is a ratio to the best peer, anything else is in words."""
    number: int
    title: str
    unit: Unit
    target: str
    moonshot: str
    ways: tuple

    def wanted_ratio(self, text):
        """2.5 of "2.5x"; None where the row wants no ratio."""
        match = re.match(r"([\d.]+)x", text)
        return float(match.group(1)) if match else None


@dataclasses.dataclass
class Sample:
    """One device, measured once. `details`: further numbers, named with their unit. `disturbed`: something else had too much of the machine."""
    row: Row
    device: str
    value: float            # in the row's unit
    round: int
    details: dict = dataclasses.field(default_factory=dict)
    disturbed: bool = False
    cores: Cores = Cores()


class NotMeasured(Exception):
    """Says why a row cannot be measured here."""
