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

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit, logit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Up to here a dense Cholesky factor is the fastest; beyond it memory grows with the comparisons only.
_DENSE_LIMIT = 100
_MAX_ITERATIONS = 100
_TOLERANCE = 1e-9  # Logits: the largest last step of a converged fit.
_HOPELESS_STRIDE = 1e6  # Logits: so long is a step only towards a solution that does not exist.
_DRIFT, _LEAST_GAIN = 0.1, 1e-8  # A step of so many logits that gains so little likelihood leads to none either.
_CG_TOLERANCE = 1e-3  # Relative; Newton corrects what an inexact step leaves.
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


@dataclass(frozen=True, slots=True)
class _Tally:
    """How often each winner beat each loser; every ordered pair stands once, every essay has a comparison.

    A comparison of an essay with itself needs no case of its own: it adds a win and a loss, 1 to E, 1/2 to V.
    """

    n: int
    winner: IntArray
    loser: IntArray
    count: FloatArray

    @property
    def wins(self) -> FloatArray:
        return np.bincount(self.winner, self.count, self.n).astype(np.float64)

    @property
    def comparisons(self) -> FloatArray:
        return self.over_essays(self.count, self.count)

    def over_essays(self, of_winner: FloatArray, of_loser: FloatArray) -> FloatArray:
        """Sum what each row gives to its winner and to its loser, (rows,) to (n,)."""
        won, lost = np.bincount(self.winner, of_winner, self.n), np.bincount(self.loser, of_loser, self.n)
        return np.asarray(won + lost, np.float64)


@dataclass(frozen=True, slots=True)
class _Components:
    count: int
    label: IntArray

    def total(self, values: FloatArray) -> FloatArray:
        """Give every essay the sum over its component."""
        return np.bincount(self.label, values, self.count).astype(np.float64)[self.label]

    def centred(self, values: FloatArray) -> FloatArray:
        return values - self.total(values) / self.total(np.ones_like(values))


@dataclass(frozen=True, slots=True)
class _Moments:
    """What the model expects at some scores."""

    expected: FloatArray  # (n,) E
    information: FloatArray  # (n,) V
    upset: FloatArray  # (rows,) the probability that the loser would have won.
    row_information: FloatArray  # (rows,)


class _Solution(NamedTuple):
    scores: FloatArray
    iterations: int
    converged: bool


def fit(winners: IntArray, losers: IntArray, n: int, *, epsilon: float = 0.3) -> BradleyTerryFit:
    """Estimate the scores of `n` essays from (m,) winners' and (m,) losers' indices, each from 0 to n - 1.

    Raises ValueError naming the argument that is out of range; `epsilon` is in wins, above 0 and at most 0.5.
    """
    winners, losers = np.asarray(winners, np.int64), np.asarray(losers, np.int64)
    _check(winners, losers, n, epsilon)
    seen = np.bincount(winners, minlength=n) + np.bincount(losers, minlength=n) > 0
    position = np.cumsum(seen) - 1
    tally = _tally(position[winners], position[losers], int(seen.sum()))
    components = _components(tally)
    adjusted_wins = epsilon + (tally.comparisons - 2 * epsilon) / tally.comparisons * tally.wins
    solution = _solve(tally, components, adjusted_wins)
    if not solution.converged:
        solution = _solve(tally, components, _smoothed_wins(tally, epsilon))._replace(converged=False)
    return _report(seen, tally, components, solution)


def largest_change(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the largest absolute change over the essays scored in both (nan is no score); inf without any."""
    changes = [abs(after[essay] - before[essay]) for essay in before.keys() & after.keys()]
    return max((change for change in changes if not np.isnan(change)), default=float("inf"))


def _check(winners: IntArray, losers: IntArray, n: int, epsilon: float) -> None:
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if not 0 < epsilon <= _MAX_EPSILON:
        raise ValueError(f"epsilon must be above 0 and at most {_MAX_EPSILON}, got {epsilon}")
    if winners.ndim != 1 or winners.shape != losers.shape:
        raise ValueError(f"winners and losers must be equally long, got {winners.shape} and {losers.shape}")
    essays = np.concatenate((winners, losers))
    if essays.size and not (essays.min() >= 0 and essays.max() < n):
        raise ValueError(f"winners and losers must be indices from 0 to {n - 1}")


def _tally(winners: IntArray, losers: IntArray, n: int) -> _Tally:
    pairs, counts = np.unique(winners * n + losers, return_counts=True)
    winner, loser = np.divmod(pairs, max(n, 1))
    return _Tally(n, winner, loser, counts.astype(np.float64))


def _components(tally: _Tally) -> _Components:
    graph = csr_array((tally.count, (tally.winner, tally.loser)), shape=(tally.n, tally.n))
    count, label = connected_components(graph, directed=False)
    return _Components(int(count), label.astype(np.int64))


def _smoothed_wins(tally: _Tally, epsilon: float) -> FloatArray:
    """Move epsilon / N (the mean over both essays) of each win to its loser: what the adjustment does for equal N.

    These wins add up to the number of comparisons and always have a finite solution.
    """
    per_essay = epsilon / tally.comparisons
    given = tally.count * (per_essay[tally.winner] + per_essay[tally.loser]) / 2
    return tally.over_essays(tally.count - given, given)


def _moments(tally: _Tally, scores: FloatArray) -> _Moments:
    lead = scores[tally.winner] - scores[tally.loser]
    upset = expit(-lead)
    won = tally.count * expit(lead)
    row_information = won * upset
    expected = tally.over_essays(won, tally.count * upset)
    return _Moments(expected, tally.over_essays(row_information, row_information), upset, row_information)


def _solve(tally: _Tally, components: _Components, adjusted_wins: FloatArray) -> _Solution:
    """Newton's method on s - E - c V, with c V held fixed within a step.

    Where essays hang on single comparisons there may be no finite solution: scores drift apart without end. That
    is noticed and reported as not converged.
    """
    newton_step = _step_solver(tally, components)
    scores = components.centred(logit(adjusted_wins / tally.comparisons) / 2)
    for iteration in range(1, _MAX_ITERATIONS + 1):
        moments = _moments(tally, scores)
        gap = _gap(components, adjusted_wins, moments)
        step = components.centred(newton_step(moments, gap))
        stride = float(np.max(np.abs(step[tally.winner] - step[tally.loser]), initial=0.0))
        if stride > _HOPELESS_STRIDE or (stride > _DRIFT and gap @ step < _LEAST_GAIN):
            break
        scores = scores + _damping(stride) * step
        if np.max(np.abs(step), initial=0.0) <= _TOLERANCE:
            return _Solution(scores, iteration, converged=True)
    return _Solution(scores, iteration, converged=False)


def _gap(components: _Components, adjusted_wins: FloatArray, moments: _Moments) -> FloatArray:
    """Return s - E - c V, centred so that what rounding leaves still adds up to 0 in each component."""
    missing = adjusted_wins - moments.expected
    surplus = components.total(missing) / components.total(moments.information)
    return components.centred(missing - surplus * moments.information)


def _damping(stride: float) -> float:
    """Shorten a Newton step that changes the difference of two compared essays by up to `stride`.

    The log-likelihood is generalised self-concordant, so it always gains (Sun and Tran-Dinh 2019, case nu = 2).
    """
    return float(np.log1p(stride)) / stride if stride > 0 else 1.0


def _step_solver(tally: _Tally, components: _Components) -> Callable[[_Moments, FloatArray], FloatArray]:
    """Return what solves L step = gap, where L is the graph's Laplacian with p (1 - p) as weights."""
    if tally.n <= _DENSE_LIMIT:
        return lambda moments, gap: _dense_step(tally, components, moments, gap)
    rows = np.arange(tally.count.size)
    places = np.concatenate((rows, rows)), np.concatenate((tally.winner, tally.loser))
    incidence = csr_array((np.repeat([1.0, -1.0], rows.size), places), shape=(rows.size, tally.n))
    transposed = incidence.T.tocsr()
    return lambda moments, gap: _sparse_step(incidence, transposed, moments, gap)


def _dense_step(tally: _Tally, components: _Components, moments: _Moments, gap: FloatArray) -> FloatArray:
    """Solve by Cholesky; a constant block for each component lifts the directions that L leaves free."""
    laplacian = np.zeros((tally.n, tally.n))
    laplacian[tally.winner, tally.loser] -= moments.row_information
    laplacian[tally.loser, tally.winner] -= moments.row_information
    np.fill_diagonal(laplacian, 0.0)
    np.fill_diagonal(laplacian, -laplacian.sum(axis=1))
    lift = components.total(moments.information) / components.total(np.ones(tally.n)) ** 2
    laplacian += np.where(components.label[:, None] == components.label, lift, 0.0)
    return np.asarray(cho_solve(cho_factor(laplacian, lower=True), gap), np.float64)


def _sparse_step(incidence: csr_array, transposed: csr_array, moments: _Moments, gap: FloatArray) -> FloatArray:
    """Solve by conjugate gradients, preconditioned by V; memory grows with the pairs only."""

    def laplacian(scores: FloatArray) -> FloatArray:
        return np.asarray(transposed @ (moments.row_information * (incidence @ scores)))

    shape = (gap.size, gap.size)
    operator = LinearOperator(shape, matvec=laplacian, dtype=np.float64)
    preconditioner = LinearOperator(shape, matvec=lambda x: x / moments.information, dtype=np.float64)
    return np.asarray(cg(operator, gap, rtol=_CG_TOLERANCE, maxiter=gap.size, M=preconditioner)[0])


def _report(seen: NDArray[np.bool_], tally: _Tally, components: _Components, solution: _Solution) -> BradleyTerryFit:
    moments = _moments(tally, solution.scores)
    infit, outfit = _misfit(tally, moments)
    errors = 1 / np.sqrt(moments.information)
    ssr, separation = _reliability(solution.scores, errors, components.count)
    return BradleyTerryFit(
        scores=_placed(seen, solution.scores, np.nan),
        standard_errors=_placed(seen, errors, np.nan),
        infit=_placed(seen, infit, np.nan),
        outfit=_placed(seen, outfit, np.nan),
        comparisons=_placed(seen, tally.comparisons, 0).astype(np.int64),
        wins=_placed(seen, tally.wins, 0),
        component=_placed(seen, components.label.astype(np.float64), -1).astype(np.int64),
        component_count=components.count,
        ssr=ssr,
        separation=separation,
        iterations=solution.iterations,
        converged=solution.converged,
    )


def _misfit(tally: _Tally, moments: _Moments) -> tuple[FloatArray, FloatArray]:
    """Return infit and outfit; winner and loser of a comparison have the same residual but for its sign."""
    squared = tally.count * moments.upset**2
    standardised = squared * tally.count / moments.row_information
    infit = tally.over_essays(squared, squared) / moments.information
    return infit, tally.over_essays(standardised, standardised) / tally.comparisons


def _reliability(scores: FloatArray, errors: FloatArray, component_count: int) -> tuple[float, float]:
    """Return SSR and separation; across components the variance of the scores means nothing."""
    if component_count != 1 or scores.size == 1:
        return np.nan, np.nan
    error, spread = float(np.mean(errors**2)), float(np.var(scores, ddof=1))
    return (1 - error / spread if spread > _ROUNDING * error else np.nan), float(np.sqrt(spread / error))


def _placed(seen: NDArray[np.bool_], values: FloatArray, missing: float) -> FloatArray:
    """Put the values of the essays with comparisons back among all essays, (seen,) to (n,)."""
    every = np.full(seen.size, missing, np.float64)
    every[seen] = values
    return every
