"""The arrows between states, and what each state waits for."""

from __future__ import annotations

from itertools import product

import pytest

from cjtasks.domain.states import ARROWS, FIRST_WORK, LIVE, TERMINAL, BatchStateEnum, Work, check_arrow
from cjtasks.errors import IllegalTransition

S = BatchStateEnum
FORWARD = {
    (S.INITIALIZING, S.GENERATING_PAIRS),
    (S.INITIALIZING, S.SCORING),
    (S.GENERATING_PAIRS, S.WAITING_CALLBACKS),
    (S.GENERATING_PAIRS, S.SCORING),
    (S.WAITING_CALLBACKS, S.GENERATING_PAIRS),
    (S.WAITING_CALLBACKS, S.SCORING),
    (S.SCORING, S.COMPLETED),
    (S.FAILED, S.WAITING_CALLBACKS),
}
ENDINGS = set(product(LIVE, (S.FAILED, S.CANCELLED)))


@pytest.mark.parametrize(("source", "target"), [*product(S, S)])
def test_only_the_arrows_of_the_design_lead_anywhere(source: S, target: S) -> None:
    if (source, target) in FORWARD | ENDINGS:
        check_arrow(source, target)
        return
    with pytest.raises(IllegalTransition, match=f"no arrow leads from {source} to {target}"):
        check_arrow(source, target)


def test_every_arrow_says_why_in_one_sentence() -> None:
    assert all(why.endswith(".") and why[0].isupper() for why in ARROWS.values())


def test_a_state_is_either_live_or_terminal() -> None:
    assert frozenset(S) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


def test_every_live_state_has_work_due_and_no_terminal_one_has() -> None:
    assert {state for state, work in FIRST_WORK.items() if work is not None} == LIVE
    assert set(FIRST_WORK) == set(S)
    assert Work.INBOX not in FIRST_WORK.values(), "messages belong to no batch"


def test_every_live_state_can_reach_the_end() -> None:
    reached = {S.COMPLETED}
    for _ in S:
        reached |= {source for source, target in ARROWS if target in reached}
    assert reached >= LIVE


def test_what_is_completed_or_cancelled_stays_so() -> None:
    assert not {source for source, _ in ARROWS} & {S.COMPLETED, S.CANCELLED}
