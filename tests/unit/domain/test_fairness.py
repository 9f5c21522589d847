"""Places are dealt out so that nobody could have more without another having less than that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.domain.fairness import fair_shares

WISHES = st.dictionaries(st.integers(1, 30), st.integers(0, 200), max_size=16)


@pytest.mark.parametrize(
    ("wanted", "most", "shares"),
    [
        ({1: 10_000, 2: 20}, 64, {1: 44, 2: 20}),
        ({1: 10_000, 2: 10_000}, 64, {1: 32, 2: 32}),
        ({1: 3, 2: 5, 3: 100}, 30, {1: 3, 2: 5, 3: 22}),
        ({1: 0, 2: 7}, 64, {2: 7}),
        ({1: 5, 2: 5, 3: 5}, 2, {1: 1, 2: 1}),
        ({}, 64, {}),
        ({1: 5}, 0, {}),
    ],
)
def test_who_wants_little_gets_all_of_it_and_the_rest_is_split_evenly(
    wanted: dict[int, int], most: int, shares: dict[int, int]
) -> None:
    assert fair_shares(wanted, most) == shares


@given(WISHES, st.integers(0, 300))
def test_every_place_is_used_that_anybody_wants(wanted: dict[int, int], most: int) -> None:
    shares = fair_shares(wanted, most)
    assert sum(shares.values()) == min(most, sum(wanted.values()))
    assert all(0 < share <= wanted[batch_id] for batch_id, share in shares.items())


@given(WISHES, st.integers(0, 300))
def test_nobody_gets_two_more_than_one_who_wants_more(wanted: dict[int, int], most: int) -> None:
    shares = fair_shares(wanted, most)
    unserved = [shares.get(batch_id, 0) for batch_id, wish in wanted.items() if shares.get(batch_id, 0) < wish]
    assert all(share <= least + 1 for least in unserved for share in shares.values())
