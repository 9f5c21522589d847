"""Work that only one process does at a time, held by the transaction so that a crash lets it go."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from sqlalchemy import func, select

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NAMESPACE = 0x636A


class SingleFlight(IntEnum):
    SWEEP = 1
    MONITOR = 2
    RELAY = 3


def alone(session: Session, work: SingleFlight) -> bool:
    """Tell whether this transaction is the only one that does this work until it ends."""
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(NAMESPACE, work.value))))
