"""The life of one comparison, and what an answer means for it.

planned ─▶ claimed ─▶ in_flight ─▶ completed | failed, and back to planned while another attempt can help.
The first answer of any attempt counts; an error counts only for the request that is current.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from cjtasks.contracts.error_codes import CANNOT_IMPROVE

if TYPE_CHECKING:
    import random

MAX_ATTEMPTS = 3
"""How often the provider may accept one comparison; a refused request uses up none of them."""


class ComparisonStatus(StrEnum):
    PLANNED = "planned"
    CLAIMED = "claimed"
    IN_FLIGHT = "in_flight"
    COMPLETED = "completed"
    FAILED = "failed"


OPEN = frozenset({ComparisonStatus.PLANNED, ComparisonStatus.CLAIMED, ComparisonStatus.IN_FLIGHT})


class Effect(StrEnum):
    """What one answer does to its comparison; the last three change no counter."""

    JUDGED = "judged"
    FAILED = "failed"
    ASK_AGAIN = "ask_again"
    HELD = "held"
    DUPLICATE = "duplicate"
    STALE = "stale"


class Standing(NamedTuple):
    """The columns of a comparison that decide what an answer does to it."""

    status: ComparisonStatus
    attempt: int
    request_id: str | None


def effect_of_success(standing: Standing) -> Effect:
    return Effect.JUDGED if standing.status in OPEN else Effect.DUPLICATE


def effect_of_error(standing: Standing, request_id: str, code: str) -> Effect:
    """Tell what an error answer does.

    An error that overtakes the record of its own 202 is HELD on the row until that record arrives,
    because only then is it known to be the current request's.
    """
    if standing.status not in OPEN:
        return Effect.DUPLICATE
    if standing.status is ComparisonStatus.IN_FLIGHT and request_id == standing.request_id:
        return after_error(standing.attempt, code)
    if request_id == standing.request_id or standing.status is ComparisonStatus.IN_FLIGHT:
        return Effect.STALE
    return Effect.HELD


def after_error(attempt: int, code: str) -> Effect:
    """Tell whether a comparison whose `attempt`-th accepted request failed with `code` is asked again."""
    return Effect.FAILED if attempt >= MAX_ATTEMPTS or code in CANNOT_IMPROVE else Effect.ASK_AGAIN


SHORTEST_BACKOFF = 4.0
LONGEST_BACKOFF = 60.0
LONGEST_RETRY_AFTER = 3600.0


def backoff(refusals: int, rng: random.Random, retry_after: float | None = None) -> timedelta:
    """Return how long to wait after the `refusals`-th refusal in a row (1 is the first).

    Exponential from 4 s to 60 s, with up to a quarter of jitter so that many refused comparisons do not
    return in one moment. What the provider asks for in Retry-After wins, up to an hour.
    """
    if retry_after is not None:
        base = min(max(retry_after, 1.0), LONGEST_RETRY_AFTER)
    else:
        base = min(SHORTEST_BACKOFF * 2 ** min(refusals - 1, 10), LONGEST_BACKOFF)
    return timedelta(seconds=base * (1 + 0.25 * rng.random()))
