"""Sending what is planned to a provider that answers over HTTP."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Work
from cjtasks.steps import submit
from cjtasks.store.models import CJBatchState, ComparisonPair, ProviderGate
from cjtasks.testing import eager_platform
from tests.checks import assert_consistent
from tests.factories import batch_in, comparisons

if TYPE_CHECKING:
    from cjtasks.testing import EagerPlatform

WAITING = BatchStateEnum.WAITING_CALLBACKS
S = ComparisonStatus


def planned(platform: EagerPlatform, count: int, **columns: Any) -> int:
    with platform.runtime.database.transaction() as session:
        state = batch_in(session, WAITING, essays=12)
        comparisons(session, state, count, S.PLANNED, **columns)
        return state.batch_id


def statuses(platform: EagerPlatform, batch_id: int) -> Counter[S]:
    with platform.runtime.database.transaction() as session:
        assert_consistent(session, batch_id)
        rows = session.scalars(select(ComparisonPair.status).where(ComparisonPair.cj_batch_id == batch_id))
        return Counter(rows)


def state_of(platform: EagerPlatform, batch_id: int) -> CJBatchState:
    with platform.runtime.database.transaction() as session:
        return session.get_one(CJBatchState, batch_id)


def first_pair(platform: EagerPlatform, batch_id: int) -> ComparisonPair:
    with platform.runtime.database.transaction() as session:
        rows = select(ComparisonPair).where(ComparisonPair.cj_batch_id == batch_id).order_by(ComparisonPair.ordinal)
        return session.scalars(rows).first() or ComparisonPair()


def answer_to_one(platform: EagerPlatform) -> dict[str, Any]:
    while platform.provider.stats()["pending"]:
        time.sleep(0.002)
    (payload,) = platform._callbacks
    return dict(json.loads(payload)["data"])


def test_all_that_is_planned_in_all_batches_is_sent_up_to_their_caps(eager_cj: EagerPlatform) -> None:
    large, small = planned(eager_cj, 110), planned(eager_cj, 7)

    assert submit.submit(eager_cj.runtime) == []

    assert statuses(eager_cj, large) == {S.IN_FLIGHT: 100, S.PLANNED: 10}
    assert statuses(eager_cj, small) == {S.IN_FLIGHT: 7}
    assert eager_cj.provider.stats()["accepted"] == 107
    assert [state_of(eager_cj, one).next_action for one in (large, small)] == [Work.SUBMIT, Work.CHECK]


def test_the_answer_can_find_its_way_back(eager_cj: EagerPlatform) -> None:
    batch_id = planned(eager_cj, 1)

    submit.submit(eager_cj.runtime)

    data = answer_to_one(eager_cj)
    pair, state = first_pair(eager_cj, batch_id), state_of(eager_cj, batch_id)
    assert (data["correlation_id"], data["request_id"]) == (str(pair.request_correlation_id), pair.request_id)
    echo = data["request_metadata"]
    assert (echo["essay_a_id"], echo["essay_b_id"]) == (pair.essay_a_els_id, pair.essay_b_els_id)
    assert (echo["cj_batch_id"], echo["cj_request_type"]) == (str(state.batch_id), "cj_comparison")
    assert echo["prompt_sha256"] == pair.prompt_sha256


def test_a_full_queue_is_asked_again_by_one_probe(eager_cj: EagerPlatform) -> None:
    batch_id = planned(eager_cj, 20)
    eager_cj.provider.change({"refuse_rate": 1.0, "refuse_status": 202})

    assert submit.submit(eager_cj.runtime) == []
    assert submit.submit(eager_cj.runtime) == []
    assert eager_cj.provider.stats()["refused"] == 20, "while the gate is closed nobody is asked"
    assert statuses(eager_cj, batch_id) == {S.PLANNED: 20}

    eager_cj.clock.advance(timedelta(seconds=6))
    submit.submit(eager_cj.runtime)
    assert eager_cj.provider.stats()["refused"] == 21, "one probe goes first"

    eager_cj.provider.change({"refuse_rate": 0.0})
    eager_cj.clock.advance(timedelta(seconds=15))
    submit.submit(eager_cj.runtime)
    assert statuses(eager_cj, batch_id) == {S.IN_FLIGHT: 20}
    assert first_pair(eager_cj, batch_id).attempt == 1


def test_a_refusal_is_no_activity_of_the_batch(eager_cj: EagerPlatform) -> None:
    batch_id = planned(eager_cj, 1)
    before = state_of(eager_cj, batch_id).last_activity_at
    eager_cj.provider.change({"refuse_rate": 1.0, "refuse_status": 429, "retry_after": 30})
    eager_cj.clock.advance(timedelta(minutes=1))

    submit.submit(eager_cj.runtime)

    assert state_of(eager_cj, batch_id).last_activity_at == before
    assert first_pair(eager_cj, batch_id).next_attempt_at >= eager_cj.clock() + timedelta(seconds=30)


def test_an_outage_opens_the_breaker_and_fails_no_comparison(eager_cj: EagerPlatform) -> None:
    batch_id = planned(eager_cj, 30)
    eager_cj.provider.change({"refuse_rate": 1.0, "refuse_status": 500})

    submit.submit(eager_cj.runtime)
    asked = eager_cj.provider.stats()["requests"]
    eager_cj.clock.advance(timedelta(minutes=10))
    submit.submit(eager_cj.runtime)

    assert eager_cj.provider.stats()["requests"] == asked, "an open breaker claims nothing"
    assert statuses(eager_cj, batch_id) == {S.PLANNED: 30}
    with eager_cj.runtime.database.transaction() as session:
        assert session.scalars(select(ProviderGate.not_before)).one() is None


def test_a_request_that_no_provider_takes_fails_its_batch(eager_cj: EagerPlatform) -> None:
    batch_id = planned(eager_cj, 20)
    eager_cj.provider.change({"refuse_rate": 1.0, "refuse_status": 401})

    bells = submit.submit(eager_cj.runtime)

    assert bells == []
    assert state_of(eager_cj, batch_id).state is BatchStateEnum.FAILED
    assert [event.kind for event in eager_cj.events()] == ["failed"]
    assert first_pair(eager_cj, batch_id).error_code in {"AUTHENTICATION_ERROR", "AUTHORIZATION_ERROR"}
    assert statuses(eager_cj, batch_id) == {S.FAILED: 20}


def test_a_smaller_cap_is_kept(database_url: str) -> None:
    with eager_platform(database_url, MAX_CONCURRENT_COMPARISONS=3) as platform:
        batch_id = planned(platform, 10)

        submit.submit(platform.runtime)

        assert statuses(platform, batch_id) == {S.IN_FLIGHT: 3, S.PLANNED: 7}


def test_a_comparison_that_was_asked_before_is_named_a_retry(eager_cj: EagerPlatform) -> None:
    planned(eager_cj, 1, attempt=1)

    submit.submit(eager_cj.runtime)

    assert answer_to_one(eager_cj)["request_metadata"]["cj_request_type"] == "cj_retry"


def test_nothing_is_sent_where_nothing_is_due(eager_cj: EagerPlatform) -> None:
    batch_id = planned(eager_cj, 3)
    with eager_cj.runtime.database.transaction() as session:
        session.get_one(CJBatchState, batch_id).next_action_at = eager_cj.clock() + timedelta(seconds=1)

    assert submit.submit(eager_cj.runtime) == []
    assert eager_cj.provider.stats()["requests"] == 0
