"""What a batch does next: pure functions of its counters, called with its state row locked.

`processed` is completed + failed; a comparison has failed when its last attempt failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cjtasks.domain.states import BatchStateEnum

FEWEST_FOR_A_VERDICT = 10
"""Below this many processed comparisons a success rate says too little to fail a running batch."""

ENOUGH_TO_FORCE = 0.8
"""At the deadline a batch is scored from what it has if this share of its comparisons was processed."""

FEWEST_FOR_RELIABILITY = 12
"""With fewer essays an estimate of the reliability is too uncertain to stop by."""


class Decision(StrEnum):
    NOTHING = "nothing"
    FAIL = "fail"
    ADVANCE = "advance"
    PARTIAL = "partial"
    WAIT = "wait"


class StopReason(StrEnum):
    BUDGET_SPENT = "budget_spent"
    MAX_ITERATIONS = "max_iterations"
    NO_PAIR_LEFT = "no_pair_left"
    RELIABLE = "reliability_reached"
    SCORES_STABLE = "scores_stable"
    TOO_FEW_ESSAYS = "too_few_essays"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Progress:
    """The counters of a batch as its locked state row has them.

    `partial_pct` is the share of processed comparisons (in %) that makes a partial result due, None once it did.
    """

    state: BatchStateEnum
    total: int
    completed: int
    failed: int
    partial_pct: int | None = None

    @property
    def processed(self) -> int:
        return self.completed + self.failed

    @property
    def success_rate(self) -> float:
        return self.completed / self.processed if self.processed else 1.0


def decide(progress: Progress, min_success_rate: float) -> Decision:
    """Choose what follows a change of the counters; every choice but WAIT and NOTHING moves the batch on."""
    if progress.state is not BatchStateEnum.WAITING_CALLBACKS:
        return Decision.NOTHING
    all_in = progress.processed >= progress.total
    if (all_in or progress.processed >= FEWEST_FOR_A_VERDICT) and progress.success_rate < min_success_rate:
        return Decision.FAIL
    if all_in:
        return Decision.ADVANCE
    partial = progress.partial_pct is not None and 100 * progress.processed >= progress.partial_pct * progress.total
    return Decision.PARTIAL if partial else Decision.WAIT


def at_deadline(progress: Progress, min_success_rate: float) -> Decision:
    """Choose for a batch that stood still too long: ADVANCE means score what there is."""
    enough = (
        progress.state is BatchStateEnum.WAITING_CALLBACKS
        and progress.processed >= ENOUGH_TO_FORCE * progress.total
        and progress.completed > 0
        and progress.success_rate >= min_success_rate
    )
    return Decision.ADVANCE if enough else Decision.FAIL


@dataclass(frozen=True, slots=True)
class Iterations:
    """What the stop rule looks at between two iterations; `score_change` is inf before the second fit.

    `reliability` is the lower quartile of the honest reliability, None where nothing is claimed.
    """

    essays: int
    done: int
    planned: int
    budget: int
    pair_ceiling: int
    score_change: float
    reliability: float | None = None


@dataclass(frozen=True, slots=True)
class StopRule:
    """`reliability_target` 0 stops no batch."""

    max_iterations: int
    reliability_target: float
    stability_threshold: float


def why_stop(iterations: Iterations, rule: StopRule) -> StopReason | None:
    """Return why no further iteration is asked, or None to go on."""
    if iterations.planned >= iterations.budget:
        return StopReason.BUDGET_SPENT
    if iterations.done >= rule.max_iterations:
        return StopReason.MAX_ITERATIONS
    if iterations.planned >= iterations.pair_ceiling:
        return StopReason.NO_PAIR_LEFT
    if _is_reliable(iterations, rule.reliability_target):
        return StopReason.RELIABLE
    if iterations.done and iterations.score_change < rule.stability_threshold:
        return StopReason.SCORES_STABLE
    return None


def _is_reliable(iterations: Iterations, target: float) -> bool:
    reached = iterations.reliability
    return iterations.essays >= FEWEST_FOR_RELIABILITY and reached is not None and 0 < target <= reached
