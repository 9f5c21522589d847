"""Who beat whom how often, and what the Bradley-Terry model makes of it: a table for few essays, pairs for many.

Essay i beats essay j with probability 1 / (1 + exp(score_j - score_i)). A comparison of an essay with itself needs no
case of its own: it adds a win and a loss, 1 to the expected wins and 1/2 to the information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from cjtasks.domain.laplacian import FloatArray, solve_dense, solve_sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

# Up to here a dense Cholesky factor is the fastest; beyond it memory grows with the comparisons only.
_DENSE_LIMIT = 150
_DENSE_STEP = 100  # Up to here the same holds for a single step of outcomes kept as pairs.
_FARTHEST = 700.0  # Logits: exp of more than 709 overflows.


class Moments(NamedTuple):
    """What the model expects at some scores."""

    expected: FloatArray  # (n,) E, the sum of p over an essay's comparisons.
    information: FloatArray  # (n,) V, the sum of p (1 - p).
    weights: FloatArray  # p (1 - p) by pair, in the order of the outcomes.


class Misfit(NamedTuple):
    """Sums over an essay's comparisons; both essays of a comparison have the same residual but for its sign."""

    information: FloatArray  # (n,) of p (1 - p), which is what a squared residual is expected to be.
    squared: FloatArray  # (n,) of the squared residuals.
    standardised: FloatArray  # (n,) of the squared residuals, each over its p (1 - p).


@dataclass(frozen=True, slots=True)
class Components:
    """Groups of essays that comparisons join; only within one do scores have a common scale."""

    count: int
    label: IntArray

    def total(self, values: FloatArray) -> FloatArray | float:
        """Give every essay the sum over its component."""
        if self.count == 1:
            return float(np.add.reduce(values))
        return np.asarray(np.bincount(self.label, values, self.count)[self.label], np.float64)

    def size(self) -> FloatArray | float:
        """Give every essay the number of essays in its component."""
        return float(self.label.size) if self.count == 1 else self.total(np.ones(self.label.size))

    def centred(self, values: FloatArray) -> FloatArray:
        return values - self.total(values) / self.size()

    def lift(self, information: FloatArray) -> FloatArray | float:
        """Give each component the mean entry that its diagonal matrix of information has: a number, or (n, n)."""
        lift = self.total(information) / self.size() ** 2
        return lift if self.count == 1 else np.equal.outer(self.label, self.label) * lift


class Outcomes(Protocol):
    """The comparisons of n essays, each of which has some."""

    @property
    def wins(self) -> FloatArray: ...

    @property
    def comparisons(self) -> FloatArray: ...

    @property
    def components(self) -> Components: ...

    def over_opponents(self, values: FloatArray) -> FloatArray:
        """Give every essay the sum of its opponents' values over its comparisons, (n,) to (n,)."""

    def beaten_less_beating(self, values: FloatArray) -> FloatArray:
        """Give every essay the sum of those it beat less the sum of those that beat it, (n,) to (n,)."""

    def moments(self, scores: FloatArray) -> Moments: ...

    def stride(self, step: FloatArray) -> float:
        """Return by how much a step changes the difference of two compared essays at most."""

    def newton_step(self, moments: Moments, gap: FloatArray, tolerance: float) -> FloatArray:
        """Return the change of scores that would raise the expected wins by `gap` if they were linear in the scores.

        The step may be inexact by about `tolerance`, relatively. Raises LinAlgError where rounding leaves no answer.
        """

    def misfit(self, scores: FloatArray) -> Misfit: ...


def check_indices(names: str, some: IntArray, others: IntArray, n: int) -> None:
    """Raise ValueError with `names` unless both arrays are (m,) indices from 0 to n - 1."""
    if some.ndim != 1 or some.shape != others.shape:
        raise ValueError(f"{names} must be equally long, got {some.shape} and {others.shape}")
    for essays in (some, others) if some.size else ():
        if essays.min() < 0 or essays.max() >= n:
            raise ValueError(f"{names} must be indices from 0 to {n - 1}")


def count_outcomes(winners: IntArray, losers: IntArray, n: int) -> Outcomes:
    """Count the comparisons of `n` essays, each of which must have one."""
    return OutcomeTable.of(winners, losers, n) if n <= _DENSE_LIMIT else OutcomePairs.of(winners, losers, n)


def odds_against(lag: FloatArray) -> FloatArray:
    """Return (1 - p) / p where p is the probability of winning from so many logits behind; `lag` is overwritten."""
    np.minimum(lag, _FARTHEST, out=lag)
    return np.exp(lag, out=lag)


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Few essays: how often row i beat column j, and how often the two met, both (n, n)."""

    beaten: FloatArray
    met: FloatArray
    wins: FloatArray
    comparisons: FloatArray
    components: Components
    each: FloatArray  # (n,) ones: a product with them is the fastest sum over rows of this size.

    @classmethod
    def of(cls, winners: IntArray, losers: IntArray, n: int) -> OutcomeTable:
        beaten = np.bincount(winners * n + losers, minlength=n * n).reshape(n, n).astype(np.float64)
        met, each = beaten + beaten.T, np.ones(n)
        return cls(beaten, met, beaten @ each, met @ each, _components_of_table(met), each)

    def over_opponents(self, values: FloatArray) -> FloatArray:
        return self.met @ values

    def beaten_less_beating(self, values: FloatArray) -> FloatArray:
        return self.beaten @ values - values @ self.beaten

    def moments(self, scores: FloatArray) -> Moments:
        against, each = self._odds_against(scores), self.each
        chance = 1 / (1 + against)
        weights = self.met * chance
        expected = weights @ each
        weights *= chance
        weights *= against
        return Moments(expected, weights @ each, weights)

    def _odds_against(self, scores: FloatArray) -> FloatArray:
        return odds_against(scores - scores[:, None])

    def stride(self, step: FloatArray) -> float:
        return float(np.max(np.abs(step - step[:, None]) * (self.met > 0)))

    def newton_step(self, moments: Moments, gap: FloatArray, tolerance: float) -> FloatArray:  # noqa: ARG002  Exact.
        return solve_dense(moments.weights, moments.information, gap, self.components.lift(moments.information))

    def misfit(self, scores: FloatArray) -> Misfit:
        against, each = self._odds_against(scores), self.each
        chance = 1 / (1 + against)
        upset = against * chance
        information = self.met * upset
        information *= chance
        standardised = self.beaten * against
        squared = self.beaten * upset
        squared *= upset
        return Misfit(information @ each, squared @ each + each @ squared, standardised @ each + each @ standardised)


def _components_of_table(met: FloatArray) -> Components:
    label, count = np.full(len(met), -1), 0
    while label.size and label.min() < 0:
        label[_reached(met, int(label.argmin()))] = count
        count += 1
    return Components(count, label)


def _reached(met: FloatArray, essay: int) -> NDArray[np.bool_]:
    """Return which essays a chain of comparisons joins to `essay`."""
    reached = np.asarray(met[essay] > 0)
    reached[essay] = True
    before = 0
    while before < (now := int(np.count_nonzero(reached))) < len(met):
        reached, before = np.asarray((met @ reached > 0) | reached), now
    return reached


@dataclass(frozen=True, slots=True)
class OutcomePairs:
    """Many essays: how often a winner beat a loser, (pairs,) each; every ordered pair stands once, by its winner."""

    winner: IntArray
    loser: IntArray
    count: FloatArray
    pairs: csr_array  # (n, n) the same counts.
    wins: FloatArray
    comparisons: FloatArray
    components: Components

    @classmethod
    def of(cls, winners: IntArray, losers: IntArray, n: int) -> OutcomePairs:
        pairs = csr_array((np.ones(winners.size), (winners, losers)), shape=(n, n))
        winner = np.repeat(np.arange(n), np.diff(pairs.indptr))
        count, label = connected_components(pairs, directed=False)
        components = Components(int(count), label.astype(np.int64))
        wins = np.bincount(winners, minlength=n).astype(np.float64)
        losses = np.bincount(losers, minlength=n)
        return cls(winner, pairs.indices.astype(np.int64), pairs.data, pairs, wins, wins + losses, components)

    @property
    def losses(self) -> FloatArray:
        return self.comparisons - self.wins

    def over_opponents(self, values: FloatArray) -> FloatArray:
        return np.asarray(self.pairs @ values + self.pairs.T @ values)

    def beaten_less_beating(self, values: FloatArray) -> FloatArray:
        return np.asarray(self.pairs @ values - self.pairs.T @ values)

    def moments(self, scores: FloatArray) -> Moments:
        against = self._odds_against(scores)
        chance = 1 / (1 + against)
        weights = self.count * chance
        won_by_winner, won_by_loser = self.over_essays(weights)
        weights *= chance
        weights *= against
        return Moments(won_by_winner - won_by_loser + self.losses, np.add(*self.over_essays(weights)), weights)

    def _odds_against(self, scores: FloatArray) -> FloatArray:
        lag = scores[self.loser]
        lag -= scores[self.winner]
        return odds_against(lag)

    def over_essays(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Sum (pairs,) values over the winners and over the losers, (n,) each."""
        n = self.wins.size
        won, lost = np.bincount(self.winner, values, n), np.bincount(self.loser, values, n)
        return np.asarray(won, np.float64), np.asarray(lost, np.float64)

    def stride(self, step: FloatArray) -> float:
        return float(np.max(np.abs(step[self.winner] - step[self.loser])))

    def newton_step(self, moments: Moments, gap: FloatArray, tolerance: float) -> FloatArray:
        weights = csr_array((moments.weights, self.pairs.indices, self.pairs.indptr), shape=self.pairs.shape)
        if gap.size <= _DENSE_STEP:
            half, lift = weights.toarray(), self.components.lift(moments.information)
            return solve_dense(half + half.T, moments.information, gap, lift)
        return self.components.centred(solve_sparse(weights, moments.information, gap, tolerance))

    def misfit(self, scores: FloatArray) -> Misfit:
        against = self._odds_against(scores)
        chance = 1 / (1 + against)
        upset = against * chance
        squared = self.count * upset
        information = np.add(*self.over_essays(squared * chance))
        squared *= upset
        against *= self.count
        return Misfit(information, np.add(*self.over_essays(squared)), np.add(*self.over_essays(against)))
