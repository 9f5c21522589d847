"""Comparisons are claimed from all batches fairly, sent without a lock held, and recorded together.

They go out in loads. While one load is in the air the one before it is recorded and the next one claimed, so
neither the database waits for the provider nor the provider for the database.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from cjtasks.clients.llm_provider import CONNECTIONS
from cjtasks.domain.states import Bell, Work
from cjtasks.errors import CircuitOpen, ProviderRefused, ProviderRejected
from cjtasks.steps import letters, outcomes
from cjtasks.steps.outcomes import Outcome
from cjtasks.steps.progress import limits
from cjtasks.store import batches, claims, gate

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Future

    from sqlalchemy.orm import Session

    from cjtasks.runtime import Runtime
    from cjtasks.steps.letters import Letter

LOAD = 64
"""How many comparisons one claim takes at most."""

AT_ONCE = 2 * LOAD
"""What one submitter may have in the air; if it dies, this much is lost until the lease ends."""

LONGEST = timedelta(seconds=10)
"""No request starts later than this after its task did, so that a worker can stop in time."""

TURN = timedelta(seconds=0.25)
"""How long a task sends while texts wait to be fetched: the same children do both, and each takes its turn."""

STRAGGLERS_SECONDS = 1.0
"""A load is recorded without the requests that take longer than this; they are recorded with a later one."""

PAUSE_SECONDS = 0.01
"""How long to wait for another submitter that holds the lock of every batch that is due."""


def submit(runtime: Runtime) -> list[Bell]:
    """Send what is due, from whichever batches; return only when nothing is left or the time is up."""
    air = _Air(runtime, until=runtime.clock() + LONGEST)
    bells: list[Bell] = []
    with ThreadPoolExecutor(CONNECTIONS, "submit") as threads:
        while True:
            # The batches that moved on should not wait for the rest of what this task could send.
            stopping = bool(bells) or air.has_had_its_turn()
            while not stopping and air.has_room and (claimed := air.claim()):
                air.loads.append([threads.submit(air.send, letter) for letter in claimed])
            if air.loads:
                bells += air.record()
            elif stopping:
                return [*bells, Bell(Work.SUBMIT)]
            elif not air.is_due():
                return []
            else:
                time.sleep(PAUSE_SECONDS)


@dataclass
class _Air:
    """What one task has in the air; the token marks its claims, `until` is when its last request may start."""

    runtime: Runtime
    until: datetime
    token: UUID = field(default_factory=uuid4)
    loads: deque[Collection[Future[Outcome]]] = field(default_factory=deque)

    @property
    def has_room(self) -> bool:
        return sum(map(len, self.loads)) <= AT_ONCE - LOAD

    def claim(self) -> list[Letter]:
        with self.runtime.database.transaction() as session:
            most, now = self._allowance(session), self.runtime.clock()
            if not most:
                return []
            taken = claims.take(session, claims.Order(most, self.token, now), limits(self.runtime.settings))
            return letters.write(session, taken)

    def has_had_its_turn(self) -> bool:
        """Tell whether the time is up, or others wait for this child after a fair part of it."""
        now = self.runtime.clock()
        if now < self.until - LONGEST + TURN:
            return False
        with self.runtime.database.transaction() as session:
            return now >= self.until or batches.any_due(session, Work.PREPARE, now)

    def is_due(self) -> bool:
        """Tell whether something could be claimed that could not a moment ago: then somebody else had its lock."""
        with self.runtime.database.transaction() as session:
            return bool(self._allowance(session)) and batches.any_due(session, Work.SUBMIT, self.runtime.clock())

    def _allowance(self, session: Session) -> int:
        closed = gate.closed_until(session, self.runtime.clock())
        return 0 if closed else self.runtime.provider.allowance(LOAD)

    def send(self, letter: Letter) -> Outcome:
        one, digest = letter.taken, letter.prompt.sha256
        if self.runtime.clock() >= self.until:
            return Outcome(one.id, one.batch_id, digest)
        request = letter.request(self.runtime.settings.LLM_PROVIDER_CALLBACK_TOPIC)
        try:
            submission = self.runtime.provider.generate_comparison(request)
        except CircuitOpen:
            return Outcome(one.id, one.batch_id, digest)
        except (ProviderRefused, ProviderRejected) as error:
            return Outcome(one.id, one.batch_id, digest, error=error)
        return Outcome(one.id, one.batch_id, digest, submission=submission)

    def record(self) -> list[Bell]:
        """Record what came back of the oldest load."""
        back, still_out = wait(self.loads.popleft(), STRAGGLERS_SECONDS)
        if still_out:
            self.loads.append(still_out)
        if not back:
            return []
        with self.runtime.database.transaction() as session:
            return outcomes.record(self.runtime, session, self.token, [one.result() for one in back])
