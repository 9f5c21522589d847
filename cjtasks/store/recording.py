"""The comparisons that answers are about, found and written in three statements however many there are.

Callbacks come by the thousand a second, and this is the one path where a microsecond for each counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import to_json

from cjtasks.domain.comparisons import ComparisonStatus, Standing
from cjtasks.domain.decisions import Progress
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store import arrays
from cjtasks.store.prepared import Prepared, execute, execute_in_turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.orm import Session

    from cjtasks.contracts.callback import Answer


class Found(NamedTuple):
    """A comparison as it stands; `was_accepted`: its 202 is on record; `counts`: its batch waits for answers."""

    id: int
    batch_id: int
    standing: Standing
    was_accepted: bool
    counts: bool


class Change(NamedTuple):
    """What an answer makes of a comparison.

    `next_attempt_at`: when it is asked again, None to leave that as it is. `is_held`: the error waits on the row
    until it is known whether it is the current request's.
    """

    found: Found
    answer: Answer
    status: ComparisonStatus
    next_attempt_at: datetime | None = None
    is_held: bool = False
    late: bool = False


# Everybody locks batches in the order of their ids, so that no two can deadlock.
_LOCK = Prepared(
    "lock_batches_of",
    "uuid[]",
    """
    SELECT count(*) FROM (
        SELECT FROM cj_batch_states WHERE batch_id IN (
            SELECT cj_batch_id FROM cj_comparison_pairs WHERE request_correlation_id = ANY ($1)
        ) ORDER BY batch_id FOR UPDATE
    ) AS locked
    """,
)

_FIND = Prepared(
    "find_comparisons",
    "uuid[]",
    """
    SELECT pair.id, pair.cj_batch_id, pair.status, pair.attempt, pair.request_id, pair.submitted_at IS NOT NULL,
        state.state = 'WAITING_CALLBACKS'
    FROM unnest($1) WITH ORDINALITY AS asked(correlation_id, place)
    LEFT JOIN cj_comparison_pairs AS pair ON pair.request_correlation_id = asked.correlation_id
    LEFT JOIN cj_batch_states AS state ON state.batch_id = pair.cj_batch_id
    ORDER BY asked.place
    """,
)

# A row that is no longer open stays as it is and is not counted. A late answer moves no counter but the submitted
# ones: an answer that overtakes its 202 shows that the provider has accepted the comparison.
_RECORD = Prepared(
    "record_answers",
    "timestamptz, bigint[], text[], timestamptz[], boolean[], boolean[], text[], timestamptz[], text[], float8[], "
    "text[], text[], text[], text[], jsonb[], text[], text[], bigint[], bigint[], bigint[], bigint[], float8[]",
    """
    WITH recorded AS (
        UPDATE cj_comparison_pairs AS pair SET
            status = new.status,
            next_attempt_at = coalesce(new.next_attempt_at, pair.next_attempt_at),
            submitted_at = coalesce(pair.submitted_at, $1),
            completed_at = CASE WHEN new.status IN ('completed', 'failed') THEN $1 END,
            late = new.late,
            last_error_request_id = coalesce(new.last_error_request_id, pair.last_error_request_id),
            judged_at = new.judged_at,
            winner = new.winner,
            confidence = new.confidence,
            justification = new.justification,
            error_code = new.error_code,
            error_message = new.error_message,
            error_service = new.error_service,
            error_details = new.error_details,
            provider = new.provider,
            model = new.model,
            response_time_ms = new.response_time_ms,
            prompt_tokens = new.prompt_tokens,
            completion_tokens = new.completion_tokens,
            total_tokens = new.total_tokens,
            cost = new.cost
        FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
            AS new(id, status, next_attempt_at, late, was_accepted, last_error_request_id, judged_at, winner,
                confidence, justification, error_code, error_message, error_service, error_details, provider, model,
                response_time_ms, prompt_tokens, completion_tokens, total_tokens, cost)
        WHERE pair.id = new.id AND pair.status IN ('planned', 'claimed', 'in_flight')
        RETURNING pair.cj_batch_id AS batch_id, pair.status, pair.late, new.was_accepted
    ), counted AS (
        SELECT batch_id,
            count(*) FILTER (WHERE NOT was_accepted) AS submitted,
            count(*) FILTER (WHERE status = 'completed' AND NOT late) AS completed,
            count(*) FILTER (WHERE status = 'failed' AND NOT late) AS failed
        FROM recorded GROUP BY batch_id
    )
    UPDATE cj_batch_states AS state SET
        submitted_comparisons = state.submitted_comparisons + counted.submitted,
        completed_comparisons = state.completed_comparisons + counted.completed,
        failed_comparisons = state.failed_comparisons + counted.failed,
        last_activity_at = $1
    FROM counted
    WHERE state.batch_id = counted.batch_id AND counted.submitted + counted.completed + counted.failed > 0
    RETURNING state.batch_id, state.state::text, state.total_comparisons, state.completed_comparisons,
        state.failed_comparisons,
        CASE WHEN NOT state.partial_scoring_triggered THEN state.completion_threshold_pct END
    """,
)


def lock_and_find(session: Session, correlation_ids: Iterable[UUID]) -> list[Found | None]:
    """Lock the batches of these comparisons, and read each in the order of the ids; None for one never asked for.

    Whoever changes a comparison holds its batch. They are read after the locks: a batch that was deleted while we
    waited has no comparisons any more.
    """
    wanted = arrays.plain(correlation_id.hex for correlation_id in correlation_ids)
    return [
        None if row[0] is None else Found(row[0], row[1], Standing(_STATUS[row[2]], row[3], row[4]), row[5], row[6])
        for row in execute_in_turn(session, (_LOCK, _FIND), wanted)
    ]


def record(session: Session, changes: Sequence[Change], now: datetime) -> dict[int, Progress]:
    """Write at most one change of each comparison, and return how far each batch is whose counters that moved."""
    if not changes:
        return {}
    rows = execute(session, _RECORD, now.isoformat(), *_of_the_changes(changes), *_of_the_answers(changes))
    return {row[0]: Progress(BatchStateEnum(row[1]), *row[2:]) for row in rows}


_STATUS = {status.value: status for status in ComparisonStatus}


def _of_the_changes(changes: Sequence[Change]) -> tuple[str, ...]:
    return (
        arrays.plain(change.found.id for change in changes),
        arrays.plain(change.status for change in changes),
        arrays.moments(change.next_attempt_at for change in changes),
        arrays.plain(change.late for change in changes),
        arrays.plain(change.found.was_accepted for change in changes),
        arrays.texts(change.answer.request_id if change.is_held else None for change in changes),
    )


def _of_the_answers(changes: Sequence[Change]) -> tuple[str, ...]:
    answers = [change.answer for change in changes]
    return (
        arrays.moments(answer.judged_at for answer in answers),
        arrays.plain(answer.winner for answer in answers),
        arrays.plain(answer.confidence for answer in answers),
        arrays.texts(answer.justification for answer in answers),
        arrays.texts(answer.error_code for answer in answers),
        arrays.texts(answer.error_message for answer in answers),
        arrays.texts(answer.error_service for answer in answers),
        arrays.texts(_json(answer.error_details) for answer in answers),
        arrays.plain(answer.provider for answer in answers),
        arrays.texts(answer.model for answer in answers),
        arrays.plain(answer.response_time_ms for answer in answers),
        arrays.plain(answer.prompt_tokens for answer in answers),
        arrays.plain(answer.completion_tokens for answer in answers),
        arrays.plain(answer.total_tokens for answer in answers),
        arrays.plain(answer.cost for answer in answers),
    )


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else to_json(value).decode()
