"""The platform's closed set of error codes, and those for which asking again cannot help."""

from enum import StrEnum, auto
from typing import Any


class _NamedByItself(StrEnum):
    @staticmethod
    def _generate_next_value_(name: str, *_position: Any) -> str:
        return name


class ErrorCode(_NamedByItself):
    """Every code that may stand in a callback's error; values are case-sensitive."""

    # Every service.
    UNKNOWN_ERROR = auto()
    VALIDATION_ERROR = auto()
    RESOURCE_NOT_FOUND = auto()
    CONFIGURATION_ERROR = auto()
    EXTERNAL_SERVICE_ERROR = auto()
    KAFKA_PUBLISH_ERROR = auto()
    CONTENT_SERVICE_ERROR = auto()
    SPELLCHECK_SERVICE_ERROR = auto()
    NLP_SERVICE_ERROR = auto()
    AI_FEEDBACK_SERVICE_ERROR = auto()
    CJ_ASSESSMENT_SERVICE_ERROR = auto()
    LLM_PROVIDER_SERVICE_ERROR = auto()
    MISSING_REQUIRED_FIELD = auto()
    INVALID_CONFIGURATION = auto()
    TIMEOUT = auto()
    CONNECTION_ERROR = auto()
    SERVICE_UNAVAILABLE = auto()
    RATE_LIMIT = auto()
    QUOTA_EXCEEDED = auto()
    AUTHENTICATION_ERROR = auto()
    AUTHORIZATION_ERROR = auto()
    INVALID_API_KEY = auto()
    INVALID_REQUEST = auto()
    INVALID_RESPONSE = auto()
    PARSING_ERROR = auto()
    CIRCUIT_BREAKER_OPEN = auto()
    REQUEST_QUEUED = auto()
    PROCESSING_ERROR = auto()
    INITIALIZATION_FAILED = auto()

    # The LLM Provider.
    LLM_PROVIDER_UNAVAILABLE = auto()
    LLM_PROVIDER_RATE_LIMIT = auto()
    LLM_PROVIDER_TIMEOUT = auto()
    LLM_PROVIDER_API_ERROR = auto()
    LLM_INVALID_PROMPT = auto()
    LLM_CONTENT_TOO_LONG = auto()
    LLM_INVALID_CONFIG = auto()
    LLM_QUEUE_FULL = auto()
    LLM_INTERNAL_ERROR = auto()
    LLM_CALLBACK_TOPIC_MISSING = auto()
    LLM_INVALID_CALLBACK_TOPIC = auto()
    LLM_PARSING_ERROR = auto()
    LLM_INVALID_RESPONSE = auto()
    LLM_COST_LIMIT_EXCEEDED = auto()
    LLM_CONFIGURATION_ERROR = auto()

    # Comparative Judgement.
    CJ_INSUFFICIENT_COMPARISONS = auto()
    CJ_SCORE_CONVERGENCE_FAILED = auto()
    CJ_COMPARISON_IMBALANCE = auto()
    CJ_CALLBACK_CORRELATION_FAILED = auto()

    # The batch conductor.
    BCS_PIPELINE_DEPENDENCY_RESOLUTION_FAILED = auto()
    BCS_PIPELINE_DEPENDENCY_CYCLE_DETECTED = auto()
    BCS_PIPELINE_COMPATIBILITY_FAILED = auto()

    # Classes and courses.
    COURSE_NOT_FOUND = auto()
    COURSE_VALIDATION_ERROR = auto()
    MULTIPLE_COURSE_ERROR = auto()
    CLASS_NOT_FOUND = auto()
    STUDENT_NOT_FOUND = auto()

    # Files.
    EMPTY_CONTENT = auto()
    CONTENT_TOO_SHORT = auto()
    CONTENT_TOO_LONG = auto()
    RAW_STORAGE_FAILED = auto()
    TEXT_EXTRACTION_FAILED = auto()
    ENCRYPTED_FILE_UNSUPPORTED = auto()
    UNKNOWN_VALIDATION_ERROR = auto()

    # Spelling.
    SPELL_EVENT_CORRELATION_ERROR = auto()

    # Identity.
    IDENTITY_INVALID_CREDENTIALS = auto()
    IDENTITY_USER_NOT_FOUND = auto()
    IDENTITY_USER_ALREADY_EXISTS = auto()
    IDENTITY_EMAIL_NOT_VERIFIED = auto()
    IDENTITY_ACCOUNT_LOCKED = auto()
    IDENTITY_TOKEN_EXPIRED = auto()
    IDENTITY_TOKEN_INVALID = auto()
    IDENTITY_REFRESH_TOKEN_INVALID = auto()
    IDENTITY_REFRESH_TOKEN_EXPIRED = auto()
    IDENTITY_VERIFICATION_TOKEN_EXPIRED = auto()
    IDENTITY_VERIFICATION_TOKEN_INVALID = auto()
    IDENTITY_EMAIL_ALREADY_VERIFIED = auto()
    IDENTITY_RESET_TOKEN_EXPIRED = auto()
    IDENTITY_RESET_TOKEN_INVALID = auto()
    IDENTITY_PASSWORD_RESET_NOT_REQUESTED = auto()


CANNOT_IMPROVE: frozenset[str] = frozenset(
    code.value
    for code in (
        ErrorCode.AUTHENTICATION_ERROR,
        ErrorCode.AUTHORIZATION_ERROR,
        ErrorCode.INVALID_API_KEY,
        ErrorCode.QUOTA_EXCEEDED,
        ErrorCode.LLM_COST_LIMIT_EXCEEDED,
        ErrorCode.CONFIGURATION_ERROR,
        ErrorCode.INVALID_CONFIGURATION,
        ErrorCode.LLM_CONFIGURATION_ERROR,
        ErrorCode.LLM_INVALID_CONFIG,
        ErrorCode.LLM_CALLBACK_TOPIC_MISSING,
        ErrorCode.LLM_INVALID_CALLBACK_TOPIC,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.MISSING_REQUIRED_FIELD,
        ErrorCode.LLM_INVALID_PROMPT,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.CONTENT_TOO_LONG,
        ErrorCode.LLM_CONTENT_TOO_LONG,
    )
)
"""An answer with one of these fails its comparison at once: no retry mends a key, a quota or a request."""
