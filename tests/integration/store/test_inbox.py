"""Taking inbox rows: together while they are fresh, alone when one failed before, message by message at last."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from threading import Event
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from cjtasks.domain.states import Bell, Work
from cjtasks.store import inbox
from cjtasks.store.inbox import Kind
from cjtasks.store.models import DeadLetterRow, InboxRow, KafkaPosition
from tests.factories import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from cjtasks.store.inbox import Message
    from cjtasks.store.session import Database
    from cjtasks.testing import SettableClock

Act = Callable[["Session", "Message"], None]
POISON = b"poison"
BELL, AGAIN = Bell(Work.SUBMIT), Bell(Work.INBOX)
LATER = timedelta(seconds=3)
FAR = timedelta(seconds=70)


class Recorder:
    """A step that keeps what it was given in one table, so that only what is committed counts."""

    def __init__(self, database: Database, clock: SettableClock, act: Act | None = None) -> None:
        self.database, self.clock, self.act = database, clock, act
        self.groups: list[list[bytes]] = []

    def step(self, session: Session, given: Sequence[Message]) -> list[Bell]:
        self.groups.append([message.payload for message in given])
        for message in given:
            session.add(KafkaPosition(topic=message.payload.decode(), partition=0, next_offset=0))
            session.flush()
            if self.act is not None:
                self.act(session, message)
        return [BELL]

    def work(self) -> list[Bell]:
        return inbox.work(self.database, self.clock, {Kind.CALLBACK: self.step, Kind.REQUEST: self.step})

    def done(self) -> set[str]:
        with self.database.transaction() as session:
            return set(session.scalars(select(KafkaPosition.topic)))


def refuse_poison(_: Session, message: Message) -> None:
    if message.payload == POISON:
        raise LookupError("this text may hold an essay")


def receive(database: Database, clock: SettableClock, *payloads: bytes, kind: Kind = Kind.CALLBACK) -> None:
    with database.transaction() as session:
        inbox.write(session, kind, messages(*payloads, received_at=clock()))


def rows(database: Database) -> list[InboxRow]:
    with database.transaction() as session:
        return list(session.scalars(select(InboxRow).order_by(InboxRow.id)))


def work_until_set_aside(recorder: Recorder, clock: SettableClock) -> int:
    """Ring until all rows are done; return how many rings failed."""
    failed = 0
    while any(row.done_at is None for row in rows(recorder.database)):
        clock.advance(FAR)
        try:
            recorder.work()
        except LookupError:
            failed += 1
    return failed


def test_fresh_rows_are_worked_together_and_no_more_than_a_few(database: Database, clock: SettableClock) -> None:
    for number in range(18):
        receive(database, clock, b"a%d" % number, b"b%d" % number)
    recorder = Recorder(database, clock)

    assert recorder.work() == [BELL, AGAIN]

    assert recorder.groups == [[b"%b%d" % (letter, number) for number in range(16) for letter in (b"a", b"b")]]
    assert [row.done_at for row in rows(database)] == [clock()] * 16 + [None] * 2
    assert recorder.work() == [BELL]
    assert recorder.work() == []


@pytest.mark.parametrize(("kind", "enough"), [(Kind.CALLBACK, 1000), (Kind.REQUEST, 50)])
def test_no_more_rows_are_taken_once_they_hold_enough(
    database: Database, clock: SettableClock, kind: Kind, enough: int
) -> None:
    for row in range(3):
        receive(database, clock, *(b"%d-%d" % (row, number) for number in range(enough - 1)), kind=kind)
    recorder = Recorder(database, clock)

    assert recorder.work() == [BELL, AGAIN]
    assert recorder.work() == [BELL]

    assert [len(group) for group in recorder.groups] == [2 * (enough - 1), enough - 1]


def test_no_more_rows_are_taken_once_they_are_large(database: Database, clock: SettableClock) -> None:
    for seed in range(3):
        receive(database, clock, Random(seed).randbytes(3 * 1024 * 1024))
    taken: list[int] = []

    def step(_: Session, given: Sequence[Message]) -> list[Bell]:
        taken.append(len(given))
        return []

    assert inbox.work(database, clock, {Kind.CALLBACK: step}) == [AGAIN]
    assert inbox.work(database, clock, {Kind.CALLBACK: step}) == []
    assert taken == [2, 1]


def test_answers_come_before_requests_and_each_kind_has_its_own_step(database: Database, clock: SettableClock) -> None:
    receive(database, clock, b"request", kind=Kind.REQUEST)
    receive(database, clock, b"answer")
    requests, callbacks = Recorder(database, clock), Recorder(database, clock)
    steps = {Kind.REQUEST: requests.step, Kind.CALLBACK: callbacks.step}

    assert inbox.work(database, clock, steps) == [BELL, AGAIN]
    assert (requests.groups, callbacks.groups) == ([], [[b"answer"]])

    assert inbox.work(database, clock, steps) == [BELL]
    assert (requests.groups, callbacks.groups) == ([[b"request"]], [[b"answer"]])


def test_a_failure_leaves_fresh_rows_as_they_were(database: Database, clock: SettableClock) -> None:
    receive(database, clock, b"good")
    receive(database, clock, POISON)
    recorder = Recorder(database, clock, refuse_poison)

    with pytest.raises(LookupError):
        recorder.work()

    assert recorder.done() == set()
    assert [(row.attempts, row.done_at) for row in rows(database)] == [(0, None)] * 2


def test_an_old_row_is_counted_before_it_is_worked(database: Database, clock: SettableClock) -> None:
    receive(database, clock, POISON)
    clock.advance(LATER)
    recorder = Recorder(database, clock, refuse_poison)

    with pytest.raises(LookupError):
        recorder.work()

    (row,) = rows(database)
    assert (row.attempts, row.next_attempt_at) == (1, clock() + timedelta(seconds=2))
    assert recorder.work() == [], "it pauses before the next attempt"


def test_a_mere_backlog_is_worked_together(database: Database, clock: SettableClock) -> None:
    for number in range(3):
        receive(database, clock, b"%d" % number)
    clock.advance(FAR)
    recorder = Recorder(database, clock)

    recorder.work()

    assert recorder.groups == [[b"0", b"1", b"2"]]
    assert all(row.done_at for row in rows(database))


def test_a_row_that_was_tried_before_is_worked_alone(database: Database, clock: SettableClock) -> None:
    receive(database, clock, b"good")
    receive(database, clock, POISON)
    clock.advance(LATER)
    recorder = Recorder(database, clock, refuse_poison)
    with pytest.raises(LookupError):
        recorder.work()
    clock.advance(LATER)

    recorder.work()

    assert recorder.groups[-1] == [b"good"]
    assert recorder.done() == {"good"}


def test_a_poison_message_is_set_aside_at_the_third_attempt_and_its_neighbours_are_kept(
    database: Database, clock: SettableClock
) -> None:
    receive(database, clock, b"before", POISON, b"after")
    receive(database, clock, b"other row")
    recorder = Recorder(database, clock, refuse_poison)

    failed = work_until_set_aside(recorder, clock)

    assert failed == 2
    assert recorder.done() == {"before", "after", "other row"}
    with database.transaction() as session:
        (letter,) = session.scalars(select(DeadLetterRow))
        assert (letter.payload, letter.reason, letter.offset) == (POISON, "PROCESSING_FAILED", 1)
        assert letter.detail == "LookupError", "the error's text may hold what the message holds"


def test_the_databases_faults_are_no_attempts(database: Database, clock: SettableClock) -> None:
    receive(database, clock, b"good")
    clock.advance(LATER)

    def fail(session: Session, _: Message) -> None:
        session.execute(text("DO $$ BEGIN RAISE EXCEPTION SQLSTATE '40P01'; END $$"))

    recorder = Recorder(database, clock, fail)
    for _ in range(5):
        with pytest.raises(DBAPIError):
            recorder.work()
        clock.advance(LATER)

    assert [row.attempts for row in rows(database)] == [0]
    recorder.act = None
    assert recorder.work() == [BELL]


def test_the_databases_faults_set_nothing_aside_message_by_message(database: Database, clock: SettableClock) -> None:
    receive(database, clock, b"good", b"fine")
    with database.transaction() as session:
        session.scalars(select(InboxRow)).one().attempts = inbox.ONE_BY_ONE
    clock.advance(LATER)

    def fail(session: Session, _: Message) -> None:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(DBAPIError):
        Recorder(database, clock, fail).work()

    assert [(row.attempts, row.done_at) for row in rows(database)] == [(inbox.ONE_BY_ONE, None)]
    with database.transaction() as session:
        assert session.scalars(select(DeadLetterRow)).all() == []


def test_a_crash_is_counted_as_an_attempt(database: Database, clock: SettableClock) -> None:
    receive(database, clock, b"good")
    clock.advance(LATER)

    def crash(_: Session, __: Message) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        Recorder(database, clock, crash).work()

    assert [row.attempts for row in rows(database)] == [1]


@pytest.mark.parametrize("age", [timedelta(), LATER], ids=["fresh", "old"])
def test_two_workers_never_take_the_same_row(database: Database, clock: SettableClock, age: timedelta) -> None:
    for number in range(18):
        receive(database, clock, b"%d" % number)
    clock.advance(age)
    first_is_in, second_is_done = Event(), Event()

    def hold(_: Session, __: Message) -> None:
        first_is_in.set()
        assert second_is_done.wait(10)

    first, second = Recorder(database, clock, hold), Recorder(database, clock)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(first.work)
        assert first_is_in.wait(10)
        second.work()
        second.work()
        second_is_done.set()
        working.result()

    assert (first.groups, second.groups) == ([[b"%d" % number for number in range(16)]], [[b"16", b"17"]])


def test_done_rows_are_deleted_in_slices_and_undone_ones_never(database: Database, clock: SettableClock) -> None:
    for number in range(4):
        receive(database, clock, b"%d" % number)
    Recorder(database, clock).work()
    receive(database, clock, b"4")
    clock.advance(FAR)

    def delete(limit: int) -> int:
        with database.transaction() as session:
            return inbox.delete_done(session, clock(), limit)

    assert [delete(3), delete(3), delete(3)] == [3, 1, 0]
    assert len(rows(database)) == 1


def test_the_oldest_undone_row_is_known(database: Database, clock: SettableClock) -> None:
    with database.transaction() as session:
        assert inbox.oldest_undone(session) is None
    began = clock()
    receive(database, clock, b"0")
    clock.advance(FAR)
    receive(database, clock, b"1")

    with database.transaction() as session:
        assert (inbox.oldest_undone(session), inbox.undone(session, clock())) == (began, 2)
