"""What becomes of a request: one batch, no batch, one refusal or a dead letter."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import from_json, to_json
from sqlalchemy import select

from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import intake
from cjtasks.store.models import CJBatchState, CJBatchUpload, DeadLetterRow, OutboxEvent
from tests.checks import assert_consistent, assert_valid
from tests.factories import NOW, messages

if TYPE_CHECKING:
    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database

REQUEST = BatchRequest({f"essay-{n}": f"{n:032x}" for n in range(4)})


def changed(data: dict[str, Any] | None = None, **envelope: Any) -> bytes:
    """Write the request with other fields; None removes a field."""
    message = from_json(REQUEST.payload(NOW))
    message["data"] |= data or {}
    message |= envelope
    message["data"] = {name: value for name, value in message["data"].items() if value is not None}
    return to_json({name: value for name, value in message.items() if value is not None})


def receive(runtime: Runtime, *payloads: bytes) -> list[Bell]:
    with runtime.database.transaction() as session:
        return intake.open_batches(runtime, session, messages(*payloads))


def uploads(database: Database) -> list[CJBatchUpload]:
    with database.transaction() as session:
        return list(session.scalars(select(CJBatchUpload).order_by(CJBatchUpload.id)))


def events(database: Database) -> list[dict[str, Any]]:
    with database.transaction() as session:
        return [json.loads(payload) for payload in session.scalars(select(OutboxEvent.payload))]


def letters(database: Database) -> list[DeadLetterRow]:
    with database.transaction() as session:
        return list(session.scalars(select(DeadLetterRow)))


def only_state(database: Database) -> CJBatchState:
    with database.transaction() as session:
        state = session.scalars(select(CJBatchState)).one()
        assert_consistent(session, state.batch_id)
        assert state.batch_upload.essays
        return state


def test_a_request_opens_a_batch(runtime: Runtime, database: Database) -> None:
    (bell,) = receive(runtime, REQUEST.payload(NOW))

    state = only_state(database)
    assert bell == Bell(Work.PREPARE, state.batch_id)
    assert (state.state, state.next_action, state.next_action_at) == (BatchStateEnum.INITIALIZING, Work.PREPARE, NOW)
    assert (state.total_budget, state.completion_threshold_pct) == (1000, 95)
    upload = state.batch_upload
    assert (upload.bos_batch_id, upload.user_id, upload.expected_essay_count) == (REQUEST.batch_id, REQUEST.user_id, 4)
    assert [essay.els_essay_id for essay in upload.essays] == list(REQUEST.storage_ids)
    assert {essay.next_attempt_at for essay in upload.essays} == {NOW}


def test_the_same_request_again_opens_nothing(runtime: Runtime, database: Database) -> None:
    payload = REQUEST.payload(NOW)

    assert len(receive(runtime, payload, payload)) == 1
    assert receive(runtime, changed({"language": "sv"}, event_id=None)) == []

    assert [upload.language for upload in uploads(database)] == ["en"]


def test_a_batch_requested_under_another_correlation_id_is_another_batch(runtime: Runtime, database: Database) -> None:
    again = replace(REQUEST, correlation_id="b5cc7d9e-2d39-46a0-9adf-e9c8ff1c54ad")

    assert len(receive(runtime, REQUEST.payload(NOW), again.payload(NOW))) == 2
    assert len(uploads(database)) == 2


def test_a_request_without_a_correlation_id_opens_one_batch(runtime: Runtime, database: Database) -> None:
    payload = changed(correlation_id=None)

    assert len(receive(runtime, payload, payload)) == 1
    assert len(receive(runtime, changed({"language": "sv"}, correlation_id=None))) == 1
    assert len(uploads(database)) == 2


def test_workers_that_get_the_same_request_at_once_open_one_batch(runtime: Runtime, database: Database) -> None:
    start = Barrier(4)

    def run(_: int) -> list[Bell]:
        start.wait()
        return receive(runtime, REQUEST.payload(NOW))

    with ThreadPoolExecutor(4) as pool:
        assert sorted(len(bells) for bells in pool.map(run, range(4))) == [0, 0, 0, 1]
    only_state(database)


def test_the_budget_is_the_smaller_of_ours_and_the_senders(runtime: Runtime, database: Database) -> None:
    wanted = {10: 10, 5000: 1000, 0: 1000, -3: 1000, True: 1000, "10": 1000, 2.5: 1000}
    for number, asked in enumerate(wanted):
        receive(runtime, changed({"entity_id": f"batch-{number}"}, metadata={"max_comparisons": asked}))

    with database.transaction() as session:
        budgets = session.scalars(select(CJBatchState.total_budget).order_by(CJBatchState.batch_id)).all()
    assert budgets == list(wanted.values())


def test_the_senders_threshold_is_kept(runtime: Runtime, database: Database) -> None:
    receive(runtime, changed(metadata={"batch_config_overrides": {"partial_completion_threshold": 0.6}}))

    assert only_state(database).completion_threshold_pct == 60


def test_the_judge_is_fixed_when_the_batch_opens(runtime: Runtime, database: Database) -> None:
    overrides = {"provider_override": " Anthropic ", "temperature_override": 0.0}

    receive(runtime, changed({"llm_config_overrides": overrides}))

    configuration = uploads(database)[0].configuration
    assert (configuration["provider"], configuration["temperature"]) == ("anthropic", 0.0)
    assert configuration["model"] == runtime.settings.DEFAULT_LLM_MODEL


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (changed({"essays_for_cj": []}), "essays_for_cj"),
        (changed({"essays_for_cj": [{"essay_id": "a", "text_storage_id": "x"}] * 2}), "essays_for_cj.1.essay_id"),
        (changed({"user_id": " "}), "user_id"),
        (changed({"llm_config_overrides": {"provider_override": "nobody"}}), "provider_override"),
        (changed({"llm_config_overrides": {"reasoning_effort": "much"}}), "reasoning_effort"),
        (changed(metadata={"batch_config_overrides": {"batch_size": 1}}), "batch_size"),
    ],
)
def test_what_we_cannot_honour_is_refused_with_one_event_that_names_the_field(
    runtime: Runtime, database: Database, payload: bytes, field: str
) -> None:
    assert receive(runtime, payload, payload) == []

    (event,) = events(database)
    assert_valid("failed", event)
    assert event["data"]["cj_assessment_job_id"] == "INITIALIZATION_FAILED"
    assert event["correlation_id"] == REQUEST.correlation_id
    info = event["data"]["system_metadata"]["error_info"]
    assert info["error_code"] == "VALIDATION_ERROR"
    assert field in info["error_message"]
    assert (uploads(database), letters(database)) == ([], [])


@pytest.mark.parametrize(
    ("payload", "field"),
    [(changed({"course_code": "X"}), "course_code"), (changed({"essays_for_cj": 3}), "essays_for_cj")],
)
def test_what_the_contract_refuses_is_set_aside_and_its_sender_told(
    runtime: Runtime, database: Database, payload: bytes, field: str
) -> None:
    assert receive(runtime, payload) == []

    (letter,) = letters(database)
    assert (letter.reason, letter.payload) == ("UNREADABLE_REQUEST", payload)
    assert field in letter.detail
    (event,) = events(database)
    assert_valid("failed", event)
    assert field in event["data"]["system_metadata"]["error_info"]["error_message"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"no json", b"\xff\xfe", b"null", changed({"entity_id": None}), changed({"entity_id": ""})],
    ids=["tombstone", "text", "no utf-8", "null", "no entity", "empty entity"],
)
def test_what_nobody_can_be_told_about_is_only_set_aside(runtime: Runtime, database: Database, payload: bytes) -> None:
    assert receive(runtime, payload) == []

    assert len(letters(database)) == 1
    assert (events(database), uploads(database)) == ([], [])


def test_a_bad_request_does_not_hold_its_neighbours(runtime: Runtime, database: Database) -> None:
    refused = changed({"essays_for_cj": [], "entity_id": "another"})

    assert len(receive(runtime, b"no json", refused, REQUEST.payload(NOW))) == 1

    only_state(database)


def test_long_names_and_nul_characters_are_stored(runtime: Runtime, database: Database) -> None:
    receive(runtime, changed({"language": "x" * 5000, "entity_id": "a\x00b"}))

    state = only_state(database)
    assert (state.batch_upload.bos_batch_id, len(state.batch_upload.language)) == ("ab", 5000)
