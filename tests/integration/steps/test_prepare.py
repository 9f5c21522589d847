"""Fetching the texts of a batch from a Content Service that may fail."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select

from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import intake, prepare
from cjtasks.store.models import CJBatchState, ProcessedEssay
from tests.checks import assert_consistent
from tests.factories import messages

if TYPE_CHECKING:
    from cjtasks.testing import EagerPlatform

TEXTS = ["first", "second", "third"]


def opened(platform: EagerPlatform, texts: list[str | None], prompt: str | None = None) -> Bell:
    """Open a batch of these texts, None for one that is not there, and return its bell."""
    missing = "f" * 31
    ids = [
        f"{missing}{number}" if text is None else platform.content.put(text.encode())
        for number, text in enumerate(texts)
    ]
    storage_ids = {f"essay-{number}": storage_id for number, storage_id in enumerate(ids)}
    request = BatchRequest(storage_ids, prompt_storage_id=prompt)
    with platform.runtime.database.transaction() as session:
        (bell,) = intake.open_batches(platform.runtime, session, messages(request.payload(platform.clock())))
    return bell


def look(platform: EagerPlatform, bell: Bell) -> CJBatchState:
    assert bell.batch_id is not None
    with platform.runtime.database.transaction() as session:
        assert_consistent(session, bell.batch_id)
        state = session.get_one(CJBatchState, bell.batch_id)
        assert state.batch_upload is not None
        return state


def essays(platform: EagerPlatform) -> list[ProcessedEssay]:
    with platform.runtime.database.transaction() as session:
        return list(session.scalars(select(ProcessedEssay).order_by(ProcessedEssay.position)))


def break_all(platform: EagerPlatform, status: int) -> None:
    platform.content.change({"error_rate": 1.0, "error_status": status})


def test_the_texts_and_the_prompt_are_fetched(eager_cj: EagerPlatform) -> None:
    prompt = eager_cj.content.put(b"Write about cars.")
    bell = opened(eager_cj, [*TEXTS], prompt)

    assert prepare.prepare(eager_cj.runtime, bell) == [Bell(Work.ADVANCE, bell.batch_id)]

    state = look(eager_cj, bell)
    assert state.state is BatchStateEnum.GENERATING_PAIRS
    assert state.batch_upload.student_prompt_text == "Write about cars."
    assert [essay.assessment_input_text for essay in essays(eager_cj)] == TEXTS
    assert {essay.next_attempt_at for essay in essays(eager_cj)} == {None}


def test_a_second_bell_fetches_nothing(eager_cj: EagerPlatform) -> None:
    bell = opened(eager_cj, [*TEXTS])
    prepare.prepare(eager_cj.runtime, bell)

    assert prepare.prepare(eager_cj.runtime, bell) == []

    assert eager_cj.content.stats()["reads"] == len(TEXTS)


def test_a_text_that_is_missing_or_blank_is_given_up_at_once(eager_cj: EagerPlatform) -> None:
    bell = opened(eager_cj, ["first", None, " \n", "fourth"])

    assert prepare.prepare(eager_cj.runtime, bell) == [Bell(Work.ADVANCE, bell.batch_id)]

    assert [essay.fetch_error for essay in essays(eager_cj)] == [None, "RESOURCE_NOT_FOUND", "INVALID_RESPONSE", None]
    assert {essay.next_attempt_at for essay in essays(eager_cj)} == {None}


def test_fewer_than_two_texts_go_straight_to_scoring(eager_cj: EagerPlatform) -> None:
    bell = opened(eager_cj, ["first", None])

    assert prepare.prepare(eager_cj.runtime, bell) == [Bell(Work.SCORE, bell.batch_id)]
    assert look(eager_cj, bell).state is BatchStateEnum.SCORING


def test_a_service_that_is_away_is_asked_again_for_what_is_missing(eager_cj: EagerPlatform) -> None:
    bell = opened(eager_cj, [*TEXTS])
    broken = essays(eager_cj)[1].text_storage_id
    eager_cj.content.change({"errors": {broken: 503}})

    assert prepare.prepare(eager_cj.runtime, bell) == []
    state = look(eager_cj, bell)
    assert (state.state, state.next_action) == (BatchStateEnum.INITIALIZING, Work.PREPARE)
    assert state.next_action_at == eager_cj.clock() + timedelta(seconds=2)

    eager_cj.content.change({"errors": {}})
    eager_cj.clock.advance(timedelta(seconds=2))
    assert prepare.prepare(eager_cj.runtime, bell) == [Bell(Work.ADVANCE, bell.batch_id)]
    assert eager_cj.content.stats()["reads"] == len(TEXTS) + 1
    assert {essay.fetch_error for essay in essays(eager_cj)} == {None}


def test_a_service_that_stays_away_is_given_up_after_five_minutes(eager_cj: EagerPlatform) -> None:
    bell = opened(eager_cj, [*TEXTS])
    began = eager_cj.clock()
    break_all(eager_cj, 503)

    while not (bells := prepare.prepare(eager_cj.runtime, bell)):
        when = look(eager_cj, bell).next_action_at
        assert when is not None
        assert when > eager_cj.clock(), "each try is followed by a pause"
        eager_cj.clock.now = when

    assert bells == [Bell(Work.SCORE, bell.batch_id)]
    assert timedelta(minutes=5) <= eager_cj.clock() - began <= timedelta(minutes=6)
    assert {essay.fetch_error for essay in essays(eager_cj)} == {"CONTENT_SERVICE_ERROR"}


def test_a_batch_goes_on_without_a_prompt_that_is_missing(eager_cj: EagerPlatform) -> None:
    bell = opened(eager_cj, [*TEXTS], prompt="e" * 32)

    assert prepare.prepare(eager_cj.runtime, bell) == [Bell(Work.ADVANCE, bell.batch_id)]

    upload = look(eager_cj, bell).batch_upload
    assert (upload.student_prompt_text, upload.student_prompt_error) == (None, "RESOURCE_NOT_FOUND")


def test_a_batch_waits_a_while_for_its_prompt(eager_cj: EagerPlatform) -> None:
    prompt = eager_cj.content.put(b"Write about cars.")
    bell = opened(eager_cj, [*TEXTS], prompt)
    eager_cj.content.change({"errors": {prompt: 500}})

    assert prepare.prepare(eager_cj.runtime, bell) == []
    eager_cj.clock.advance(prepare.PATIENCE)
    assert prepare.prepare(eager_cj.runtime, bell) == [Bell(Work.ADVANCE, bell.batch_id)]

    upload = look(eager_cj, bell).batch_upload
    assert (upload.student_prompt_text, upload.student_prompt_error) == (None, "CONTENT_SERVICE_ERROR")
    assert eager_cj.content.stats()["reads"] == len(TEXTS) + 2


def test_one_turn_prepares_every_batch_that_is_due(eager_cj: EagerPlatform) -> None:
    due = [opened(eager_cj, [*TEXTS]) for _ in range(3)]

    bells = prepare.prepare_due(eager_cj.runtime, due[1])

    assert {bell.batch_id for bell in bells} == {bell.batch_id for bell in due}
    assert {look(eager_cj, bell).state for bell in due} == {BatchStateEnum.GENERATING_PAIRS}


def test_a_turn_leaves_alone_what_is_tried_again_later(eager_cj: EagerPlatform) -> None:
    waiting, due = (opened(eager_cj, [*TEXTS]) for _ in range(2))
    break_all(eager_cj, 503)
    prepare.prepare(eager_cj.runtime, waiting)
    eager_cj.content.change({"error_rate": 0.0})

    prepare.prepare_due(eager_cj.runtime, due)

    assert look(eager_cj, waiting).state is BatchStateEnum.INITIALIZING
    assert look(eager_cj, due).state is BatchStateEnum.GENERATING_PAIRS
