"""What each answer means for its comparison, and how long a refused one waits."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.contracts.error_codes import CANNOT_IMPROVE, ErrorCode
from cjtasks.domain.comparisons import (
    MAX_ATTEMPTS,
    OPEN,
    ComparisonStatus,
    Effect,
    Standing,
    after_error,
    backoff,
    effect_of_error,
    effect_of_success,
)

S = ComparisonStatus
DONE = sorted(set(S) - OPEN)
COUNTED = {Effect.JUDGED, Effect.FAILED}


@pytest.mark.parametrize(("status", "request_id"), [*product(sorted(OPEN), [None, "current"])])
def test_the_first_verdict_counts_whichever_request_brought_it(status: S, request_id: str | None) -> None:
    assert effect_of_success(Standing(status, 1, request_id)) is Effect.JUDGED


@pytest.mark.parametrize("status", DONE)
def test_whatever_comes_after_the_end_is_a_duplicate(status: S) -> None:
    standing = Standing(status, 1, "current")

    assert effect_of_success(standing) is Effect.DUPLICATE
    assert effect_of_error(standing, "current", "TIMEOUT") is Effect.DUPLICATE


@pytest.mark.parametrize(
    ("status", "known", "effect"),
    [
        (S.IN_FLIGHT, "current", Effect.ASK_AGAIN),
        (S.IN_FLIGHT, "another", Effect.STALE),
        (S.PLANNED, "current", Effect.STALE),
        (S.CLAIMED, "current", Effect.STALE),
        (S.CLAIMED, None, Effect.HELD),
        (S.CLAIMED, "another", Effect.HELD),
        (S.PLANNED, None, Effect.HELD),
    ],
)
def test_an_error_counts_only_for_the_current_request(status: S, known: str | None, effect: Effect) -> None:
    assert effect_of_error(Standing(status, 1, known), "current", "TIMEOUT") is effect


@pytest.mark.parametrize(
    ("attempt", "effect"), [(1, Effect.ASK_AGAIN), (2, Effect.ASK_AGAIN), (3, Effect.FAILED), (4, Effect.FAILED)]
)
def test_a_comparison_is_asked_three_times(attempt: int, effect: Effect) -> None:
    assert after_error(attempt, "TIMEOUT") is effect


@pytest.mark.parametrize("code", sorted(CANNOT_IMPROVE))
def test_what_cannot_get_better_is_not_asked_again(code: str) -> None:
    assert after_error(1, code) is Effect.FAILED


@given(
    st.sampled_from(S),
    st.integers(0, MAX_ATTEMPTS),
    st.sampled_from([None, "current", "another"]),
    st.lists(st.sampled_from([*ErrorCode]) | st.none(), max_size=8),
)
def test_no_row_of_answers_counts_twice(
    status: S, attempt: int, request_id: str | None, codes: list[ErrorCode | None]
) -> None:
    """Play answers (None: a verdict) to one comparison as the step of the answers does."""
    standing, counted = Standing(status, attempt, request_id), 0
    for code in codes:
        effect = effect_of_success(standing) if code is None else effect_of_error(standing, "current", code)
        counted += effect in COUNTED
        after = {Effect.JUDGED: S.COMPLETED, Effect.FAILED: S.FAILED, Effect.ASK_AGAIN: S.PLANNED}
        standing = Standing(after.get(effect, standing.status), standing.attempt, standing.request_id)
    assert counted <= (status in OPEN)


@pytest.mark.parametrize(
    ("refusals", "shortest"), [(1, 4.0), (2, 8.0), (3, 16.0), (4, 32.0), (5, 60.0), (6, 60.0), (10_000, 60.0)]
)
def test_a_refused_comparison_waits_longer_each_time_up_to_a_minute(refusals: int, shortest: float) -> None:
    waits = [backoff(refusals, random.Random(seed)).total_seconds() for seed in range(50)]

    assert min(waits) >= shortest
    assert max(waits) <= 1.25 * shortest
    assert len(set(waits)) == 50, "many refused comparisons do not return in one moment"


@pytest.mark.parametrize(("asked", "shortest"), [(0.0, 1.0), (7.5, 7.5), (3600.0, 3600.0), (1e9, 3600.0)])
def test_what_the_provider_asks_for_wins_up_to_an_hour(asked: float, shortest: float) -> None:
    wait = backoff(9, random.Random(1), asked).total_seconds()

    assert shortest <= wait <= 1.25 * shortest
