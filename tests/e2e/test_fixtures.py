"""Nasty messages through a real broker: what becomes of each, and that the good one behind it is served."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from sqlalchemy import func, select

from cjtasks.domain.comparisons import MAX_ATTEMPTS
from cjtasks.domain.states import TERMINAL, BatchStateEnum
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchState, CJBatchUpload, InboxRow, KafkaPosition
from tests import nasty_answers, nasty_requests
from tests.nasty import FIXTURES, Becomes, Case, entity_of, fixtures, request
from tests.nasty_outcomes import Asked, Place, ask, became, letter_at, problem

from .platform import Platform, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from confluent_kafka import KafkaError, Message

FOLDERS = ("requests", "callbacks", "invalid", "surprising", "seed_era")
LARGEST = 16 * 1024 * 1024
TOO_LARGE = 9 * 1024 * 1024


@dataclass(frozen=True)
class Sent:
    """A message where it lies in Kafka, and the good one behind it in the same partition."""

    case: Case
    place: Place
    good: Case
    good_place: Place


@pytest.fixture(scope="module")
def running(start: Callable[[Setup], AbstractContextManager[Platform]]) -> Iterator[Platform]:
    with start(Setup()) as started:
        yield started


def good_request(name: str) -> Case:
    essays = {"essays_for_cj": [{"essay_id": "only", "text_storage_id": "f" * 32}]}
    return Case(name, Kind.REQUEST, request(name, essays), Becomes.OPENED)


def good_behind(case: Case, run: str) -> Case:
    name = f"{run}: behind {case.name}"
    return good_request(name) if case.kind is Kind.REQUEST else nasty_answers.judged(name)


def send(running: Platform, cases: Sequence[Case], run: str) -> list[Sent]:
    """Send all to the first partition of their topics, each with a good message behind it, and wait for their end."""
    pairs = [(case, good_behind(case, run)) for case in cases]
    with running.database.transaction() as session:
        for _, good in pairs:
            if good.match_on is not None:
                ask(session, Asked(good.match_on, good.request_id, 1, datetime.now(UTC)))
    places = produce(running, [one for pair in pairs for one in pair])
    sent = [Sent(case, places[2 * n], good, places[2 * n + 1]) for n, (case, good) in enumerate(pairs)]
    running.wait_for(lambda: is_worked(running, places), "every message is worked", 90)
    running.wait_for(lambda: have_ended(running, sent), "every batch has ended", 90)
    return sent


def produce(running: Platform, cases: Iterable[Case]) -> list[Place]:
    settings, places = running.settings, list[Place]()
    topics = {Kind.REQUEST: settings.REQUEST_TOPIC, Kind.CALLBACK: settings.LLM_PROVIDER_CALLBACK_TOPIC}
    options = {"message.max.bytes": LARGEST, "compression.type": "lz4", "max.in.flight.requests.per.connection": 1}
    producer = Producer({"bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS, **options})

    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        places.append(Place(message.topic() or "", message.partition() or 0, message.offset() or 0))

    for case in cases:
        # One at a time, so that the places come back in the order of the messages.
        producer.produce(topics[case.kind], case.payload or None, partition=0, on_delivery=note)
        assert producer.flush(30) == 0, case.name
    return places


def is_worked(running: Platform, places: Iterable[Place]) -> bool:
    with running.database.transaction() as session:
        reached = {(p.topic, p.partition): p.next_offset for p in session.scalars(select(KafkaPosition))}
        undone = session.scalar(select(func.count()).where(InboxRow.done_at.is_(None)))
    return not undone and all(reached.get(place[:2], 0) > place.offset for place in places)


def have_ended(running: Platform, sent: Iterable[Sent]) -> bool:
    """Tell whether every batch that was asked for is at its end."""
    asked = {entity_of(case.payload) for one in sent for case in (one.case, one.good) if case.kind is Kind.REQUEST}
    with running.database.transaction() as session:
        live = select(func.count()).select_from(CJBatchState).join(CJBatchUpload)
        return not session.scalar(
            live.where(CJBatchUpload.bos_batch_id.in_(asked - {None}), CJBatchState.state.not_in(TERMINAL))
        )


def problems(running: Platform, sent: Sequence[Sent]) -> list[str]:
    with running.database.transaction() as session:
        pairs = chain.from_iterable(((one.case, one.place), (one.good, one.good_place)) for one in sent)
        return [wrong for case, place in pairs if (wrong := problem(case, became(session, case, place)))]


def for_good(case: Case) -> Case:
    """Expect an error to be the comparison's last, or the running platform would ask again and be answered."""
    return replace(case, becomes=Becomes.FINAL_ERROR) if case.becomes is Becomes.ERROR else case


def prepare(running: Platform, cases: Iterable[Case]) -> None:
    """Ask, once each, the comparisons that these answers are about, for the last time."""
    asked = {case.match_on: case.request_id for case in cases if case.becomes is not Becomes.SET_ASIDE}
    with running.database.transaction() as session:
        for match_on, request_id in asked.items():
            if match_on is not None:
                ask(session, Asked(match_on, request_id, MAX_ATTEMPTS, datetime.now(UTC)))


def shared(kind: Kind) -> list[Case]:
    if not FIXTURES.is_dir():
        pytest.skip("the platform's fixtures are not beside the repository")
    return [for_good(case) for case in fixtures(*FOLDERS) if case.kind is kind]


@pytest.mark.timeout(240)
def test_each_of_our_own_nasty_messages_ends_as_it_should(running: Platform) -> None:
    requests = [*nasty_requests.requests(), Case("a tombstone", Kind.REQUEST, b"", Becomes.SET_ASIDE, "0 bytes")]
    large = {"essays_for_cj": [{"essay_id": "x" * TOO_LARGE, "text_storage_id": "0"}]}
    requests.append(Case("9 MiB", Kind.REQUEST, request("9 MiB", large), Becomes.SET_ASIDE, "9437"))
    answers = [*map(for_good, nasty_answers.answers())]
    answers.append(Case("an empty answer", Kind.CALLBACK, b"", Becomes.SET_ASIDE, "0 bytes"))
    prepare(running, answers)

    sent = send(running, [*requests, *answers], "own")

    assert problems(running, sent) == []
    with running.database.transaction() as session:
        letters = {one.case.name: letter_at(session, one.place) for one in sent}
        for name, reason in {"9 MiB": "TOO_LARGE", "a tombstone": "EMPTY_MESSAGE"}.items():
            letter = letters[name]
            assert letter is not None
            assert (letter.reason, len(letter.payload)) == (reason, 64 * 1024 if reason == "TOO_LARGE" else 0)


@pytest.mark.timeout(240)
def test_each_request_of_the_platforms_fixtures_ends_as_it_should(running: Platform) -> None:
    sent = send(running, shared(Kind.REQUEST), "shared")

    assert len(sent) > 30
    assert problems(running, sent) == []
    with running.database.transaction() as session:
        ours = [entity_of(one.good.payload) for one in sent]
        states = session.scalars(
            select(CJBatchState.state).join(CJBatchUpload).where(CJBatchUpload.bos_batch_id.in_(ours))
        )
        assert list(states) == [BatchStateEnum.COMPLETED] * len(ours)


@pytest.mark.timeout(240)
def test_each_answer_of_the_platforms_fixtures_is_set_aside_while_nobody_asked_and_recorded_when_asked(
    running: Platform,
) -> None:
    answers = shared(Kind.CALLBACK)
    read = [case for case in answers if case.becomes is not Becomes.SET_ASIDE]
    stranger = "CJ_CALLBACK_CORRELATION_FAILED: "
    strangers = [replace(case, becomes=Becomes.SET_ASIDE, says=f"{stranger}{case.match_on}") for case in read]
    assert problems(running, send(running, strangers, "not asked")) == []

    prepare(running, answers)
    sent = send(running, answers, "asked")

    assert len(sent) > 60
    assert problems(running, sent) == []
