"""A few batches taken through the product's own steps, each step timed; nobody is asked over HTTP but for the texts."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic_core import to_json
from sqlalchemy import select

from cjtasks.clients.llm_provider import Submission
from cjtasks.dev.requests import BatchRequest
from cjtasks.domain.states import BatchStateEnum, Bell, Work
from cjtasks.steps import outcomes, pairs, prepare, score
from cjtasks.steps.outcomes import Outcome
from cjtasks.steps.progress import limits
from cjtasks.store import claims, inbox
from cjtasks.store.inbox import Kind, Message
from cjtasks.store.models import CJBatchState, CJBatchUpload
from cjtasks.tasks import work_inbox_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from cjtasks.runtime import Runtime
    from cjtasks.store.claims import Taken

BATCHES = 4
MOST = 1000

CALLBACK, OPEN, PLAN, SEND, SCORE = "callback", "open", "plan", "claim and record", "stop and score"
STEPS = (CALLBACK, OPEN, PLAN, SEND, SCORE)


@dataclass
class Walk:
    """Takes batches through one database; `seconds` holds what each step took, by comparison or by batch."""

    runtime: Runtime
    storage_ids: Mapping[str, str]
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _offsets: count[int] = field(default_factory=lambda: count(1_000_000_000))

    def walk(self) -> None:
        """Take a few new batches from their requests to their ends."""
        batch_ids = self._open()
        for batch_id in batch_ids:
            prepare.prepare(self.runtime, Bell(Work.PREPARE, batch_id))
        with self._timed(PLAN, BATCHES):
            for batch_id in batch_ids:
                pairs.advance(self.runtime, Bell(Work.ADVANCE, batch_id))
        self._answer(self._send())
        with self._timed(SCORE, BATCHES):
            for batch_id in batch_ids:
                pairs.advance(self.runtime, Bell(Work.ADVANCE, batch_id))
                score.score(self.runtime, Bell(Work.SCORE, batch_id))
        self._check(batch_ids)

    def _open(self) -> list[int]:
        wanted = [BatchRequest(self.storage_ids) for _ in range(BATCHES)]
        self._receive(Kind.REQUEST, [request.payload(self.runtime.clock()) for request in wanted])
        with self._timed(OPEN, BATCHES):
            work_inbox_once(self.runtime)
        with self.runtime.database.transaction() as session:
            ours = CJBatchUpload.bos_batch_id.in_([request.batch_id for request in wanted])
            return list(session.scalars(select(CJBatchUpload.id).where(ours)))

    def _send(self) -> list[tuple[Taken, str]]:
        token, settings = uuid4(), self.runtime.settings
        with self._timed(SEND, BATCHES):
            with self.runtime.database.transaction() as session:
                order = claims.Order(MOST, token, self.runtime.clock())
                sent = [(one, str(uuid4())) for one in claims.take(session, order, limits(settings))]
            results = [
                Outcome(one.id, one.batch_id, "0" * 64, submission=Submission(queue_id, None)) for one, queue_id in sent
            ]
            with self.runtime.database.transaction() as session:
                outcomes.record(self.runtime, session, token, results)
        return sent

    def _answer(self, sent: Sequence[tuple[Taken, str]]) -> None:
        self._receive(Kind.CALLBACK, [_verdict(one, queue_id, self.runtime.clock()) for one, queue_id in sent])
        with self._timed(CALLBACK, len(sent)):
            work_inbox_once(self.runtime)

    def _receive(self, kind: Kind, payloads: Sequence[bytes]) -> None:
        now = self.runtime.clock()
        messages = [Message("bench", 0, next(self._offsets), payload, now) for payload in payloads]
        with self.runtime.database.transaction() as session:
            inbox.write(session, kind, messages)

    @contextmanager
    def _timed(self, step: str, among: int) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[step].append((time.perf_counter() - began) / among)

    def _check(self, batch_ids: Sequence[int]) -> None:
        with self.runtime.database.transaction() as session:
            states = set(session.scalars(select(CJBatchState.state).where(CJBatchState.batch_id.in_(batch_ids))))
        if states != {BatchStateEnum.COMPLETED}:
            raise RuntimeError(f"the batches should be COMPLETED and are {', '.join(states)}")


def _verdict(one: Taken, queue_id: str, now: datetime) -> bytes:
    """Write the callback that names the essay whose id comes first, so that every run is the same."""
    data = {
        "request_id": queue_id,
        "correlation_id": str(one.correlation_id),
        "winner": "Essay A" if one.essay_a < one.essay_b else "Essay B",
        "justification": "It argues more clearly and keeps to the question. " * 3,
        "confidence": 3.5,
        "error_detail": None,
        "provider": "openai",
        "model": "gpt-5.1",
        "response_time_ms": 900,
        "token_usage": {"prompt_tokens": 1200, "completion_tokens": 60, "total_tokens": 1260},
        "cost_estimate": 0.01,
        "requested_at": now,
        "completed_at": now,
        "request_metadata": {"essay_a_id": one.essay_a, "essay_b_id": one.essay_b, "prompt_sha256": "0" * 64},
    }
    return to_json({"event_type": "LLMComparisonResultV1", "source_service": "llm_provider_service", "data": data})
