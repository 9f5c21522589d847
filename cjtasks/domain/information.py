"""How much the answer to each pair would tell: the D-criterion at the posterior mode.

One more comparison of i and j adds q d d' to the information H on the scores, with d = e_i - e_j, q = P(1 - P) and
P the probability that i beats j. By the matrix determinant lemma log det H grows by log(1 + q v), where
v = d' H^-1 d is the posterior variance of the difference. To choose what makes det H grow most is Bayesian
D-optimal design (Chaloner and Verdinelli 1995, Bayesian experimental design: a review, Statistical Science 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from cjtasks.domain import posterior
from cjtasks.domain.precision import DenseSpread

if TYPE_CHECKING:
    from cjtasks.domain.posterior import Fit
    from cjtasks.domain.votes import FloatArray, Votes

PRIOR_SDS = (0.5, 1.0, 2.0, 3.5)
"""Logits. A finer choice found no better pairs in simulations; the bounds keep a few lucky answers from deciding."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What will be known of the scores when all that was sent is answered: a normal posterior at its present mode."""

    mode: FloatArray  # (n,) logits
    covariance: FloatArray  # (n, n), with or without the common mean of the scores.


def believe(judged: Votes, sent: Votes) -> Belief:
    """Fit the votes of the judged pairs under the most likely prior; `sent` counts the open pairs as well.

    What an open pair will tell is counted as its expected information; which way it goes changes no mode yet.
    """
    fit = most_likely(judged)
    return Belief(fit.mode, DenseSpread.of(posterior.information(sent, fit.mode, fit.prior_sd)).covariance)


def most_likely(votes: Votes) -> Fit:
    """Return the posterior under that of the priors `PRIOR_SDS` which makes the votes most likely."""
    return max((posterior.at(votes, prior_sd) for prior_sd in PRIOR_SDS), key=lambda fit: fit.log_marginal)


def gain(belief: Belief) -> FloatArray:
    """Return log(1 + q v) of each pair, (n, n) and symmetric with 0 on the diagonal."""
    own = np.diag(belief.covariance)
    variance = own[:, None] + own - 2 * belief.covariance
    chance = expit(belief.mode[:, None] - belief.mode)
    return np.asarray(np.log1p(chance * (1 - chance) * variance), np.float64)
