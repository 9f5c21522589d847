"""The environment as every process reads it: names that others set, ranges, and no setting that nothing reads."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from cjtasks.errors import Misconfigured
from cjtasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

PUBLISHED = frozenset(
    [
        "DATABASE_URL",
        "REDIS_URL",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_OPTIONS",
        "KAFKA_CONSUMER_GROUP",
        "REQUEST_TOPIC",
        "COMPLETED_TOPIC",
        "FAILED_TOPIC",
        "RESULT_TOPIC",
        "CONSUMPTION_TOPIC",
        "PARTIAL_RESULT_TOPIC",
        "LLM_PROVIDER_CALLBACK_TOPIC",
        "LLM_PROVIDER_SERVICE_URL",
        "CONTENT_SERVICE_URL",
        "DEFAULT_LLM_PROVIDER",
        "DEFAULT_LLM_MODEL",
        "DEFAULT_LLM_TEMPERATURE",
        "BATCH_TIMEOUT_HOURS",
        "BATCH_MONITOR_INTERVAL_MINUTES",
        "MIN_SUCCESS_RATE_THRESHOLD",
        "SCORE_STABILITY_THRESHOLD",
        "MAX_ITERATIONS",
        "MAX_CONCURRENT_COMPARISONS",
        "MAX_PAIRWISE_COMPARISONS",
        "RELIABILITY_TARGET",
        "CALLBACK_TIMEOUT_MINUTES",
        "PAIR_GENERATION_SEED",
        "TASK_ALWAYS_EAGER",
        "LOG_LEVEL",
        "METRICS_PORT",
        "BREAKER_FAILURES",
        "BREAKER_OPEN_SECONDS",
        "HTTP_TIMEOUT_SECONDS",
        "INBOX_RETENTION_DAYS",
    ]
)
"""What deployments already set, and what they may; a name is added here with the code that reads it."""

TIMERS = (
    "BATCH_TIMEOUT_HOURS",
    "BATCH_MONITOR_INTERVAL_MINUTES",
    "CALLBACK_TIMEOUT_MINUTES",
    "BREAKER_OPEN_SECONDS",
    "HTTP_TIMEOUT_SECONDS",
    "INBOX_RETENTION_DAYS",
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CJ_{name}", raising=False)


def attributes_read() -> Iterator[str]:
    """Every attribute that the sources read, but for those of the settings' own module."""
    for folder in ("cjtasks", "consumers", "alembic"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "settings.py":
                nodes = ast.walk(ast.parse(path.read_text("utf-8")))
                yield from (node.attr for node in nodes if isinstance(node, ast.Attribute))


def test_every_setting_is_read_somewhere() -> None:
    assert set(Settings.model_fields) - set(attributes_read()) == set()


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_says_what_goes_wrong_without_it(name: str) -> None:
    description = Settings.model_fields[name].description or ""
    assert description.endswith(".")
    assert len(description.split()) >= 6


def test_every_setting_has_the_name_that_deployments_use() -> None:
    assert set(Settings.model_fields) - PUBLISHED == set()


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CJ_KAFKA_CONSUMER_GROUP", "other")
    monkeypatch.setenv("CJ_KAFKA_OPTIONS", '{"security.protocol": "SSL", "socket.timeout.ms": 5000}')
    chosen = load_settings()
    assert chosen.KAFKA_CONSUMER_GROUP == "other"
    assert chosen.KAFKA_OPTIONS == {"security.protocol": "SSL", "socket.timeout.ms": 5000}


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().MAX_ITERATIONS = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_ITERATIONS", "0"),
        ("MAX_ITERATIONS", "many"),
        ("MAX_CONCURRENT_COMPARISONS", "0"),
        ("MAX_PAIRWISE_COMPARISONS", "-1"),
        ("MIN_SUCCESS_RATE_THRESHOLD", "1.01"),
        ("SCORE_STABILITY_THRESHOLD", "-0.1"),
        ("SCORE_STABILITY_THRESHOLD", "inf"),
        ("RELIABILITY_TARGET", "-0.1"),
        ("RELIABILITY_TARGET", "1"),
        ("DEFAULT_LLM_TEMPERATURE", "2.1"),
        ("DEFAULT_LLM_PROVIDER", "oracle"),
        ("DEFAULT_LLM_MODEL", ""),
        ("BREAKER_FAILURES", "0"),
        ("PAIR_GENERATION_SEED", "1.5"),
        ("REQUEST_TOPIC", ""),
        ("KAFKA_BOOTSTRAP_SERVERS", ""),
        ("KAFKA_OPTIONS", "ssl"),
        ("KAFKA_OPTIONS", '["ssl"]'),
        ("KAFKA_OPTIONS", '{"a": {"b": 1}}'),
        ("DATABASE_URL", "mysql://db/cj"),
        ("REDIS_URL", "http://cache"),
        ("LLM_PROVIDER_SERVICE_URL", "provider:8080/api/v1"),
        ("CONTENT_SERVICE_URL", "ftp://content/v1/content"),
        ("TASK_ALWAYS_EAGER", "perhaps"),
        ("LOG_LEVEL", "LOUD"),
        *[(timer, value) for timer in TIMERS for value in ("0", "0.009", "-1", "nan", "inf", "1e6", "soon")],
    ],
)
def test_a_value_out_of_range_stops_the_process_and_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CJ_{name}", value)
    with pytest.raises(Misconfigured, match=rf"CJ_{name}\b"):
        load_settings()


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CJ_MAX_ITERATIONS", "0")
    monkeypatch.setenv("CJ_LOG_LEVEL", "LOUD")
    with pytest.raises(Misconfigured, match=r"CJ_MAX_ITERATIONS: .*; CJ_LOG_LEVEL: "):
        load_settings()


def test_a_wrong_value_is_not_repeated_because_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CJ_DATABASE_URL", "mysql://cj:hunter2@db/cj")
    monkeypatch.setenv("CJ_REDIS_URL", "http://:hunter2@cache")
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("timer", TIMERS)
@pytest.mark.parametrize("value", ["0.01", "2.5"])
def test_timers_take_fractions(timer: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"CJ_{timer}", value)
    assert getattr(load_settings(), timer) == float(value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_a_plain_postgres_url_means_psycopg2(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CJ_DATABASE_URL", f"{scheme}://cj:p%40ss@db:5432/cj?sslmode=require")
    assert load_settings().DATABASE_URL == "postgresql+psycopg2://cj:p%40ss@db:5432/cj?sslmode=require"


def test_the_default_database_url_names_its_driver_too() -> None:
    assert load_settings().DATABASE_URL.startswith("postgresql+psycopg2://")


def test_a_slash_at_the_end_of_a_service_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CJ_LLM_PROVIDER_SERVICE_URL", "https://provider/api/v1/")
    assert load_settings().LLM_PROVIDER_SERVICE_URL == "https://provider/api/v1"


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("DEFAULT_LLM_PROVIDER", "openai"),
        ("BATCH_TIMEOUT_HOURS", 4),
        ("BATCH_MONITOR_INTERVAL_MINUTES", 5),
        ("MIN_SUCCESS_RATE_THRESHOLD", 0.8),
        ("SCORE_STABILITY_THRESHOLD", 0.05),
        ("RELIABILITY_TARGET", 0.9),
        ("MAX_ITERATIONS", 5),
        ("MAX_CONCURRENT_COMPARISONS", 100),
        ("MAX_PAIRWISE_COMPARISONS", 1000),
        ("CALLBACK_TIMEOUT_MINUTES", 30),
        ("BREAKER_FAILURES", 5),
        ("BREAKER_OPEN_SECONDS", 60),
        ("HTTP_TIMEOUT_SECONDS", 30),
    ],
)
def test_the_platform_relies_on_these_defaults(name: str, default: object) -> None:
    assert getattr(load_settings(), name) == default
