"""What was decided for a batch when it opened: one frozen value, so that a changed default cannot change it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BatchConfiguration(BaseModel):
    """The judge and the limits of one batch, with every default filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str
    model: str
    temperature: float = Field(ge=0.0, le=2.0)
    max_tokens: int | None = None
    system_prompt: str | None = None
    rubric: str | None = None
    reasoning_effort: str | None = None
    output_verbosity: str | None = None
    seed: int | None = None
