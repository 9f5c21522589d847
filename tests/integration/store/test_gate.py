"""The provider's gate: closed for everybody at once, opened by one probe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import TYPE_CHECKING
from uuid import uuid4

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum
from cjtasks.store import claims, gate
from cjtasks.store.comparisons import Limits
from cjtasks.store.models import ProviderGate
from tests.factories import NOW, batch_in, comparisons

if TYPE_CHECKING:
    from cjtasks.store.session import Database

LATER = NOW + timedelta(minutes=2)
LIMITS = Limits(in_flight=100, callback_timeout=timedelta(minutes=30))


def admitted(database: Database, now: datetime) -> int:
    with database.transaction() as session:
        return gate.admitted(session, now, 64)


def close(database: Database, retry_after: float | None = None) -> None:
    with database.transaction() as session:
        gate.close(session, NOW, retry_after)


def test_an_open_gate_lets_everything_through(database: Database) -> None:
    assert admitted(database, NOW) == 64


def test_a_closed_gate_lets_nothing_through_until_its_time(database: Database) -> None:
    close(database)

    assert admitted(database, NOW) == 0
    assert admitted(database, NOW + timedelta(seconds=3.9)) == 0
    assert admitted(database, NOW + timedelta(seconds=5)) == 1


def test_what_the_provider_asks_for_closes_it_that_long(database: Database) -> None:
    close(database, retry_after=100)

    assert admitted(database, NOW + timedelta(seconds=99)) == 0
    assert admitted(database, NOW + timedelta(seconds=125)) == 1


def test_each_refusal_closes_it_for_longer(database: Database) -> None:
    for _ in range(3):
        close(database)

    with database.transaction() as session:
        row = session.query(ProviderGate).one()
        assert row.refusals == 3
        assert row.not_before is not None
        assert timedelta(seconds=16) <= row.not_before - NOW <= timedelta(seconds=20)


def test_one_probe_goes_out_and_a_lost_probe_is_followed_by_another(database: Database) -> None:
    close(database)

    assert [admitted(database, LATER) for _ in range(3)] == [1, 0, 0]
    assert admitted(database, LATER + gate.PROBE) == 1


def test_submitters_that_ask_at_once_send_one_probe(database: Database) -> None:
    close(database)
    start = Barrier(4)

    def ask(_: int) -> int:
        start.wait()
        return admitted(database, LATER)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(ask, range(4))) == [0, 0, 0, 1]


def test_an_accepted_probe_opens_it(database: Database) -> None:
    close(database)
    with database.transaction() as session:
        gate.open_(session)

    assert admitted(database, NOW) == 64
    with database.transaction() as session:
        assert session.query(ProviderGate).one().refusals == 0


def test_the_probe_is_kept_for_a_comparison_that_can_be_sent(database: Database) -> None:
    close(database)

    def taken() -> int:
        with database.transaction() as session:
            return len(claims.take(session, claims.Order(64, uuid4(), LATER), LIMITS))

    assert taken() == 0
    with database.transaction() as session:
        comparisons(session, batch_in(session, BatchStateEnum.WAITING_CALLBACKS), 5, ComparisonStatus.PLANNED)
    assert [taken(), taken()] == [1, 0]
