"""Taking the next comparisons to send: a lease and a token on each row, from many batches fairly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select, update

from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import BatchStateEnum, Work
from cjtasks.store import batches, comparisons, gate
from cjtasks.store.models import CJBatchState, ComparisonPair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.orm import Session

    from cjtasks.store.comparisons import Limits

LEASE = timedelta(seconds=90)
"""When a submitter dies with comparisons in the air, they are sent again after this."""

BATCHES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Taken:
    """One claimed comparison; `iteration` and `attempt` tell the provider what kind of request it is."""

    id: int
    batch_id: int
    essay_a: str
    essay_b: str
    correlation_id: UUID
    iteration: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Order:
    """How many comparisons to take at most, by which token, when."""

    most: int
    token: UUID
    now: datetime


def take(session: Session, order: Order, limits: Limits) -> list[Taken]:
    """Claim comparisons from the due batches with the fewest in flight, and make what remains due again."""
    states = _due_batches(session, order.now)
    if not states:
        return []
    free = _free_places(session, [state.batch_id for state in states], order.now, limits)
    share = max(1, -(-order.most // len(states)))
    chosen: list[int] = []
    left = dict(free)
    for batch_id, pair_id in _claimable(session, list(free), order.now, share):
        if left[batch_id] > 0 and len(chosen) < order.most:
            left[batch_id] -= 1
            chosen.append(pair_id)
    # The gate is asked last, because the one probe that it admits must not be wasted on nothing.
    admitted = gate.admitted(session, order.now, len(chosen)) if chosen else 0
    taken = _claim(session, chosen[:admitted], order)
    _make_due(session, states, order.now, limits)
    return taken


def _due_batches(session: Session, now: datetime) -> Sequence[CJBatchState]:
    in_flight = (
        CJBatchState.submitted_comparisons - CJBatchState.completed_comparisons - CJBatchState.failed_comparisons
    )
    return session.scalars(
        select(CJBatchState)
        .where(
            CJBatchState.next_action_at <= now,
            CJBatchState.next_action == Work.SUBMIT,
            CJBatchState.state == BatchStateEnum.WAITING_CALLBACKS,
        )
        .order_by(in_flight, CJBatchState.next_action_at)
        .limit(BATCHES_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()


def _free_places(session: Session, batch_ids: list[int], now: datetime, limits: Limits) -> dict[int, int]:
    # A claim whose lease has run out holds no place, or lost claims could fill the cap for ever.
    claimed = and_(ComparisonPair.status == ComparisonStatus.CLAIMED, ComparisonPair.lease_until > now)
    flight = or_(ComparisonPair.status == ComparisonStatus.IN_FLIGHT, claimed)
    rows = session.execute(
        select(ComparisonPair.cj_batch_id, func.count().filter(flight))
        .where(ComparisonPair.cj_batch_id.in_(batch_ids))
        .group_by(ComparisonPair.cj_batch_id)
    )
    return {batch_id: max(0, limits.in_flight - in_flight) for batch_id, in_flight in rows}


def _claimable(session: Session, batch_ids: list[int], now: datetime, share: int) -> Sequence[tuple[int, int]]:
    """List up to `share` rows of each batch, the first ones of all batches first."""
    place = func.row_number().over(
        partition_by=ComparisonPair.cj_batch_id, order_by=(ComparisonPair.iteration, ComparisonPair.ordinal)
    )
    waiting = (
        select(ComparisonPair.cj_batch_id, ComparisonPair.id, place.label("place"))
        .where(
            ComparisonPair.cj_batch_id.in_(batch_ids),
            or_(
                and_(ComparisonPair.status == ComparisonStatus.PLANNED, ComparisonPair.next_attempt_at <= now),
                # The submitter that held it is gone; its lease has run out.
                and_(ComparisonPair.status == ComparisonStatus.CLAIMED, ComparisonPair.lease_until <= now),
            ),
        )
        .subquery()
    )
    rows = session.execute(
        select(waiting.c.cj_batch_id, waiting.c.id).where(waiting.c.place <= share).order_by(waiting.c.place)
    )
    return rows.all()


def _claim(session: Session, ids: list[int], order: Order) -> list[Taken]:
    rows = session.execute(
        update(ComparisonPair)
        .where(ComparisonPair.id.in_(ids))
        .values(status=ComparisonStatus.CLAIMED, lease_until=order.now + LEASE, claim_token=order.token)
        .returning(
            ComparisonPair.id,
            ComparisonPair.cj_batch_id,
            ComparisonPair.essay_a_els_id,
            ComparisonPair.essay_b_els_id,
            ComparisonPair.request_correlation_id,
            ComparisonPair.iteration,
            ComparisonPair.attempt,
        )
    )
    return [Taken(*row) for row in rows]


def _make_due(session: Session, states: Sequence[CJBatchState], now: datetime, limits: Limits) -> None:
    upcoming = comparisons.what_next(session, [state.batch_id for state in states], now, limits)
    for state in states:
        batches.due(state, *upcoming[state.batch_id])
