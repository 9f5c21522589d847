"""Batches whose comparisons are all planned and whose texts are all here, made in SQL."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from sqlalchemy import func, select, text

from cjtasks.dev.demo_essays import demo_assignment, demo_essays
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.configuration import BatchConfiguration
from cjtasks.store.models import ComparisonPair

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cjtasks.store.session import Database

CONFIGURATION = BatchConfiguration(provider="openai", model="gpt-5.1", temperature=0.1)

_UPLOADS = text(
    """
    INSERT INTO cj_batch_uploads
        (bos_batch_id, event_correlation_id, language, course_code, expected_essay_count, configuration,
         student_prompt_text)
    SELECT gen_random_uuid(), gen_random_uuid(), 'en', 'ENG5', :essays, :configuration, :assignment
    FROM generate_series(1, :batches)
    RETURNING id
    """
)
_ESSAYS = text(
    """
    INSERT INTO cj_processed_essays (cj_batch_id, els_essay_id, position, text_storage_id, assessment_input_text)
    SELECT batch.id, 'essay-' || essay.number, essay.number, gen_random_uuid(), essay.text
    FROM unnest(CAST(:ids AS bigint[])) AS batch(id),
         unnest(CAST(:texts AS text[])) WITH ORDINALITY AS essay(text, number)
    """
)
_COMPARISONS = text(
    """
    INSERT INTO cj_comparison_pairs
        (cj_batch_id, iteration, ordinal, essay_a_els_id, essay_b_els_id, request_correlation_id, status,
         next_attempt_at)
    SELECT batch.id, 1, ordinal, 'essay-' || ordinal % :essays + 1,
           'essay-' || (ordinal + 1 + ordinal / :essays % (:essays - 1)) % :essays + 1, uuidv7(), 'planned', now()
    FROM unnest(CAST(:ids AS bigint[])) AS batch(id), generate_series(0, :each - 1) AS ordinal
    """
)
_STATES = text(
    """
    INSERT INTO cj_batch_states
        (batch_id, state, total_budget, total_comparisons, next_action, next_action_at, current_iteration)
    SELECT batch.id, 'WAITING_CALLBACKS', :each, :each, 'submit', now(), 1
    FROM unnest(CAST(:ids AS bigint[])) AS batch(id)
    """
)


def empty(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("TRUNCATE cj_batch_uploads, inbox, dead_letters RESTART IDENTITY CASCADE"))


def plan(session: Session, batches: int, each: int, essays: int = 12) -> list[int]:
    """Store `batches` of `each` planned comparisons that are due now; return their ids."""
    texts = list(islice(cycle(demo_essays().values()), essays))
    shared = {"batches": batches, "essays": essays, "assignment": demo_assignment(), "texts": texts, "each": each}
    values: dict[str, Any] = {**shared, "configuration": to_json(CONFIGURATION).decode()}
    ids = list(session.scalars(_UPLOADS, values))
    for statement in (_ESSAYS, _COMPARISONS, _STATES):
        session.execute(statement, {**values, "ids": ids})
    return ids


def in_flight(session: Session) -> int:
    return _count(session, ComparisonStatus.IN_FLIGHT)


def planned(session: Session) -> int:
    return _count(session, ComparisonStatus.PLANNED)


def _count(session: Session, status: ComparisonStatus) -> int:
    return session.scalar(select(func.count()).where(ComparisonPair.status == status)) or 0


def settle(database: Database) -> None:
    """Leave nothing of the seeding for the measured time: no checkpoint, no analysis."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in ("CHECKPOINT", "VACUUM ANALYZE"):
            connection.execute(text(statement))
