"""Who watches batches: compares each with what it was one step before, and checks what must hold after every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import event, note
from sqlalchemy import select, text

from cjtasks.domain.states import ARROWS, LIVE, TERMINAL, BatchStateEnum
from cjtasks.store.models import CJBatchState
from tests.checks import assert_consistent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

S = BatchStateEnum

REOPENED = {(S.FAILED, S.WAITING_CALLBACKS), (S.FAILED, S.GENERATING_PAIRS)}
"""Where an operator's retry may lead to: at once to the next step if all answers came while it was failed."""

CLOSING = {S.COMPLETED: {"completed", "result", "consumption"}, S.FAILED: {"failed"}, S.CANCELLED: {"failed"}}

FACTS = text("""
    SELECT 'verdict', id::text, concat_ws(' ', winner, completed_at, confidence)
        FROM cj_comparison_pairs WHERE cj_batch_id = ANY(:ids) AND status = 'completed'
    UNION ALL
    SELECT 'event', concat_ws(' ', batch_id, kind, version), md5(payload)
        FROM event_outbox WHERE batch_id = ANY(:ids)
    UNION ALL
    SELECT 'final', concat_ws(' ', batch_id, version), scores::text
        FROM score_snapshots WHERE batch_id = ANY(:ids) AND kind = 'final'
    UNION ALL
    SELECT 'snapshot', concat_ws(' ', batch_id, kind, version, iteration), scores::text
        FROM score_snapshots WHERE batch_id = ANY(:ids) AND kind <> 'final'
""")
"""What is written once and stays as it was; two of the same name would be one too many."""


@dataclass
class Witness:
    """`batches` is the list of the world that is watched; the session reads what is committed now."""

    session: Session
    batches: Sequence[int]
    seen: dict[int, CJBatchState] = field(default_factory=dict)
    fixed: dict[tuple[str, str], str] = field(default_factory=dict)
    is_retrying: bool = False
    is_content: bool = False

    def look(self) -> None:
        """Compare each state row with what it was before this one step."""
        self.session.expunge_all()
        for row in self.session.scalars(select(CJBatchState).where(CJBatchState.batch_id.in_(self.batches))):
            self._compare(self.seen.get(row.batch_id, row), row)
            self.seen[row.batch_id] = row
        self.is_content = False

    def _compare(self, before: CJBatchState, now: CJBatchState) -> None:
        if before.state is now.state:
            assert now.result_version == before.result_version
            assert now.state in LIVE or counters(before) == counters(now), "a batch that has ended counts no more"
            return
        arrow = (before.state, now.state)
        event(" -> ".join(arrow))
        if self.is_retrying:
            assert arrow in REOPENED
            assert now.result_version == before.result_version + 1
        else:
            assert arrow in ARROWS.keys() - REOPENED
            assert now.version == before.version + 1

    def check(self) -> None:
        """Check all that must hold, unless nothing happened since it was last checked."""
        if self.is_content:
            return
        self.session.expunge_all()
        for batch_id in self.batches:
            note(f"  {story_of(self.seen[batch_id])}")
            assert_consistent(self.session, batch_id)
        self._check_facts()
        self.is_content = True

    def _check_facts(self) -> None:
        rows = self.session.execute(FACTS, {"ids": self.batches}).all()
        found = {(what, name): fact for what, name, fact in rows}
        assert len(found) == len(rows)
        assert self.fixed.items() <= found.items()
        self.fixed = found
        for state in self.seen.values():
            told = {kind for kind in CLOSING[S.COMPLETED] | CLOSING[S.FAILED] if _name(state, kind) in found}
            assert told == (CLOSING[state.state] if state.state in TERMINAL else set()), "each version has its own end"


def _name(state: CJBatchState, kind: str) -> tuple[str, str]:
    return "event", f"{state.batch_id} {kind} {state.result_version}"


def counters(state: CJBatchState) -> tuple[int, int, int]:
    return state.total_comparisons, state.completed_comparisons, state.failed_comparisons


def story_of(state: CJBatchState) -> str:
    total, completed, failed = counters(state)
    due = f"{state.next_action} at {state.next_action_at:%H:%M:%S}" if state.next_action_at else "nothing due"
    return f"batch {state.batch_id}: {state.state}, {completed} + {failed} of {total}, {due}"
