"""What one poll brings: how long to wait for it, what of it can be kept, and how it is cut into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cjtasks.store.inbox import Message

SHORTEST_PAUSE, LONGEST_PAUSE = 0.008, 0.015
PAUSE_A_MESSAGE = 0.0001
"""Seconds. Many messages gather for longer, so that transactions become fewer and larger as the load grows."""

MOST_A_ROW = 500
LARGEST_ROW = LARGEST_MESSAGE = 8 * 1024 * 1024


def pause_after(polled: int) -> float:
    """Return for how many seconds messages gather before the next poll, when the last one brought so many."""
    return min(max(SHORTEST_PAUSE, polled * PAUSE_A_MESSAGE), LONGEST_PAUSE)


def unusable(message: Message) -> str | None:
    """Return why a message cannot be kept, None if it can."""
    if not message.payload:
        return "EMPTY_MESSAGE"
    return "TOO_LARGE" if len(message.payload) > LARGEST_MESSAGE else None


def rows(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Cut messages into rows of at most 500 messages and 8 MiB."""
    row: list[Message] = []
    size = 0
    for message in messages:
        if row and (len(row) == MOST_A_ROW or size + len(message.payload) > LARGEST_ROW):
            yield row
            row, size = [], 0
        row.append(message)
        size += len(message.payload)
    if row:
        yield row
