"""Whole batches on a bad day: errors, outages, lost and doubled answers, missing texts, small batches."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchUpload, InboxRow
from cjtasks.testing import EagerPlatform, eager_platform
from tests.checks import assert_consistent, assert_valid

if TYPE_CHECKING:
    from cjtasks.store.models import CJBatchState, ComparisonPair

TEXTS = {f"essay-{n}": "A thought. " * n for n in range(1, 9)}
CLOSING = ["completed", "result", "consumption"]
S = ComparisonStatus


def ended(platform: EagerPlatform, batch_id: str) -> CJBatchState:
    """Return the state of a batch, after a check of all that must hold and of all its events."""
    state = platform.state(batch_id)
    with platform.runtime.database.transaction() as session:
        assert_consistent(session, state.batch_id)
    for event in platform.events(batch_id):
        assert_valid(event.kind, event.envelope)
    return state


def completed(platform: EagerPlatform, batch_id: str) -> CJBatchState:
    state = ended(platform, batch_id)
    assert state.state is BatchStateEnum.COMPLETED
    assert closing(platform, batch_id) == CLOSING
    return state


def closing(platform: EagerPlatform, batch_id: str) -> list[str]:
    return [event.kind for event in platform.events(batch_id) if event.kind != "partial"]


def pairs(state: CJBatchState) -> list[ComparisonPair]:
    return state.batch_upload.comparison_pairs


def test_error_answers_are_asked_again(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"error_rate": 0.2})

    state = completed(eager_cj, eager_cj.run(TEXTS))

    attempts = Counter(pair.attempt for pair in pairs(state))
    assert attempts[2] > 0
    assert eager_cj.provider.stats()["asked_again"] == sum((n - 1) * count for n, count in attempts.items())


@pytest.mark.parametrize("status", [503, 202], ids=["away", "queue full"])
def test_an_outage_of_the_provider_costs_time_and_no_comparison(database_url: str, status: int) -> None:
    with eager_platform(database_url, BREAKER_OPEN_SECONDS=0.01) as platform:
        platform.provider.change({"refuse_rate": 1.0, "refuse_status": status})
        batch_id = platform.request(TEXTS)
        for _ in range(20):
            platform._turn()
            platform.clock.advance(timedelta(seconds=75))
        assert platform.provider.stats()["accepted"] == 0
        assert platform.provider.stats()["refused"] >= 3

        platform.provider.change({"refuse_rate": 0.0})
        platform.pump()

        state = completed(platform, batch_id)
        assert {(pair.status, pair.attempt) for pair in pairs(state)} == {(S.COMPLETED, 1)}


def test_lost_answers_are_asked_again_when_their_time_is_up(eager_cj: EagerPlatform) -> None:
    began = eager_cj.clock()
    eager_cj.provider.change({"lost_rate": 0.2})

    state = completed(eager_cj, eager_cj.run(TEXTS))

    assert max(pair.attempt for pair in pairs(state)) > 1
    assert eager_cj.clock() - began >= timedelta(minutes=30)


def test_lost_answers_do_not_fill_a_small_cap_for_ever(database_url: str) -> None:
    with eager_platform(database_url, MAX_CONCURRENT_COMPARISONS=2) as platform:
        platform.provider.change({"lost_rate": 1.0})
        batch_id = platform.request(TEXTS, max_comparisons=12)
        platform._turn()
        assert platform.provider.stats()["accepted"] == 2, "no more than the cap is asked"

        platform.provider.change({"lost_rate": 0.0})
        platform.clock.advance(timedelta(minutes=30))
        platform.pump()

        state = completed(platform, batch_id)
        assert Counter(pair.attempt for pair in pairs(state)) == {1: 10, 2: 2}


def test_a_provider_that_never_answers_fails_the_batch(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"lost_rate": 1.0})

    batch_id = eager_cj.run(TEXTS)

    assert ended(eager_cj, batch_id).state is BatchStateEnum.FAILED
    assert {(pair.attempt, pair.error_code) for pair in pairs(eager_cj.state(batch_id))} == {(3, "TIMEOUT")}
    assert closing(eager_cj, batch_id) == ["failed"]


def test_too_many_errors_fail_the_batch_with_one_event(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"error_rate": 0.5, "error_codes": ["QUOTA_EXCEEDED"]})

    batch_id = eager_cj.run(TEXTS)

    state = ended(eager_cj, batch_id)
    assert (state.state, state.stop_reason) == (BatchStateEnum.FAILED, "low_success_rate")
    assert closing(eager_cj, batch_id) == ["failed"]
    info = eager_cj.events(batch_id)[-1].data["system_metadata"]["error_info"]
    assert info["details"]["success_rate"] < 0.8


def test_a_missing_text_is_named_and_the_others_are_ranked(eager_cj: EagerPlatform) -> None:
    request = BatchRequest(
        {name: eager_cj.content.put(text.encode()) for name, text in TEXTS.items()} | {"x": "0" * 32}
    )
    eager_cj.deliver(Kind.REQUEST, request.payload(eager_cj.clock()))
    eager_cj.pump()

    completed(eager_cj, request.batch_id)
    done, result, _ = (event.data for event in eager_cj.events(request.batch_id) if event.kind in CLOSING)
    assert done["processing_summary"]["failed_essay_ids"] == ["x"]
    assert done["processing_summary"]["failed_essay_reasons"] == {"x": "RESOURCE_NOT_FOUND"}
    assert {essay["essay_id"] for essay in result["essay_results"]} == set(TEXTS)


@pytest.mark.parametrize(
    ("essays", "comparisons", "status"),
    [(1, 0, "completed_successfully"), (2, 2, "completed_successfully"), (3, 6, "completed_successfully")],
)
def test_small_batches_end_like_all_others(eager_cj: EagerPlatform, essays: int, comparisons: int, status: str) -> None:
    batch_id = eager_cj.run(dict(list(TEXTS.items())[:essays]))

    assert completed(eager_cj, batch_id).completed_comparisons == comparisons
    done, result, _ = (event.data for event in eager_cj.events(batch_id) if event.kind in CLOSING)
    assert (done["status"], done["processing_summary"]["single_essay_batch"]) == (status, essays == 1)
    assert [essay["rank"] for essay in result["essay_results"]] == list(range(1, essays + 1))


def test_a_batch_of_blank_texts_ends_without_a_comparison(eager_cj: EagerPlatform) -> None:
    batch_id = eager_cj.run({"a": " ", "b": "\n"})

    assert completed(eager_cj, batch_id).total_comparisons == 0
    done, result, _ = (event.data for event in eager_cj.events(batch_id))
    assert (done["status"], result["essay_results"]) == ("failed_critically", [])


def test_no_more_is_asked_than_the_sender_pays_for(eager_cj: EagerPlatform) -> None:
    batch_id = eager_cj.run(TEXTS, max_comparisons=9)

    state = completed(eager_cj, batch_id)
    assert (state.total_comparisons, state.stop_reason) == (9, "budget_spent")
    assert eager_cj.provider.stats()["accepted"] == 9


def test_doubled_contradicting_and_disordered_answers_change_nothing(database_url: str) -> None:
    with eager_platform(database_url) as platform:
        platform.provider.change({"duplicate_rate": 0.5, "contradict_rate": 0.5, "disorder": 0.005, "error_rate": 0.1})
        batch_id = platform.request(TEXTS)
        platform.pump()
        # What comes again after the end, in any order.
        row = completed(platform, batch_id)
        before = (row.version, row.completed_comparisons, row.failed_comparisons)
        replay(platform)
        platform.pump()

        again = completed(platform, batch_id)
        assert (again.version, again.completed_comparisons, again.failed_comparisons) == before
        assert platform.provider.stats()["contradictions"] > 0


def replay(platform: EagerPlatform) -> None:
    """Deliver everything that was ever received once more, shuffled."""
    with platform.runtime.database.transaction() as session:
        rows = session.execute(select(InboxRow.kind, InboxRow.payloads)).all()
    received = [(Kind(kind), bytes(payload)) for kind, payloads in rows for payload in payloads]
    random.Random(7).shuffle(received)
    for kind, payload in received:
        platform.deliver(kind, payload)


def test_the_same_request_twice_opens_one_batch(eager_cj: EagerPlatform) -> None:
    request = BatchRequest({name: eager_cj.content.put(text.encode()) for name, text in TEXTS.items()})
    for _ in range(2):
        eager_cj.deliver(Kind.REQUEST, request.payload(eager_cj.clock()))
        eager_cj.pump()

    completed(eager_cj, request.batch_id)
    with eager_cj.runtime.database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(CJBatchUpload)) == 1


def test_many_batches_at_once_do_not_mix(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"error_rate": 0.1, "duplicate_rate": 0.2})
    batch_ids = [eager_cj.request(TEXTS, max_comparisons=24) for _ in range(5)]

    eager_cj.pump()

    for batch_id in batch_ids:
        completed(eager_cj, batch_id)
