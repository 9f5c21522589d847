"""What holds for every batch after every step, whatever happened on the way."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from sqlalchemy import select

from cjtasks.domain.comparisons import OPEN, ComparisonStatus
from cjtasks.domain.states import LIVE, TERMINAL, BatchStateEnum
from cjtasks.store.models import CJBatchState, ComparisonPair, OutboxEvent, ScoreSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

SCHEMAS = Path(__file__).resolve().parents[2] / "shared" / "contracts" / "fixtures" / "schemas"
SCHEMA_OF = {
    "completed": "CJAssessmentCompletedV1",
    "failed": "CJAssessmentFailedV1",
    "result": "AssessmentResultV1",
    "consumption": "ResourceConsumptionV1",
}


def assert_consistent(session: Session, batch_id: int) -> None:
    """Check a batch's state row against its comparisons, its events and its snapshots."""
    state = session.get_one(CJBatchState, batch_id, populate_existing=True)
    pairs = session.scalars(select(ComparisonPair).where(ComparisonPair.cj_batch_id == batch_id)).all()
    events = session.scalars(select(OutboxEvent).where(OutboxEvent.batch_id == batch_id)).all()
    assert counters_of(state) == counted(pairs)
    assert state.completed_comparisons + state.failed_comparisons <= state.total_comparisons <= state.total_budget
    assert (state.next_action is not None, state.next_action_at is not None) == (state.state in LIVE,) * 2
    assert (state.batch_upload.completed_at is not None) == (state.state in TERMINAL)
    assert max(Counter((e.subject, e.kind, e.version) for e in events).values(), default=1) == 1
    _assert_rows_fit_the_state(state, pairs)
    _assert_the_end_is_told(session, state, [event.kind for event in events])


def counters_of(state: CJBatchState) -> dict[str, int]:
    return {
        "total": state.total_comparisons,
        "submitted": state.submitted_comparisons,
        "completed": state.completed_comparisons,
        "failed": state.failed_comparisons,
    }


def counted(pairs: Iterable[ComparisonPair]) -> dict[str, int]:
    """Count what the counters should say; answers that came too late are only ever submitted ones."""
    rows = list(pairs)
    in_time = Counter(pair.status for pair in rows if not pair.late)
    return {
        "total": len(rows),
        "submitted": sum(pair.submitted_at is not None for pair in rows),
        "completed": in_time[ComparisonStatus.COMPLETED],
        "failed": in_time[ComparisonStatus.FAILED],
    }


def _assert_rows_fit_the_state(state: CJBatchState, pairs: Iterable[ComparisonPair]) -> None:
    rows = list(pairs)
    is_open = any(pair.status in OPEN for pair in rows)
    assert not any(pair.late and pair.status in OPEN for pair in rows)
    if state.state in {BatchStateEnum.INITIALIZING, BatchStateEnum.GENERATING_PAIRS}:
        assert not is_open
    if state.state is BatchStateEnum.WAITING_CALLBACKS:
        assert is_open, "it waits for something that will not come"
        assert not any(pair.late for pair in rows)


def _assert_the_end_is_told(session: Session, state: CJBatchState, kinds: list[str]) -> None:
    snapshots = select(ScoreSnapshot.version).where(ScoreSnapshot.batch_id == state.batch_id)
    finals = list(session.scalars(snapshots.where(ScoreSnapshot.kind == "final")))
    closing = [kind for kind in kinds if kind != "partial"]
    if state.state is BatchStateEnum.COMPLETED:
        assert state.result_version in finals
        assert {"completed", "result"} <= set(closing)
        assert ("consumption" in closing) == (state.batch_upload.user_id is not None)
    elif state.state in TERMINAL:
        assert "failed" in closing
    elif state.result_version == 1:
        assert (finals, closing) == ([], [])


def assert_valid(kind: str, envelope: dict[str, Any]) -> None:
    """Check one outgoing event against the platform's schema; skip where the schemas are not.

    The platform has no schema for a partial result: that event is ours.
    """
    if kind == "partial":
        return
    if not SCHEMAS.is_dir():
        pytest.skip("the platform's schemas are not here")
    _validator(kind).validate(envelope)


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{SCHEMA_OF[kind]}.envelope.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
