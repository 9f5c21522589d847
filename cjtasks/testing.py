"""Testing with cjtasks: a whole batch in one process, on real Postgres and real HTTP, with a clock that you set.

The fixture `eager_cj` runs every task where it is rung. Texts and verdicts come from the fake Content Service and
the fake LLM Provider, which answer over HTTP; their callbacks go straight into the inbox instead of through Kafka.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import selectinload

from cjtasks import bells, runtime
from cjtasks.celery import app
from cjtasks.dev import fake_content, fake_provider
from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.states import Bell, Work
from cjtasks.settings import Settings
from cjtasks.steps import sweep
from cjtasks.store import gate, inbox
from cjtasks.store.inbox import Kind
from cjtasks.store.models import CJBatchState, CJBatchUpload, InboxRow, KafkaPosition, OutboxEvent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cjtasks.dev.fake_content import FakeContent
    from cjtasks.dev.fake_provider import FakeProvider
    from cjtasks.runtime import Runtime

PATIENCE = 60.0


@dataclass
class SettableClock:
    """A clock that stands still until it is told to go on."""

    now: datetime = field(default_factory=lambda: datetime(2026, 3, 2, 9, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


@dataclass(frozen=True)
class PublishedEvent:
    """One outgoing event as it would stand on its Kafka topic."""

    topic: str
    key: str
    kind: str
    envelope: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        return dict(self.envelope["data"])


@dataclass
class EagerPlatform:
    """The platform around cjtasks, in one process."""

    runtime: Runtime
    clock: SettableClock
    provider: FakeProvider
    content: FakeContent
    _callbacks: list[bytes]
    _offset: int = 0

    def request(self, texts: Mapping[str, str], **wanted: Any) -> str:
        """Ask for a batch of these texts (essay id to text); return the platform's batch id. Nothing runs yet."""
        storage_ids = {essay_id: self.content.put(text.encode()) for essay_id, text in texts.items()}
        request = BatchRequest(storage_ids, **wanted)
        self.deliver(Kind.REQUEST, request.payload(self.clock()))
        return request.batch_id

    def run(self, texts: Mapping[str, str], **wanted: Any) -> str:
        """Ask for a batch and run it to its end; return the platform's batch id."""
        batch_id = self.request(texts, **wanted)
        self.pump()
        return batch_id

    def deliver(self, kind: Kind, payload: bytes) -> None:
        """Put one message into the inbox, as the consumer does."""
        self._offset += 1
        with self.runtime.database.transaction() as session:
            inbox.write(session, kind, [inbox.Message("test", 0, self._offset, payload, self.clock())])

    def pump(self) -> None:
        """Deliver callbacks, sweep, and move the clock to whatever is due next, until nothing is due."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._turn()
            if self._callbacks:
                continue
            if self.provider.stats()["pending"]:
                time.sleep(0.002)
            elif not self._leap():
                return
        raise TimeoutError("something is always due: see the rows of cj_batch_states")

    def _turn(self) -> None:
        callbacks, self._callbacks[:] = list(self._callbacks), []
        for payload in callbacks:
            self.deliver(Kind.CALLBACK, payload)
        self._work_inbox()
        self._caught_up()
        bells.ring(sweep.sweep(self.runtime))

    def _work_inbox(self) -> None:
        """Work all that was received: after an absence no deadline acts before that is done."""
        with self.runtime.database.transaction() as session:
            rows = inbox.undone(session, self.clock())
        for _ in range(max(rows, 1)):
            bells.ring([Bell(Work.INBOX)])

    def _caught_up(self) -> None:
        """Say what the consumer says of its partitions: all that was sent is in the inbox."""
        topic, now = self.runtime.settings.LLM_PROVIDER_CALLBACK_TOPIC, self.clock()
        row = insert(KafkaPosition).values(topic=topic, partition=0, next_offset=0, caught_up_at=now)
        with self.runtime.database.transaction() as session:
            session.execute(
                row.on_conflict_do_update(index_elements=["topic", "partition"], set_={"caught_up_at": now})
            )

    def _leap(self) -> bool:
        """Move the clock to the next moment at which anything is due; False when there is none."""
        with self.runtime.database.transaction() as session:
            batch = session.scalar(select(func.min(CJBatchState.next_action_at)))
            row = session.scalar(select(func.min(InboxRow.next_attempt_at)).where(InboxRow.done_at.is_(None)))
            closed_until = gate.closed_until(session, self.clock())
        due = min((moment for moment in (batch, row) if moment is not None), default=None)
        if due is not None and closed_until is not None and due + sweep.GRACE <= self.clock():
            # What is due already waits behind the provider's gate.
            due = closed_until
        if due is None:
            return False
        self.clock.now = max(self.clock.now, due + sweep.GRACE)
        return True

    def state(self, batch_id: str) -> CJBatchState:
        """Return the state row of a batch by the platform's id, with its request, essays and comparisons loaded."""
        upload = selectinload(CJBatchState.batch_upload)
        with self.runtime.database.transaction() as session:
            return session.scalars(
                select(CJBatchState)
                .join(CJBatchUpload)
                .where(CJBatchUpload.bos_batch_id == batch_id)
                .options(upload.selectinload(CJBatchUpload.essays), upload.selectinload(CJBatchUpload.comparison_pairs))
            ).one()

    def events(self, batch_id: str | None = None) -> list[PublishedEvent]:
        """Return the events in the outbox in their order, of one batch or of all."""
        with self.runtime.database.transaction() as session:
            rows = session.scalars(select(OutboxEvent).order_by(OutboxEvent.id)).all()
        events = [PublishedEvent(row.topic, row.key, row.kind, json.loads(row.payload)) for row in rows]
        return [event for event in events if batch_id in {None, event.data["entity_id"]}]


@contextmanager
def eager_platform(database_url: str, **changed_settings: Any) -> Iterator[EagerPlatform]:
    """Run the fakes and yield the platform; `changed_settings` are fields of Settings."""
    callbacks: list[bytes] = []
    provider = fake_provider.FakeProvider(lambda _topic, payload: callbacks.append(payload))
    content = fake_content.FakeContent()
    clock = SettableClock()
    with ExitStack() as stack:
        urls = {
            "LLM_PROVIDER_SERVICE_URL": stack.enter_context(fake_provider.running(provider)),
            "CONTENT_SERVICE_URL": stack.enter_context(fake_content.running(content)),
        }
        settings = Settings.model_validate({"DATABASE_URL": database_url, **urls, **changed_settings})
        chosen = runtime.build(settings, clock)
        stack.callback(chosen.database.close)
        stack.enter_context(runtime.using(chosen))
        stack.enter_context(_eager_tasks())
        yield EagerPlatform(chosen, clock, provider, content, callbacks)


@contextmanager
def _eager_tasks() -> Iterator[None]:
    before, app.conf.task_always_eager = app.conf.task_always_eager, True
    try:
        yield
    finally:
        app.conf.task_always_eager = before


@pytest.fixture
def eager_cj(database_url: str) -> Iterator[EagerPlatform]:
    """Give a platform that runs every task where it is rung, on a fresh database."""
    with eager_platform(database_url) as platform:
        yield platform
