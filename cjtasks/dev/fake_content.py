"""A small real Content Service: texts in memory, read and stored over HTTP as the platform does."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import uuid4

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from tornado.web import Application

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
    from pathlib import Path

BASE = "/v1/content"
SERVICE = "content_service"
_STORAGE_ID = re.compile(r"[0-9a-fA-F]{32}")
ErrorStatus: TypeAlias = Annotated[int, Field(ge=400, le=599)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ContentBehaviour:
    """All that can be set on the fake Content Service, at its start or while it runs."""

    latency: float = Field(default=0.0, ge=0, description="Seconds before each answer to a read.")
    error_rate: float = Field(default=0.0, ge=0, le=1, description="Share of reads that fail.")
    error_status: ErrorStatus = Field(default=503, description="HTTP status of those failures.")
    errors: dict[str, ErrorStatus] = Field(
        default_factory=dict, description="HTTP status for each read of these storage ids."
    )
    seed: int = Field(default=0, description="Of all chance: it depends on the storage id and how often that was read.")


def storage_id_of(name: str) -> str:
    """Storage id of a preloaded text: 32 hex digits that depend on its name alone."""
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


class FakeContent:
    """The service itself, hosted by `serve` or `running`; it may be filled and read from any thread."""

    def __init__(self, texts: Mapping[str, str] | None = None, behaviour: ContentBehaviour | None = None) -> None:
        self.behaviour = behaviour or ContentBehaviour()
        self.reads: Counter[str] = Counter()
        self._reads = self._failed = 0
        self._stored: dict[str, bytes] = {}
        for storage_id, text in (texts or {}).items():
            self.put(text.encode(), storage_id)

    @classmethod
    def from_folder(cls, folder: Path, behaviour: ContentBehaviour | None = None) -> FakeContent:
        """Load every .txt file; its storage id is `storage_id_of` its file name."""
        texts = {storage_id_of(path.name): path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}
        return cls(texts, behaviour)

    def put(self, content: bytes, storage_id: str | None = None) -> str:
        """Store the bytes and return their storage id: a new one each time, as upstream, unless given."""
        storage_id = storage_id or uuid4().hex
        self._stored[storage_id] = content
        return storage_id

    def find(self, storage_id: str) -> bytes | None:
        return self._stored.get(storage_id)

    def failure_of(self, storage_id: str) -> int | None:
        """Count one read and return the HTTP status that it must fail with, if any."""
        self._reads += 1
        self.reads[storage_id] += 1
        behaviour = self.behaviour
        chance = rng_for("read", behaviour.seed, storage_id, self.reads[storage_id]).random()
        by_rate = behaviour.error_status if chance < behaviour.error_rate else None
        status = behaviour.errors.get(storage_id, by_rate)
        self._failed += status is not None
        return status

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change some fields of the behaviour; Misconfigured names a field that is wrong."""
        self.behaviour = changed(self.behaviour, changes)

    def stats(self) -> dict[str, int]:
        """Count reads; `read_again` are those beyond the first of an id, `failed` those broken on purpose."""
        return {
            "stored": len(self._stored),
            "reads": self._reads,
            "read_again": self._reads - len(self.reads),
            "failed": self._failed,
        }

    def application(self) -> Application:
        state = {"look": lambda: asdict(self.behaviour), "change": self.change}
        routes: list[Any] = [
            (BASE, _StoreRoute, {"content": self}),
            (f"{BASE}/(.*)", _ReadRoute, {"content": self}),
            ("/healthz", _HealthRoute),
            ("/stats", _StatsRoute, {"content": self}),
            ("/behaviour", StateRoute, state),
        ]
        return Application(routes, log_function=lambda _request: None)

    def poll(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is kept."""


class _ContentRoute(JsonRoute):
    def initialize(self, content: FakeContent) -> None:
        self.content = content

    def fail(self, status: int, operation: str, error: Mapping[str, object]) -> None:
        full = {
            "correlation_id": str(uuid4()),
            "timestamp": format_datetime(datetime.now(UTC), usegmt=True),
            "service": SERVICE,
            "operation": operation,
            "stack_trace": None,
            "trace_id": None,
            "span_id": None,
        }
        self.reply(status, {"error": {**full, **error}})


class _StoreRoute(_ContentRoute):
    def post(self) -> None:
        if not self.request.body:
            self.fail(400, "upload_content", _invalid("content", ""))
            return
        storage_id = self.content.put(self.request.body)
        self.reply(201, {"storage_id": storage_id, "correlation_id": str(uuid4())})


class _ReadRoute(_ContentRoute):
    async def get(self, storage_id: str) -> None:
        if self.content.behaviour.latency:
            await asyncio.sleep(self.content.behaviour.latency)
        if not _STORAGE_ID.fullmatch(storage_id):
            self.fail(400, "download_content", _invalid("content_id", storage_id))
            return
        status = self.content.failure_of(storage_id)
        text = self.content.find(storage_id)
        if status is not None and status != 404:
            self.fail(status, "get_content", _broken(storage_id))
        elif status is not None or text is None:
            self.fail(404, "get_content", _unknown(storage_id))
        else:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(text)


def _invalid(field: str, value: str) -> dict[str, object]:
    message = f"{field} is not valid"
    details = {"field": field, "value": value}
    return {"error_code": "VALIDATION_ERROR", "message": message, "details": details}


def _unknown(storage_id: str) -> dict[str, object]:
    message = f"content with ID '{storage_id}' not found"
    details = {"resource_type": "content", "resource_id": storage_id}
    return {"error_code": "RESOURCE_NOT_FOUND", "message": message, "details": details}


def _broken(storage_id: str) -> dict[str, object]:
    message = "switched off on purpose"
    return {"error_code": "CONTENT_SERVICE_ERROR", "message": message, "details": {"content_id": storage_id}}


class _StatsRoute(_ContentRoute):
    def get(self) -> None:
        self.reply(200, self.content.stats())


class _HealthRoute(JsonRoute):
    def get(self) -> None:
        self.reply(200, {"service": SERVICE, "status": "healthy"})


def serve(content: FakeContent, port: int, address: str = LOCALHOST) -> None:
    """Serve until SIGTERM or SIGINT."""
    serve_until_signal(content, port, address)


@contextmanager
def running(content: FakeContent, port: int = 0) -> Iterator[str]:
    """Serve from a thread; yields the base URL, which ends in /v1/content."""
    with running_in_thread(content, port) as root:
        yield f"{root}{BASE}"
