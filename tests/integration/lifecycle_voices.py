"""What the services around a batch say: texts, what the provider says at once, and what the judge says later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from cjtasks.clients.content import ContentServiceClient
from cjtasks.clients.llm_provider import Submission
from cjtasks.errors import ContentMissing, ContentUnavailable, ProviderRefused, ProviderRejected
from cjtasks.store.models import ComparisonPair
from tests.factories import failure, success

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


class Texts(ContentServiceClient):
    """A content service in memory: ids say what becomes of their texts; the slow ones come when they are let."""

    def __init__(self) -> None:
        super().__init__("http://nowhere.invalid/v1/content", timeout=1.0)
        self.slow_ones_are_here = False

    def fetch(self, storage_id: str) -> str:
        kind, _, number = storage_id.partition("-")
        if kind == "missing":
            raise ContentMissing.of("no such text", operation="test")
        if kind == "slow" and not self.slow_ones_are_here:
            raise ContentUnavailable.of("not yet", operation="test")
        return f"Essay {number}. "


def again(words: Sequence[str], count: int) -> list[str]:
    return [words[number % len(words)] for number in range(count)]


def payload(pair: ComparisonPair, word: str, request_id: str) -> bytes:
    """Write an answer; the better essay is always the one with the higher number."""
    if word in _ERRORS:
        return failure(pair, _ERRORS[word], request_id=request_id)
    b_is_better = pair.essay_b_els_id > pair.essay_a_els_id
    return success(pair, "Essay B" if b_is_better == (word == "better") else "Essay A", request_id=request_id)


_ERRORS = {"busy": "RATE_LIMIT", "hopeless": "INVALID_API_KEY"}


def said(session: Session, pair_id: int, queue_id: str, word: str) -> dict[str, Any]:
    """Return what an outcome says: accepted, judged at once, refused, rejected, or nothing because it was not sent."""
    if word == "nothing":
        return {}
    if word == "reject":
        return {"error": ProviderRejected.of("no", operation="test")}
    if word in {"refuse", "full"}:
        refused = ProviderRefused.of("not now", operation="test")
        refused.closes_gate = word == "full"
        return {"error": refused}
    if word == "at_once":
        answer = from_json(payload(session.get_one(ComparisonPair, pair_id), "better", queue_id))
        return {"submission": Submission(None, answer["data"])}
    return {"submission": Submission(queue_id, None)}
