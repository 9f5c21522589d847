"""What one poll brings."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cjtasks.store.inbox import Message
from consumers.polled import LARGEST_MESSAGE, LONGEST_PAUSE, SHORTEST_PAUSE, pause_after, rows, unusable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def message(payload: bytes) -> Message:
    return Message("t", 0, 0, payload, NOW)


@pytest.mark.parametrize(
    ("polled", "pause"), [(0, SHORTEST_PAUSE), (50, SHORTEST_PAUSE), (100, 0.01), (2000, LONGEST_PAUSE)]
)
def test_messages_gather_for_longer_the_more_there_are_within_bounds(polled: int, pause: float) -> None:
    assert pause_after(polled) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [(b"", "EMPTY_MESSAGE"), (b"x" * LARGEST_MESSAGE, None), (b"x" * (LARGEST_MESSAGE + 1), "TOO_LARGE")],
)
def test_only_its_size_makes_a_message_unusable(payload: bytes, reason: str | None) -> None:
    assert unusable(message(payload)) == reason


def test_a_row_holds_no_more_than_500_messages() -> None:
    assert [len(row) for row in rows([message(b"x")] * 1001)] == [500, 500, 1]


def test_a_row_holds_no_more_than_8_mib() -> None:
    large, small = message(b"x" * (LARGEST_MESSAGE - 10)), message(b"x" * 11)
    assert [len(row) for row in rows([large, small, small])] == [1, 2]


def test_nothing_polled_is_no_row() -> None:
    assert list(rows([])) == []
