"""Live batches with comparisons in flight, made in SQL: as if all had been planned, asked and accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from cjtasks.store.session import Database

BATCHES = 1000
SPARE = 0.15
"""The share of comparisons that stay open, so that no batch is ever complete and only the path is measured."""

# A hundred comparisons of each batch lie beside each other, as one iteration stores them.
_STATEMENTS = (
    "SET LOCAL statement_timeout = 0",
    "TRUNCATE cj_batch_uploads, inbox, dead_letters RESTART IDENTITY CASCADE",
    """
    INSERT INTO cj_batch_uploads
        (bos_batch_id, event_correlation_id, language, course_code, expected_essay_count, configuration)
    SELECT 'batch-' || number, gen_random_uuid(), 'en', 'ENG5', 30, '{}' FROM generate_series(1, :batches) AS number
    """,
    """
    INSERT INTO cj_batch_states
        (batch_id, state, total_budget, total_comparisons, submitted_comparisons, next_action, next_action_at,
         current_iteration)
    SELECT id, 'WAITING_CALLBACKS', :each, :each, :each, 'check', now() + interval '1 hour', 1 FROM cj_batch_uploads
    """,
    """
    INSERT INTO cj_comparison_pairs
        (cj_batch_id, iteration, ordinal, essay_a_els_id, essay_b_els_id, request_correlation_id, status, attempt,
         next_attempt_at, request_id, prompt_sha256, submitted_at)
    SELECT batch.id, 1, ordinal, gen_random_uuid(), gen_random_uuid(), uuidv7(), 'in_flight', 1,
        now(), gen_random_uuid(), encode(sha256(int8send(random(0, 9007199254740992)::int8)), 'hex'), now()
    FROM generate_series(1, :each) AS ordinal, cj_batch_uploads AS batch
    ORDER BY ordinal / 100, batch.id, ordinal
    """,
)


def seed(database: Database, answers: int) -> None:
    """Replace all batches by fresh ones that wait for more answers than will come."""
    each = int(answers / BATCHES / (1 - SPARE)) + 1
    # No checkpoint may fall into the measured time by chance. It comes before the rows and not after, because a
    # comparison's page was written by its submission a moment before its answer comes.
    _alone(database, "CHECKPOINT")
    with database.transaction() as session:
        for statement in _STATEMENTS:
            session.execute(text(statement), {"batches": BATCHES, "each": each})
    _alone(database, "VACUUM ANALYZE")


def _alone(database: Database, statement: str) -> None:
    """Run what takes long and allows no transaction around it."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(statement))
        connection.execute(text("RESET statement_timeout"))
