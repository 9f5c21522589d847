"""Which kind of message a topic carries; what an envelope calls itself is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cjtasks.store.inbox import Kind

if TYPE_CHECKING:
    from cjtasks.settings import Settings


def kinds(settings: Settings) -> dict[str, Kind]:
    return {settings.REQUEST_TOPIC: Kind.REQUEST, settings.LLM_PROVIDER_CALLBACK_TOPIC: Kind.CALLBACK}
