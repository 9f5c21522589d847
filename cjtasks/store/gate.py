"""The one row that says when the provider may be asked, shared by every submitter.

A provider that is full or limits its rate closes it; when its time has passed one probe goes first.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from cjtasks.domain.comparisons import backoff
from cjtasks.store.models import ProviderGate

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PROBE = timedelta(seconds=45)
"""How long a probe may take before another submitter sends one."""

_JITTER = random.Random()


def closed_until(session: Session, now: datetime) -> datetime | None:
    """Return until when nobody is asked, None when the gate is open; cheap, so that waiting costs next to nothing."""
    not_before = session.scalar(select(ProviderGate.not_before))
    return not_before if not_before is not None and now < not_before else None


def admitted(session: Session, now: datetime, most: int) -> int:
    """Return how many of `most` claimed comparisons may go out: all, one probe, or none."""
    not_before = session.scalar(select(ProviderGate.not_before))
    if not_before is None:
        return most
    if now < not_before:
        return 0
    # Only one submitter can move the moment that all of them read.
    moved = session.execute(
        update(ProviderGate)
        .where(ProviderGate.not_before == not_before)
        .values(not_before=now + PROBE)
        .returning(ProviderGate.id)
    ).first()
    return 1 if moved else 0


def close(session: Session, now: datetime, retry_after: float | None) -> None:
    gate = session.scalars(select(ProviderGate).with_for_update()).one()
    gate.refusals += 1
    until = now + backoff(gate.refusals, _JITTER, retry_after)
    # Another submitter may have been told to wait longer; what ends within PROBE may only be this probe's own place.
    told = gate.not_before if gate.not_before is not None and gate.not_before > now + PROBE else until
    gate.not_before = max(until, told)


def open_(session: Session) -> None:
    """Open the gate; while it is open nothing is written."""
    session.execute(
        update(ProviderGate).where(ProviderGate.not_before.is_not(None)).values(not_before=None, refusals=0)
    )
