"""The end of a good batch: scores, snapshot and events are written together and once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import score
from cjtasks.store.models import CJBatchState, ComparisonPair, OutboxEvent, ScoreSnapshot
from tests.checks import assert_consistent, assert_valid
from tests.factories import batch_in, comparisons

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

S = ComparisonStatus


def ready(database: Database, essays: int = 4, judged: int = 12) -> Bell:
    """Store a batch in which the essay with the lower number won each comparison."""
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.SCORING, essays, stop_reason="no_pair_left")
        for pair in comparisons(session, state, judged, S.COMPLETED, provider="anthropic", model="judge-2"):
            pair.winner = "essay_a" if pair.essay_a_els_id < pair.essay_b_els_id else "essay_b"
        return Bell(Work.SCORE, state.batch_id)


def events(database: Database) -> dict[str, dict[str, Any]]:
    with database.transaction() as session:
        rows = session.scalars(select(OutboxEvent).order_by(OutboxEvent.id)).all()
    told = {row.kind: json.loads(row.payload) for row in rows}
    assert len(told) == len(rows)
    for kind, envelope in told.items():
        assert_valid(kind, envelope)
    return {kind: envelope["data"] for kind, envelope in told.items()}


def look(database: Database, bell: Bell) -> CJBatchState:
    assert bell.batch_id is not None
    with database.transaction() as session:
        assert_consistent(session, bell.batch_id)
        state = session.get_one(CJBatchState, bell.batch_id)
        assert state.batch_upload.essays is not None
        return state


def test_a_batch_ends_with_scores_a_snapshot_and_three_events(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    bell = ready(database)
    clock.advance(timedelta(seconds=90))

    assert score.score(runtime, bell) == []

    state = look(database, bell)
    assert (state.state, state.stop_reason) == (BatchStateEnum.COMPLETED, "no_pair_left")
    essays = state.batch_upload.essays
    scores = [essay.current_bt_score for essay in essays]
    assert scores == sorted((one for one in scores if one is not None), reverse=True)
    assert [essay.comparison_count for essay in essays] == [6] * 4
    told = events(database)
    assert list(told) == ["completed", "result", "consumption"]
    assert [one["rank"] for one in told["result"]["essay_results"]] == [1, 2, 3, 4]
    assert [one["bt_score"] for one in told["result"]["essay_results"]] == scores
    assert (told["result"]["model_provider"], told["result"]["model_used"]) == ("anthropic", "judge-2")
    assert told["consumption"]["quantity"] == 12
    summary = told["completed"]["processing_summary"]
    assert (summary["successful"], summary["failed"], summary["processing_time_seconds"]) == (4, 0, 90.0)
    with database.transaction() as session:
        snapshot = session.scalars(select(ScoreSnapshot)).one()
        assert (snapshot.kind, snapshot.comparisons, snapshot.components) == ("final", 12, 1)
        assert list(snapshot.scores.values()) == scores


def test_the_final_snapshot_says_how_sure_the_ranking_is(runtime: Runtime, database: Database) -> None:
    bell = ready(database, 8, 56)

    score.score(runtime, bell)

    essays = look(database, bell).batch_upload.essays
    with database.transaction() as session:
        kept = session.scalars(select(ScoreSnapshot)).one()
        assert kept.standard_errors == {essay.els_essay_id: essay.current_bt_se for essay in essays}
    assert kept.scores["essay-0"] == max(kept.scores.values())
    assert kept.rank_intervals["essay-0"][0] == 1
    assert all(1 <= low <= high <= 8 for low, high in kept.rank_intervals.values())
    assert kept.reliability is not None
    assert kept.reliability_q25 is not None
    assert kept.ssr is not None
    assert 0.8 < kept.reliability_q25 <= kept.reliability < 1
    assert (kept.differences_are_real, kept.certainty) == (True, "enough")
    assert kept.words[0] == "Enough: the ranking can be relied on."
    assert kept.side_effect == pytest.approx(0, abs=0.1), "each pair was asked both ways round, with the same winner"
    assert kept.side_effect_se is not None


def test_what_a_language_model_says_twice_counts_once(runtime: Runtime, database: Database) -> None:
    once, twice = ready(database, 6, 30), ready(database, 6, 30)
    with database.transaction() as session:
        state = session.get_one(CJBatchState, twice.batch_id)
        for pair in comparisons(session, state, 30, S.COMPLETED):
            pair.winner = "essay_a" if pair.essay_a_els_id < pair.essay_b_els_id else "essay_b"

    score.score(runtime, once)
    score.score(runtime, twice)

    errors = [[essay.current_bt_se for essay in look(database, bell).batch_upload.essays] for bell in (once, twice)]
    assert errors[0] == pytest.approx(errors[1])


def test_of_fewer_than_six_essays_no_reliability_is_kept(runtime: Runtime, database: Database) -> None:
    bell = ready(database)

    score.score(runtime, bell)

    with database.transaction() as session:
        kept = session.scalars(select(ScoreSnapshot)).one()
    assert (kept.reliability, kept.reliability_q25, kept.differences_are_real, kept.certainty) == (None,) * 4
    assert kept.words[0] == "Nothing can be claimed about this ranking."
    assert len(kept.scores) == len(kept.rank_intervals) == 4


def test_answers_that_came_too_late_change_no_score(runtime: Runtime, database: Database) -> None:
    bell = ready(database)
    with database.transaction() as session:
        late = session.scalars(select(ComparisonPair).limit(4)).all()
        for pair in late:
            pair.late, pair.winner = True, "essay_b"
        session.get_one(CJBatchState, bell.batch_id).completed_comparisons -= len(late)

    score.score(runtime, bell)

    look(database, bell)
    told = events(database)
    assert told["consumption"]["quantity"] == told["result"]["assessment_metadata"]["comparison_count"] == 8


@pytest.mark.parametrize(("texts", "status"), [(0, "failed_critically"), (1, "completed_successfully")])
def test_too_few_texts_end_cleanly_with_three_events(
    runtime: Runtime, database: Database, texts: int, status: str
) -> None:
    bell = ready(database, 3, 0)
    with database.transaction() as session:
        state = session.get_one(CJBatchState, bell.batch_id)
        state.stop_reason = None
        for essay in state.batch_upload.essays[texts:]:
            essay.assessment_input_text, essay.fetch_error = None, "RESOURCE_NOT_FOUND"

    score.score(runtime, bell)

    assert look(database, bell).stop_reason == "too_few_essays"
    told = events(database)
    assert list(told) == ["completed", "result", "consumption"]
    summary = told["completed"]["processing_summary"]
    assert (told["completed"]["status"], summary["single_essay_batch"]) == (status, texts == 1)
    assert len(summary["successful_essay_ids"]) == len(told["result"]["essay_results"]) == texts
    assert summary["failed_essay_reasons"] == dict.fromkeys(summary["failed_essay_ids"], "RESOURCE_NOT_FOUND")


def test_an_essay_without_a_verdict_is_ranked_last_and_named_as_failed(runtime: Runtime, database: Database) -> None:
    bell = ready(database, 4, 0)
    with database.transaction() as session:
        state = session.get_one(CJBatchState, bell.batch_id)
        comparisons(session, state, 12, S.COMPLETED)
        for pair in session.scalars(select(ComparisonPair)):
            if "essay-0" in {pair.essay_a_els_id, pair.essay_b_els_id}:
                session.delete(pair)
        state.total_comparisons = state.submitted_comparisons = state.completed_comparisons = 6

    score.score(runtime, bell)

    assert look(database, bell).batch_upload.essays[0].current_bt_score is None
    told = events(database)
    last = told["result"]["essay_results"][-1]
    assert (last["essay_id"], last["bt_score"], last["rank"]) == ("essay-0", 0.0, 4)
    assert told["completed"]["processing_summary"]["failed_essay_ids"] == ["essay-0"]


def test_nobody_is_charged_where_nobody_is_named(runtime: Runtime, database: Database) -> None:
    bell = ready(database)
    with database.transaction() as session:
        session.get_one(CJBatchState, bell.batch_id).batch_upload.user_id = None

    score.score(runtime, bell)

    look(database, bell)
    assert list(events(database)) == ["completed", "result"]


def test_workers_that_hear_the_same_bell_score_once(runtime: Runtime, database: Database) -> None:
    bell = ready(database)
    start = Barrier(3)

    def run(_: int) -> list[Bell]:
        start.wait()
        return score.score(runtime, bell)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(run, range(3))) == [[], [], []]
    assert look(database, bell).version == 2
    assert len(events(database)) == 3


def test_a_batch_that_was_ended_meanwhile_is_not_scored(runtime: Runtime, database: Database) -> None:
    bell = ready(database)
    with database.transaction() as session:
        state = session.get_one(CJBatchState, bell.batch_id)
        state.state, state.next_action, state.next_action_at = BatchStateEnum.CANCELLED, None, None

    assert score.score(runtime, bell) == []

    assert events(database) == {}
