"""Which comparisons a submitter gets, and what becomes of those that another one left behind."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Work
from cjtasks.store import claims
from cjtasks.store.comparisons import Limits, what_next
from cjtasks.store.models import CJBatchState, ComparisonPair
from tests.checks import assert_consistent
from tests.factories import NOW, batch_in, comparisons

if TYPE_CHECKING:
    from cjtasks.store.claims import Taken
    from cjtasks.store.session import Database

S = ComparisonStatus
WAITING = BatchStateEnum.WAITING_CALLBACKS
LIMITS = Limits(in_flight=100, callback_timeout=timedelta(minutes=30))
FEW = Limits(in_flight=3, callback_timeout=timedelta(minutes=30))


def take(database: Database, most: int = 64, now: datetime = NOW, limits: Limits = LIMITS) -> list[Taken]:
    with database.transaction() as session:
        return claims.take(session, claims.Order(most, uuid4(), now), limits)


def waiting_batch(database: Database, count: int, status: S = S.PLANNED) -> int:
    with database.transaction() as session:
        state = batch_in(session, WAITING, essays=6)
        comparisons(session, state, count, status)
        return state.batch_id


def due(database: Database, batch_id: int) -> tuple[Work | None, datetime | None]:
    with database.transaction() as session:
        assert_consistent(session, batch_id)
        state = session.get_one(CJBatchState, batch_id)
        return state.next_action, state.next_action_at


def test_a_small_batch_gets_its_share_beside_a_large_one(database: Database) -> None:
    large, small = waiting_batch(database, 1000), waiting_batch(database, 20)

    taken = Counter(one.batch_id for one in take(database, 30))

    assert taken == {large: 15, small: 15}


def test_what_a_small_batch_does_not_need_goes_to_the_large_one(database: Database) -> None:
    large, small = waiting_batch(database, 1000), waiting_batch(database, 2)

    assert Counter(one.batch_id for one in take(database)) == {large: 62, small: 2}
    assert Counter(one.batch_id for one in take(database)) == {large: 38}, "its cap is reached"


def test_the_batches_with_the_fewest_in_flight_come_first(database: Database) -> None:
    busy = [waiting_batch(database, 3, S.IN_FLIGHT) for _ in range(claims.BATCHES_AT_ONCE)]
    with database.transaction() as session:
        for batch_id in busy:
            comparisons(session, session.get_one(CJBatchState, batch_id), 5, S.PLANNED)
    idle = waiting_batch(database, 5)

    assert idle in {one.batch_id for one in take(database, 16)}


def test_comparisons_are_taken_in_the_order_in_which_they_were_planned(database: Database) -> None:
    waiting_batch(database, 5)

    ids = {one.id for one in take(database, 3)}

    with database.transaction() as session:
        ordinals = {pair.ordinal for pair in session.query(ComparisonPair) if pair.id in ids}
    assert ordinals == {0, 1, 2}


def test_no_more_than_the_cap_of_a_batch_is_in_flight(database: Database) -> None:
    batch_id = waiting_batch(database, 2, S.IN_FLIGHT)
    with database.transaction() as session:
        comparisons(session, session.get_one(CJBatchState, batch_id), 5, S.PLANNED)

    assert len(take(database, limits=FEW)) == 1
    work, when = due(database, batch_id)
    assert work is Work.SUBMIT
    assert when is not None
    assert NOW < when <= NOW + timedelta(seconds=1)
    assert take(database, limits=FEW, now=when) == []


def test_a_claim_is_leased_and_nobody_else_takes_it(database: Database) -> None:
    batch_id = waiting_batch(database, 4)

    assert len(take(database)) == 4
    assert take(database) == []
    assert due(database, batch_id) == (Work.SUBMIT, NOW + claims.LEASE)


def test_a_claim_whose_lease_ran_out_is_taken_again_with_its_correlation_id(database: Database) -> None:
    waiting_batch(database, 4)
    before = {(one.id, one.correlation_id) for one in take(database)}

    again = take(database, now=NOW + claims.LEASE)

    assert {(one.id, one.correlation_id) for one in again} == before


def test_lost_claims_that_fill_the_cap_are_taken_again(database: Database) -> None:
    batch_id = waiting_batch(database, 8)
    assert len(take(database, limits=FEW)) == 3

    later = NOW + claims.LEASE
    assert len(take(database, now=later, limits=FEW)) == 3
    assert due(database, batch_id)[0] is Work.SUBMIT


def test_unanswered_comparisons_that_fill_the_cap_are_looked_after(database: Database) -> None:
    batch_id = waiting_batch(database, 3, S.IN_FLIGHT)
    with database.transaction() as session:
        comparisons(session, session.get_one(CJBatchState, batch_id), 5, S.PLANNED)

    assert take(database, now=NOW + FEW.callback_timeout, limits=FEW) == []

    assert due(database, batch_id) == (Work.CHECK, NOW + FEW.callback_timeout)


def test_comparisons_wait_for_their_next_attempt(database: Database) -> None:
    batch_id = waiting_batch(database, 2)
    later = NOW + timedelta(seconds=20)
    with database.transaction() as session:
        for pair in session.query(ComparisonPair):
            pair.next_attempt_at = later

    assert take(database) == []
    assert due(database, batch_id) == (Work.SUBMIT, later)
    assert len(take(database, now=later)) == 2


def test_only_batches_that_wait_for_answers_are_asked_for(database: Database) -> None:
    with database.transaction() as session:
        failed = batch_in(session, BatchStateEnum.FAILED)
        comparisons(session, failed, 3, S.PLANNED)

    assert take(database) == []


def test_when_all_is_asked_the_batch_waits_for_its_answers(database: Database) -> None:
    batch_id = waiting_batch(database, 2, S.IN_FLIGHT)

    with database.transaction() as session:
        upcoming = what_next(session, [batch_id], NOW + timedelta(minutes=1), LIMITS)

    assert upcoming == {batch_id: (Work.CHECK, NOW + LIMITS.callback_timeout)}


def test_submitters_that_claim_at_once_never_get_the_same_comparison(database: Database) -> None:
    for _ in range(4):
        waiting_batch(database, 30)
    start = Barrier(4)

    def claim_all(_: int) -> list[int]:
        start.wait()
        ids: list[int] = []
        while taken := take(database, 8):
            ids += [one.id for one in taken]
        return ids

    with ThreadPoolExecutor(4) as pool:
        ids = [one for taken in pool.map(claim_all, range(4)) for one in taken]

    assert len(ids) == len(set(ids))
    with database.transaction() as session:
        rows = session.query(ComparisonPair.claim_token).filter_by(status=S.CLAIMED).all()
    tokens: list[UUID | None] = [token for (token,) in rows]
    assert len(tokens) == len(ids)
    assert None not in tokens
