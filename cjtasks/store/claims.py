"""Taking the next comparisons to send: a lease and a token on each row, from many batches fairly."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic_core import to_json
from sqlalchemy import select, text

from cjtasks.domain.fairness import fair_shares
from cjtasks.domain.states import BatchStateEnum, Work
from cjtasks.store import batches, gate
from cjtasks.store.comparisons import Waiting, next_work
from cjtasks.store.models import CJBatchState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class _Standing:
    """The open comparisons of a batch: how many hold a place, how many may go now, and the next moments of others.

    A claim whose lease has run out holds no place and may go, or lost claims could fill the cap for ever.
    """

    in_flight: int
    ready: int
    planned_at: datetime | None
    lease_until: datetime | None
    submitted_at: datetime | None

    def after(self, taken: int, now: datetime) -> Waiting:
        """Return what is left when so many of the ready ones are taken."""
        leases = [*filter(None, [self.lease_until]), *([now + LEASE] if taken else [])]
        return Waiting(
            planned_at=now if self.ready > taken else self.planned_at,
            lease_until=min(leases, default=None),
            submitted_at=self.submitted_at,
            in_flight=self.in_flight + taken,
        )


def take(session: Session, order: Order, limits: Limits) -> list[Taken]:
    """Claim comparisons from the due batches with the fewest in flight, and make what remains due again."""
    states = _due_batches(session, order.now)
    if not states:
        return []
    standing = _standing(session, [state.batch_id for state in states], order.now)
    wanted = {batch_id: min(one.ready, limits.in_flight - one.in_flight) for batch_id, one in standing.items()}
    chosen = _next(session, fair_shares(wanted, order.most), order.now)
    # The gate is asked last, because the one probe that it admits must not be wasted on nothing.
    admitted = gate.admitted(session, order.now, len(chosen)) if chosen else 0
    taken = _claim(session, chosen[:admitted], order) if admitted else []
    counts = Counter(one.batch_id for one in taken)
    for state in states:
        left = standing[state.batch_id].after(counts[state.batch_id], order.now)
        batches.due(state, *next_work(left, order.now, limits))
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


# One pass over the comparisons of all due batches.
_STANDING = text(
    """
    SELECT cj_batch_id,
        count(*) FILTER (WHERE status = 'in_flight' OR status = 'claimed' AND lease_until > :now) AS in_flight,
        count(*) FILTER (WHERE status = 'planned' AND next_attempt_at <= :now
                            OR status = 'claimed' AND lease_until <= :now) AS ready,
        min(next_attempt_at) FILTER (WHERE status = 'planned' AND next_attempt_at > :now) AS planned_at,
        min(lease_until) FILTER (WHERE status = 'claimed' AND lease_until > :now) AS lease_until,
        min(submitted_at) FILTER (WHERE status = 'in_flight') AS submitted_at
    FROM cj_comparison_pairs WHERE cj_batch_id = ANY(:batch_ids) GROUP BY cj_batch_id
    """
)


def _standing(session: Session, batch_ids: list[int], now: datetime) -> dict[int, _Standing]:
    rows = session.execute(_STANDING, {"batch_ids": batch_ids, "now": now})
    return {batch_id: _Standing(*standing) for batch_id, *standing in rows}


# Each batch's part stops at its last row that is wanted; the first rows of all batches go first.
_NEXT = text(
    """
    SELECT next.id
    FROM unnest(CAST(:batch_ids AS bigint[]), CAST(:shares AS bigint[])) AS batch(id, share)
    CROSS JOIN LATERAL (
        SELECT pair.id, row_number() OVER (ORDER BY pair.iteration, pair.ordinal) AS turn
        FROM cj_comparison_pairs AS pair
        WHERE pair.cj_batch_id = batch.id
            AND (pair.status = 'planned' AND pair.next_attempt_at <= :now
                OR pair.status = 'claimed' AND pair.lease_until <= :now)
        ORDER BY pair.iteration, pair.ordinal
        LIMIT batch.share
    ) AS next
    ORDER BY next.turn
    """
)


def _next(session: Session, shares: Mapping[int, int], now: datetime) -> list[int]:
    """Return the ids of so many comparisons of each batch, in the order in which they were planned."""
    if not shares:
        return []
    values = {"batch_ids": list(shares.keys()), "shares": list(shares.values()), "now": now}
    return list(session.scalars(_NEXT, values))


_CLAIM = text(
    """
    UPDATE cj_comparison_pairs SET status = 'claimed', lease_until = :lease_until, claim_token = :token
    WHERE id = ANY(:ids)
    RETURNING id, cj_batch_id, essay_a_els_id, essay_b_els_id, request_correlation_id, iteration, attempt
    """
)


def _claim(session: Session, ids: list[int], order: Order) -> list[Taken]:
    values = {"ids": ids, "lease_until": order.now + LEASE, "token": order.token}
    return [Taken(*row) for row in session.execute(_CLAIM, values)]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The provider has taken a claimed comparison under an id of its own."""

    pair_id: int
    request_id: str
    prompt_sha256: str


# The second reading of the row tells what it was before: its batch is locked, so nobody else changes it meanwhile.
_ACCEPT = text(
    """
    UPDATE cj_comparison_pairs AS pair SET
        status = CASE pair.status WHEN 'claimed' THEN 'in_flight' ELSE pair.status END,
        attempt = pair.attempt + 1,
        refusals = 0,
        request_id = new.request_id,
        prompt_sha256 = new.prompt_sha256,
        submitted_at = :now,
        claim_token = NULL,
        lease_until = NULL
    FROM jsonb_to_recordset(CAST(:accepted AS jsonb)) AS new(pair_id bigint, request_id text, prompt_sha256 text)
    JOIN cj_comparison_pairs AS before ON before.id = new.pair_id
    WHERE pair.id = new.pair_id AND pair.claim_token = :token
        AND (pair.status <> 'claimed' OR pair.last_error_request_id IS DISTINCT FROM new.request_id)
    RETURNING pair.id, before.submitted_at IS NULL
    """
)


def accept(session: Session, token: UUID, now: datetime, accepted: Iterable[Acceptance]) -> dict[int, bool]:
    """Record acceptances whose batches are locked and whose claim still holds.

    Returns for each that was recorded whether it was its comparison's first. One whose error answer came before
    it is left alone, because that error now takes effect.
    """
    rows = [asdict(one) for one in accepted]
    if not rows:
        return {}
    values = {"accepted": to_json(rows).decode(), "token": token, "now": now}
    return dict(session.execute(_ACCEPT, values).all())
