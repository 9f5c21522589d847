"""Every answer that the provider may give to a submission: what it leaves on the row, the gate and the batch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select

from cjtasks import bells
from cjtasks.dev.servers import free_port
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import submit
from cjtasks.store.models import CJBatchState, CJBatchUpload, ComparisonPair, ProcessedEssay, ProviderGate
from cjtasks.testing import eager_platform
from tests.checks import assert_consistent
from tests.factories import CONFIGURATION, batch_in, comparisons
from tests.integration.clients.told_service import Answer, Told, serving
from tests.nasty import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.testing import EagerPlatform
    from tests.integration.clients.told_service import Service

S = ComparisonStatus
WAITING, COMPLETED, FAILED = BatchStateEnum.WAITING_CALLBACKS, BatchStateEnum.COMPLETED, BatchStateEnum.FAILED
FIRST_PAUSE = (4.0, 5.0)
"""Seconds, with the jitter of a quarter."""

PATIENT = {"BREAKER_FAILURES": 100}
"""The breaker's clock is not ours to set, so it stays out of the way."""


def as_json(status: int, body: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(body).encode(), named)


def in_an_hour_and_a_half(_: Service) -> Answer:
    """Ask by a date, as HTTP allows, for more time than is given; the date is of the real clock."""
    when = datetime.now(UTC) + timedelta(minutes=90)
    return as_json(503, {"error": "later"}, Retry_After=format_datetime(when, usegmt=True))


def verdict(service: Service) -> Answer:
    asked = json.loads(service.bodies[-1])["correlation_id"]
    return as_json(200, json.loads(answer("at once", {"correlation_id": asked}))["data"])


def error_at_once(service: Service) -> Answer:
    body = json.loads(verdict(service).body)
    detail = {"error_code": "QUOTA_EXCEEDED", "message": "no", "correlation_id": body["correlation_id"]}
    detail |= {"timestamp": "2026-03-02T09:00:00Z", "service": "llm", "operation": "ask"}
    return as_json(200, {**body, "winner": None, "error_detail": detail})


def reset(_: Service) -> None:
    """Hang up without a word."""


class Refusal(NamedTuple):
    """An answer after which the comparison is sent again, when (seconds), and whether the gate is closed meanwhile."""

    told: Told
    pause: tuple[float, float] = FIRST_PAUSE
    closes: bool = False


REFUSALS = {
    "a full queue": Refusal(as_json(202, {"error": {"code": "REQUEST_QUEUED"}}), closes=True),
    "202 with half a character": Refusal(Answer(202, b'{"queue_id": "\\ud800"}'), closes=True),
    "202 with half a body": Refusal(Answer(202, b'{"queue_id": "q'), closes=True),
    "202 with an id that is a number": Refusal(as_json(202, {"queue_id": 7}), closes=True),
    "408": Refusal(as_json(408)),
    "429": Refusal(as_json(429), closes=True),
    "429 with seconds": Refusal(as_json(429, Retry_After="120"), (120, 150), closes=True),
    "429 with nonsense": Refusal(as_json(429, Retry_After="soon"), closes=True),
    "503 with a date": Refusal(in_an_hour_and_a_half, (3600, 4500), closes=True),
    "500 in words": Refusal(as_json(500, {"error": "oops", "details": "at length"})),
    "500 as an object": Refusal(as_json(500, {"error": {"code": "CONFIGURATION_ERROR"}})),
    "502": Refusal(as_json(502, [])),
    "503": Refusal(as_json(503, {"error": "open circuit"}), closes=True),
    "504 in HTML": Refusal(Answer(504, b"<html>")),
    "599": Refusal(as_json(599)),
    "400 that may be tried again": Refusal(as_json(400, {"is_retryable": True})),
    "a hung request": Refusal(lambda service: service.hang()),
    "a reset connection": Refusal(reset),
}

FINAL: dict[str, tuple[Told, str]] = {
    "400": (as_json(400, {"error": "no JSON"}), "INVALID_REQUEST"),
    "401": (as_json(401, {"error": {"code": "INVALID_API_KEY"}}), "INVALID_API_KEY"),
    "403": (as_json(403), "AUTHORIZATION_ERROR"),
    "404": (as_json(404), "RESOURCE_NOT_FOUND"),
    "302": (as_json(302, Location="/elsewhere"), "INVALID_RESPONSE"),
    "200 without JSON": (Answer(200, b"{'winner': "), "INVALID_RESPONSE"),
    "200 without an answer": (as_json(200, {"queue_id": "q"}), "INVALID_RESPONSE"),
    "200 with an error for good": (error_at_once, "QUOTA_EXCEEDED"),
}


@dataclass(frozen=True)
class Scene:
    """One comparison, with which its batch ends, and the provider that it is sent to."""

    platform: EagerPlatform
    service: Service
    batch_id: int

    def send(self) -> ComparisonPair:
        bells.ring([Bell(Work.SUBMIT)])
        return self.pair()

    def pair(self) -> ComparisonPair:
        with self.platform.runtime.database.transaction() as session:
            assert_consistent(session, self.batch_id)
            return session.scalars(select(ComparisonPair)).one()

    def state(self) -> CJBatchState:
        with self.platform.runtime.database.transaction() as session:
            return session.get_one(CJBatchState, self.batch_id)

    def gate(self) -> datetime | None:
        with self.platform.runtime.database.transaction() as session:
            return session.scalars(select(ProviderGate.not_before)).one()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.platform.events()]


@pytest.fixture
def scene(database_url: str) -> Iterator[Scene]:
    quick = {"HTTP_TIMEOUT_SECONDS": 0.4, **PATIENT}
    with serving() as service, eager_platform(database_url, LLM_PROVIDER_SERVICE_URL=service.url, **quick) as platform:
        with platform.runtime.database.transaction() as session:
            state = batch_in(session, WAITING, total_budget=1)
            comparisons(session, state, 1, S.PLANNED)
        yield Scene(platform, service, state.batch_id)


def test_an_accepted_comparison_is_in_flight_on_its_first_attempt(scene: Scene) -> None:
    scene.service.told = as_json(202, {"queue_id": "q-1", "status": "queued"})

    pair = scene.send()

    assert (pair.status, pair.attempt, pair.refusals, pair.request_id) == (S.IN_FLIGHT, 1, 0, "q-1")
    state = scene.state()
    assert (state.submitted_comparisons, state.next_action) == (1, Work.CHECK)
    assert state.next_action_at == scene.platform.clock() + timedelta(minutes=30)
    assert scene.gate() is None


def test_a_verdict_in_the_response_goes_the_way_of_a_callback(scene: Scene) -> None:
    scene.service.told = verdict

    pair = scene.send()

    assert (pair.status, pair.attempt, pair.winner, pair.confidence) == (S.COMPLETED, 1, "essay_a", 4.0)
    assert scene.state().state is COMPLETED
    assert scene.kinds() == ["completed", "result", "consumption"]


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_comparison_costs_no_attempt_and_is_judged_when_the_provider_is_back(scene: Scene, name: str) -> None:
    refusal = REFUSALS[name]
    scene.service.told = refusal.told
    now, since = scene.platform.clock(), scene.state().last_activity_at

    pair = scene.send()

    assert len(scene.service.bodies) == 1
    assert (pair.status, pair.attempt, pair.refusals, pair.submitted_at) == (S.PLANNED, 0, 1, None)
    assert refusal.pause[0] <= (pair.next_attempt_at - now).total_seconds() <= refusal.pause[1]
    gate, state = scene.gate(), scene.state()
    assert (gate is not None) == refusal.closes
    assert gate is None or refusal.pause[0] <= (gate - now).total_seconds() <= refusal.pause[1]
    assert (state.state, state.next_action, state.next_action_at) == (WAITING, Work.SUBMIT, pair.next_attempt_at)
    assert (state.last_activity_at, scene.kinds()) == (since, [])

    scene.service.told = verdict
    scene.platform.pump()

    pair = scene.pair()
    assert (pair.status, pair.attempt, pair.refusals) == (S.COMPLETED, 1, 0)
    assert len({json.loads(body)["correlation_id"] for body in scene.service.bodies}) == 1
    assert scene.gate() is None
    assert scene.kinds() == ["completed", "result", "consumption"]


@pytest.mark.parametrize("name", FINAL)
def test_a_comparison_that_nobody_will_judge_fails_its_batch_with_one_event(scene: Scene, name: str) -> None:
    scene.service.told, code = FINAL[name]

    pair = scene.send()

    assert len(scene.service.bodies) == 1
    assert (pair.status, pair.error_code, pair.winner) == (S.FAILED, code, None)
    assert (scene.state().state, scene.kinds()) == (FAILED, ["failed"])
    assert scene.gate() is None


def test_a_provider_that_is_not_there_is_waited_for_longer_and_longer(database_url: str) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with eager_platform(database_url, LLM_PROVIDER_SERVICE_URL=nobody, **PATIENT) as platform:
        with platform.runtime.database.transaction() as session:
            comparisons(session, batch_in(session, WAITING, total_budget=1), 1, S.PLANNED)
        pauses = []
        for _ in range(7):
            bells.ring([Bell(Work.SUBMIT)])
            with platform.runtime.database.transaction() as session:
                pair = session.scalars(select(ComparisonPair)).one()
            pauses.append((pair.next_attempt_at - platform.clock()).total_seconds())
            platform.clock.now = pair.next_attempt_at
    assert (pair.attempt, pair.refusals) == (0, 7)
    for pause, least in zip(pauses, (4, 8, 16, 32, 60, 60, 60), strict=True):
        assert least <= pause <= 1.25 * least


def test_a_thousand_batches_before_a_full_queue_cost_a_handful_of_requests(eager_cj: EagerPlatform) -> None:
    a_thousand_batches(eager_cj)
    eager_cj.provider.change({"refuse_rate": 1.0, "refuse_status": 202, "lost_rate": 1.0})
    for_simulated(eager_cj, timedelta(minutes=10))
    burst = submit.AT_ONCE
    assert eager_cj.provider.stats()["accepted"] == 0
    assert eager_cj.provider.stats()["refused"] <= burst + 20, "after the first burst only probes"

    eager_cj.provider.change({"refuse_rate": 0.0})
    for_simulated(eager_cj, timedelta(minutes=3))

    stats = eager_cj.provider.stats()
    assert (stats["accepted"], stats["asked_again"]) == (1000, 0)
    with eager_cj.runtime.database.transaction() as session:
        states = session.execute(select(CJBatchState.state, func.count()).group_by(CJBatchState.state)).all()
        attempts = session.scalars(select(ComparisonPair.attempt).distinct()).all()
    assert [tuple(row) for row in states] == [(WAITING, 1000)]
    assert attempts == [1]


def for_simulated(platform: EagerPlatform, time: timedelta) -> None:
    """Sweep every two simulated seconds, as beat and consumer do at least."""
    until = platform.clock() + time
    while platform.clock() < until:
        platform.clock.advance(timedelta(seconds=2))
        platform._turn()


def a_thousand_batches(platform: EagerPlatform) -> None:
    now, numbers = platform.clock(), range(1, 1001)
    upload = {"language": "en", "course_code": "ENG5", "expected_essay_count": 2, "user_id": "teacher"}
    due = {"state": WAITING, "total_budget": 1, "total_comparisons": 1, "current_iteration": 1}
    due |= {"last_activity_at": now, "next_action": Work.SUBMIT, "next_action_at": now}
    pair = {"iteration": 1, "ordinal": 0, "essay_a_els_id": "a", "essay_b_els_id": "b", "next_attempt_at": now}
    text = {"text_storage_id": "0", "assessment_input_text": "An essay."}
    with platform.runtime.database.transaction() as session:
        rows = [{"bos_batch_id": f"b-{n}", "event_correlation_id": f"c-{n}", **upload} for n in numbers]
        for row in rows:
            row["configuration"] = CONFIGURATION.model_dump()
        ids = session.scalars(insert(CJBatchUpload).returning(CJBatchUpload.id), rows).all()
        session.execute(insert(CJBatchState), [{"batch_id": one, **due} for one in ids])
        essays = [
            {"cj_batch_id": one, "els_essay_id": essay, "position": position, **text}
            for one in ids
            for position, essay in enumerate("ab")
        ]
        session.execute(insert(ProcessedEssay), essays)
        session.execute(
            insert(ComparisonPair), [{"cj_batch_id": one, "request_correlation_id": uuid4(), **pair} for one in ids]
        )
