"""One transaction's turn: the session, the settings, and the one moment that all of it happens at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cjtasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Turn:
    session: Session
    settings: Settings
    now: datetime
