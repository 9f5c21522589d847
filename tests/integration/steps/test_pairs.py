"""Between two iterations: what is planned, when it stops, and that it is planned once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import mean
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import pairs
from cjtasks.store import batches
from cjtasks.store.models import CJBatchState, CJBatchUpload, ComparisonPair, ScoreSnapshot
from tests.checks import assert_consistent
from tests.factories import NOW, batch_in, comparisons

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

GENERATING = BatchStateEnum.GENERATING_PAIRS
S = ComparisonStatus


def ready(database: Database, essays: int = 8, judged: int = 0, failed: int = 0, **columns: Any) -> Bell:
    with database.transaction() as session:
        state = batch_in(session, GENERATING, essays, **columns)
        if judged:
            comparisons(session, state, judged, S.COMPLETED)
            comparisons(session, state, failed, S.FAILED)
        return Bell(Work.ADVANCE, state.batch_id)


def look(database: Database, bell: Bell) -> tuple[CJBatchState, list[ComparisonPair]]:
    assert bell.batch_id is not None
    with database.transaction() as session:
        assert_consistent(session, bell.batch_id)
        rows = session.scalars(select(ComparisonPair).order_by(ComparisonPair.iteration, ComparisonPair.ordinal))
        return session.get_one(CJBatchState, bell.batch_id), list(rows)


def test_the_first_iteration_shows_each_essay_four_times_on_each_side(runtime: Runtime, database: Database) -> None:
    bell = ready(database)

    assert pairs.advance(runtime, bell) == [Bell(Work.SUBMIT)]

    state, rows = look(database, bell)
    assert (state.state, state.total_comparisons, state.current_iteration) == (BatchStateEnum.WAITING_CALLBACKS, 32, 1)
    assert [row.ordinal for row in rows] == list(range(32))
    assert {(row.status, row.iteration, row.next_attempt_at) for row in rows} == {(S.PLANNED, 1, NOW)}
    assert len({row.request_correlation_id for row in rows}) == 32
    for side in ("essay_a_els_id", "essay_b_els_id"):
        shown = [getattr(row, side) for row in rows]
        assert {shown.count(essay) for essay in shown} == {4}


def test_the_next_iteration_asks_only_what_was_not_asked(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    bell = ready(database)
    pairs.advance(runtime, bell)
    answer_all(database, clock)

    assert pairs.advance(runtime, bell) == [Bell(Work.SUBMIT)]

    state, rows = look(database, bell)
    assert (state.total_comparisons, state.current_iteration) == (40, 2)
    assert len({(row.essay_a_els_id, row.essay_b_els_id) for row in rows}) == 40
    with database.transaction() as session:
        snapshot = session.scalars(select(ScoreSnapshot)).one()
        assert (snapshot.kind, snapshot.comparisons, snapshot.iteration) == ("interim", 32, 1)


def test_the_next_iteration_brings_essays_together_whose_scores_are_close(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    bell = ready(database, essays=20)
    pairs.advance(runtime, bell)
    answer_all(database, clock)
    pairs.advance(runtime, bell)

    _, rows = look(database, bell)
    first, second = (
        [abs(number(row.essay_a_els_id) - number(row.essay_b_els_id)) for row in rows if row.iteration == iteration]
        for iteration in (1, 2)
    )
    assert len(second) == 20
    assert mean(second) < 0.7 * mean(first)


def test_verdicts_choose_the_next_pairs(runtime: Runtime, database: Database) -> None:
    first_wins, second_wins, failed, again = (
        wave_after(runtime, database, status, winner)
        for status, winner in ((S.COMPLETED, "essay_a"), (S.COMPLETED, "essay_b"), (S.FAILED, None), (S.FAILED, None))
    )
    assert first_wins != second_wins
    assert failed == again
    assert failed not in (first_wins, second_wins)


def wave_after(
    runtime: Runtime, database: Database, status: ComparisonStatus, winner: str | None
) -> list[tuple[str, str]]:
    """Let a third of all pairs of eight essays end like this, and return which are asked next."""
    bell = ready(database)
    with database.transaction() as session:
        state = session.get_one(CJBatchState, bell.batch_id)
        state.batch_upload.bos_batch_id = state.batch_upload.event_correlation_id = "always-the-same"
        comparisons(session, state, 18, status, winner=winner)
    pairs.advance(runtime, bell)
    _, rows = look(database, bell)
    with database.transaction() as session:
        session.delete(session.get_one(CJBatchUpload, bell.batch_id))
    return [(row.essay_a_els_id, row.essay_b_els_id) for row in rows if row.iteration == 2]


def number(essay: str) -> int:
    return int(essay.removeprefix("essay-"))


def answer_all(database: Database, clock: SettableClock) -> None:
    """Let the essay with the lower number win each open comparison, and make the batch ready for its next step."""
    with database.transaction() as session:
        state = session.scalars(select(CJBatchState)).one()
        for pair in session.scalars(select(ComparisonPair).where(ComparisonPair.status == S.PLANNED)):
            pair.status, pair.submitted_at = S.COMPLETED, clock()
            pair.winner = "essay_a" if number(pair.essay_a_els_id) < number(pair.essay_b_els_id) else "essay_b"
        state.submitted_comparisons = state.completed_comparisons = state.total_comparisons
        state.state, state.next_action = GENERATING, Work.ADVANCE


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"total_budget": 30, "judged": 30}, "budget_spent"),
        ({"current_iteration": 5, "judged": 30}, "max_iterations"),
        ({"essays": 4, "judged": 12}, "no_pair_left"),
        ({"judged": 0, "total_budget": 0}, "budget_spent"),
    ],
)
def test_a_batch_stops_for_a_reason(runtime: Runtime, database: Database, columns: dict[str, Any], reason: str) -> None:
    bell = ready(database, **columns)

    assert pairs.advance(runtime, bell) == [Bell(Work.SCORE, bell.batch_id)]

    state, _ = look(database, bell)
    assert (state.state, state.stop_reason) == (BatchStateEnum.SCORING, reason)


def test_a_batch_stops_when_its_scores_stand_still(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    bell = ready(database)
    pairs.advance(runtime, bell)
    answer_all(database, clock)
    pairs.advance(runtime, bell)
    with database.transaction() as session:
        state = session.scalars(select(CJBatchState)).one()
        for pair in session.scalars(select(ComparisonPair).where(ComparisonPair.status == S.PLANNED)):
            pair.status, pair.error_code = S.FAILED, "TIMEOUT"
        state.failed_comparisons = 8
        state.state, state.next_action = GENERATING, Work.ADVANCE

    assert pairs.advance(runtime, bell) == [Bell(Work.SCORE, bell.batch_id)]

    assert look(database, bell)[0].stop_reason == "scores_stable"


@pytest.mark.parametrize("target", [0.9, 0.0])
def test_a_batch_stops_when_its_ranking_is_sure_enough(
    runtime: Runtime, database: Database, clock: SettableClock, target: float
) -> None:
    aiming = replace(runtime, settings=runtime.settings.model_copy(update={"RELIABILITY_TARGET": target}))
    bell = ready(database, essays=20)
    for _ in range(2):
        pairs.advance(aiming, bell)
        answer_all(database, clock)

    pairs.advance(aiming, bell)

    assert look(database, bell)[0].stop_reason == ("reliability_reached" if target else None)


def test_a_small_budget_is_never_exceeded(runtime: Runtime, database: Database) -> None:
    bell = ready(database, total_budget=9)

    pairs.advance(runtime, bell)

    state, rows = look(database, bell)
    assert (state.total_comparisons, len(rows)) == (9, 9)


def test_essays_without_a_text_are_not_compared(runtime: Runtime, database: Database) -> None:
    bell = ready(database, 6)
    with database.transaction() as session:
        essay = session.get_one(CJBatchState, bell.batch_id).batch_upload.essays[2]
        essay.assessment_input_text, missing = None, essay.els_essay_id

    pairs.advance(runtime, bell)

    _, rows = look(database, bell)
    assert len(rows) == 20
    assert missing not in {essay for row in rows for essay in (row.essay_a_els_id, row.essay_b_els_id)}


def planned_for(runtime: Runtime, database: Database, batch: str, correlation: str) -> list[tuple[str, str]]:
    """Plan the first iteration of a request, take it away again, and return its pairs."""
    bell = ready(database)
    with database.transaction() as session:
        upload = session.get_one(CJBatchState, bell.batch_id).batch_upload
        upload.bos_batch_id, upload.event_correlation_id = batch, correlation
    pairs.advance(runtime, bell)
    _, rows = look(database, bell)
    with database.transaction() as session:
        session.delete(session.get_one(CJBatchUpload, bell.batch_id))
    return [(row.essay_a_els_id, row.essay_b_els_id) for row in rows]


def test_the_same_request_gets_the_same_pairs_and_another_request_others(runtime: Runtime, database: Database) -> None:
    first = planned_for(runtime, database, "batch", "request")

    assert planned_for(runtime, database, "batch", "request") == first
    assert planned_for(runtime, database, "batch", "another") != first


def test_workers_that_hear_the_same_bell_plan_once(runtime: Runtime, database: Database) -> None:
    bell = ready(database)
    start = Barrier(3)

    def run(_: int) -> list[Bell]:
        start.wait()
        return pairs.advance(runtime, bell)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(len(bells) for bells in pool.map(run, range(3))) == [0, 0, 1]
    assert len(look(database, bell)[1]) == 32


def test_a_worker_whose_lease_ran_out_writes_nothing_after_its_successor(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    bell = ready(database)
    with database.transaction() as session:
        taken = batches.claim(session, bell, clock(), pairs.LEASE)
    assert taken is not None

    clock.advance(pairs.LEASE)
    assert pairs.advance(runtime, bell) == [Bell(Work.SUBMIT)]

    with database.transaction() as session:
        assert batches.reclaim(session, taken) is None
