"""What we ask the LLM Provider over HTTP, and the one word of its answer that counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from cjtasks.contracts.storable import without_nul

PROVIDER_SERVICE = "llm_provider_service"
PROVIDERS: frozenset[str] = frozenset({"anthropic", "openai", "google", "openrouter", "mock"})
REASONING_EFFORTS: frozenset[str] = frozenset({"none", "low", "medium", "high"})
OUTPUT_VERBOSITIES: frozenset[str] = frozenset({"low", "medium", "high"})


class Block(Protocol):
    """One part of a prompt, as the provider renders and caches it; `ttl` is `5m` or `1h`."""

    @property
    def target(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def cacheable(self) -> bool: ...
    @property
    def ttl(self) -> str: ...
    @property
    def content_hash(self) -> str: ...


@dataclass(frozen=True)
class JudgeSettings:
    """Who judges and how; the provider refuses a comparison that names no provider."""

    provider: str
    model: str
    temperature: float
    system_prompt: str
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    output_verbosity: str | None = None

    def overrides(self) -> dict[str, Any]:
        """Return `llm_config_overrides`; what is not set is left out. A temperature of 0 is set."""
        named = {
            "provider_override": self.provider,
            "model_override": self.model,
            "temperature_override": self.temperature,
            "system_prompt_override": self.system_prompt,
            "max_tokens_override": self.max_tokens,
            "reasoning_effort": self.reasoning_effort,
            "output_verbosity": self.output_verbosity,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class ComparisonRequest:
    """One comparison to be asked for; its callback carries the same `correlation_id`."""

    user_prompt: str
    prompt_blocks: Sequence[Block]
    callback_topic: str
    correlation_id: UUID
    judge: JudgeSettings
    metadata: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """Return the JSON body of `POST /comparison`."""
        return {
            "user_prompt": self.user_prompt,
            "prompt_blocks": [_block_body(block) for block in self.prompt_blocks],
            "callback_topic": self.callback_topic,
            "correlation_id": str(self.correlation_id),
            "llm_config_overrides": self.judge.overrides(),
            "metadata": dict(self.metadata),
        }


def read_queue_id(body: object) -> str | None:
    """Return the queue id of a 202, or None: a full queue answers 202 too, with an error and no id."""
    queue_id = body.get("queue_id") if isinstance(body, dict) else None
    return without_nul(queue_id) or None if isinstance(queue_id, str) else None


def _block_body(block: Block) -> dict[str, Any]:
    return {
        "target": block.target,
        "content": block.content,
        "cacheable": block.cacheable,
        "ttl": block.ttl,
        "content_hash": block.content_hash,
    }
