"""The states of a batch, every arrow between them, and the work that each state waits for.

Terminal states keep what they hold; only an operator's retry opens a failed batch again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cjtasks.errors import IllegalTransition


class BatchStateEnum(StrEnum):
    """Where a batch stands; stored as the Postgres type `batch_state_enum`."""

    INITIALIZING = "INITIALIZING"
    GENERATING_PAIRS = "GENERATING_PAIRS"
    WAITING_CALLBACKS = "WAITING_CALLBACKS"
    SCORING = "SCORING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Work(StrEnum):
    """One piece of work that a bell can ask for; a live batch always has one of them due."""

    INBOX = "inbox"
    PREPARE = "prepare"
    ADVANCE = "advance"
    SUBMIT = "submit"
    CHECK = "check"
    PARTIAL = "partial"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Bell:
    """There is work of this kind; for one batch, or (inbox, submit) for whoever has some."""

    work: Work
    batch_id: int | None = None


_S = BatchStateEnum

TERMINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED})
LIVE = frozenset(_S) - TERMINAL

ARROWS: dict[tuple[BatchStateEnum, BatchStateEnum], str] = {
    (_S.INITIALIZING, _S.GENERATING_PAIRS): "Two or more texts are here, so there is something to compare.",
    (_S.INITIALIZING, _S.SCORING): "Fewer than two texts can be had, so the batch ends without a comparison.",
    (_S.GENERATING_PAIRS, _S.WAITING_CALLBACKS): "An iteration was planned and is being asked.",
    (_S.GENERATING_PAIRS, _S.SCORING): "A stop rule holds: budget, iterations, pairs, reliability or stable scores.",
    (
        _S.WAITING_CALLBACKS,
        _S.GENERATING_PAIRS,
    ): "Every comparison of the iteration was answered or has failed.",
    (_S.WAITING_CALLBACKS, _S.SCORING): "The deadline passed with enough answers: score what there is.",
    (_S.SCORING, _S.COMPLETED): "Scores, snapshot and events were written together.",
    (_S.FAILED, _S.WAITING_CALLBACKS): "An operator opened it again: what failed is asked again, the rest goes on.",
    **{(live, _S.FAILED): "It cannot end well: deadline or success rate." for live in LIVE},
    **{(live, _S.CANCELLED): "An operator stopped it." for live in LIVE},
}


def check_arrow(source: BatchStateEnum, target: BatchStateEnum) -> None:
    """Raise IllegalTransition unless an arrow leads from `source` to `target`."""
    if (source, target) not in ARROWS:
        raise IllegalTransition.of(f"no arrow leads from {source} to {target}", operation="transition")


FIRST_WORK: dict[BatchStateEnum, Work | None] = {
    _S.INITIALIZING: Work.PREPARE,
    _S.GENERATING_PAIRS: Work.ADVANCE,
    _S.WAITING_CALLBACKS: Work.SUBMIT,
    _S.SCORING: Work.SCORE,
    _S.COMPLETED: None,
    _S.FAILED: None,
    _S.CANCELLED: None,
}
"""What is due first in a state; a terminal state waits for nothing."""
