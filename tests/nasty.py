"""Messages that a stranger may send, each with what becomes of it: the platform's own fixtures and ours.

The platform's fixtures are read where they lie beside the repository; what becomes of them is told by their manifest
and by the few rules below in which we differ from it on purpose.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from cjtasks.store.inbox import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "contracts" / "fixtures"
NAMES = UUID("5c0d1be4-7c3a-5d51-9a4e-2f6a1b7d9c30")

CALLBACK_IN_JULY_2025 = {"seed_era/callback_winner_Error_july2025.json", "invalid/cb_winner_error_legacy.json"}
REFUSED = {
    "surprising/req_duplicate_essay_ids.json": "essays_for_cj.1.essay_id",
    "surprising/req_provider_unknown.json": "llm_config_overrides.provider_override",
}
WITHOUT_ENTITY = "surprising/req_entity_id_null.json"


class Becomes(StrEnum):
    OPENED = "a batch"
    REFUSED = "a failed event"
    SET_ASIDE = "a dead letter"
    SET_ASIDE_AND_TOLD = "a dead letter and a failed event"
    JUDGED = "a verdict"
    ERROR = "an error that is asked about again"
    FINAL_ERROR = "an error for good"


@dataclass(frozen=True)
class Case:
    """One message; `says` begins a dead letter's detail or is a refusal's field, a winner or a code.

    An answer belongs to the comparison `match_on`, which was asked under `request_id`.
    """

    name: str
    kind: Kind
    payload: bytes
    becomes: Becomes
    says: str = ""
    match_on: UUID | None = None
    request_id: str = ""

    def __str__(self) -> str:
        return self.name


def read_leniently(payload: bytes) -> dict[str, Any]:
    """Read what a lenient reader can; nothing of what it cannot."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def data_of(payload: bytes) -> dict[str, Any]:
    data = read_leniently(payload).get("data")
    return data if isinstance(data, dict) else {}


def entity_of(payload: bytes) -> str | None:
    """Return the platform's id of the batch that a request is about, as we store it."""
    data = data_of(payload)
    entity = data.get("entity_id") or (data.get("entity_ref") or {}).get("entity_id")
    return entity.replace("\0", "") if isinstance(entity, str) else None


def own(name: str) -> str:
    """Return an id that belongs to a case alone, and is the same in each run."""
    return str(uuid5(NAMES, name))


def fixtures(*folders: str) -> Iterator[Case]:
    """Read the fixtures of these folders that come in over Kafka; none where they are not at hand."""
    manifest = FIXTURES / "manifest.json"
    entries = json.loads(manifest.read_text(encoding="utf-8"))["entries"] if manifest.exists() else []
    for entry in entries:
        if entry["file"].split("/")[0] not in folders:
            continue
        if entry["kind"] in {"callback", "seed_callback"}:
            yield _callback(entry, (FIXTURES / entry["file"]).read_bytes())
        elif entry["kind"] in {"request", "seed_request"}:
            yield _request(entry, (FIXTURES / entry["file"]).read_bytes())


def _request(entry: dict[str, Any], payload: bytes) -> Case:
    name = entry["file"]
    payload = _renamed(name, payload)
    if name in REFUSED:
        return Case(name, Kind.REQUEST, payload, Becomes.REFUSED, REFUSED[name])
    if name == WITHOUT_ENTITY:
        return Case(name, Kind.REQUEST, payload, Becomes.SET_ASIDE, "data: entity_id: ")
    if entry["valid"] or entry["kind"] == "seed_request":
        return Case(name, Kind.REQUEST, payload, Becomes.OPENED)
    told = Becomes.SET_ASIDE_AND_TOLD if entity_of(payload) else Becomes.SET_ASIDE
    return Case(name, Kind.REQUEST, payload, told, _blamed(entry))


def _renamed(name: str, payload: bytes) -> bytes:
    """Give a request ids of its own: many fixtures share theirs, and the second of them would be a duplicate."""
    ids = (read_leniently(payload).get("correlation_id"), entity_of(payload))
    for number, old in enumerate(ids):
        if isinstance(old, str):
            payload = payload.replace(old.encode(), own(f"{name}-{number}").encode())
    return payload


def _callback(entry: dict[str, Any], payload: bytes) -> Case:
    name, data = entry["file"], data_of(payload)
    match_on = _match_on(data)
    if match_on is not None and "match_on" not in entry:
        payload, match_on = _matching(payload, match_on, own(name))
    becomes, says = Becomes.SET_ASIDE, ""
    if name in CALLBACK_IN_JULY_2025:
        becomes, says = Becomes.ERROR, "INVALID_RESPONSE"
    elif not entry["valid"]:
        says = _blamed(entry)
    elif data["winner"] is None:
        becomes, says = Becomes.ERROR, data["error_detail"]["error_code"]
    else:
        becomes, says = Becomes.JUDGED, {"Essay A": "essay_a", "Essay B": "essay_b"}[data["winner"]]
    return Case(name, Kind.CALLBACK, payload, becomes, says, match_on, str(data.get("request_id")))


def _matching(payload: bytes, old: UUID, new: str) -> tuple[bytes, UUID]:
    """Give an answer a comparison of its own: the odd fixtures share one, which would be answered by the first."""
    payload = payload.replace(str(old).encode(), new.encode())
    return payload.replace(str(old).upper().encode(), new.upper().encode()), UUID(new)


def _match_on(data: dict[str, Any]) -> UUID | None:
    try:
        return UUID(data["correlation_id"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _blamed(entry: dict[str, Any]) -> str:
    """Say how our reason must begin: level and field, without the names of the platform's enumerations."""
    field = ".".join(part for part in entry["errors"][0]["loc"] if "[" not in part)
    level = entry["rejected_at"]
    return f"{level}: {field}: " if field else f"{level}: "


def request(name: str, data: dict[str, Any] | None = None, **envelope: Any) -> bytes:
    """Write a request of two essays with some fields changed; the ids belong to `name`."""
    fields = {
        "entity_id": own(f"{name}-batch"),
        "entity_type": "batch",
        "system_metadata": {"entity_id": own(f"{name}-batch"), "entity_type": "batch"},
        "essays_for_cj": [{"essay_id": f"e-{n}", "text_storage_id": f"{n:032x}"} for n in range(2)],
        "language": "en",
        "course_code": "ENG5",
        "user_id": "teacher-1",
    }
    message = {
        "event_type": "huleedu.els.cj_assessment.requested.v1",
        "source_service": "a-stranger",
        "correlation_id": own(f"{name}-request"),
        "data": fields | (data or {}),
    }
    return json.dumps(message | envelope).encode()


def answer(name: str, data: dict[str, Any] | None = None, **envelope: Any) -> bytes:
    """Write a callback that names essay A, with some fields changed; the ids belong to `name`."""
    fields = {
        "request_id": own(f"{name}-queue"),
        "correlation_id": own(f"{name}-comparison"),
        "winner": "Essay A",
        "justification": "Clearer.",
        "confidence": 4.0,
        "provider": "openai",
        "model": "a-model",
        "response_time_ms": 12,
        "cost_estimate": 0.01,
        "requested_at": "2026-03-02T09:00:00Z",
        "completed_at": "2026-03-02T09:00:01Z",
    }
    message = {
        "event_type": "LLMComparisonResultV1",
        "source_service": "llm_provider_service",
        "data": fields | (data or {}),
    }
    return json.dumps(message | envelope).encode()


def error(name: str, code: str = "RATE_LIMIT", **detail: Any) -> dict[str, Any]:
    """Return the fields of an answer that brings an error."""
    told = {
        "error_code": code,
        "message": "no verdict",
        "correlation_id": own(f"{name}-comparison"),
        "timestamp": "2026-03-02T09:00:01Z",
        "service": "llm_provider_service",
        "operation": "provider_call",
    }
    return {"winner": None, "error_detail": told | detail}


def swapped(payload: bytes, old: str, new: str) -> bytes:
    """Write what no JSON library writes."""
    assert old.encode() in payload
    return payload.replace(old.encode(), new.encode())
