"""Batches of every awkward size and kind, each to its end: the calls that it costs and the events that it brings."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from cjtasks import bells
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import monitor
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchUpload
from cjtasks.testing import eager_platform
from tests.checks import assert_consistent, assert_valid
from tests.nasty import own, request

if TYPE_CHECKING:
    from cjtasks.store.models import CJBatchState
    from cjtasks.testing import EagerPlatform

CLOSING = ["completed", "result", "consumption"]
COMPLETED, FAILED = BatchStateEnum.COMPLETED, BatchStateEnum.FAILED


def texts(essays: int) -> dict[str, str]:
    return {f"essay-{n}": "A thought. " * n for n in range(1, essays + 1)}


def ended(platform: EagerPlatform, batch_id: str, state: BatchStateEnum, kinds: list[str]) -> CJBatchState:
    """Check that a batch is at this end and told so once; return its row."""
    row = platform.state(batch_id)
    with platform.runtime.database.transaction() as session:
        assert_consistent(session, row.batch_id)
    events = platform.events(batch_id)
    for event in events:
        assert_valid(event.kind, event.envelope)
    assert (row.state, [event.kind for event in events if event.kind != "partial"]) == (state, kinds)
    return row


def told(platform: EagerPlatform, batch_id: str, kind: str) -> dict[str, Any]:
    (event,) = (event for event in platform.events(batch_id) if event.kind == kind)
    return event.data


def ask(platform: EagerPlatform, name: str, data: dict[str, Any] | None = None, **envelope: Any) -> str:
    """Send a request whose texts are at hand, with some fields changed, and run it to its end."""
    payload = request(name, data, **envelope)
    for essay in json.loads(payload)["data"]["essays_for_cj"]:
        platform.content.put(b"An essay.", essay["text_storage_id"])
    platform.deliver(Kind.REQUEST, payload)
    platform.pump()
    return str((data or {}).get("entity_id", own(f"{name}-batch")))


@pytest.mark.parametrize(
    ("essays", "calls", "reason"),
    [
        (1, 0, "too_few_essays"),
        (2, 2, "no_pair_left"),
        (3, 6, "no_pair_left"),
        (5, 20, "no_pair_left"),
        (6, 30, "no_pair_left"),
    ],
)
def test_a_small_batch_asks_each_ordered_pair_once_and_ends(
    eager_cj: EagerPlatform, essays: int, calls: int, reason: str
) -> None:
    batch_id = eager_cj.run(texts(essays))

    row = ended(eager_cj, batch_id, COMPLETED, CLOSING)
    assert (row.completed_comparisons, row.failed_comparisons, row.stop_reason) == (calls, 0, reason)
    assert eager_cj.provider.stats()["accepted"] == calls
    asked = {(pair.essay_a_els_id, pair.essay_b_els_id) for pair in row.batch_upload.comparison_pairs}
    assert len(asked) == calls
    done = told(eager_cj, batch_id, "completed")
    assert done["status"] == "completed_successfully"
    assert done["processing_summary"]["successful_essay_ids"] == list(texts(essays))
    assert done["processing_summary"]["single_essay_batch"] == (essays == 1)


def test_two_essays_whose_first_answer_is_an_error_are_asked_again(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"error_rate": 1.0, "error_codes": ["TIMEOUT"]})
    batch_id = eager_cj.request(texts(2))
    eager_cj._turn()
    eager_cj.provider.change({"error_rate": 0.0})
    eager_cj.pump()

    row = ended(eager_cj, batch_id, COMPLETED, CLOSING)
    assert [pair.attempt for pair in row.batch_upload.comparison_pairs] == [2, 2]
    assert eager_cj.provider.stats()["accepted"] == 4


def test_three_essays_of_which_one_has_no_text_are_two_and_the_third_is_named(eager_cj: EagerPlatform) -> None:
    storage_ids = [eager_cj.content.put(b"One."), eager_cj.content.put(b"Two."), "0" * 32]
    essays = [{"essay_id": f"e-{n}", "text_storage_id": storage_id} for n, storage_id in enumerate(storage_ids)]
    eager_cj.deliver(Kind.REQUEST, request("missing", {"essays_for_cj": essays}))
    eager_cj.pump()

    row = ended(eager_cj, own("missing-batch"), COMPLETED, CLOSING)
    assert row.completed_comparisons == 2
    summary = told(eager_cj, own("missing-batch"), "completed")["processing_summary"]
    assert (summary["total_essays"], summary["failed_essay_ids"]) == (3, ["e-2"])


def test_five_essays_with_nothing_but_errors_fail_with_one_event(eager_cj: EagerPlatform) -> None:
    eager_cj.provider.change({"error_rate": 1.0, "error_codes": ["EXTERNAL_SERVICE_ERROR"]})

    batch_id = eager_cj.run(texts(5))

    row = ended(eager_cj, batch_id, FAILED, ["failed"])
    assert row.stop_reason == "low_success_rate"
    assert row.completed_comparisons == 0
    assert max(pair.attempt for pair in row.batch_upload.comparison_pairs) == 3


def test_ten_essays_with_money_for_24_calls_are_scored_from_24(eager_cj: EagerPlatform) -> None:
    batch_id = eager_cj.run(texts(10), max_comparisons=24)

    row = ended(eager_cj, batch_id, COMPLETED, CLOSING)
    assert (row.completed_comparisons, row.stop_reason) == (24, "budget_spent")
    sides = Counter(pair.essay_a_els_id for pair in row.batch_upload.comparison_pairs)
    assert set(sides.values()) <= {2, 3}, "each essay stands first about as often as any other"


@pytest.mark.parametrize("error_rate", [0.0, 0.3])
def test_thirty_essays_end_with_a_ranking_though_a_third_of_the_answers_are_errors(
    eager_cj: EagerPlatform, error_rate: float
) -> None:
    eager_cj.provider.change({"error_rate": error_rate})

    batch_id = eager_cj.run(texts(30))

    row = ended(eager_cj, batch_id, COMPLETED, CLOSING)
    attempts = Counter(pair.attempt for pair in row.batch_upload.comparison_pairs)
    assert (max(attempts) > 1) == (error_rate > 0)
    assert row.completed_comparisons >= 0.9 * row.total_comparisons
    assert row.stop_reason in {"max_iterations", "scores_stable"}
    assert len(told(eager_cj, batch_id, "result")["essay_results"]) == 30


@pytest.mark.parametrize(
    ("data", "envelope", "field"),
    [
        ({"essays_for_cj": []}, {}, "essays_for_cj"),
        ({}, {"metadata": {"batch_config_overrides": {"batch_size": 5}}}, "batch_config_overrides.batch_size"),
    ],
    ids=["no essays", "a batch size of 5"],
)
def test_what_cannot_be_honoured_costs_nothing_and_is_told(
    eager_cj: EagerPlatform, data: dict[str, Any], envelope: dict[str, Any], field: str
) -> None:
    batch_id = ask(eager_cj, "refused", data, **envelope)

    failed = told(eager_cj, batch_id, "failed")
    assert failed["cj_assessment_job_id"] == "INITIALIZATION_FAILED"
    assert failed["system_metadata"]["error_info"]["details"] == {"field": field}
    with eager_cj.runtime.database.transaction() as session:
        assert session.scalars(select(CJBatchUpload)).all() == []
    assert eager_cj.provider.stats()["requests"] == 0


@pytest.mark.parametrize(
    ("data", "envelope"),
    [
        ({"language": "x" * 5000}, {}),
        ({"entity_id": "b" * 300, "user_id": "u" * 300, "org_id": "o" * 300}, {}),
        ({"essays_for_cj": [{"essay_id": c * 300, "text_storage_id": c * 32} for c in "ab"]}, {}),
        ({}, {"event_timestamp": "2026-03-02T09:00:00"}),
        ({"timestamp": "2026-03-02 09:00"}, {}),
    ],
    ids=["language", "ids of the batch", "ids of the essays", "time of the event", "time of the payload"],
)
def test_long_names_and_times_without_a_zone_end_like_all_others(
    eager_cj: EagerPlatform, data: dict[str, Any], envelope: dict[str, Any]
) -> None:
    batch_id = ask(eager_cj, "odd", data, **envelope)

    assert ended(eager_cj, batch_id, COMPLETED, CLOSING).completed_comparisons == 2


def take_all_answers(platform: EagerPlatform) -> None:
    """Let every answer arrive and be worked before time goes on."""
    while platform.provider.stats()["pending"]:
        time.sleep(0.002)
    platform._turn()
    for _ in range(10):
        bells.ring([Bell(Work.INBOX)])


@pytest.mark.parametrize(("judged", "state", "kinds"), [(6, FAILED, ["failed"]), (26, COMPLETED, CLOSING)])
def test_a_batch_that_stands_still_past_its_deadline_is_failed_or_scored_from_what_it_has(
    database_url: str, judged: int, state: BatchStateEnum, kinds: list[str]
) -> None:
    """A provider that takes nothing more leaves 6 or 26 of 30 comparisons judged; 80 % are enough for scores."""
    with eager_platform(database_url, MAX_CONCURRENT_COMPARISONS=judged, BREAKER_OPEN_SECONDS=0.01) as platform:
        batch_id = platform.request(texts(10), max_comparisons=30)
        platform._turn()
        platform.provider.change({"refuse_rate": 1.0, "refuse_status": 500})
        take_all_answers(platform)
        for _ in range(4 * 6 + 1):
            platform.clock.advance(timedelta(minutes=10))
            platform._turn()
            bells.ring(monitor.monitor(platform.runtime))

        row = ended(platform, batch_id, state, kinds)
        assert (row.completed_comparisons, row.total_comparisons) == (judged, 30)
        planned = [p for p in row.batch_upload.comparison_pairs if p.status is ComparisonStatus.PLANNED]
        assert {pair.attempt for pair in planned} == {0}
        if state is FAILED:
            info = told(platform, batch_id, "failed")["system_metadata"]["error_info"]
            assert info == {
                "reason": "stuck_timeout_insufficient_progress",
                "progress_pct": 20.0,
                "batch_state": "WAITING_CALLBACKS",
            }
