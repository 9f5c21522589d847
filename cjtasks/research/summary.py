"""Means over sessions, each with its Monte-Carlo error."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cjtasks.research.measures import Measures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cjtasks.domain.votes import FloatArray
    from cjtasks.research.designs import DesignName
    from cjtasks.research.simulation import Stopped

_RESAMPLES = 400


class Estimate(NamedTuple):
    """A mean over the sessions that define the quantity, and its standard error; nan where they are too few."""

    mean: float
    error: float


def estimate(values: FloatArray) -> Estimate:
    """Return mean and error of (sessions,) values; those that are nan are left out."""
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if defined.size else np.nan
    error = float(defined.std(ddof=1) / np.sqrt(defined.size)) if defined.size > 1 else np.nan
    return Estimate(mean, error)


def summarise(sessions: Sequence[Measures]) -> dict[str, Estimate]:
    """Return the estimate of each measure by its name."""
    names = [field.name for field in fields(Measures)]
    values = np.array([astuple(session) for session in sessions], np.float64).reshape(-1, len(names))
    return {name: estimate(column) for name, column in zip(names, values.T, strict=True)}


@dataclass(frozen=True, slots=True)
class Row:
    """What sessions of one design led to, at one number of comparisons an essay or where the stop rule ended them."""

    design: DesignName
    sessions: int
    estimates: dict[str, Estimate]  # By the names of `Measures`, and "stopped": the share that reached the target.


def rows_at(design: DesignName, sessions: Sequence[Sequence[Measures]]) -> list[Row]:
    """Summarise what `simulation.measured_at` returned for each session, one row for each of its scorings."""
    return [Row(design, len(sessions), summarise(scorings)) for scorings in zip(*sessions, strict=True)]


def row_when_stopped(design: DesignName, sessions: Sequence[Stopped]) -> Row:
    """Summarise what `simulation.measured_when_stopped` returned for each session."""
    stopped = estimate(np.array([session.reliable for session in sessions], np.float64))
    measured = summarise([session.measures for session in sessions])
    return Row(design, len(sessions), {"stopped": stopped} | measured)


def equal_cost(per_essay: FloatArray, baseline: FloatArray, reached: float) -> float:
    """Return at how many comparisons an essay the baseline is as accurate as `reached`; nan outside its range.

    `per_essay` (costs,) rises, `baseline` (costs,) is its mean accuracy at each. Between costs it is interpolated
    linearly; a dip can only be chance and is lifted to the best accuracy before it.
    """
    rising = np.maximum.accumulate(baseline)
    if not rising[0] <= reached <= rising[-1]:
        return np.nan
    return float(np.interp(reached, rising, per_essay))


def equal_cost_estimate(
    per_essay: FloatArray, baseline: FloatArray, reached: FloatArray, rng: np.random.Generator
) -> Estimate:
    """Return `equal_cost` of the means over sessions, with its error by the bootstrap over sessions.

    `baseline` is (sessions, costs) and `reached` (sessions,), the same sessions in both: they are drawn together.
    """
    drawn = rng.integers(len(reached), size=(_RESAMPLES, len(reached)))
    costs = np.array(
        [equal_cost(per_essay, baseline[rows].mean(axis=0), float(reached[rows].mean())) for rows in drawn]
    )
    whole = equal_cost(per_essay, baseline.mean(axis=0), float(reached.mean()))
    inside = costs[~np.isnan(costs)]
    return Estimate(whole, float(inside.std(ddof=1)) if inside.size > 1 else np.nan)
