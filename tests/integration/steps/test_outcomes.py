"""What the provider said at once is recorded where the claim still holds, also when the answer was faster."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from pydantic_core import from_json
from sqlalchemy import select

from cjtasks.clients.llm_provider import Submission
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.errors import ProviderRefused, ProviderRejected
from cjtasks.steps import answers, outcomes
from cjtasks.steps.outcomes import Outcome
from cjtasks.store import claims, gate
from cjtasks.store.models import CJBatchState, ComparisonPair, InboxRow
from tests.checks import assert_consistent, counted, counters_of
from tests.factories import NOW, batch_in, comparisons, failure, messages, success

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

WAITING = BatchStateEnum.WAITING_CALLBACKS
S = ComparisonStatus
ACCEPTED = Submission("queue-7", None)


def claimed(database: Database) -> ComparisonPair:
    with database.transaction() as session:
        # As the claim leaves its batch: the submitter must be gone before anybody else is asked to look.
        state = batch_in(session, WAITING, next_action_at=NOW + claims.LEASE)
        comparisons(session, state, 1, S.IN_FLIGHT)
        return comparisons(session, state, 1, S.CLAIMED)[0]


def refused(*, closes_gate: bool = False, retry_after: float | None = None) -> ProviderRefused:
    error = ProviderRefused.of("not now", operation="test")
    error.closes_gate, error.retry_after = closes_gate, retry_after
    return error


def record(
    runtime: Runtime,
    pair: ComparisonPair,
    said: Submission | ProviderRefused | ProviderRejected | None,
    token: UUID | None = None,
) -> list[Bell]:
    outcome = Outcome(pair.id, pair.cj_batch_id, "a-digest")
    if isinstance(said, Submission):
        outcome = Outcome(pair.id, pair.cj_batch_id, "a-digest", submission=said)
    elif said is not None:
        outcome = Outcome(pair.id, pair.cj_batch_id, "a-digest", error=said)
    with runtime.database.transaction() as session:
        held = session.get_one(ComparisonPair, pair.id).claim_token
        return outcomes.record(runtime, session, token or held or uuid4(), [outcome])


def answer(runtime: Runtime, *payloads: bytes) -> None:
    with runtime.database.transaction() as session:
        answers.record(runtime, session, messages(*payloads))


def look(database: Database, pair: ComparisonPair) -> tuple[CJBatchState, ComparisonPair]:
    with database.transaction() as session:
        assert_consistent(session, pair.cj_batch_id)
        return session.get_one(CJBatchState, pair.cj_batch_id), session.get_one(ComparisonPair, pair.id)


def test_an_accepted_comparison_is_in_flight(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    pair = claimed(database)
    clock.advance(timedelta(seconds=2))

    assert record(runtime, pair, ACCEPTED) == []

    state, row = look(database, pair)
    assert (row.status, row.attempt, row.request_id, row.submitted_at) == (S.IN_FLIGHT, 1, "queue-7", clock())
    assert (row.claim_token, row.lease_until, row.prompt_sha256) == (None, None, "a-digest")
    assert (state.submitted_comparisons, state.last_activity_at) == (2, clock())
    assert (state.next_action, state.next_action_at) == (Work.CHECK, NOW + timedelta(minutes=30))


def test_a_second_acceptance_is_no_activity(runtime: Runtime, database: Database, clock: SettableClock) -> None:
    pair = claimed(database)
    with database.transaction() as session:
        session.get_one(ComparisonPair, pair.id).submitted_at = NOW
        session.get_one(CJBatchState, pair.cj_batch_id).submitted_comparisons += 1
    clock.advance(timedelta(seconds=2))

    record(runtime, pair, ACCEPTED)

    state, _ = look(database, pair)
    assert (state.submitted_comparisons, state.last_activity_at) == (2, NOW)


def test_an_outcome_of_a_claim_that_another_submitter_took_over_is_ignored(
    runtime: Runtime, database: Database
) -> None:
    pair = claimed(database)

    record(runtime, pair, ACCEPTED, token=uuid4())

    _, row = look(database, pair)
    assert (row.status, row.attempt, row.request_id, row.claim_token) == (S.CLAIMED, 0, None, pair.claim_token)


def test_a_refusal_uses_up_no_attempt_and_is_no_activity(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    pair = claimed(database)
    clock.advance(timedelta(seconds=2))

    record(runtime, pair, refused())

    state, row = look(database, pair)
    assert (row.status, row.attempt, row.refusals, row.submitted_at) == (S.PLANNED, 0, 1, None)
    assert timedelta(seconds=4) <= row.next_attempt_at - clock() <= timedelta(seconds=5)
    assert (state.next_action, state.next_action_at) == (Work.SUBMIT, row.next_attempt_at)
    assert state.last_activity_at == NOW


def test_a_refusal_that_says_for_how_long_is_believed(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)

    record(runtime, pair, refused(retry_after=600))

    _, row = look(database, pair)
    assert timedelta(seconds=600) <= row.next_attempt_at - NOW <= timedelta(seconds=750)


def test_what_was_not_sent_is_planned_again_at_once(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)

    record(runtime, pair, None)

    _, row = look(database, pair)
    assert (row.status, row.refusals, row.next_attempt_at) == (S.PLANNED, 0, NOW)


def test_a_rejected_comparison_fails_with_its_code(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)

    record(runtime, pair, ProviderRejected.of("no", operation="test", code="AUTHENTICATION_ERROR"))

    state, row = look(database, pair)
    assert (row.status, row.error_code, row.submitted_at) == (S.FAILED, "AUTHENTICATION_ERROR", None)
    assert (state.failed_comparisons, state.submitted_comparisons) == (1, 1)


def test_a_verdict_that_overtook_its_202_stays(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)
    answer(runtime, success(pair))

    record(runtime, pair, ACCEPTED)

    state, row = look(database, pair)
    assert (row.status, row.winner, row.request_id, row.claim_token) == (S.COMPLETED, "essay_a", "queue-7", None)
    assert (state.submitted_comparisons, state.completed_comparisons) == (2, 1)


@pytest.mark.parametrize("said", [refused(), None], ids=["refused", "not sent"])
def test_a_verdict_stays_though_its_request_seemed_refused(
    runtime: Runtime, database: Database, said: ProviderRefused | None
) -> None:
    pair = claimed(database)
    answer(runtime, success(pair))

    record(runtime, pair, said)

    assert look(database, pair)[1].status is S.COMPLETED


def test_a_held_error_takes_effect_with_its_202(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)
    answer(runtime, failure(pair, "RATE_LIMIT", request_id="queue-7"))

    record(runtime, pair, ACCEPTED)

    state, row = look(database, pair)
    assert (row.status, row.attempt, row.error_code) == (S.PLANNED, 1, "RATE_LIMIT")
    assert timedelta(seconds=4) <= row.next_attempt_at - NOW <= timedelta(seconds=5)
    assert (state.submitted_comparisons, state.failed_comparisons) == (2, 0)


def test_a_held_error_that_cannot_improve_fails_the_comparison(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)
    answer(runtime, failure(pair, "QUOTA_EXCEEDED", request_id="queue-7"))

    record(runtime, pair, ACCEPTED)

    state, row = look(database, pair)
    assert (row.status, state.failed_comparisons) == (S.FAILED, 1)


def test_a_held_error_of_another_request_has_no_effect(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)
    answer(runtime, failure(pair, "QUOTA_EXCEEDED", request_id="the-one-before"))

    record(runtime, pair, ACCEPTED)

    assert look(database, pair)[1].status is S.IN_FLIGHT


def test_an_answer_in_the_response_goes_the_way_of_every_callback(runtime: Runtime, database: Database) -> None:
    pair = claimed(database)
    data = from_json(success(pair, request_id="at-once"))["data"]

    assert record(runtime, pair, Submission(None, data)) == [Bell(Work.INBOX)]

    assert look(database, pair)[1].request_id == "at-once"
    with database.transaction() as session:
        (row,) = session.scalars(select(InboxRow))
    answer(runtime, *row.payloads)
    assert look(database, pair)[1].status is S.COMPLETED


def test_what_a_batch_that_has_ended_still_costs_is_recorded(runtime: Runtime, database: Database) -> None:
    with database.transaction() as session:
        state = batch_in(session, BatchStateEnum.FAILED)
        accepted, held, rejected = comparisons(session, state, 3, S.CLAIMED)
    answer(runtime, failure(held, "RATE_LIMIT", request_id="queue-7"))
    for pair in (accepted, held):
        record(runtime, pair, ACCEPTED)
    record(runtime, rejected, ProviderRejected.of("no", operation="test"))

    with database.transaction() as session:
        rows = session.scalars(select(ComparisonPair).order_by(ComparisonPair.ordinal)).all()
        after = session.get_one(CJBatchState, state.batch_id)
        assert [(row.status, row.late) for row in rows] == [(S.IN_FLIGHT, False), (S.FAILED, True), (S.FAILED, True)]
        assert counters_of(after) == counted(rows) == {"total": 3, "submitted": 2, "completed": 0, "failed": 0}
        assert after.next_action is None


def admitted(database: Database, now: timedelta = timedelta()) -> int:
    with database.transaction() as session:
        return gate.admitted(session, NOW + now, 64)


def test_a_full_provider_closes_the_gate_and_any_other_refusal_does_not(runtime: Runtime, database: Database) -> None:
    record(runtime, claimed(database), refused())
    assert admitted(database) == 64

    record(runtime, claimed(database), refused(closes_gate=True, retry_after=100))
    assert admitted(database, timedelta(seconds=99)) == 0


@pytest.mark.parametrize("said", [ACCEPTED, ProviderRejected.of("no", operation="test")], ids=["accepted", "rejected"])
def test_a_probe_that_was_looked_at_opens_the_gate(
    runtime: Runtime, database: Database, said: Submission | ProviderRejected
) -> None:
    pair = claimed(database)
    with database.transaction() as session:
        gate.close(session, NOW, None)

    record(runtime, pair, said)

    assert admitted(database) == 64
