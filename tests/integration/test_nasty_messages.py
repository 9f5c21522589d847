"""Every nasty message, each followed by a good one: what becomes of both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import delete, inspect, select

from cjtasks.dev.postgres import create_database, drop_database
from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchState, CJBatchUpload, ComparisonPair, OutboxEvent
from cjtasks.testing import eager_platform
from tests import nasty_answers, nasty_requests
from tests.checks import assert_consistent, assert_valid
from tests.nasty import FIXTURES, Becomes, Case, data_of, fixtures, own, request
from tests.nasty_outcomes import Asked, Place, ask, became, letter_at, pair_of, problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.testing import EagerPlatform

ALL = [*fixtures("requests", "callbacks", "invalid", "surprising", "seed_era")]
REQUESTS = [*nasty_requests.requests(), *(case for case in ALL if case.kind is Kind.REQUEST)]
ANSWERS = [*nasty_answers.answers(), *(case for case in ALL if case.kind is Kind.CALLBACK)]
GOOD = nasty_answers.judged("good")
READ = [case for case in ANSWERS if case.becomes is not Becomes.SET_ASIDE]


@pytest.fixture(scope="module")
def platform(postgres_url: str, template_database: str) -> Iterator[EagerPlatform]:
    """Give one platform to all tests, which leave it as a stranger would; a small budget keeps batches short."""
    name = f"cj_test_{uuid4().hex}"
    url = create_database(postgres_url, name, template=template_database)
    with eager_platform(url, MAX_PAIRWISE_COMPARISONS=4) as running:
        yield running
    drop_database(postgres_url, name)


@pytest.fixture(autouse=True)
def _left_empty(platform: EagerPlatform) -> Iterator[None]:
    """Take away what a test leaves waiting, or the next one would wait with it."""
    yield
    with platform.runtime.database.transaction() as session:
        session.execute(delete(CJBatchUpload))
        session.execute(delete(OutboxEvent))


def deliver(platform: EagerPlatform, case: Case) -> Place:
    platform.deliver(case.kind, case.payload)
    return Place("test", 0, platform._offset)


def expect(platform: EagerPlatform, case: Case, place: Place) -> None:
    with platform.runtime.database.transaction() as session:
        assert problem(case, became(session, case, place)) is None


def a_good_request_is_served(platform: EagerPlatform) -> None:
    assert platform.state(platform.run({"only": "An essay."})).state is BatchStateEnum.COMPLETED


@pytest.mark.parametrize("case", REQUESTS, ids=str)
def test_a_request_becomes_what_it_should_and_the_next_one_is_served(platform: EagerPlatform, case: Case) -> None:
    place = deliver(platform, case)
    a_good_request_is_served(platform)

    expect(platform, case, place)
    for event in platform.events():
        assert_valid(event.kind, event.envelope)
    with platform.runtime.database.transaction() as session:
        for state in session.scalars(select(CJBatchState)):
            assert state.state is BatchStateEnum.COMPLETED
            assert_consistent(session, state.batch_id)


@pytest.mark.parametrize("case", ANSWERS, ids=str)
def test_an_answer_becomes_what_it_should_once_and_the_next_one_is_recorded(
    platform: EagerPlatform, case: Case
) -> None:
    with platform.runtime.database.transaction() as session:
        asked = [Asked(one.match_on or uuid4(), one.request_id, 1, platform.clock()) for one in (case, GOOD)]
        batches = [ask(session, one) for one in asked]
    places = [deliver(platform, one) for one in (case, GOOD)]
    platform._turn()
    first = row_of(platform, case)
    expect(platform, case, places[0])
    expect(platform, GOOD, places[1])

    again = deliver(platform, case)
    platform._turn()

    assert row_of(platform, case) == first
    with platform.runtime.database.transaction() as session:
        is_unusable = case.becomes is Becomes.SET_ASIDE
        assert (letter_at(session, again) is not None) == is_unusable
        if is_unusable and case.match_on:
            assert (first["status"], first["error_code"]) == (ComparisonStatus.IN_FLIGHT, None)
        for batch_id in batches:
            assert_consistent(session, batch_id)


def test_an_answer_to_a_question_that_was_never_asked_is_set_aside(platform: EagerPlatform) -> None:
    places = [deliver(platform, case) for case in READ]
    platform.pump()

    with platform.runtime.database.transaction() as session:
        letters = [letter_at(session, place) for place in places]
    for case, letter in zip(READ, letters, strict=True):
        assert letter is not None, case
        assert (letter.reason, letter.payload) == ("UNKNOWN_CORRELATION", case.payload)
        assert letter.detail == f"CJ_CALLBACK_CORRELATION_FAILED: {case.match_on}"


def row_of(platform: EagerPlatform, case: Case) -> dict[str, object]:
    with platform.runtime.database.transaction() as session:
        pair = pair_of(session, case)
        return {column.key: getattr(pair, column.key, None) for column in inspect(ComparisonPair).columns}


def test_a_sender_without_a_user_is_charged_nothing(platform: EagerPlatform) -> None:
    """The shape of July 2025 named no user."""
    reference = {"entity_id": own("july"), "entity_type": "batch", "parent_id": None}
    old = {"entity_ref": reference, "essay_instructions": "Describe a place.", "entity_id": None, "user_id": None}
    for essay in data_of(request("x"))["essays_for_cj"]:
        platform.content.put(b"An essay.", essay["text_storage_id"])

    platform.deliver(Kind.REQUEST, request("july", old))
    platform.pump()

    assert platform.state(own("july")).batch_upload.student_prompt_text == "Describe a place."
    assert [event.kind for event in platform.events(own("july")) if event.kind != "partial"] == ["completed", "result"]


def test_a_mended_request_under_the_same_ids_can_still_fail_aloud(platform: EagerPlatform) -> None:
    platform.provider.change({"refuse_rate": 1.0, "refuse_status": 401})
    good = BatchRequest({f"e-{n}": platform.content.put(b"An essay.") for n in range(2)})
    bad = replace(good, user_id=" ")
    for one in (bad, good):
        platform.deliver(Kind.REQUEST, one.payload(platform.clock()))
        platform.pump()
    platform.provider.change({"refuse_rate": 0.0})

    jobs = [event.data["cj_assessment_job_id"] for event in platform.events(good.batch_id)]
    assert jobs == ["INITIALIZATION_FAILED", str(platform.state(good.batch_id).batch_id)]
    assert len({event.envelope["event_id"] for event in platform.events(good.batch_id)}) == 2


def test_the_platforms_fixtures_are_among_the_messages() -> None:
    if not FIXTURES.is_dir():
        pytest.skip("the platform's fixtures are not beside the repository")
    assert len({case.name for case in ALL}) == len(ALL)
    assert {case.name.split("/")[0] for case in ALL} >= {"requests", "callbacks", "invalid", "surprising", "seed_era"}
