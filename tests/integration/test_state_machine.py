"""Whatever happens to batches, in whatever order, they stay sound and come to an end.

`make test-deep` tells far more stories than the normal run does. A story that fails is printed, shortened, step by
step, with the states of its batches after each step.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, note, register_random, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from sqlalchemy.orm import Session

from cjtasks import runtime as runtimes
from cjtasks.dev.postgres import create_database, drop_database
from cjtasks.domain.comparisons import ComparisonStatus
from cjtasks.domain.states import LIVE, BatchStateEnum, Bell, Work
from cjtasks.errors import OperationRefused
from cjtasks.settings import Settings
from cjtasks.steps import answers, operate, outcomes, score
from cjtasks.store import batches, gate
from cjtasks.store.models import ScoreSnapshot
from cjtasks.testing import SettableClock
from tests.factories import batch_in, comparisons
from tests.integration.lifecycle import Which, Wish, World, put_away
from tests.integration.lifecycle_voices import Texts
from tests.integration.lifecycle_witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.runtime import Runtime
    from cjtasks.store.batches import Claim
    from cjtasks.store.session import Database

STORIES = int(os.environ.get("CJ_TEST_STORIES", "200"))
STEPS = 16 if STORIES <= 200 else 40

# The back-off's jitter must be the same when a story is told again.
for _jitter in (answers._JITTER, outcomes._JITTER, gate._JITTER):
    register_random(_jitter)

S = BatchStateEnum
which = st.integers(0, 1)
standing = st.sampled_from(["open", "open", "ended", "any"])
many = st.sampled_from([1, 2, 5, 100])
said_at_once = st.lists(
    st.sampled_from(["accept", "accept", "accept", "at_once", "refuse", "full", "reject", "nothing"]),
    min_size=1,
    max_size=4,
)
words = st.lists(st.sampled_from(["better", "better", "worse", "busy", "hopeless"]), min_size=1, max_size=4)
lapses = st.sampled_from([1, 5, 30, 70, 100, 310, 1900])
essays = st.lists(st.sampled_from(["here", "here", "here", "here", "missing", "slow"]), min_size=2, max_size=8)
wishes = st.builds(Wish, essays, st.none() | st.integers(1, 60), st.sampled_from([None, 0.5, 0.8]), st.integers(1, 2))


class Lifecycle(RuleBasedStateMachine):
    runtime: Runtime
    clock: SettableClock
    watch: Session
    texts: Texts

    def __init__(self) -> None:
        super().__init__()
        put_away(self.runtime)
        self.clock.now = SettableClock().now
        self.world = World(self.runtime, self.clock, self.texts)
        self.texts.slow_ones_are_here = False
        self.witness = Witness(self.watch, self.world.batches)
        self.world.looks.append(self.witness.look)
        self.stalled: list[Claim] = []
        self.steps = 0
        self.world.catch_up()

    @initialize(essays=st.integers(2, 8), is_planned=st.sampled_from([True, True, False]))
    def a_first_batch_is_asked_for(self, essays: int, *, is_planned: bool) -> None:
        self.world.open(Wish(["here"] * essays))
        if is_planned:
            self.world.ring()

    def batch(self, number: int) -> int:
        return self.world.batches[number % len(self.world.batches)]

    # --- what happens ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.world.batches) < 2)
    @rule(wish=wishes)
    def a_batch_is_asked_for(self, wish: Wish) -> None:
        self.world.open(wish)

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
    @rule(hand=st.integers(0, 3), said=said_at_once, twice=st.booleans())
    def the_provider_says(self, hand: int, said: list[str], *, twice: bool) -> None:
        heard = self.world.hands.pop(hand % len(self.world.hands))
        for _ in range(1 + twice):
            self.world.hear_provider(heard, said)

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

    @rule(to=st.builds(Which, which, standing, many), words=words, newest=st.booleans())
    def answers_come(self, to: Which, words: list[str], *, newest: bool) -> None:
        """Answer what is open, what was answered before, or any: also twice, too late, and before its 202."""
        found = self.world.answer(replace(to, batch_id=self.batch(to.batch_id)), words, newest=newest)
        note(f"  {found} answers")

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
        self.retry(self.batch(batch))

    @rule(batch=which, behind=st.integers(0, 1))
    def an_operator_recounts(self, batch: int, behind: int) -> None:
        order = self.world.order(self.batch(batch), behind=behind)
        if behind:
            with pytest.raises(OperationRefused):
                operate.recount(self.runtime, order)
        else:
            before, after = operate.recount(self.runtime, order)
            assert before == after
            self.witness.look()

    @precondition(lambda self: self.steps in {STEPS // 2, STEPS // 2 + 2})
    @rule()
    def all_goes_well_from_now_on(self) -> None:
        self.world.all_goes_well()

    # --- what holds after every step -------------------------------------------------------------------------------

    @invariant()
    def batches_are_sound(self) -> None:
        self.steps += 1
        self.witness.check()

    def retry(self, batch_id: int) -> None:
        before = self.world.state(batch_id)
        self.witness.is_retrying = True
        try:
            self.world.did(operate.retry(self.runtime, self.world.order(batch_id)))
        except OperationRefused as error:
            note(f"  refused: {error}")
            assert before.state is not S.FAILED or not before.total_comparisons
        else:
            assert before.state in operate.RETRYABLE
        self.witness.is_retrying = False

    def teardown(self) -> None:
        """End each story well, and whatever failed in it once more."""
        if sys.exc_info()[0] is not None:
            # The story failed already, and that is what is to be told.
            return
        self.world.all_goes_well()
        self.batches_are_sound()
        for batch_id in self.world.batches:
            self.retry(batch_id)
        self.world.all_goes_well()
        self.batches_are_sound()


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
    texts = Texts()
    with built.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        around = {"runtime": replace(built, content=texts), "texts": texts, "clock": clock}
        yield type("Told", (Lifecycle,), {**around, "watch": Session(connection)})
    built.database.close()
    drop_database(postgres_url, "cj_lifecycle")


def test_batches_stay_sound_and_come_to_an_end_whatever_happens(lifecycle: type[Lifecycle]) -> None:
    stateful.run_state_machine_as_test(
        lifecycle,
        settings=settings(
            max_examples=STORIES,
            stateful_step_count=STEPS,
            deadline=None,
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
