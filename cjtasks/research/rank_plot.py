"""The geometry of the rank plot: each essay's score with its 95 % interval, in the units of an SVG picture.

Up to some sixty essays each has a line of its own with its name; more stand side by side without names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.research.tables import EssayRow

_NAMED_UP_TO = 60
_LONGEST_NAME = 24  # Letters.
_MOST_STROKES = 400  # More could not be seen apart.

_WIDTH, _NAMES = 820.0, 170.0  # Of the picture, and of the names in it.
_LINE, _HEAD = 22.0, 24.0  # Heights of an essay's line and of the axis above the lines.
_CROWD_HEIGHT, _CROWD_LEFT = 380.0, 36.0
_HALF_WIDTH = 1.96
_STEPS = (0.5, 1.0, 2.0, 5.0, 10.0)


class Tick(NamedTuple):
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One essay; x positions of its score and of its interval."""

    label: str
    told: str
    y: float
    at: float
    low: float
    high: float
    misfit: bool
    group: int


@dataclass(frozen=True, slots=True)
class NamedPlot:
    """A line for each essay, best on top."""

    height: float
    ticks: list[Tick]
    lines: list[Line]
    width: float = _WIDTH
    left: float = _NAMES
    top: float = _HEAD
    line: float = _LINE


@dataclass(frozen=True, slots=True)
class CrowdedPlot:
    """A stroke for each essay, best on the left; paths as SVG writes them."""

    ticks: list[Tick]
    intervals: str
    stroke: float  # The width of an interval.
    scores: str
    misfits: list[tuple[float, float, str]]  # Position and name of each.
    width: float = _WIDTH
    height: float = _CROWD_HEIGHT
    left: float = _CROWD_LEFT


class _Axis(NamedTuple):
    """A linear scale from logits to positions; `low` may be drawn beyond `high`, as y grows downwards."""

    least: float
    most: float
    low: float
    high: float

    def __call__(self, logits: float) -> float:
        return round(self.low + (logits - self.least) / (self.most - self.least) * (self.high - self.low), 1)

    def ticks(self) -> list[Tick]:
        step = next(step for step in _STEPS if (self.most - self.least) / step <= 9 or step == _STEPS[-1])
        values = np.arange(np.ceil(self.least / step), np.floor(self.most / step) + 1) * step
        return [Tick(self(value), f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0") for value in values]


def rank_plot(rows: Sequence[EssayRow]) -> NamedPlot | CrowdedPlot:
    """Draw rows that come best first; at least one."""
    least = min(row.posterior_mean - _HALF_WIDTH * row.posterior_sd for row in rows)
    most = max(row.posterior_mean + _HALF_WIDTH * row.posterior_sd for row in rows)
    room = (most - least) / 50 or 0.5
    if len(rows) <= _NAMED_UP_TO:
        return _named(rows, _Axis(least - room, most + room, _NAMES, _WIDTH))
    return _crowded(rows, _Axis(least - room, most + room, _CROWD_HEIGHT, 0.0))


def _named(rows: Sequence[EssayRow], axis: _Axis) -> NamedPlot:
    lines = [_line(row, _HEAD + (place + 0.5) * _LINE, axis) for place, row in enumerate(rows)]
    return NamedPlot(_HEAD + len(rows) * _LINE, axis.ticks(), lines)


def _line(row: EssayRow, y: float, axis: _Axis) -> Line:
    half = _HALF_WIDTH * row.posterior_sd
    label = row.id if len(row.id) <= _LONGEST_NAME else row.id[: _LONGEST_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
    told = f"{row.rank}. {row.id}: {row.posterior_mean:+.2f} \N{PLUS-MINUS SIGN} {half:.2f}"
    low, high = axis(row.posterior_mean - half), axis(row.posterior_mean + half)
    return Line(label, told, round(y, 1), axis(row.posterior_mean), low, high, row.misfit, row.group)


def _crowded(rows: Sequence[EssayRow], axis: _Axis) -> CrowdedPlot:
    spacing = (_WIDTH - _CROWD_LEFT) / len(rows)
    points = [
        (round(_CROWD_LEFT + (place + 0.5) * spacing, 1), axis(row.posterior_mean), row)
        for place, row in enumerate(rows)
    ]
    drawn = points[:: -(-len(rows) // _MOST_STROKES)]
    return CrowdedPlot(
        ticks=axis.ticks(),
        intervals="".join(_stroke(x, row, axis) for x, _, row in drawn),
        stroke=round(0.65 * (_WIDTH - _CROWD_LEFT) / len(drawn), 2),
        scores="M" + "L".join(f"{x} {y}" for x, y, _ in drawn),
        misfits=[(x, y, row.id) for x, y, row in points if row.misfit],
    )


def _stroke(x: float, row: EssayRow, axis: _Axis) -> str:
    half = _HALF_WIDTH * row.posterior_sd
    return f"M{x} {axis(row.posterior_mean - half)}V{axis(row.posterior_mean + half)}"
