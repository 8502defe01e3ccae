"""Curves of one or two runs by step, as SVG: the same axes for both, told apart by more than their colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

LEFT, TOP, WIDTH, HEIGHT = 46, 8, 268, 104  # of the plot; labels stand left of and below it
SMOOTHED = 20  # a bold line is the mean over this share of a curve's points
PANELS = {  # a curve's name: title, and whether its axis is logarithmic
    "loss_clean": ("Loss, clean images", True),
    "loss_poisoned": ("Loss, poisoned images", True),
    "success": ("Became the target", False),
}
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Axes:
    """From values to places: steps 0 to last, values low to high, logarithmic or not."""

    last: int
    low: float
    high: float
    log: bool

    def place(self, step: int, value: float) -> tuple[float, float]:
        """x and y in the picture."""
        scale = math.log if self.log else float
        low, high = scale(self.low), scale(self.high)
        share = (scale(value) - low) / (high - low) if high > low else 0.5
        return LEFT + WIDTH * step / self.last, TOP + HEIGHT * (1 - share)

    def label(self, value: float) -> str:
        """A value as its axis writes it."""
        return f"{value:.2g}" if self.log else f"{value:.0%}"

    @property
    def marks(self) -> list[float]:
        """Values with a line and a label: the ends and the middle."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [self.low, middle, self.high]


def panels(runs: list[dict[str, Any]]) -> str:
    """A panel for each curve that at least one of the runs has; the first run is A, the second B."""
    last = max([run["total"] for run in runs] + [1])
    drawn = "".join(
        _panel(name, [run["curves"][name] for run in runs], last)
        for name in PANELS
        if any(run["curves"][name] for run in runs)
    )
    if not drawn:
        return '<p class="soft">Curves come with the first logged steps.</p>'
    return f'<div class="curves">{drawn}</div>'


def _panel(name: str, curves: list[Points], last: int) -> str:
    title, log = PANELS[name]
    values = [value for points in curves for _, value in points]
    axes = Axes(last, min(values), max(values), True) if log else Axes(last, 0, 1, False)
    lines = "".join(_curve(points, axes, slot) for points, slot in zip(curves, "ab", strict=False) if points)
    ends = _ends(curves, axes, named=len(curves) > 1)
    height = TOP + HEIGHT + 20
    return (
        f'<figure class="panel"><figcaption><b>{escape(title)}</b> <span>{ends}</span></figcaption>'
        f'<svg viewBox="0 0 {LEFT + WIDTH + 8} {height}" role="img" aria-label="{escape(title)} by step: {ends}">'
        f"{_grid(axes)}{lines}</svg></figure>"
    )


def _ends(curves: list[Points], axes: Axes, named: bool) -> str:
    """The last value of each curve."""
    said = (f"{points[-1][1]:.4f}" if axes.log else f"{points[-1][1]:.0%}" for points in curves if points)
    slots = (slot for points, slot in zip(curves, "AB", strict=False) if points)
    return " · ".join(f"{slot} {end}" if named else end for slot, end in zip(slots, said, strict=True))


def _grid(axes: Axes) -> str:
    lines = ""
    for value in axes.marks:
        _, y = axes.place(0, value)
        lines += f'<path d="M{LEFT} {y:.1f}h{WIDTH}"/>'
        lines += f'<text class="value" x="{LEFT - 6}" y="{y + 3.5:.1f}">{axes.label(value)}</text>'
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x, y = LEFT + WIDTH * share, TOP + HEIGHT + 15
        lines += f'<text x="{x}" y="{y}" text-anchor="{anchor}">{round(axes.last * share):,}</text>'
    return f'<g class="grid">{lines}</g>'


def _curve(points: Points, axes: Axes, slot: str) -> str:
    """Few points as marks on a line; many as a faint line, with their running mean in bold."""
    places = [axes.place(*point) for point in points]
    if not axes.log:
        return _line(places, f"mean {slot}") + "".join(_mark(x, y, slot) for x, y in places)
    mean = [axes.place(*point) for point in running_mean(points)]
    return _line(places, f"each {slot}") + _line(mean, f"mean {slot}")


def _line(places: list[tuple[float, float]], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'


def _mark(x: float, y: float, slot: str) -> str:
    """A disc for A, a square for B."""
    if slot == "a":
        return f'<circle class="{slot}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    return f'<rect class="{slot}" x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4"/>'


def running_mean(points: Points) -> list[tuple[int, float]]:
    """Each value as the mean of the last few, which is what a noisy loss says."""
    reach = max(1, len(points) // SMOOTHED)
    values = [value for _, value in points]
    return [
        (step, sum(values[max(0, k + 1 - reach) : k + 1]) / min(reach, k + 1))
        for k, (step, _) in enumerate(points)
    ]
