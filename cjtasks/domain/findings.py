"""What the judgements of one session say: scores, how sure they are, and what does not fit.

Published are the posterior's numbers (`reliability`). Beside them stands the conventional fit (`scoring`), whose
infit, outfit and SSR the literature uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cjtasks.domain import ranks, reliability, scoring
from cjtasks.domain.certainty import conclude
from cjtasks.domain.side_effect import side_effect
from cjtasks.domain.votes import Answers

if TYPE_CHECKING:
    from cjtasks.domain.certainty import Conclusion
    from cjtasks.domain.reliability import Assessment
    from cjtasks.domain.scoring import BradleyTerryFit, JudgeFit
    from cjtasks.domain.side_effect import SideEffect
    from cjtasks.domain.votes import BoolArray, FloatArray, IntArray

TARGET = 0.8  # Between the 0.7 and the 0.9 for which Verhavert, Bouwer, Donche and De Maeyer (2019) plan sessions.
_MOST_TIMES = 10.0  # Beyond so many times what was judged no number is given: it would be a guess.
FEWEST_FOR_MISFIT = 6  # Of n values none lies more than (n - 1) / sqrt(n) standard deviations above their mean.
_MISFIT_SDS = 2.0


@dataclass(frozen=True, slots=True)
class Judgements:
    """What was judged in one session, and what is known of how."""

    answers: Answers  # Where sides are not known, the winner as first.
    sides_known: bool = False
    judges: IntArray | None = None  # (m,) who judged each comparison, from 0; None where nobody knows.
    repeats_count_once: bool = False  # For a language model, see `votes.count_votes`.


@dataclass(frozen=True, slots=True)
class Findings:
    """Arrays are over the essays that were compared, in the order of their indices."""

    compared: IntArray  # (c,) the indices of these essays.
    unscored: IntArray  # The indices of the essays without a comparison.
    comparisons: int
    assessment: Assessment  # Scores, their variances, rank intervals, reliability.
    conventional: BradleyTerryFit
    ranks: IntArray  # (c,) 1 is the best; distinct, equal scores by index.
    groups: IntArray  # (c,) 1 is the best; within a group no essay can be told from its first, see `ranks.groups`.
    judges: JudgeFit | None  # None where nobody knows who judged.
    side: SideEffect | None  # None where nobody knows who stood first; nan where it cannot be told from the scores.
    swap_below: FloatArray  # (c,) the probability that the essay ranked next is better; nan for the last.
    target: float  # What reliability was asked for.

    @property
    def standard_errors(self) -> FloatArray:
        """The posterior's standard deviations, (c,), logits."""
        return np.sqrt(self.assessment.variances)

    @property
    def parts(self) -> int:
        """How many groups of essays no chain of comparisons joins with each other."""
        return self.conventional.component_count

    @property
    def conclusion(self) -> Conclusion | None:
        """None where nothing is claimed: few essays, or some that no chain of comparisons joins with the others."""
        claims = self.assessment.claims
        return conclude(claims, self.target) if claims is not None and self.parts == 1 else None

    @property
    def more_comparisons(self) -> int | None:
        """About how many more comparisons of the same kind lead to the target; None where that cannot be said."""
        times = self.conclusion.comparisons_needed if self.conclusion else math.inf
        return math.ceil(max(times - 1, 0.0) * self.comparisons) if times <= _MOST_TIMES else None


def find(judgements: Judgements, rng: np.random.Generator, *, target: float = TARGET) -> Findings:
    """Estimate everything at once; slow for many essays (about a second for 1,000).

    Raises ValueError unless `target` is above 0 and below 1.
    """
    if not 0 < target < 1:
        raise ValueError(f"target must be above 0 and below 1, got {target}")
    compared, unscored, answers = _compared(judgements.answers)
    assessment = reliability.assess(answers, rng, repeats_count_once=judgements.repeats_count_once)
    place = np.argsort(ranks.order(assessment.posterior))
    swaps = ranks.swap_probabilities(assessment.posterior)
    fit, judges = _conventional(answers, judgements.judges)
    return Findings(
        compared=compared,
        unscored=unscored,
        comparisons=answers.first.size,
        assessment=assessment,
        conventional=fit,
        judges=judges,
        side=side_effect(answers.first, answers.second, answers.first_won, answers.n)
        if judgements.sides_known
        else None,
        ranks=place + 1,
        groups=_group_numbers(assessment),
        swap_below=np.append(swaps, np.nan)[place],
        target=target,
    )


def misfitting(infit: FloatArray) -> BoolArray:
    """Mark what fits the model worse than mean + 2 standard deviations of all infits, as Pollitt (2012) does.

    Of fewer than `FEWEST_FOR_MISFIT` none can be marked.
    """
    if infit.size < FEWEST_FOR_MISFIT:
        return np.zeros(infit.size, np.bool_)
    return np.asarray(infit > infit.mean() + _MISFIT_SDS * infit.std(ddof=1))


def _compared(answers: Answers) -> tuple[IntArray, IntArray, Answers]:
    """Number the compared essays anew, so that one that nobody saw has no share in what is estimated."""
    seen = np.zeros(answers.n, np.bool_)
    seen[answers.first] = seen[answers.second] = True
    place = np.cumsum(seen) - 1
    among = Answers(place[answers.first], place[answers.second], answers.first_won, int(seen.sum()))
    return np.flatnonzero(seen), np.flatnonzero(~seen), among


def _conventional(answers: Answers, judges: IntArray | None) -> tuple[BradleyTerryFit, JudgeFit | None]:
    winners = np.where(answers.first_won, answers.first, answers.second)
    losers = np.where(answers.first_won, answers.second, answers.first)
    fit = scoring.fit(winners, losers, answers.n)
    return fit, None if judges is None else scoring.judge_fit(winners, losers, judges, fit.scores)


def _group_numbers(assessment: Assessment) -> IntArray:
    numbers = np.zeros(assessment.n, np.int64)
    for number, group in enumerate(ranks.groups(assessment.posterior), start=1):
        numbers[group] = number
    return numbers
