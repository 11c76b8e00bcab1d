"""A picture of the rows that have a peer: each device's figure as a multiple of the best peer's, with target and moonshot. SVG, and PNG by rsvg-convert."""

import math
import pathlib
import subprocess
from xml.sax.saxutils import escape

from tests.bench.devices import OURS

COLOURS = {OURS: "#c0392b", "nginx": "#2e7d32", "haproxy": "#1565c0", "hitch": "#8e6c00"}
OTHER = "#888888"
LEFT, RIGHT, TOP, LINE, BOTTOM, WIDTH = 440, 40, 70, 34, 40, 1040
SIZES = ((60, 12), (78, 10), (1000, 8.5))   # of a title: up to so many letters, so large


def multiples(result):
    """By device, of the best peer's figure; more is better whatever the row counts. Empty without ours or a peer."""
    best = result.best_peer()
    if best is None or OURS not in result.figures:
        return {}
    base = result.figures[best].median
    found = {name: (base / of.median if result.row.unit.less_is_better else of.median / base) for name, of in result.figures.items() if of.median > 0}
    return found if base > 0 else {}


class Axis:
    """Logarithmic, by powers of two, as wide as what is on it."""

    def __init__(self, values):
        self.low = math.floor(math.log2(min([*values, 0.5])))
        self.high = math.ceil(math.log2(max([*values, 2])))

    def at(self, value):
        return LEFT + (math.log2(value) - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)

    def ticks(self):
        return [2.0 ** power for power in range(self.low, self.high + 1)]


def svg(results, caption):
    """The picture's text; None without a row to show."""
    shown = [(result, found) for result in results if (found := multiples(result))]
    if not shown:
        return None
    wanted = {id(result): {name: ratio for name in ("target", "moonshot") if (ratio := result.row.wanted_ratio(getattr(result.row, name)))} for result, _ in shown}
    axis = Axis([value for result, found in shown for value in [*found.values(), *wanted[id(result)].values()]])
    bottom = TOP + LINE * len(shown)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + BOTTOM}" font-family="DejaVu Sans, sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>', f'<text x="16" y="24" font-size="15">{escape(caption)}</text>']
    for value in axis.ticks():
        out.append(f'<line x1="{axis.at(value):.1f}" x2="{axis.at(value):.1f}" y1="{TOP}" y2="{bottom}" stroke="{"#444" if value == 1 else "#ddd"}"/>'
                   f'<text x="{axis.at(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}x</text>')
    legend = dict.fromkeys(name for _, found in shown for name in found)
    for place, name in enumerate(legend):
        x = 16 + 150 * place
        out.append(f'<circle cx="{x + 5}" cy="46" r="5" fill="{COLOURS.get(name, OTHER)}"/><text x="{x + 16}" y="50">{escape(name)}</text>')
    x = 16 + 150 * len(legend)
    out.append(f'<text x="{x}" y="50">|  target    ¦  moonshot</text>')
    for place, (result, found) in enumerate(shown):
        y = TOP + LINE * place + LINE / 2
        title = f"{result.row.number}: {result.row.title}"
        out.append(f'<text x="16" y="{y + 4:.1f}" font-size="{next(size for letters, size in SIZES if len(title) <= letters)}">{escape(title)}</text>')
        for name, value in wanted[id(result)].items():
            dashes = ' stroke-dasharray="4 3"' if name == "moonshot" else ""
            out.append(f'<line x1="{axis.at(value):.1f}" x2="{axis.at(value):.1f}" y1="{y - 12:.1f}" y2="{y + 12:.1f}" stroke="black" stroke-width="2"{dashes}/>')
        for name, value in sorted(found.items(), key=lambda item: item[0] == OURS):   # ours on top
            out.append(f'<circle cx="{axis.at(value):.1f}" cy="{y:.1f}" r="{7 if name == OURS else 5}" fill="{COLOURS.get(name, OTHER)}"/>')
    return "\n".join([*out, "</svg>", ""])


def write(path, results, caption):
    """PATH.svg and PATH.png; returns what was written."""
    picture = svg(results, caption)
    if picture is None:
        return []
    files = [pathlib.Path(f"{path}.svg"), pathlib.Path(f"{path}.png")]
    files[0].write_text(picture)
    subprocess.run(["rsvg-convert", "--output", files[1], files[0]], check=True)
    return files
