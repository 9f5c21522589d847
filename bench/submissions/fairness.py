"""How long a batch of twenty waits beside one of ten thousand, with and without that one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from bench.submissions import seed, senders
from bench.submissions.senders import Work
from cjtasks.store.models import ComparisonPair

if TYPE_CHECKING:
    from cjtasks.settings import Settings
    from cjtasks.store.session import Database

LARGE, SMALL = 10_000, 20
SMALL_BATCHES = 5
PAUSE = 0.5
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Waits:
    """Seconds from when a small batch was due until the provider had accepted its last comparison."""

    alone: float
    beside: float
    beside_longest: float
    large_left: int


def measure(database: Database, settings: Settings) -> Waits:
    """Send small batches beside a large one that may have all its comparisons in flight, which asks the most."""
    greedy = settings.model_copy(update={"MAX_CONCURRENT_COMPARISONS": LARGE})
    alone = [_alone(database, greedy) for _ in range(SMALL_BATCHES)]
    seed.empty(database)
    with database.transaction() as session:
        seed.plan(session, 1, LARGE, essays=120)
    seed.settle(database)
    sender = Thread(target=senders.run, args=(senders.submit_all, [Work(greedy)]))
    sender.start()
    small = _beside(database)
    with database.transaction() as session:
        left = seed.planned(session)
    sender.join()
    waits = [_wait(database, batch_id) for batch_id in small]
    return Waits(median(alone), median(waits), max(waits), left)


def _alone(database: Database, settings: Settings) -> float:
    seed.empty(database)
    send = senders.submit_all(Work(settings))
    (batch_id,) = _small(database)
    send()
    return _wait(database, batch_id)


def _beside(database: Database) -> list[int]:
    """Open one small batch after the other as soon as the large one is being sent."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with database.transaction() as session:
            if seed.in_flight(session):
                break
        time.sleep(0.05)
    opened = []
    for _ in range(SMALL_BATCHES):
        opened += _small(database)
        time.sleep(PAUSE)
    return opened


def _small(database: Database) -> list[int]:
    with database.transaction() as session:
        return seed.plan(session, 1, SMALL)


def _wait(database: Database, batch_id: int) -> float:
    with database.transaction() as session:
        planned, sent = session.execute(
            select(func.min(ComparisonPair.next_attempt_at), func.max(ComparisonPair.submitted_at)).where(
                ComparisonPair.cj_batch_id == batch_id
            )
        ).one()
    if sent is None or planned is None:
        raise RuntimeError("a small batch was not sent")
    return float((sent - planned).total_seconds())
