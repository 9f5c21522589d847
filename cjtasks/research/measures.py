"""What a scoring says, and how far that is true, where the true scores are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cjtasks.domain import reliability, scoring
from cjtasks.domain.side_effect import side_effect

if TYPE_CHECKING:
    from cjtasks.domain.reliability import Assessment
    from cjtasks.domain.votes import Answers, FloatArray, IntArray

_HALF_WIDTH = 1.96  # Standard deviations on each side of a 95 % interval.


@dataclass(frozen=True, slots=True)
class Measures:
    """One scoring against the truth; nan where something is not defined, as tau is without true differences."""

    comparisons_per_essay: float
    tau: float  # Kendall's, of the scores with the truth.
    r2: float  # Squared correlation of the scores with the truth: what the reliability should estimate.
    honest_reliability: float  # As the product reports it.
    quartile: float  # The lower quartile of the reliability, which the stop rule looks at.
    ssr: float  # Scale separation reliability, as the literature reports it.
    coverage: float  # Share of the 95 % intervals of scores that hold the truth.
    difference_coverage: float  # The same for the differences of all pairs.
    differences_found: float  # 1 where the scoring says that there are real differences, else 0.
    side_effect: float  # Logits in favour of the essay shown first.


def measure(answers: Answers, truth: FloatArray, rng: np.random.Generator, *, repeats_count_once: bool) -> Measures:
    """Score the answers as the product does and compare with the `truth`, (n,) logits with mean 0."""
    assessed = reliability.assess(answers, rng, repeats_count_once=repeats_count_once)
    claims = assessed.claims
    return Measures(
        comparisons_per_essay=2 * answers.first.size / answers.n,
        tau=kendall_tau(assessed.means, truth),
        r2=squared_correlation(assessed.means, truth),
        honest_reliability=claims.reliability if claims else np.nan,
        quartile=claims.reliability_quantiles.q25 if claims else np.nan,
        ssr=scoring.fit(*winners_and_losers(answers), answers.n).ssr,
        coverage=_coverage(assessed, truth),
        difference_coverage=_difference_coverage(assessed, truth),
        differences_found=float(claims.differences_are_real) if claims else np.nan,
        side_effect=side_effect(answers.first, answers.second, answers.first_won, answers.n).eta,
    )


def winners_and_losers(answers: Answers) -> tuple[IntArray, IntArray]:
    """Return who won and who lost each comparison, (m,) and (m,)."""
    winners = np.where(answers.first_won, answers.first, answers.second)
    return winners, np.where(answers.first_won, answers.second, answers.first)


def kendall_tau(scores: FloatArray, truth: FloatArray) -> float:
    """Return the share of pairs in the true order less the share in the wrong one; nan without true differences."""
    if not np.ptp(truth) > 0:
        return np.nan
    i, j = np.triu_indices(truth.size, 1)
    return float((np.sign(scores[i] - scores[j]) * np.sign(truth[i] - truth[j])).mean())


def squared_correlation(scores: FloatArray, truth: FloatArray) -> float:
    """Return Pearson's correlation squared: nan without true differences, 0 where all scores are equal."""
    if not np.ptp(truth) > 0:
        return np.nan
    x, y = scores - scores.mean(), truth - truth.mean()
    return float((x @ y) ** 2 / ((x @ x) * (y @ y))) if np.ptp(scores) > 0 else 0.0


def _coverage(assessed: Assessment, truth: FloatArray) -> float:
    low, high = assessed.score_interval()
    return float(((low <= truth) & (truth <= high)).mean())


def _difference_coverage(assessed: Assessment, truth: FloatArray) -> float:
    i, j = np.triu_indices(truth.size, 1)
    half = _HALF_WIDTH * np.sqrt(assessed.posterior.difference_variances(i, j))
    missed_by = assessed.means[i] - assessed.means[j] - (truth[i] - truth[j])
    return float((np.abs(missed_by) <= half).mean())
