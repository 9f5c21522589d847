"""Bradley-Terry scores with the epsilon adjustment, as comparative judgement reports them.

The model: essay i beats essay j with probability P_ij = 1 / (1 + exp(score_j - score_i)).

An essay that always wins (or loses) has no finite maximum likelihood score, so its wins are pulled to the
middle: with N_i comparisons and r_i wins, s_i = epsilon + (N_i - 2 epsilon) / N_i * r_i. The scores solve

    s_i - E_i = c V_i  for every essay,   E_i = sum of P_ij,   V_i = sum of P_ij (1 - P_ij)

over the essay's comparisons, with mean score 0. Where essays have unequal N_i the adjusted wins do not add up
to the number of comparisons; c = sum(s - E) / sum(V) spreads that surplus, and is 0 where all N_i are equal.
This is the fixed point of `btm` in the R package sirt, which the field uses.
Groups of essays that no chain of comparisons joins have no common scale: each has its own mean 0 and its own c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cjtasks.domain.newton import EPSILON, adjusted, solve
from cjtasks.domain.outcomes import check_indices, count_outcomes, odds_against

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cjtasks.domain.newton import Solution
    from cjtasks.domain.outcomes import Outcomes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ROUNDING = 10 * float(np.finfo(np.float64).eps)
_MAX_EPSILON = 0.5


@dataclass(frozen=True, slots=True)
class BradleyTerryFit:
    """Scores and their statistics, in the order of the essays' indices; nan for an essay without comparisons."""

    scores: FloatArray  # (n,) logits, mean 0 within each component.
    standard_errors: FloatArray  # (n,) logits, 1 / sqrt(V_i): the other scores are held fixed.
    infit: FloatArray  # (n,) squared residuals over their expectation.
    outfit: FloatArray  # (n,) mean squared standardised residual.
    comparisons: IntArray  # (n,) one with itself counts twice, as a win and a loss.
    wins: FloatArray  # (n,)
    component: IntArray  # (n,) which group of joined essays it is in; -1 without comparisons.
    component_count: int  # Scores may be compared only within a component.
    ssr: float  # 1 - mean(se^2) / var(score); nan unless there is one component and its scores differ.
    separation: float  # sqrt(var(score) / mean(se^2)); nan unless there is one component of two or more.
    iterations: int
    converged: bool  # If not, the equations have no finite solution; the scores are those of smoothed wins.


class JudgeFit(NamedTuple):
    """How well each judge's decisions agree with the scores, in the order of the judges' indices.

    Infit and outfit are near 1 where a judge errs as often as the model expects, and above where more often.
    """

    infit: FloatArray  # (judges,) squared residuals over their expectation; nan without decisions.
    outfit: FloatArray  # (judges,) mean squared standardised residual; nan without decisions.
    comparisons: IntArray  # (judges,)


def fit(winners: IntArray, losers: IntArray, n: int, *, epsilon: float = EPSILON) -> BradleyTerryFit:
    """Estimate the scores of `n` essays from (m,) winners' and (m,) losers' indices, each from 0 to n - 1.

    Raises ValueError naming the argument that is out of range; `epsilon` is in wins, above 0 and at most 0.5.
    """
    winners, losers = np.asarray(winners, np.int64), np.asarray(losers, np.int64)
    _check(winners, losers, n, epsilon)
    seen = _seen(winners, losers, n)
    if seen.all():
        return _fit(winners, losers, n, epsilon)
    position = np.cumsum(seen) - 1
    return _placed(seen, _fit(position[winners], position[losers], int(position[-1]) + 1, epsilon))


def judge_fit(winners: IntArray, losers: IntArray, judges: IntArray, scores: FloatArray) -> JudgeFit:
    """Return the fit of each judge, from (m,) indices of winners, losers and judges and the essays' (n,) scores.

    Raises ValueError naming the argument that does not fit the others.
    """
    check_indices("winners and losers", winners, losers, scores.size)
    if judges.shape != winners.shape or judges.min(initial=0) < 0:
        raise ValueError(f"judges must be as many as winners and not negative, got {judges.shape}")
    against = odds_against(scores[losers] - scores[winners])
    chance = 1 / (1 + against)
    lost = against * chance
    comparisons = np.bincount(judges)
    expected = np.bincount(judges, chance * lost)
    with np.errstate(invalid="ignore"):
        infit = np.bincount(judges, lost * lost) / expected
        return JudgeFit(infit, np.bincount(judges, against) / comparisons, comparisons)


def largest_change(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the largest absolute change over the essays scored in both (nan is no score); inf without any."""
    changes = [abs(after[essay] - before[essay]) for essay in before.keys() & after.keys()]
    return max((change for change in changes if not np.isnan(change)), default=float("inf"))


def _check(winners: IntArray, losers: IntArray, n: int, epsilon: float) -> None:
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if not 0 < epsilon <= _MAX_EPSILON:
        raise ValueError(f"epsilon must be above 0 and at most {_MAX_EPSILON}, got {epsilon}")
    check_indices("winners and losers", winners, losers, n)


def _seen(winners: IntArray, losers: IntArray, n: int) -> NDArray[np.bool_]:
    seen = np.zeros(n, np.bool_)
    seen[winners] = True
    seen[losers] = True
    return seen


def _fit(winners: IntArray, losers: IntArray, n: int, epsilon: float) -> BradleyTerryFit:
    """Fit essays that all have comparisons."""
    outcomes = count_outcomes(winners, losers, n)
    solution = solve(outcomes, adjusted(outcomes.wins, outcomes.comparisons, epsilon))
    if not solution.converged:
        solution = solve(outcomes, _smoothed_wins(outcomes, epsilon))._replace(converged=False)
    return _report(outcomes, solution)


def _smoothed_wins(outcomes: Outcomes, epsilon: float) -> FloatArray:
    """Move epsilon / N (the mean over both essays) of each win to its loser: what the adjustment does for equal N.

    These wins add up to the number of comparisons and always have a finite solution.
    """
    share = epsilon / outcomes.comparisons
    losses = outcomes.comparisons - outcomes.wins
    given = share * (outcomes.wins - losses) + outcomes.beaten_less_beating(share)
    return outcomes.wins - given / 2


def _report(outcomes: Outcomes, solution: Solution) -> BradleyTerryFit:
    information, squared, standardised = outcomes.misfit(solution.scores)
    ssr, separation = _reliability(solution.scores, 1 / information, outcomes.components.count)
    return BradleyTerryFit(
        scores=solution.scores,
        standard_errors=1 / np.sqrt(information),
        infit=squared / information,
        outfit=standardised / outcomes.comparisons,
        comparisons=outcomes.comparisons.astype(np.int64),
        wins=outcomes.wins,
        component=outcomes.components.label,
        component_count=outcomes.components.count,
        ssr=ssr,
        separation=separation,
        iterations=solution.iterations,
        converged=solution.converged,
    )


def _reliability(scores: FloatArray, error_variances: FloatArray, component_count: int) -> tuple[float, float]:
    """Return SSR and separation; across components the variance of the scores means nothing."""
    if component_count != 1 or scores.size == 1:
        return np.nan, np.nan
    error, spread = float(error_variances.sum()) / scores.size, float(scores @ scores) / (scores.size - 1)
    return (1 - error / spread if spread > _ROUNDING * error else np.nan), (spread / error) ** 0.5


def _placed(seen: NDArray[np.bool_], fitted: BradleyTerryFit) -> BradleyTerryFit:
    """Put the essays that have comparisons back among all essays, (seen,) to (n,)."""

    def floats(values: FloatArray, missing: float) -> FloatArray:
        every = np.full(seen.size, missing)
        every[seen] = values
        return every

    def counts(values: IntArray, missing: int) -> IntArray:
        every = np.full(seen.size, missing)
        every[seen] = values
        return every

    return replace(
        fitted,
        scores=floats(fitted.scores, np.nan),
        standard_errors=floats(fitted.standard_errors, np.nan),
        infit=floats(fitted.infit, np.nan),
        outfit=floats(fitted.outfit, np.nan),
        comparisons=counts(fitted.comparisons, 0),
        wins=floats(fitted.wins, 0.0),
        component=counts(fitted.component, -1),
    )
