"""Who beat whom how often, in a table for few essays and by pairs for many, and what the Bradley-Terry model makes of it.

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
_FARTHEST = 700.0  # Logits: exp of more than 709 overflows.
_LOOSEST, _BY_STRIDE = 0.1, 0.1


class Moments(NamedTuple):
    """What the model expects at some scores."""

    expected: FloatArray  # (n,) E, the sum of p over an essay's comparisons.
    information: FloatArray  # (n,) V, the sum of p (1 - p).
    weights: FloatArray  # p (1 - p) by pair, in the order of the outcomes.


class Misfit(NamedTuple):
    """Sums over an essay's comparisons; both essays of a comparison have the same residual but for its sign."""

    squared: FloatArray  # (n,) of the squared residuals.
    standardised: FloatArray  # (n,) of the squared residuals, each over its p (1 - p).


class Components(NamedTuple):
    """Groups of essays that comparisons join; only within one do scores have a common scale."""

    count: int
    label: IntArray

    def total(self, values: FloatArray) -> FloatArray | float:
        """Give every essay the sum over its component."""
        if self.count == 1:
            return float(values.sum())
        return np.bincount(self.label, values, self.count)[self.label]

    def size(self) -> FloatArray | float:
        if self.count == 1:
            return float(self.label.size)
        return np.bincount(self.label)[self.label].astype(np.float64)

    def centred(self, values: FloatArray) -> FloatArray:
        return values - self.total(values) / self.size()


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

    def tolerance(self, stride: float) -> float:
        """Return how inexact, relatively, a Newton step may be when the one before went so far; 0 is exact."""

    def newton_step(self, moments: Moments, gap: FloatArray, tolerance: float) -> FloatArray:
        """Return the change of scores that would raise the expected wins by `gap` if they were linear."""

    def misfit(self, scores: FloatArray) -> Misfit: ...


def count_outcomes(winners: IntArray, losers: IntArray, n: int) -> Outcomes:
    """Count the comparisons of `n` essays, each of which must have one."""
    return OutcomeTable.of(winners, losers, n) if n <= _DENSE_LIMIT else OutcomePairs.of(winners, losers, n)


def odds_against(lead: FloatArray) -> FloatArray:
    """Return (1 - p) / p where p is the probability of winning with a lead of so many logits."""
    return np.exp(np.minimum(-lead, _FARTHEST))


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Few essays: how often row i beat column j, and how often the two met, both (n, n)."""

    beaten: FloatArray
    met: FloatArray
    wins: FloatArray
    comparisons: FloatArray
    components: Components

    @classmethod
    def of(cls, winners: IntArray, losers: IntArray, n: int) -> OutcomeTable:
        beaten = np.bincount(winners * n + losers, minlength=n * n).reshape(n, n).astype(np.float64)
        met = beaten + beaten.T
        return cls(beaten, met, beaten.sum(axis=1), met.sum(axis=1), _components_of_table(met))

    def over_opponents(self, values: FloatArray) -> FloatArray:
        return self.met @ values

    def beaten_less_beating(self, values: FloatArray) -> FloatArray:
        return self.beaten @ values - values @ self.beaten

    def moments(self, scores: FloatArray) -> Moments:
        chance = 1 / (1 + odds_against(np.subtract.outer(scores, scores)))
        weights = self.met * chance
        expected = weights.sum(axis=1)
        weights *= chance.T
        return Moments(expected, weights.sum(axis=1), weights)

    def stride(self, step: FloatArray) -> float:
        return float(np.max(np.abs(np.subtract.outer(step, step)), where=self.met > 0, initial=0.0))

    def tolerance(self, stride: float) -> float:  # noqa: ARG002  A dense factor is always exact.
        return 0.0

    def newton_step(self, moments: Moments, gap: FloatArray, tolerance: float) -> FloatArray:  # noqa: ARG002  As above.
        return solve_dense(moments.weights, moments.information, gap, self._lift(moments.information))

    def _lift(self, information: FloatArray) -> FloatArray | float:
        """Give each component the mean entry that its diagonal matrix of information has."""
        components = self.components
        lift = components.total(information) / components.size() ** 2
        return lift if components.count == 1 else np.equal.outer(components.label, components.label) * lift

    def misfit(self, scores: FloatArray) -> Misfit:
        against = odds_against(np.subtract.outer(scores, scores))
        standardised = self.beaten * against
        squared = self.beaten * (1 / (1 + against)).T ** 2
        return Misfit(squared.sum(axis=0) + squared.sum(axis=1), standardised.sum(axis=0) + standardised.sum(axis=1))


def _components_of_table(met: FloatArray) -> Components:
    label, count = np.full(len(met), -1), 0
    while label.size and label.min() < 0:
        label[_reached(met, int(label.argmin()))] = count
        count += 1
    return Components(count, label)


def _reached(met: FloatArray, essay: int) -> NDArray[np.bool_]:
    """Return which essays a chain of comparisons joins to `essay`."""
    reached, before = met[essay] > 0, 0
    reached[essay] = True
    while (now := np.count_nonzero(reached)) > before:
        reached, before = (met @ reached > 0) | reached, now
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

    def over_opponents(self, values: FloatArray) -> FloatArray:
        return self.pairs @ values + self.pairs.T @ values

    def beaten_less_beating(self, values: FloatArray) -> FloatArray:
        return self.pairs @ values - self.pairs.T @ values

    def moments(self, scores: FloatArray) -> Moments:
        chance = 1 / (1 + odds_against(scores[self.winner] - scores[self.loser]))
        won = self.count * chance
        lost = self.count - won
        weights = lost * chance
        return Moments(self._over_essays(won, lost), self._over_essays(weights, weights), weights)

    def _over_essays(self, of_winner: FloatArray, of_loser: FloatArray) -> FloatArray:
        """Sum what each pair gives to its winner and to its loser, (pairs,) to (n,)."""
        n = self.pairs.shape[0]
        return np.bincount(self.winner, of_winner, n) + np.bincount(self.loser, of_loser, n)

    def stride(self, step: FloatArray) -> float:
        return float(np.max(np.abs(step[self.winner] - step[self.loser])))

    def tolerance(self, stride: float) -> float:
        return min(_LOOSEST, _BY_STRIDE * stride)

    def newton_step(self, moments: Moments, gap: FloatArray, tolerance: float) -> FloatArray:
        weights = csr_array((moments.weights, self.pairs.indices, self.pairs.indptr), shape=self.pairs.shape)
        return solve_sparse(weights, moments.information, gap, tolerance)

    def misfit(self, scores: FloatArray) -> Misfit:
        against = odds_against(scores[self.winner] - scores[self.loser])
        standardised = self.count * against
        squared = self.count * (1 / (1 + 1 / against)) ** 2
        return Misfit(self._over_essays(squared, squared), self._over_essays(standardised, standardised))
