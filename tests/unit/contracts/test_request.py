import json
import traceback
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.contracts.request import (
    Addressee,
    AssessmentRequest,
    ReceivedRequest,
    addressee,
    read_request,
    refuse_unusable,
)
from cjtasks.errors import RequestRefused, UnreadableMessage

CORRELATION_ID = "85618430-622c-43f2-b8fe-223481eb1980"
PROMPT_REF = {"references": {"student_prompt_text": {"storage_id": "p-1", "path": "prompts/1.txt"}}}


def payload(**changes: Any) -> dict[str, Any]:
    return {
        "entity_id": "batch-1",
        "system_metadata": {"entity_id": "batch-1", "entity_type": "batch"},
        "essays_for_cj": [
            {"essay_id": "e-1", "text_storage_id": "t-1"},
            {"essay_id": "e-2", "text_storage_id": "t-2"},
        ],
        "language": "en",
        "course_code": "ENG5",
        "user_id": "teacher-1",
        **changes,
    }


def july_payload(**changes: Any) -> dict[str, Any]:
    reference = {"entity_id": "batch-7", "entity_type": "batch", "parent_id": "course-1"}
    today = payload()
    return {
        "entity_ref": reference,
        "system_metadata": {"entity": reference, "processing_stage": "pending"},
        "essays_for_cj": today["essays_for_cj"],
        "language": "sv",
        "course_code": "SV1",
        "essay_instructions": "Write about a place.",
        **changes,
    }


def encoded(data: Any, **envelope: Any) -> bytes:
    shell = {"event_type": "any", "source_service": "els", "correlation_id": CORRELATION_ID, "data": data}
    return json.dumps(shell | envelope).encode()


def received(metadata: dict[str, Any] | None = None, **changes: Any) -> ReceivedRequest:
    return read_request(encoded(payload(**changes), metadata=metadata))


def read(**changes: Any) -> AssessmentRequest:
    return received(**changes).data


def test_the_smallest_request_is_read_with_its_defaults() -> None:
    request = received()
    assert request.correlation_id == UUID(CORRELATION_ID)
    assert request.data.entity_id == "batch-1"
    assert request.data.event_name == "els.cj_assessment.requested"
    assert [essay.essay_id for essay in request.data.essays_for_cj] == ["e-1", "e-2"]
    assert request.data.user_id == "teacher-1"
    assert request.data.student_prompt_id is None
    assert request.data.inline_prompt is None
    refuse_unusable(request)


def test_everything_that_may_be_named_is_read() -> None:
    overrides = {"model_override": "m", "temperature_override": 0.0, "provider_override": " OpenAI "}
    data = read(
        entity_type="batch",
        parent_id="p",
        student_prompt_ref=PROMPT_REF,
        llm_config_overrides=overrides,
        assignment_id="a" * 100,
        org_id="org",
    )
    assert (data.entity_type, data.parent_id, data.org_id) == ("batch", "p", "org")
    assert data.student_prompt_id == "p-1"
    assert data.llm_config_overrides is not None
    assert data.llm_config_overrides.temperature_override == 0.0
    assert data.llm_config_overrides.provider == "openai"


@pytest.mark.parametrize(
    "changes",
    [
        {"entity_id": None},
        {"event_name": "cj_assessment.completed"},
        {"language": "english-united-kingdom"},
        {"essays_for_cj": []},
        {"user_id": ""},
        {"student_prompt_ref": {"references": {}}},
        {"essays_for_cj": [{"essay_id": "e", "text_storage_id": "t", "spellcheck_metrics": "anything"}]},
        {"inline_prompt": 5},
        {"essay_instructions": 5},
    ],
)
def test_what_the_platform_accepts_is_read(changes: dict[str, Any]) -> None:
    assert read(**changes).inline_prompt is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_name": "no.such.event"}, "event_name"),
        ({"system_metadata": None}, "system_metadata"),
        ({"system_metadata": {"entity_id": "b"}}, "system_metadata.entity_type"),
        ({"essays_for_cj": None}, "essays_for_cj"),
        ({"essays_for_cj": [{"essay_id": 5, "text_storage_id": "t"}]}, "essays_for_cj.0.essay_id"),
        ({"language": 5}, "language"),
        ({"course_code": "eng5"}, "course_code"),
        ({"user_id": None}, "user_id"),
        ({"assignment_id": "a" * 101}, "assignment_id"),
        ({"llm_config_overrides": "m"}, "llm_config_overrides"),
        (
            {"llm_config_overrides": {"temperature_override": 2.1}},
            "llm_config_overrides.temperature_override",
        ),
        ({"llm_config_overrides": {"max_tokens_override": 0}}, "llm_config_overrides.max_tokens_override"),
        (
            {"student_prompt_ref": {"references": {"student_prompt_text": {"path": None}}}},
            "student_prompt_ref.references.student_prompt_text.path",
        ),
    ],
)
def test_what_the_contract_forbids_is_refused_by_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(UnreadableMessage) as refusal:
        read(**changes)
    assert (refusal.value.level, refusal.value.field) == ("data", field)


@pytest.mark.parametrize("data", [None, 5, "text", [payload()]])
def test_a_payload_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(UnreadableMessage) as refusal:
        read_request(encoded(data))
    assert (refusal.value.level, refusal.value.field) == ("data", "")


@pytest.mark.parametrize("references", [{"Dear Diary": {"path": "p"}}, {"student_prompt_text": {"Dear Diary": 5}}])
def test_a_key_that_is_the_senders_own_text_is_not_shown(references: dict[str, Any]) -> None:
    with pytest.raises(UnreadableMessage) as refusal:
        read(student_prompt_ref={"references": references})
    assert "Diary" not in "".join(traceback.format_exception(refusal.value))


def test_the_shape_of_july_2025_is_read() -> None:
    request = read_request(encoded(july_payload()))
    data = request.data
    assert (data.entity_id, data.entity_type, data.parent_id) == ("batch-7", "batch", "course-1")
    assert data.system_metadata.entity_id == "batch-7"
    assert data.system_metadata.processing_stage == "pending"
    assert data.inline_prompt == "Write about a place."
    assert data.user_id is None
    refuse_unusable(request)


def test_a_missing_user_is_refused_outside_the_shape_of_july_2025() -> None:
    data = payload()
    del data["user_id"]
    with pytest.raises(UnreadableMessage) as refusal:
        read_request(encoded(data))
    assert refusal.value.field == "user_id"


def without_correlation_id(data: dict[str, Any]) -> UUID:
    shell = {"event_type": "any", "source_service": "els", "data": data}
    return read_request(json.dumps(shell).encode()).correlation_id


def test_without_a_correlation_id_a_duplicate_gets_the_same_one() -> None:
    turned = dict(reversed(payload().items()))
    assert without_correlation_id(payload()) == without_correlation_id(turned)


def test_without_a_correlation_id_another_request_gets_another_one() -> None:
    derived = {without_correlation_id(payload(**changes)) for changes in ({}, {"org_id": "o"}, {"entity_id": "x"})}
    assert len(derived) == 3


def test_nul_characters_are_removed_so_that_equal_ids_are_seen() -> None:
    essays = [{"essay_id": essay_id, "text_storage_id": "t"} for essay_id in ("e", "e\0")]
    request = received(entity_id="b\0", essays_for_cj=essays)
    assert request.data.entity_id == "b"
    with pytest.raises(RequestRefused, match=r"essays_for_cj\.1\.essay_id"):
        refuse_unusable(request)


def test_the_addressee_of_a_broken_request_is_found() -> None:
    broken = encoded({"entity_id": "b-1", "parent_id": "p-1", "essays_for_cj": "none"}, event_type=5)
    assert addressee(broken) == Addressee("b-1", "batch", "p-1", UUID(CORRELATION_ID))


def test_the_addressee_of_a_broken_request_of_july_2025_is_found() -> None:
    broken = encoded(july_payload(essays_for_cj=None))
    assert addressee(broken) == Addressee("batch-7", "batch", "course-1", UUID(CORRELATION_ID))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"null",
        b"[" * 100_000,
        encoded(None),
        encoded({"entity_id": None}),
        encoded({"entity_id": ""}),
        encoded({"entity_id": 5}),
        encoded({"entity_ref": ["b"]}),
        encoded({"entity_id": "b"}, correlation_id=None),
        encoded({"entity_id": "b"}, correlation_id="none"),
        encoded({"entity_id": "b"}, correlation_id=[1]),
    ],
)
def test_without_an_id_there_is_no_addressee(message: bytes) -> None:
    assert addressee(message) is None


@given(st.binary())
def test_no_bytes_make_the_search_for_an_addressee_fail(message: bytes) -> None:
    assert addressee(message) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["entity_id", "entity"]), inner),
    max_leaves=8,
)


@given(st.sampled_from([payload, july_payload]), st.sampled_from([*payload(), *july_payload()]), json_values)
def test_any_change_of_a_field_is_read_or_refused(shape: Any, field: str, value: Any) -> None:
    message = encoded(shape(**{field: value}))
    addressee(message)
    with suppress(UnreadableMessage):
        assert read_request(message).correlation_id == UUID(CORRELATION_ID)
