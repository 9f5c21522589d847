"""Batches whose comparisons are all judged, due to be scored at one moment: `python -m bench.scoring.batches`."""

from __future__ import annotations

import sys
import time

from sqlalchemy import text

from cjtasks.settings import settings
from cjtasks.store.session import Database

ESSAYS = 12

_STATEMENTS = (
    """
    CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
    WITH stored AS (
        INSERT INTO cj_batch_uploads
            (bos_batch_id, event_correlation_id, language, course_code, expected_essay_count, user_id, configuration)
        SELECT gen_random_uuid(), gen_random_uuid(), 'en', 'ENG5', :essays, 'teacher',
            '{"provider": "openai", "model": "gpt-5.1", "temperature": 0.1}'
        FROM generate_series(1, :batches)
        RETURNING id
    ) SELECT id FROM stored
    """,
    """
    INSERT INTO cj_batch_states
        (batch_id, state, total_budget, total_comparisons, submitted_comparisons, completed_comparisons, next_action,
         next_action_at, current_iteration)
    SELECT id, 'SCORING', 96, 96, 96, 96, 'score', now() + :seconds * interval '1 second', 2 FROM fresh
    """,
    """
    INSERT INTO cj_processed_essays (cj_batch_id, els_essay_id, position, text_storage_id, assessment_input_text)
    SELECT id, 'essay-' || number, number, gen_random_uuid(), 'A thought.'
    FROM fresh, generate_series(0, :essays - 1) AS number
    """,
    # The time of the verdict is left out, because the bench of the callbacks counts its own answers by it.
    """
    INSERT INTO cj_comparison_pairs
        (cj_batch_id, iteration, ordinal, essay_a_els_id, essay_b_els_id, request_correlation_id, status, attempt,
         next_attempt_at, request_id, submitted_at, completed_at, winner, provider, model)
    SELECT id, 1, ordinal, 'essay-' || ordinal % :essays, 'essay-' || (ordinal + 1 + ordinal / :essays) % :essays,
        uuidv7(), 'completed', 1, now(), gen_random_uuid(), now(), now(),
        CASE WHEN random() < 0.7 THEN 'essay_a' ELSE 'essay_b' END, 'openai', 'gpt-5.1'
    FROM fresh, generate_series(0, 95) AS ordinal
    """,
)


def main(batches: int, seconds: float) -> None:
    database = Database(settings().DATABASE_URL)
    with database.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = 0"))
        for statement in _STATEMENTS:
            session.execute(text(statement), {"batches": batches, "essays": ESSAYS, "seconds": seconds})
    database.close()
    while True:
        # The supervisor of the bench takes an end for a failure.
        time.sleep(60)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
