"""Finished batches with all that they leave behind, made in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from cjtasks.store.session import Database

EACH = 100
"""How many comparisons a finished batch has."""

_STATEMENTS = (
    "SET LOCAL statement_timeout = 0",
    """
    INSERT INTO cj_batch_uploads
        (bos_batch_id, event_correlation_id, language, course_code, expected_essay_count, configuration, completed_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'en', 'ENG5', 12, '{}', now() FROM generate_series(1, :batches)
    """,
    """
    INSERT INTO cj_batch_states
        (batch_id, state, total_budget, total_comparisons, submitted_comparisons, completed_comparisons,
         current_iteration, stop_reason)
    SELECT id, 'COMPLETED', :each, :each, :each, :each, 1, 'budget' FROM cj_batch_uploads
    """,
    """
    INSERT INTO cj_processed_essays (cj_batch_id, els_essay_id, position, text_storage_id, assessment_input_text)
    SELECT batch.id, 'essay-' || number, number, gen_random_uuid(), repeat('A thought. ', 100)
    FROM cj_batch_uploads AS batch, generate_series(1, 12) AS number
    """,
    """
    INSERT INTO cj_comparison_pairs
        (cj_batch_id, iteration, ordinal, essay_a_els_id, essay_b_els_id, request_correlation_id, status, attempt,
         next_attempt_at, request_id, submitted_at, completed_at, judged_at, winner, confidence, justification,
         provider, model, prompt_sha256)
    SELECT batch.id, 1, ordinal, 'essay-' || ordinal % 12 + 1, 'essay-' || (ordinal + 1) % 12 + 1, uuidv7(),
        'completed', 1, now(), gen_random_uuid(), now(), now(), now(), 'essay_a', 3, repeat('It argues. ', 15),
        'openai', 'gpt-5.1', repeat('0', 64)
    FROM cj_batch_uploads AS batch, generate_series(1, :each) AS ordinal
    """,
    """
    INSERT INTO event_outbox
        (batch_id, subject, kind, version, event_id, event_type, topic, key, payload, published_at)
    SELECT id, id::text, kind, 1, gen_random_uuid(), kind, kind, id::text, repeat('x', 2000)::bytea, now()
    FROM cj_batch_uploads, unnest(ARRAY['completed', 'result', 'consumption']) AS kind
    """,
    """
    INSERT INTO inbox (kind, topic, partitions, offsets, payloads, next_attempt_at, done_at)
    SELECT 'callback', 'answers', array_agg(0), array_agg(number), repeat('x', 65000)::bytea, now(), now()
    FROM generate_series(1, :batches * :each) AS number GROUP BY number / 50
    """,
)


def fill(database: Database, comparisons: int) -> None:
    """Store so many judged comparisons with their batches, essays, events and messages."""
    with database.transaction() as session:
        for statement in _STATEMENTS:
            session.execute(text(statement), {"batches": comparisons // EACH, "each": EACH})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))
        connection.execute(text("RESET statement_timeout"))
