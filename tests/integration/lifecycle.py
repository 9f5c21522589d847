"""The world around a few batches: requests, texts, submitters, a judge, operators and a clock, all moved by a test.

There is no HTTP. Claims are taken and recorded as a submitter does, answers go through the inbox, and bells wait in
a list until somebody hears them, or are lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from pydantic_core import from_json, to_json
from sqlalchemy import func, select, update

from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.comparisons import OPEN
from cjtasks.domain.states import LIVE, Bell, Work
from cjtasks.steps import monitor, operate, outcomes, pairs, prepare, score, sweep
from cjtasks.steps.outcomes import Outcome
from cjtasks.steps.progress import limits
from cjtasks.store import claims, gate, inbox
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchState, ComparisonPair, InboxRow
from cjtasks.tasks import inbox_steps
from tests.factories import caught_up, messages
from tests.integration.lifecycle_voices import again, payload, said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.store.claims import Taken
    from cjtasks.testing import SettableClock
    from tests.integration.lifecycle_voices import Texts

PATIENCE = 150
"""How many turns a batch may need to its end when all goes well from now on; the longest needs about half."""

MOST_BELLS = 200
"""How many bells may ring each other without time going on; two batches need far fewer."""

_STEPS: dict[Work, Callable[[Runtime, Bell], list[Bell]]] = {
    Work.PREPARE: prepare.prepare,
    Work.ADVANCE: pairs.advance,
    Work.PARTIAL: score.score_partially,
    Work.SCORE: score.score,
    Work.CHECK: monitor.check,
}


@dataclass(frozen=True)
class Wish:
    """A request for a batch; `texts` are here, missing or slow, one for each essay."""

    texts: Sequence[str]
    most: int | None = None
    threshold: float | None = None
    copies: int = 1


@dataclass
class Hand:
    """What one submitter has in the air, and the queue ids that the provider gives to it."""

    token: UUID
    taken: list[Taken]
    queue_ids: dict[int, str]


@dataclass(frozen=True)
class Which:
    """Up to `most` comparisons of a batch: those that are open, those that are not, or any."""

    batch_id: int
    standing: str
    most: int


@dataclass
class World:
    runtime: Runtime
    clock: SettableClock
    texts: Texts
    looks: list[Callable[[], None]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    bells: list[Bell] = field(default_factory=list)
    asked: dict[int, list[str]] = field(default_factory=dict)

    def did(self, bells: Iterable[Bell]) -> None:
        """Keep the bells of one step, and let everybody look at what it did."""
        self.bells += bells
        for look in self.looks:
            look()

    # --- what comes in ---------------------------------------------------------------------------------------------

    def open(self, wish: Wish) -> None:
        request = BatchRequest(
            {f"essay-{n}": f"{text}-{n}" for n, text in enumerate(wish.texts)}, max_comparisons=wish.most
        )
        envelope = from_json(request.payload(self.clock()))
        if wish.threshold is not None:
            envelope["metadata"]["batch_config_overrides"] = {"partial_completion_threshold": wish.threshold}
        self.deliver(Kind.REQUEST, *[to_json(envelope)] * wish.copies)
        with self.runtime.database.transaction() as session:
            self.batches.append(session.scalar(select(func.max(CJBatchState.batch_id))) or 0)
        self.did([])

    def deliver(self, kind: Kind, *payloads: bytes) -> None:
        """Put messages that were polled together into the inbox, and work it."""
        with self.runtime.database.transaction() as session:
            inbox.write(session, kind, messages(*payloads, received_at=self.clock()))
        self.work_inbox()

    def work_inbox(self) -> None:
        self.did(inbox.work(self.runtime.database, self.clock, inbox_steps(self.runtime)))

    def answer(self, which: Which, words: Sequence[str], *, newest: bool = True) -> int:
        """Answer comparisons that were ever asked, each with the next of the words; return how many."""
        with self.runtime.database.transaction() as session:
            chosen = self._chosen(session, which)
        payloads = [
            payload(pair, word, self.asked[pair.id][-1 if newest else 0])
            for pair, word in zip(chosen, again(words, len(chosen)), strict=True)
        ]
        if payloads:
            self.deliver(Kind.CALLBACK, *payloads)
        return len(payloads)

    def judge(self, hand: Hand) -> None:
        """Answer well what one submitter had in the air, and nothing else."""
        with self.runtime.database.transaction() as session:
            chosen = session.scalars(select(ComparisonPair).where(ComparisonPair.id.in_(hand.queue_ids))).all()
        self.deliver(Kind.CALLBACK, *[payload(pair, "better", hand.queue_ids[pair.id]) for pair in chosen])

    def _chosen(self, session: Session, which: Which) -> Sequence[ComparisonPair]:
        rows = (
            select(ComparisonPair)
            .where(ComparisonPair.cj_batch_id == which.batch_id, ComparisonPair.id.in_(self.asked))
            .order_by(ComparisonPair.iteration, ComparisonPair.ordinal)
            .limit(which.most)
        )
        if which.standing != "any":
            is_open = ComparisonPair.status.in_(OPEN)
            rows = rows.where(is_open if which.standing == "open" else ~is_open)
        return session.scalars(rows).all()

    # --- what goes out ---------------------------------------------------------------------------------------------

    def claim(self, most: int) -> int:
        """Let a submitter take comparisons; return how many it got."""
        token, now = uuid4(), self.clock()
        with self.runtime.database.transaction() as session:
            closed = gate.closed_until(session, now)
            order = claims.Order(most, token, now)
            taken = [] if closed else claims.take(session, order, limits(self.runtime.settings))
        if taken:
            self.hands.append(Hand(token, taken, {one.id: self._ask(one) for one in taken}))
        self.did([])
        return len(taken)

    def _ask(self, one: Taken) -> str:
        asked = self.asked.setdefault(one.id, [])
        asked.append(f"q-{one.id}-{len(asked)}")
        return asked[-1]

    def hear_provider(self, hand: Hand, words: Sequence[str]) -> None:
        """Record what the provider said at once, to each comparison of a hand the next of the words."""
        with self.runtime.database.transaction() as session:
            heard = [
                Outcome(one.id, one.batch_id, "a-digest", **said(session, one.id, hand.queue_ids[one.id], word))
                for one, word in zip(hand.taken, again(words, len(hand.taken)), strict=True)
            ]
            bells = outcomes.record(self.runtime, session, hand.token, heard)
        self.did(bells)

    # --- what is due -----------------------------------------------------------------------------------------------

    def ring(self, *, twice: bool = False) -> None:
        """Hear every bell, and those that it makes ring; comparisons are sent by the test."""
        for _ in range(MOST_BELLS):
            if not self.bells:
                return
            bell = self.bells.pop(0)
            self.hear(bell)
            if twice:
                self.hear(bell)
        raise AssertionError("a bell that is heard always rings another one")

    def hear(self, bell: Bell) -> None:
        if bell.work is Work.INBOX:
            self.work_inbox()
        elif bell.work is not Work.SUBMIT:
            self.did(_STEPS[bell.work](self.runtime, bell))

    def sweep(self) -> None:
        self.clock.advance(sweep.GRACE)
        self.did(sweep.sweep(self.runtime))

    def monitor(self) -> None:
        self.did(monitor.monitor(self.runtime))

    def pass_time(self, by: timedelta, *, caught_up_too: bool = True) -> None:
        self.clock.advance(by)
        if caught_up_too:
            self.catch_up()

    def catch_up(self) -> None:
        with self.runtime.database.transaction() as session:
            caught_up(session, self.clock())

    # --- operators -------------------------------------------------------------------------------------------------

    def order(self, batch_id: int, *, behind: int = 0) -> operate.Order:
        return operate.Order(batch_id, "an operator", "a test", self.state(batch_id).version - behind)

    def state(self, batch_id: int) -> CJBatchState:
        with self.runtime.database.transaction() as session:
            return session.get_one(CJBatchState, batch_id)

    # --- the end ---------------------------------------------------------------------------------------------------

    def all_goes_well(self) -> None:
        """From now on texts come, the provider takes and answers all, and nobody dies: every batch must end.

        What was lost before stays lost: claims whose submitter died, and requests that were never answered.
        """
        self.texts.slow_ones_are_here = True
        self.hands.clear()
        for turn in range(PATIENCE):
            if not self._leap():
                return
            # Ever later: a batch whose places are all held by lost requests looks for a free one twice a second.
            self.clock.advance(timedelta(seconds=10 * turn))
            self.catch_up()
            self.sweep()
            self.ring()
            while self.claim(100):
                hand = self.hands.pop()
                self.hear_provider(hand, ["accept"])
                self.judge(hand)
        raise AssertionError("a live batch does not come to its end though all goes well")

    def _leap(self) -> bool:
        """Go on to when anything is due; False when every batch has ended."""
        with self.runtime.database.transaction() as session:
            moments = session.scalars(
                select(CJBatchState.next_action_at).where(
                    CJBatchState.batch_id.in_(self.batches), CJBatchState.state.in_(LIVE)
                )
            ).all()
            closed = gate.closed_until(session, self.clock())
        due = min((moment for moment in moments if moment is not None), default=None)
        if due is not None:
            self.clock.now = max(self.clock.now, due, closed or due)
        return due is not None


def put_away(runtime: Runtime) -> None:
    """Leave nothing due of the worlds before, without an event: they share the database."""
    with runtime.database.transaction() as session:
        session.execute(
            update(CJBatchState)
            .where(CJBatchState.next_action_at.is_not(None))
            .values(state="CANCELLED", next_action=None, next_action_at=None)
        )
        session.execute(update(InboxRow).where(InboxRow.done_at.is_(None)).values(done_at=func.now()))
        gate.open_(session)
