"""Dead letters go back into the inbox, to be read again by the code as it is now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cjtasks.domain.states import Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.store import dead_letters, inbox
from cjtasks.store.inbox import Kind, Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.store.dead_letters import Chosen
    from cjtasks.store.models import DeadLetterRow

NOT_WHOLE = frozenset({"EMPTY_MESSAGE", "TOO_LARGE"})
"""What was set aside by its size: nothing, or only a beginning, is left to be read again."""


def replay(runtime: Runtime, chosen: Chosen, kinds: Mapping[str, Kind]) -> tuple[list[int], list[Bell]]:
    """Put dead letters back into the inbox; return their ids and the bell. All are refused if one is not whole.

    `kinds` tells which kind of message each topic carries.
    """
    with runtime.database.transaction() as session:
        now = runtime.clock()
        found = _replayable(session, chosen, kinds)
        for row, kind in found:
            inbox.write(session, kind, [Message(row.topic, row.partition, row.offset, row.payload, now)])
            row.replayed_at = now
        return [row.id for row, _ in found], [Bell(Work.INBOX)] if found else []


def would_replay(session: Session, chosen: Chosen, kinds: Mapping[str, Kind]) -> list[int]:
    """Return the ids of what `replay` would put back, and refuse what it would refuse."""
    return [row.id for row, _ in _replayable(session, chosen, kinds)]


def _replayable(session: Session, chosen: Chosen, kinds: Mapping[str, Kind]) -> list[tuple[DeadLetterRow, Kind]]:
    rows = dead_letters.find(session, chosen)
    missing = set(chosen.ids or ()) - {row.id for row in rows}
    if missing:
        raise _refused(f"there is no dead letter {min(missing)} that fits and was not replayed yet")
    return [(row, _readable(row, kinds)) for row in rows]


def _readable(row: DeadLetterRow, kinds: Mapping[str, Kind]) -> Kind:
    if row.reason in NOT_WHOLE:
        raise _refused(f"dead letter {row.id} is {row.reason}: there is nothing whole to read again")
    if row.topic not in kinds:
        raise _refused(f"dead letter {row.id} came from {row.topic}, which is no topic of ours any more")
    return kinds[row.topic]


def _refused(message: str) -> OperationRefused:
    return OperationRefused.of(message, operation="replay")
