"""What a step works with: settings, database, clock and the services that we call, one set for a process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cjtasks.clients.content import ContentServiceClient
from cjtasks.clients.llm_provider import LLMProviderServiceClient, breaker
from cjtasks.settings import Settings, settings
from cjtasks.store.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Runtime:
    settings: Settings
    database: Database
    clock: Callable[[], datetime]
    provider: LLMProviderServiceClient
    content: ContentServiceClient


def build(chosen: Settings, clock: Callable[[], datetime] = utc_now) -> Runtime:
    return Runtime(
        settings=chosen,
        database=Database(chosen.DATABASE_URL),
        clock=clock,
        provider=LLMProviderServiceClient(
            chosen.LLM_PROVIDER_SERVICE_URL,
            breaker(chosen.BREAKER_FAILURES, chosen.BREAKER_OPEN_SECONDS),
            timeout=chosen.HTTP_TIMEOUT_SECONDS,
        ),
        content=ContentServiceClient(chosen.CONTENT_SERVICE_URL, timeout=chosen.HTTP_TIMEOUT_SECONDS),
    )


_held: list[Runtime] = []


def runtime() -> Runtime:
    """Return this process's runtime, made at the first call, which must come after any fork."""
    if not _held:
        _held.append(build(settings()))
    return _held[-1]


@contextmanager
def using(chosen: Runtime) -> Iterator[None]:
    """Let tasks use another runtime inside the block: eager tests bring their own clock and services."""
    _held.append(chosen)
    try:
        yield
    finally:
        _held.remove(chosen)
