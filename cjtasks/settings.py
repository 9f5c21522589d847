"""Every setting of cjtasks, read once from the environment with the prefix CJ_.

Each field says what goes wrong without it. Timers take fractions.
"""

from __future__ import annotations

import functools
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from cjtasks.contracts import topics
from cjtasks.errors import Misconfigured

# The longest that dates can be reckoned with, in days as well as in seconds.
Timer = Annotated[float, Field(ge=0.01, le=100_000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def psycopg2_url(url: str) -> str:
    """Name the driver, because a bare `postgresql://` means another one to SQLAlchemy 2.1."""
    scheme, _, rest = url.partition("://")
    if scheme in {"postgres", "postgresql"}:
        return f"postgresql+psycopg2://{rest}"
    if scheme != "postgresql+psycopg2":
        raise ValueError("must start with postgresql://")
    return url


def _http_url(url: str) -> str:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("must start with http:// or https://")
    return url.rstrip("/")


PostgresUrl = Annotated[str, AfterValidator(psycopg2_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Settings(BaseSettings):
    """The environment of every process; a value out of range stops the process with the variable's name."""

    model_config = SettingsConfigDict(env_prefix="CJ_", frozen=True, case_sensitive=True, extra="ignore")

    DATABASE_URL: PostgresUrl = Field(
        default="postgresql://cjtasks@127.0.0.1:5432/cjtasks",
        validate_default=True,
        description="Where the truth is kept; without it nothing is remembered.",
    )
    REDIS_URL: str = Field(
        default="redis://127.0.0.1:6379/0",
        pattern="^rediss?://",
        description="The doorbell; without it the consumer works the inbox itself, slower.",
    )
    KAFKA_BOOTSTRAP_SERVERS: str = Field(
        default="127.0.0.1:9092",
        min_length=1,
        description="Where requests and answers come from and results go; without it nothing comes in.",
    )
    KAFKA_OPTIONS: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="More librdkafka options as JSON (TLS, SASL); without them a secured cluster refuses us.",
    )
    KAFKA_CONSUMER_GROUP: str = Field(
        default="cjtasks",
        min_length=1,
        description="Copies of the consumer with one name share the partitions; two names read everything twice.",
    )
    REQUEST_TOPIC: str = Field(
        default=topics.REQUEST_TOPIC,
        min_length=1,
        description="Where batches are asked for; on another topic no batch ever opens.",
    )
    COMPLETED_TOPIC: str = Field(
        default=topics.COMPLETED_TOPIC,
        min_length=1,
        description="Where the platform learns that a batch is done; elsewhere it waits for ever.",
    )
    FAILED_TOPIC: str = Field(
        default=topics.FAILED_TOPIC,
        min_length=1,
        description="Where the platform learns that a batch failed; elsewhere it waits for ever.",
    )
    RESULT_TOPIC: str = Field(
        default=topics.RESULT_TOPIC,
        min_length=1,
        description="Where scores and ranks go; elsewhere no teacher sees them.",
    )
    CONSUMPTION_TOPIC: str = Field(
        default=topics.CONSUMPTION_TOPIC,
        min_length=1,
        description="Where the judged comparisons are reported; elsewhere nobody is charged for them.",
    )
    PARTIAL_RESULT_TOPIC: str = Field(
        default=topics.PARTIAL_RESULT_TOPIC,
        min_length=1,
        description="Where a first ranking goes before the batch is done; on RESULT_TOPIC it would pass as final.",
    )
    LLM_PROVIDER_CALLBACK_TOPIC: str = Field(
        default=topics.CALLBACK_TOPIC,
        min_length=1,
        description="Named in every request to the provider and read by us; if the two differ no answer arrives.",
    )
    LLM_PROVIDER_SERVICE_URL: HttpUrl = Field(
        default="http://llm_provider_service:8080/api/v1",
        description="Who judges; must end in /api/v1, else every request is a 404 and its comparison fails.",
    )
    CONTENT_SERVICE_URL: HttpUrl = Field(
        default="http://content_service:8000/v1/content",
        description="Where texts are; must end in /v1/content, else every essay is missing.",
    )
    DEFAULT_LLM_PROVIDER: str = Field(
        default="openai",
        pattern="^(anthropic|openai|google|openrouter|mock)$",
        description="Who judges a batch that names nobody; the provider refuses a request without a name.",
    )
    DEFAULT_LLM_MODEL: str = Field(
        default="gpt-5.1",
        min_length=1,
        description="The model of a batch that names none; without it the provider's own default decides scores.",
    )
    DEFAULT_LLM_TEMPERATURE: float = Field(
        default=0.1,
        ge=0.0,
        le=2.0,
        description="The temperature of a batch that names none; a high one makes judgements noisy.",
    )
    BATCH_TIMEOUT_HOURS: Timer = Field(
        default=4.0,
        description="A live batch without activity for this long is scored or failed; without it it hangs.",
    )
    BATCH_MONITOR_INTERVAL_MINUTES: Timer = Field(
        default=5.0,
        description="How often the deadlines are looked at; a long interval makes deadlines late.",
    )
    CALLBACK_TIMEOUT_MINUTES: Timer = Field(
        default=30.0,
        description="A request unanswered for this long is sent again; too short pays for answers twice.",
    )
    MIN_SUCCESS_RATE_THRESHOLD: Share = Field(
        default=0.8,
        description="A batch with a smaller share of judged comparisons fails; 0 publishes scores from scraps.",
    )
    SCORE_STABILITY_THRESHOLD: float = Field(
        default=0.05,
        ge=0.0,
        allow_inf_nan=False,
        description="No more is asked once no score moves by this much (logits); 0 always spends the budget.",
    )
    RELIABILITY_TARGET: float = Field(
        default=0.9,
        ge=0.0,
        lt=1.0,
        description="No more is asked once the reliability's lower quartile is so high; 0 never stops by it.",
    )
    MAX_ITERATIONS: int = Field(
        default=5,
        ge=1,
        description="The most iterations of a batch; without it unstable scores cost for ever.",
    )
    MAX_CONCURRENT_COMPARISONS: int = Field(
        default=100,
        ge=1,
        description="The most comparisons of one batch in flight; without it one batch floods the provider.",
    )
    MAX_PAIRWISE_COMPARISONS: int = Field(
        default=1000,
        ge=1,
        description="The most comparisons of one batch; without it a large one is unaffordable.",
    )
    PAIR_GENERATION_SEED: int | None = Field(
        default=None,
        description="Mixed into each batch's own seed; set it to draw other pairs for the same batches.",
    )
    BREAKER_FAILURES: int = Field(
        default=5,
        ge=1,
        description="This many failed calls in a row open the breaker; 1 opens it on any hiccup.",
    )
    BREAKER_OPEN_SECONDS: Timer = Field(
        default=60.0,
        description="How long an open breaker asks nobody; too short hammers a service that is down.",
    )
    HTTP_TIMEOUT_SECONDS: Timer = Field(
        default=30.0,
        description="The longest wait for an HTTP answer; without it a hung service holds a worker.",
    )
    INBOX_RETENTION_DAYS: Timer = Field(
        default=14.0,
        description="How long the raw messages are kept for audit; without an end the table only grows.",
    )
    TASK_ALWAYS_EAGER: bool = Field(
        default=False,
        description="Run each task where it is rung, for tests; in production nothing would run.",
    )
    LOG_LEVEL: str = Field(
        default="INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$",
        description="The least level that is logged; DEBUG costs throughput.",
    )


def load_settings() -> Settings:
    """Read the environment, or raise Misconfigured that names each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"CJ_{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise Misconfigured.of(wrong, operation="load_settings") from None
    except SettingsError:
        # Only this one is read as JSON; the library's own words would name no variable.
        raise Misconfigured.of("CJ_KAFKA_OPTIONS: must be a JSON object", operation="load_settings") from None


@functools.cache
def settings() -> Settings:
    """Return this process's settings, read at the first call."""
    return load_settings()


def settings_or_exit() -> Settings:
    """Return the settings, or end this process with the names of the variables that are wrong."""
    try:
        return settings()
    except Misconfigured as error:
        raise SystemExit(f"cjtasks: {error.error_detail.message}") from None
