"""Normal distributions of scores given by what the pairs tell: the linear algebra of the posterior.

The precision of the scores is H = L + tau I: L is the Laplacian of the compared pairs, each with its weight, and
tau the precision of the prior. The covariance is H^-1 without the common mean of the scores, which no comparison
tells anything about: H^-1 - 1 / (n tau).

`DenseSpread` holds that matrix. `SampledSpread` needs memory for the pairs only: it draws from N(0, H^-1) by
solving H z = y for random y ~ N(0, H) (Papandreou and Yuille 2010), improves the variances of these draws by what
is known exactly given all other essays (Sidén, Lindgren, Bolin and Villani 2018), and finds log det H by stochastic
Lanczos quadrature (Ubaru, Chen and Saad 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.linalg.lapack import dposv, dpotrf, dpotri
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from cjtasks.domain.votes import FloatArray, IntArray, Pairs

_DENSE_SOLVE = 100  # Up to here a Cholesky factor is faster than conjugate gradients.
_TOLERANCE = 1e-5  # Relative residual of a draw: far below the chance in it.
_COLUMNS = 64  # Draws from which variances are estimated: their standard deviations are then within about 1 %.
_LANCZOS_STEPS = 40  # Exact to rounding for spectra as wide as those of 16 comparisons an essay.
_AT_ONCE = 100  # Draws made together, so that memory stays small.


@dataclass(frozen=True, slots=True)
class Information:
    """The precision H of the scores, not yet as a matrix."""

    pairs: Pairs
    weights: FloatArray  # (pairs,) at least 0.
    prior_precision: float  # tau, above 0.

    @property
    def diagonal(self) -> FloatArray:
        return self.pairs.over_essays(self.weights, self.weights) + self.prior_precision

    def lower(self) -> FloatArray:
        """Return H below and on its diagonal, (n, n), stored by columns as LAPACK wants it."""
        n = self.pairs.n
        matrix = np.zeros((n, n), order="F")
        matrix[self.pairs.high, self.pairs.low] = -self.weights
        np.fill_diagonal(matrix, self.diagonal)
        return matrix

    def sparse(self) -> csr_array:
        low, high, n = self.pairs.low, self.pairs.high, self.pairs.n
        essays = np.arange(n)
        values = np.concatenate((-self.weights, -self.weights, self.diagonal))
        rows, columns = np.concatenate((low, high, essays)), np.concatenate((high, low, essays))
        return csr_array((values, (rows, columns)), shape=(n, n))

    def solve(self, right: FloatArray, tolerance: float = _TOLERANCE) -> FloatArray:
        """Return H^-1 right for (n,) or (n, columns); `tolerance` bounds the residual relative to each column."""
        if self.pairs.n <= _DENSE_SOLVE:
            return np.asarray(dposv(self.lower(), right, lower=1, overwrite_a=1)[1].reshape(right.shape))
        columns = right.reshape(self.pairs.n, -1)
        return _conjugate_gradients(self, columns, tolerance).reshape(right.shape)


class Spread(Protocol):
    """How the scores of `n` essays vary around their mean, jointly normal."""

    @property
    def log_determinant(self) -> float:
        """Of H, the prior's share in the common mean included."""

    def times(self, vector: FloatArray) -> FloatArray:
        """Return the covariance times a vector that adds up to 0, (n,)."""

    def variances(self) -> FloatArray:
        """Return the variance of each score, (n,)."""

    def difference_variances(self, first: IntArray, second: IntArray) -> FloatArray:
        """Return the variance of the difference of each pair of different essays, (pairs,)."""

    def draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Return random deviations from the mean, (count, n)."""


@dataclass(frozen=True, slots=True)
class DenseSpread:
    """A spread as its whole covariance."""

    covariance: FloatArray  # (n, n), its rows add up to 0.
    log_determinant: float

    @classmethod
    def of(cls, information: Information) -> DenseSpread:
        n = information.pairs.n
        if n == 0:
            return cls(np.zeros((0, 0)), 0.0)
        factor, _ = dpotrf(information.lower(), lower=1, overwrite_a=1, clean=0)
        log_determinant = 2 * float(np.log(np.diag(factor)).sum())
        lower, _ = dpotri(factor, lower=1, overwrite_c=1)  # Zeros above the diagonal, as `lower` set them.
        lower[np.diag_indices(n)] /= 2
        return cls(lower + lower.T - 1 / (n * information.prior_precision), log_determinant)

    def times(self, vector: FloatArray) -> FloatArray:
        return np.asarray(self.covariance @ vector)

    def variances(self) -> FloatArray:
        return np.maximum(np.diag(self.covariance), 0.0)

    def difference_variances(self, first: IntArray, second: IntArray) -> FloatArray:
        variances = np.diag(self.covariance)
        return variances[first] + variances[second] - 2 * self.covariance[first, second]

    def draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Draw by a Cholesky factor; a constant put back for the missing direction is centred away again."""
        n = len(self.covariance)
        if n < 2:
            return np.zeros((count, n))
        lifted = self.covariance + np.trace(self.covariance) / n**2
        lifted[np.diag_indices(n)] *= 1 + n * np.finfo(np.float64).eps
        drawn = rng.standard_normal((count, n)) @ np.linalg.cholesky(lifted).T
        return np.asarray(drawn - drawn.mean(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard normal numbers, used again for every prior so that chance does not blur how priors compare."""

    of_pairs: FloatArray  # (pairs, columns)
    of_essays: FloatArray  # (n, columns)

    @classmethod
    def drawn(cls, pairs: Pairs, rng: np.random.Generator, columns: int = _COLUMNS) -> Noise:
        return cls(rng.standard_normal((pairs.low.size, columns)), rng.standard_normal((pairs.n, columns)))


@dataclass(frozen=True, slots=True)
class SampledSpread:
    """A spread known by draws, for so many essays that a whole covariance would not fit."""

    information: Information
    noise: Noise
    pull: FloatArray  # (n, columns) y ~ N(0, H), centred
    deviation: FloatArray  # (n, columns) H^-1 y, centred by that

    @classmethod
    def of(cls, information: Information, noise: Noise) -> SampledSpread:
        pull = _pull(information, noise)
        return cls(information, noise, pull, information.solve(pull))

    @property
    def log_determinant(self) -> float:
        """Split H = D^1/2 (I - N) D^1/2 with D its diagonal; in log det (I - N) only cubes of N are left to chance."""
        diagonal, pairs = self.information.diagonal, self.information.pairs
        squares = (self.information.weights**2 / (diagonal[pairs.low] * diagonal[pairs.high])).sum()
        values, shares = _spectrum(self.information, np.sign(self.noise.of_essays))
        rest = np.log(values) - (values - 1) + (values - 1) ** 2 / 2
        return float(np.log(diagonal).sum() - squares + pairs.n * (shares * rest).sum(axis=1).mean())

    @property
    def _common(self) -> float:
        """The variance of the common mean under H^-1, which the centred draws lack."""
        return 1 / (self.information.pairs.n * self.information.prior_precision)

    def times(self, vector: FloatArray) -> FloatArray:
        return self.information.solve(vector)

    def variances(self) -> FloatArray:
        """Add the variance given all other scores, 1 / H_ii, and that of the mean given them, from the draws."""
        given_others = 1 / self.information.diagonal
        mean_given_others = self.deviation - given_others[:, None] * self.pull
        missing = self._common * (1 - (1 - given_others * self.information.prior_precision) ** 2)
        return np.asarray(given_others + (mean_given_others**2).mean(axis=1) - missing)

    def difference_variances(self, first: IntArray, second: IntArray) -> FloatArray:
        """Do the same for two essays together: given all others, their precision is two rows of H."""
        a, b = (self.information.diagonal[essays] for essays in (first, second))
        weight = self._weights(first, second)
        determinant = a * b - weight**2
        of_first, of_second = (b - weight) / determinant, (a - weight) / determinant
        given_others = of_first[:, None] * self.pull[first] - of_second[:, None] * self.pull[second]
        mean_given_others = self.deviation[first] - self.deviation[second] - given_others
        return np.asarray(of_first + of_second + (mean_given_others**2).mean(axis=1))

    def draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        sizes = np.diff([*range(0, count, _AT_ONCE), count])
        parts = [self._draws(int(size), rng) for size in sizes]
        return np.concatenate(parts) if parts else np.zeros((0, self.information.pairs.n))

    def _draws(self, count: int, rng: np.random.Generator) -> FloatArray:
        noise = Noise.drawn(self.information.pairs, rng, count)
        return self.information.solve(_pull(self.information, noise)).T

    def _weights(self, first: IntArray, second: IntArray) -> FloatArray:
        """Look up the weight of each pair, 0 where the two were not compared."""
        pairs, n = self.information.pairs, self.information.pairs.n
        known = np.append(pairs.low * n + pairs.high, n * n)  # The last is above all others and weighs nothing.
        weights = np.append(self.information.weights, 0.0)
        wanted = np.minimum(first, second) * n + np.maximum(first, second)
        place = np.searchsorted(known, wanted)
        return np.where(known[place] == wanted, weights[place], 0.0)


def _pull(information: Information, noise: Noise) -> FloatArray:
    """Give each pair a random pull on its two essays, and each essay one of its own: they vary as H, but centred."""
    pairs = information.pairs
    pulls = np.sqrt(information.weights)[:, None] * noise.of_pairs
    rows = np.arange(pairs.low.size)
    places = np.concatenate((pairs.low, pairs.high)), np.concatenate((rows, rows))
    incidence = csr_array((np.repeat([1.0, -1.0], rows.size), places), shape=(pairs.n, rows.size))
    pull = incidence @ pulls + np.sqrt(information.prior_precision) * noise.of_essays
    return np.asarray(pull - pull.mean(axis=0))


def _conjugate_gradients(information: Information, right: FloatArray, tolerance: float) -> FloatArray:
    """Solve for all columns side by side, preconditioned by the diagonal; the prior bounds the condition number."""
    matrix, scale = information.sparse(), 1 / information.diagonal[:, None]
    solution, residual = np.zeros_like(right), right.copy()
    direction = scale * residual
    energy = (residual * direction).sum(axis=0)
    enough = tolerance**2 * energy
    for _ in range(10 * information.pairs.n):
        if (energy <= enough).all():
            break
        image = matrix @ direction
        stride = energy / np.maximum((direction * image).sum(axis=0), np.finfo(np.float64).tiny)
        solution += stride * direction
        residual -= stride * image
        before, energy = energy, (residual * scale * residual).sum(axis=0)
        direction = scale * residual + energy / np.maximum(before, np.finfo(np.float64).tiny) * direction
    return solution


def _spectrum(information: Information, signs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues of I - N as each column of random signs sees them, and their shares in it.

    Both are (columns, steps), by Lanczos's method.
    """
    matrix, scale = information.sparse(), 1 / np.sqrt(information.diagonal)[:, None]
    steps = min(_LANCZOS_STEPS, information.pairs.n)
    tridiagonal = np.zeros((signs.shape[1], steps, steps))
    vector, previous, length = signs / np.sqrt(information.pairs.n), np.zeros_like(signs), np.zeros(signs.shape[1])
    for step in range(steps):
        image = scale * (matrix @ (scale * vector)) - length * previous
        tridiagonal[:, step, step] = (vector * image).sum(axis=0)
        image -= tridiagonal[:, step, step] * vector
        previous, length = vector, np.linalg.norm(image, axis=0)
        vector = image / np.maximum(length, np.finfo(np.float64).tiny)
        if step + 1 < steps:
            tridiagonal[:, step + 1, step] = length  # The lower triangle is all that the solver reads.
    values, vectors = np.linalg.eigh(tridiagonal)
    # A column that ended early has eigenvalues 0 of no share.
    return np.maximum(values, np.finfo(np.float64).eps), vectors[:, 0, :] ** 2
