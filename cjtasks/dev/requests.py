"""Building the request event for a batch of texts, as the platform would send it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic_core import to_json

from cjtasks.contracts.topics import REQUEST_EVENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class BatchRequest:
    """A batch to be asked for; `storage_ids` maps essay ids to the Content Service's ids of their texts."""

    storage_ids: Mapping[str, str]
    prompt_storage_id: str | None = None
    max_comparisons: int | None = None
    overrides: Mapping[str, Any] | None = None
    batch_id: str = field(default_factory=lambda: str(uuid4()))
    correlation_id: str = field(default_factory=lambda: str(uuid4()))
    user_id: str = "teacher-0001"

    def payload(self, now: datetime) -> bytes:
        """Return the envelope's bytes."""
        metadata = {} if self.max_comparisons is None else {"max_comparisons": self.max_comparisons}
        return to_json(
            {
                "event_id": str(uuid4()),
                "event_type": REQUEST_EVENT_TYPE,
                "event_timestamp": now.isoformat(),
                "source_service": "essay_lifecycle_service",
                "correlation_id": self.correlation_id,
                "data": self._data(),
                "metadata": metadata,
            }
        )

    def _data(self) -> dict[str, Any]:
        return {
            "entity_id": self.batch_id,
            "entity_type": "batch",
            "system_metadata": {"entity_id": self.batch_id, "entity_type": "batch"},
            "essays_for_cj": [
                {"essay_id": essay_id, "text_storage_id": storage_id}
                for essay_id, storage_id in self.storage_ids.items()
            ],
            "language": "en",
            "course_code": "ENG5",
            "student_prompt_ref": self._prompt(),
            "llm_config_overrides": self.overrides,
            "user_id": self.user_id,
        }

    def _prompt(self) -> dict[str, Any] | None:
        if self.prompt_storage_id is None:
            return None
        return {"references": {"student_prompt_text": {"storage_id": self.prompt_storage_id, "path": ""}}}
