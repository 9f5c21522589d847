"""Whatever happens to batches, in whatever order, they stay sound and come to an end.

`make test-deep` tells far more stories than the normal run does. A story that fails is printed, shortened, step by
step, with the states of its batches after each step.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, Phase, event, note, register_random, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from cjtasks import runtime as runtimes
from cjtasks.dev.postgres import create_database, drop_database
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import ARROWS, LIVE, BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.settings import Settings
from cjtasks.steps import answers, operate, outcomes, score
from cjtasks.store import batches, gate
from cjtasks.store.models import CJBatchState, ScoreSnapshot
from cjtasks.testing import SettableClock
from tests.checks import assert_consistent
from tests.factories import batch_in, comparisons
from tests.integration.lifecycle import Texts, Which, Wish, World, put_away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.runtime import Runtime
    from cjtasks.store.batches import Claim
    from cjtasks.store.session import Database

STORIES = int(os.environ.get("CJ_TEST_STORIES", "200"))
STEPS = 20 if STORIES <= 200 else 40

# The back-off's jitter must be the same when a story is told again.
for _jitter in (answers._JITTER, outcomes._JITTER, gate._JITTER):
    register_random(_jitter)

S = BatchStateEnum
REOPENED = {(S.FAILED, S.WAITING_CALLBACKS), (S.FAILED, S.GENERATING_PAIRS)}
"""Where an operator's retry may lead to: at once to the next step if all answers came while it was failed."""

FACTS = text("""
    SELECT 'verdict', id::text, concat_ws(' ', winner, completed_at, confidence)
        FROM cj_comparison_pairs WHERE cj_batch_id = ANY(:ids) AND status = 'completed'
    UNION ALL
    SELECT 'event', concat_ws(' ', subject, kind, version), md5(payload) FROM event_outbox WHERE batch_id = ANY(:ids)
    UNION ALL
    SELECT 'final', concat_ws(' ', batch_id, version), scores::text
        FROM score_snapshots WHERE batch_id = ANY(:ids) AND kind = 'final'
    UNION ALL
    SELECT 'snapshot', concat_ws(' ', batch_id, kind, version, iteration), scores::text
        FROM score_snapshots WHERE batch_id = ANY(:ids) AND kind <> 'final'
""")
"""What is written once and stays as it was; two of the same name would be one too many."""

which = st.integers(0, 1)
many = st.sampled_from([1, 2, 5, 100])
said_at_once = st.lists(
    st.sampled_from(["accept", "accept", "accept", "at_once", "refuse", "full", "reject", "nothing"]),
    min_size=1,
    max_size=4,
)
words = st.lists(st.sampled_from(["better", "better", "worse", "busy", "hopeless"]), min_size=1, max_size=6)
lapses = st.sampled_from([1, 5, 30, 70, 100, 310, 1900])
texts = st.lists(st.sampled_from(["here", "here", "here", "here", "missing", "slow"]), min_size=2, max_size=8)


class Lifecycle(RuleBasedStateMachine):
    runtime: Runtime
    clock: SettableClock
    watch: Session

    def __init__(self) -> None:
        super().__init__()
        put_away(self.runtime)
        self.clock.now = SettableClock().now
        self.world = World(self.runtime, self.clock, self._texts(), [self.look])
        self.seen: dict[int, CJBatchState] = {}
        self.fixed: dict[tuple[str, str], str] = {}
        self.stalled: list[Claim] = []
        self.retrying = False
        self.is_checked = False
        self.steps = 0
        self.world.catch_up()

    @initialize(essays=st.integers(2, 8), is_planned=st.sampled_from([True, True, False]))
    def a_first_batch_is_asked_for(self, essays: int, *, is_planned: bool) -> None:
        self.world.open(Wish(["here"] * essays))
        if is_planned:
            self.world.ring()

    def _texts(self) -> Texts:
        texts = self.runtime.content
        assert isinstance(texts, Texts)
        texts.slow_ones_are_here = False
        return texts

    def batch(self, number: int) -> int:
        return self.world.batches[number % len(self.world.batches)]

    # --- what happens ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.batches) < 2)
    @rule(
        texts=texts,
        most=st.none() | st.integers(1, 60),
        threshold=st.sampled_from([None, 0.5, 0.8]),
        copies=st.integers(1, 2),
    )
    def a_batch_is_asked_for(self, texts: list[str], most: int | None, threshold: float | None, copies: int) -> None:
        self.world.open(Wish(texts, most, threshold, copies))

    @rule()
    def slow_texts_come(self) -> None:
        self.world.texts.slow_ones_are_here = True

    @rule(twice=st.booleans())
    def bells_are_heard(self, *, twice: bool) -> None:
        self.world.ring(twice=twice)

    @rule()
    def bells_are_lost(self) -> None:
        self.world.bells.clear()

    @rule(twice=st.booleans())
    def the_sweep_rings(self, *, twice: bool) -> None:
        self.world.sweep()
        self.world.ring(twice=twice)

    @rule(most=many)
    def a_submitter_claims(self, most: int) -> None:
        note(f"  it got {self.world.claim(most)}")

    @precondition(lambda self: self.world.hands)
    @rule(hand=st.integers(0, 3), said=said_at_once)
    def the_provider_says(self, hand: int, said: list[str]) -> None:
        hands = self.world.hands
        self.world.hear_provider(hands.pop(hand % len(hands)), said)

    @precondition(lambda self: self.world.hands)
    @rule(hand=st.integers(0, 3))
    def the_provider_is_heard_twice(self, hand: int) -> None:
        hands = self.world.hands
        self.world.hear_provider(hands[hand % len(hands)], ["accept"])

    @precondition(lambda self: self.world.hands)
    @rule()
    def a_submitter_dies(self) -> None:
        self.world.hands.pop()

    @rule(most=many)
    def what_is_due_is_accepted(self, most: int) -> None:
        if self.world.claim(most):
            self.world.hear_provider(self.world.hands.pop(), ["accept"])

    @rule(words=words)
    def what_is_due_is_accepted_and_answered(self, words: list[str]) -> None:
        while self.world.claim(100):
            self.world.hear_provider(self.world.hands.pop(), ["accept"])
            for batch_id in self.world.batches:
                self.world.answer(Which(batch_id, "open", 100), words)

    @rule(batch=which, most=many, words=words, newest=st.booleans())
    def open_comparisons_are_answered(self, batch: int, most: int, words: list[str], *, newest: bool) -> None:
        count = self.world.answer(Which(self.batch(batch), "open", most), words, newest=newest)
        note(f"  {count} answers")

    @rule(batch=which, most=many, words=words, newest=st.booleans())
    def an_answer_comes_again(self, batch: int, most: int, words: list[str], *, newest: bool) -> None:
        count = self.world.answer(Which(self.batch(batch), "ended", most), words, newest=newest)
        note(f"  {count} answers")

    @rule(batch=which, most=many, words=words)
    def whatever_was_asked_is_answered(self, batch: int, most: int, words: list[str]) -> None:
        self.world.answer(Which(self.batch(batch), "any", most), words)

    @rule(seconds=lapses, caught_up=st.booleans())
    def time_passes(self, seconds: int, *, caught_up: bool) -> None:
        self.world.pass_time(timedelta(seconds=seconds), caught_up_too=caught_up)

    @rule(hours=st.sampled_from([1, 4.1]), caught_up=st.booleans())
    def hours_pass(self, hours: float, *, caught_up: bool) -> None:
        self.world.pass_time(timedelta(hours=hours), caught_up_too=caught_up)
        self.world.monitor()

    @rule(batch=which)
    def a_worker_takes_what_is_due_and_stalls(self, batch: int) -> None:
        state = self.world.state(self.batch(batch))
        if state.next_action is None:
            return
        bell = Bell(state.next_action, state.batch_id)
        with self.runtime.database.transaction() as session:
            taken = batches.claim(session, bell, self.clock(), timedelta(seconds=120))
        if taken is not None:
            self.stalled.append(taken)
            note(f"  it took {state.next_action}")

    @precondition(lambda self: self.stalled)
    @rule()
    def the_stalled_worker_wants_to_write(self) -> None:
        taken = self.stalled.pop(0)
        with self.runtime.database.transaction() as session:
            state = batches.reclaim(session, taken)
            assert state is None or state.next_action is taken.work, "its work was done by somebody else"

    @precondition(lambda self: self.steps > STEPS // 3)
    @rule(batch=which)
    def an_operator_cancels(self, batch: int) -> None:
        order = self.world.order(self.batch(batch))
        is_live = self.world.state(order.batch_id).state in LIVE
        try:
            self.world.did(operate.cancel(self.runtime, order))
        except OperationRefused:
            assert not is_live
        else:
            assert is_live

    @rule(batch=which)
    def an_operator_retries(self, batch: int) -> None:
        order = self.world.order(self.batch(batch))
        before = self.world.state(order.batch_id)
        self.retrying = True
        try:
            self.world.did(operate.retry(self.runtime, order))
        except OperationRefused as error:
            note(f"  refused: {error}")
            assert before.state is not S.FAILED or not before.total_comparisons
        else:
            assert before.state in operate.RETRYABLE
        self.retrying = False

    @rule(batch=which, behind=st.integers(0, 1))
    def an_operator_recounts(self, batch: int, behind: int) -> None:
        order = self.world.order(self.batch(batch), behind=behind)
        if behind:
            with pytest.raises(OperationRefused):
                operate.recount(self.runtime, order)
        else:
            before, after = operate.recount(self.runtime, order)
            assert before == after
            self.look()

    @precondition(lambda self: self.steps > STEPS // 2)
    @rule()
    def all_goes_well_from_now_on(self) -> None:
        self.world.all_goes_well()

    # --- what holds after every step -------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare each state row with what it was before this one step."""
        self.watch.expunge_all()
        for row in self.watch.scalars(select(CJBatchState).where(CJBatchState.batch_id.in_(self.world.batches))):
            self._compare(self.seen.get(row.batch_id, row), row)
            self.seen[row.batch_id] = row
        self.is_checked = False

    def _compare(self, before: CJBatchState, now: CJBatchState) -> None:
        arrow = (before.state, now.state)
        if before.state is now.state:
            assert now.result_version == before.result_version
            assert now.state in LIVE or counters(before) == counters(now), "a batch that has ended counts no more"
            return
        event(" -> ".join(arrow))
        if self.retrying:
            assert arrow in REOPENED
            assert now.result_version == before.result_version + 1
        else:
            assert arrow in ARROWS.keys() - REOPENED
            assert now.version == before.version + 1

    @invariant()
    def batches_are_sound(self) -> None:
        self.steps += 1
        if self.is_checked:
            return
        self.watch.expunge_all()
        for batch_id in self.world.batches:
            note(f"  {story_of(self.seen[batch_id])}")
            assert_consistent(self.watch, batch_id)
        self._assert_fixed()
        self.is_checked = True

    def _assert_fixed(self) -> None:
        """Check that verdicts, events and snapshots that were once there stay there, as they were."""
        rows = self.watch.execute(FACTS, {"ids": self.world.batches}).all()
        found = {(what, name): fact for what, name, fact in rows}
        assert len(found) == len(rows)
        assert self.fixed.items() <= found.items()
        self.fixed = found

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            # The story failed already, and that is what is to be told.
            return
        self.world.all_goes_well()
        self.batches_are_sound()


def counters(state: CJBatchState) -> tuple[int, int, int]:
    return state.total_comparisons, state.completed_comparisons, state.failed_comparisons


def story_of(state: CJBatchState) -> str:
    total, completed, failed = counters(state)
    due = f"{state.next_action} at {state.next_action_at:%H:%M:%S}" if state.next_action_at else "nothing due"
    return f"batch {state.batch_id}: {state.state}, {completed} + {failed} of {total}, {due}"


@pytest.fixture
def quiet() -> Iterator[None]:
    """Say nothing: thousands of stories would fill the memory with log lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def lifecycle(postgres_url: str, template_database: str, quiet: None) -> Iterator[type[Lifecycle]]:  # noqa: ARG001
    clock = SettableClock()
    url = create_database(postgres_url, "cj_lifecycle", template=template_database)
    chosen = Settings.model_validate(
        {"DATABASE_URL": url, "MAX_CONCURRENT_COMPARISONS": 20, "SCORE_STABILITY_THRESHOLD": 0.0}
    )
    built = runtimes.build(chosen, clock)
    shared = runtimes.Runtime(built.settings, built.database, clock, built.provider, Texts())
    with built.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        watch = Session(connection)
        yield type("Told", (Lifecycle,), {"runtime": shared, "clock": clock, "watch": watch})
    built.database.close()
    drop_database(postgres_url, "cj_lifecycle")


def test_batches_stay_sound_and_come_to_an_end_whatever_happens(lifecycle: type[Lifecycle]) -> None:
    run_state_machine_as_test(
        lifecycle,
        settings=settings(
            max_examples=STORIES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_a_first_ranking_is_written_once_though_a_stalled_worker_still_holds_it(
    runtime: Runtime, database: Database, clock: SettableClock
) -> None:
    with database.transaction() as session:
        state = batch_in(session, S.WAITING_CALLBACKS, next_action=Work.PARTIAL, partial_scoring_triggered=True)
        comparisons(session, state, 19, ComparisonStatus.COMPLETED)
        comparisons(session, state, 1, ComparisonStatus.IN_FLIGHT)
        bell = Bell(Work.PARTIAL, state.batch_id)
        stalled = batches.claim(session, bell, clock(), score.LEASE)
    assert stalled is not None
    clock.advance(score.LEASE)

    score.score_partially(runtime, bell)

    with database.transaction() as session:
        assert batches.reclaim(session, stalled) is None
        assert session.scalars(select(ScoreSnapshot.kind)).all() == ["partial"]
