"""Every error of cjtasks, named by what the caller does about it.

HuleEduError                    carries one immutable ErrorDetail
├── Retryable                   try the same thing again later; nothing is lost by waiting
│   ├── ProviderRefused         the LLM Provider took nothing for now (queue full, 429, 5xx, time-out)
│   ├── ContentUnavailable      the Content Service did not answer for now
│   └── CircuitOpen             we ask nobody until the breaker lets one request through
├── DeadLetter                  the message can never be used: set it aside with its reason
│   ├── UnreadableMessage       its bytes are no message of the contract
│   └── UnknownCorrelation      its answer belongs to no comparison of ours
├── RequestRefused              the sender must mend its request: answer with a failed event
└── GiveUp                      trying again cannot help
    ├── ProviderRejected        the LLM Provider will never take this comparison
    ├── ContentMissing          the Content Service will never have this text
    ├── OperationRefused        an operator's action does not fit the batch as it is now
    ├── IllegalTransition       a batch was asked to go where no arrow leads
    ├── UnusableFile            a file that a person named cannot be read as what it should be
    ├── UnsafePosition          the stored position does not fit Kafka's log: a person must decide
    └── Misconfigured           a setting or a service is wrong: say which, and stop
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "cj_assessment_service"


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What went wrong, in the platform's form; `details` holds codes and ids, never essay text or SQL."""

    error_code: str
    message: str
    correlation_id: UUID
    operation: str
    service: str = SERVICE
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class HuleEduError(Exception):
    """Something that the platform has a code for went wrong."""

    code = "UNKNOWN_ERROR"

    def __init__(self, detail: ErrorDetail) -> None:
        super().__init__(detail.message)
        self.error_detail = detail

    @classmethod
    def of(
        cls,
        message: str,
        *,
        operation: str,
        code: str | None = None,
        correlation_id: UUID | None = None,
        **details: Any,
    ) -> Self:
        """Build the error with a code (the class's own unless given); a correlation id is always there."""
        return cls(
            ErrorDetail(
                error_code=code or cls.code,
                message=message,
                correlation_id=correlation_id or uuid4(),
                operation=operation,
                details=MappingProxyType(details),
            )
        )

    @property
    def error_code(self) -> str:
        return self.error_detail.error_code

    @property
    def correlation_id(self) -> str:
        return str(self.error_detail.correlation_id)

    @property
    def service(self) -> str:
        return self.error_detail.service

    @property
    def operation(self) -> str:
        return self.error_detail.operation

    def add_detail(self, key: str, value: Any) -> Self:
        """Return a new error with one more detail; this one stays as it is."""
        details = MappingProxyType({**self.error_detail.details, key: value})
        return type(self)(replace(self.error_detail, details=details))

    def __str__(self) -> str:
        return f"[{self.error_code}] {self.error_detail.message}"


class Retryable(HuleEduError):
    """Try the same thing again later; nothing is lost by waiting."""

    code = "SERVICE_UNAVAILABLE"


class ProviderRefused(Retryable):
    """The LLM Provider took nothing for now; no attempt is used up.

    `retry_after` (seconds) is what it asked for; `closes_gate` means that it wants nobody's requests
    for a while; `outage` counts towards the circuit breaker.
    """

    retry_after: float | None = None
    closes_gate = False
    outage = False


class ContentUnavailable(Retryable):
    """The Content Service did not answer for now."""

    code = "CONTENT_SERVICE_ERROR"


class CircuitOpen(Retryable):
    """We ask nobody until the breaker lets one request through."""

    code = "CIRCUIT_BREAKER_OPEN"


class DeadLetter(HuleEduError):
    """The message can never be used: set it aside with its reason."""

    code = "VALIDATION_ERROR"


class UnreadableMessage(DeadLetter):
    """The bytes are no message of the contract; `level` is decode, envelope or data."""

    def __init__(self, level: str, field: str, reason: str) -> None:
        message = f"{level}: {field}: {reason}" if field else f"{level}: {reason}"
        detail = ErrorDetail(self.code, message, uuid4(), "read_message")
        super().__init__(detail)
        self.level = level
        self.field = field
        self.reason = reason


class UnknownCorrelation(DeadLetter):
    """The answer belongs to no comparison of ours."""

    code = "CJ_CALLBACK_CORRELATION_FAILED"


class RequestRefused(HuleEduError):
    """We can read the request but not honour it: the sender gets a failed event naming the field."""

    code = "VALIDATION_ERROR"


class StepFailed(HuleEduError):
    """A task stopped at an error that has no code; its text stays in the process, and the rows say what is due."""

    code = "PROCESSING_ERROR"


class GiveUp(HuleEduError):
    """Trying again cannot help."""

    code = "PROCESSING_ERROR"


class ProviderRejected(GiveUp):
    """The LLM Provider will never take this comparison."""

    code = "INVALID_REQUEST"


class ContentMissing(GiveUp):
    """The Content Service will never have this text."""

    code = "RESOURCE_NOT_FOUND"


class OperationRefused(GiveUp):
    """An operator's action does not fit the batch as it is now."""

    code = "VALIDATION_ERROR"


class IllegalTransition(GiveUp):
    """A batch was asked to go where no arrow leads."""


class UnusableFile(GiveUp):
    """A file that a person named cannot be read as what it should be: say where and why."""

    code = "VALIDATION_ERROR"


class UnsafePosition(GiveUp):
    """The stored position does not fit Kafka's log: a person must decide whether messages were lost."""

    code = "CONFIGURATION_ERROR"


class Misconfigured(GiveUp):
    """A setting or a service is wrong: say which, and stop."""

    code = "CONFIGURATION_ERROR"
