"""How the fake LLM Provider behaves, and what that means for one request."""

from __future__ import annotations

from math import log1p
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from cjtasks.contracts.error_codes import ErrorCode

if TYPE_CHECKING:
    from random import Random

NotNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds: TypeAlias = NotNegative
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
ProviderName: TypeAlias = Literal["anthropic", "openai", "google", "openrouter", "mock"]

QUEUE_FULL = 202
# An exponential delay has no upper end; beyond this many means nothing more is learnt from waiting.
LONGEST_DISORDER = 5.0
# Upstream sends a request's second callback after its crash recovery, so never together with the first.
SHORTEST_GAP = 0.02


def _is_refusal(status: int) -> int:
    if status == QUEUE_FULL or status in range(400, 600):
        return status
    raise ValueError("must be 202 (queue full) or 400 to 599")


def _is_known(code: str) -> str:
    return str(ErrorCode(code))


KnownCode: TypeAlias = Annotated[str, AfterValidator(_is_known)]
RefusalStatus: TypeAlias = Annotated[int, AfterValidator(_is_refusal)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ProviderBehaviour:
    """All that can be set on the fake LLM Provider, before or after its start; seconds, and rates 0 to 1."""

    latency: Seconds = Field(default=0.0, description="Time from the 202 to the callback.")
    jitter: Seconds = Field(default=0.0, description="The latency varies evenly by up to this much, either way.")
    disorder: Seconds = Field(
        default=0.0,
        description="Mean of one more delay, exponential and at most five times this: answers overtake.",
    )
    accept_delay: Seconds = Field(
        default=0.0,
        description="How long the HTTP answer to a queued request is held back: a hanging POST.",
    )
    error_rate: Share = Field(default=0.0, description="Share of requests that are answered by an error callback.")
    error_codes: tuple[KnownCode, ...] = Field(
        default=("EXTERNAL_SERVICE_ERROR", "RATE_LIMIT", "TIMEOUT"),
        min_length=1,
        description="Codes of the error callbacks, each as likely as the others.",
    )
    duplicate_rate: Share = Field(default=0.0, description="Share of callbacks that are sent a second time.")
    contradict_rate: Share = Field(
        default=0.0, description="Share of successful callbacks sent a second time with the other winner."
    )
    lost_rate: Share = Field(default=0.0, description="Share of accepted requests that never get a callback.")
    refuse_rate: Share = Field(default=0.0, description="Share of POSTs that are refused; 1 is an outage.")
    refuse_status: RefusalStatus = Field(
        default=503,
        description="HTTP status of a refusal (400 to 599), or 202: queue full, without a queue id.",
    )
    retry_after: Seconds | None = Field(default=None, description="Retry-After on refusals; none when unset.")
    cost_per_call: NotNegative = Field(default=0.0, description="The cost_estimate of each successful callback.")
    seed: int = Field(default=0, description="Of all chance: the same request gets the same fate and the same verdict.")
    judge: Literal["text", "latent"] = Field(default="text", description="Who judges, unless a judge is given in code.")
    provider: ProviderName | None = Field(default=None, description="Named in callbacks; the one asked for when unset.")
    model: str | None = Field(default=None, description="Named in callbacks; the one asked for when unset.")


class Fate(NamedTuple):
    """What will happen to one accepted request; delays in seconds from now."""

    delay: float
    error_code: str | None
    lost: bool
    repeated_after: float | None
    contradicted_after: float | None


def fate_of(behaviour: ProviderBehaviour, rng: Random) -> Fate:
    """Draw a request's fate; every draw is made each time, so that one rate does not shift another's."""
    wave, wait, lost, error, code, repeated, contradicted, gap = (rng.random() for _ in range(8))
    delay = max(0.0, behaviour.latency + behaviour.jitter * (2 * wave - 1))
    delay += behaviour.disorder * min(LONGEST_DISORDER, _exponential(wait))
    later = delay + SHORTEST_GAP + gap * behaviour.latency
    codes = behaviour.error_codes
    failed = error < behaviour.error_rate
    return Fate(
        delay=delay,
        error_code=codes[int(code * len(codes))] if failed else None,
        lost=lost < behaviour.lost_rate,
        repeated_after=later if repeated < behaviour.duplicate_rate else None,
        contradicted_after=later if contradicted < behaviour.contradict_rate and not failed else None,
    )


def _exponential(uniform: float) -> float:
    return -log1p(-uniform)
