"""A small real LLM Provider Service: POSTs are queued with 202, answers come later through a sink.

Its behaviour (`ProviderBehaviour`) can be changed while it runs, by POST /behaviour. All chance is derived
from the seed, the correlation id and how often that was asked, so the order of requests does not matter.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tornado.web import Application

from cjtasks.dev.fake_provider_answers import Answers, judge_of
from cjtasks.dev.fake_provider_behaviour import ProviderBehaviour
from cjtasks.dev.fake_provider_callback import Question
from cjtasks.dev.fake_provider_kafka import KafkaSink
from cjtasks.dev.fake_provider_request import SERVICE, ComparisonRequest, Reply, read_request, refusal
from cjtasks.dev.fake_serving import (
    LOCALHOST,
    JsonRoute,
    StateRoute,
    changed,
    running_in_thread,
    serve_until_signal,
)
from cjtasks.dev.judges import rng_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cjtasks.dev.fake_provider_answers import Sink
    from cjtasks.dev.judges import Judge

__all__ = ["API", "FakeProvider", "KafkaSink", "ProviderBehaviour", "running", "serve"]

API = "/api/v1"


class FakeProvider:
    """The service itself, hosted by `serve` or `running`; `stats` may be read from any thread.

    sink: gets (topic, payload) of each callback. judge: by default the one that the behaviour names.
    """

    def __init__(self, sink: Sink, behaviour: ProviderBehaviour | None = None, judge: Judge | None = None) -> None:
        self.behaviour = behaviour or ProviderBehaviour()
        self._sink = sink
        self._given_judge = judge
        self._answers = Answers(sink, judge or judge_of(self.behaviour))
        self._accepted: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def ask(self, body: bytes) -> Reply:
        """Take the body of one POST /comparison; the callbacks wait in the running loop, which is needed."""
        self._counts["requests"] += 1
        request = read_request(body)
        if isinstance(request, Reply):
            self._counts["invalid"] += 1
            return request
        correlation_id = str(request.correlation_id or uuid4())
        if self._refuses(correlation_id):
            self._counts["refused"] += 1
            return refusal(self.behaviour, request)
        return self._accept(request, correlation_id)

    def _refuses(self, correlation_id: str) -> bool:
        rate, seed = self.behaviour.refuse_rate, self.behaviour.seed
        posts = self._accepted[correlation_id] + self._refused[correlation_id]
        refused = rate > 0 and rng_for("refuse", seed, correlation_id, posts).random() < rate
        if refused:
            self._refused[correlation_id] += 1
        return refused

    def _accept(self, request: ComparisonRequest, correlation_id: str) -> Reply:
        self._counts["accepted"] += 1
        self._accepted[correlation_id] += 1
        question = Question(
            request=request,
            behaviour=self.behaviour,
            correlation_id=correlation_id,
            queue_id=str(uuid4()),
            attempt=self._accepted[correlation_id],
            requested_at=datetime.now(UTC),
        )
        self._answers.schedule(question)
        body = {"queue_id": question.queue_id, "status": "queued", "message": "waits for its judge"}
        return Reply(202, {**body, "estimated_wait_minutes": None})

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change the behaviour towards the requests to come; Misconfigured names a field that is wrong."""
        self.behaviour = changed(self.behaviour, changes)
        self._answers.judge = self._given_judge or judge_of(self.behaviour)

    def stats(self) -> dict[str, int]:
        """Count what was seen and sent.

        requests = invalid + refused + accepted. accepted = correlation_ids + asked_again, so nothing was
        accepted twice when asked_again is 0. callbacks includes errors and duplicates.
        """
        http = {name: self._counts[name] for name in ("requests", "invalid", "refused", "accepted")}
        known = len(self._accepted)
        sent = ("callbacks", "errors", "duplicates", "contradictions", "lost", "pending")
        return {
            **http,
            "correlation_ids": known,
            "asked_again": http["accepted"] - known,
            **{name: self._answers.counts[name] for name in sent},
            "undelivered": self._sink.undelivered if isinstance(self._sink, KafkaSink) else 0,
        }

    def application(self) -> Application:
        state = {"look": lambda: asdict(self.behaviour), "change": self.change}
        routes: list[Any] = [
            (f"{API}/comparison", _ComparisonRoute, {"provider": self}),
            ("/healthz", _HealthRoute),
            ("/stats", _StatsRoute, {"provider": self}),
            ("/behaviour", StateRoute, state),
        ]
        return Application(routes, log_function=lambda _request: None)

    def poll(self) -> None:
        if isinstance(self._sink, KafkaSink):
            self._sink.poll()

    def close(self) -> None:
        if isinstance(self._sink, KafkaSink):
            self._sink.close()


class _ProviderRoute(JsonRoute):
    def initialize(self, provider: FakeProvider) -> None:
        self.provider = provider


class _ComparisonRoute(_ProviderRoute):
    async def post(self) -> None:
        reply = self.provider.ask(self.request.body)
        if self.provider.behaviour.accept_delay:
            await asyncio.sleep(self.provider.behaviour.accept_delay)
        self.reply(reply.status, reply.body, reply.headers)


class _StatsRoute(_ProviderRoute):
    def get(self) -> None:
        self.reply(200, self.provider.stats())


class _HealthRoute(JsonRoute):
    def get(self) -> None:
        checks = {"service_responsive": True, "dependencies_available": True}
        self.reply(200, {"service": SERVICE, "status": "healthy", "mock_mode": True, "checks": checks})


def serve(provider: FakeProvider, port: int, address: str = LOCALHOST) -> None:
    """Serve until SIGTERM or SIGINT; questions that wait for their answer by then are lost."""
    serve_until_signal(provider, port, address)


@contextmanager
def running(provider: FakeProvider, port: int = 0) -> Iterator[str]:
    """Serve from a thread; yields the base URL, which ends in /api/v1."""
    with running_in_thread(provider, port) as root:
        yield f"{root}{API}"
