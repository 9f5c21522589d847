"""Comparative judgement sessions of simulated judges on essays whose true scores are known.

A session is the product's own loop without its services: a design asks for pairs, the judge answers, until the
budget is spent or the stop rule says that it is enough. The same seed and replication give the same truth and the
same judge to every design, so that their differences are measured more exactly than each alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from cjtasks.domain.decisions import Iterations, StopReason, StopRule, why_stop
from cjtasks.domain.votes import Answers
from cjtasks.research.designs import DESIGNS, DesignName
from cjtasks.research.judges import PLAIN, Judge, Temper
from cjtasks.research.measures import Measures, measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cjtasks.domain.pairing import Pair
    from cjtasks.domain.votes import FloatArray

FEWEST_ESSAYS, MOST_ESSAYS = 2, 1_000
FIRST_LOOK = 8
"""Comparisons an essay before which no stop rule looks: those of the product's first iteration."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Essays whose true scores are normal with standard deviation `spread` (logits), and the temper of their judge.

    Raises ValueError naming the field that is out of range.
    """

    essays: int = 30
    spread: float = 1.2
    temper: Temper = PLAIN
    seed: int = 0

    def __post_init__(self) -> None:
        if not FEWEST_ESSAYS <= self.essays <= MOST_ESSAYS:
            raise ValueError(f"essays must be from {FEWEST_ESSAYS} to {MOST_ESSAYS}, got {self.essays}")
        if not 0 <= self.spread < np.inf:
            raise ValueError(f"spread must be a finite number of at least 0, got {self.spread}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")

    def chance(self, replication: int, of: Chance) -> np.random.Generator:
        return np.random.default_rng((self.seed, replication, of))

    def truth(self, replication: int) -> FloatArray:
        """Draw the true scores of one session, (n,) logits with mean 0."""
        scores = self.chance(replication, Chance.TRUTH).normal(0.0, self.spread, self.essays)
        return np.asarray(scores - scores.mean())


class Chance(IntEnum):
    """What has a random generator of its own, so that none of them disturbs another."""

    TRUTH = 0
    JUDGE = 1
    DESIGN = 2
    SCORING = 3


@dataclass(frozen=True, slots=True)
class UntilReliable:
    """Stop when the lower quartile of the reliability reaches `target`, or at `most` comparisons an essay."""

    target: float
    most: float = 16.0

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"target must be above 0 and below 1, got {self.target}")
        if not 1 <= self.most < np.inf:
            raise ValueError(f"most must be a finite number of at least 1, got {self.most}")


@dataclass(frozen=True, slots=True)
class Stopped:
    reliable: bool  # Whether the target was reached; if not, the budget was spent or no pair was left.
    measures: Measures


def measured_at(scenario: Scenario, design: DesignName, per_essay: Sequence[float], replication: int) -> list[Measures]:
    """Run one session and score it at each number of comparisons an essay, in rising order.

    Where the design has no pair left before, the session is scored once more, with all that there is.
    """
    wanted = [max(1, round(each * scenario.essays / 2)) for each in per_essay]
    *_, answers = rounds(scenario, design, max(wanted), replication)
    counts = sorted({min(count, answers.first.size) for count in wanted})
    return [_measured(scenario, replication, _first(count, answers)) for count in counts]


def measured_when_stopped(scenario: Scenario, design: DesignName, rule: UntilReliable, replication: int) -> Stopped:
    """Run one session until the rule holds; it is looked at after each round from 8 comparisons an essay on."""
    budget = round(rule.most * scenario.essays / 2)
    for answers in rounds(scenario, design, budget, replication):
        if answers.first.size < FIRST_LOOK * scenario.essays // 2:
            continue
        measures = _measured(scenario, replication, answers)
        if stops(scenario.essays, measures, rule.target):
            return Stopped(reliable=True, measures=measures)
    return Stopped(reliable=False, measures=_measured(scenario, replication, answers))


def stops(essays: int, measures: Measures, target: float) -> bool:
    """Tell whether a batch would ask no more because its reliability is enough, whatever is left of its budget."""
    unlimited = Iterations(
        essays=essays,
        done=0,
        planned=0,
        budget=1,
        pair_ceiling=1,
        score_change=math.inf,
        reliability=measures.quartile,
    )
    rule = StopRule(max_iterations=1, reliability_target=target, stability_threshold=0.0)
    return why_stop(unlimited, rule) is StopReason.RELIABLE


def rounds(scenario: Scenario, design: DesignName, budget: int, replication: int) -> Iterator[Answers]:
    """Yield all answers so far after each round of the design, until `budget` is spent or no pair is left."""
    judge = Judge(scenario.truth(replication), scenario.temper, scenario.chance(replication, Chance.JUDGE))
    chance = scenario.chance(replication, Chance.DESIGN)
    answers = _empty(scenario.essays)
    while pairs := DESIGNS[design](answers, budget - answers.first.size, chance):
        answers = _extended(answers, pairs, judge)
        yield answers


def _measured(scenario: Scenario, replication: int, answers: Answers) -> Measures:
    chance = scenario.chance(replication, Chance.SCORING)
    truth = scenario.truth(replication)
    return measure(answers, truth, chance, repeats_count_once=scenario.temper.repeat > 0)


def _empty(n: int) -> Answers:
    none = np.empty(0, np.int64)
    return Answers(none, none, none.astype(np.bool_), n)


def _first(count: int, answers: Answers) -> Answers:
    return Answers(answers.first[:count], answers.second[:count], answers.first_won[:count], answers.n)


def _extended(answers: Answers, pairs: list[Pair], judge: Judge) -> Answers:
    first, second = np.array(pairs, np.int64).T
    return Answers(
        np.concatenate((answers.first, first)),
        np.concatenate((answers.second, second)),
        np.concatenate((answers.first_won, judge.answers(pairs))),
        answers.n,
    )
