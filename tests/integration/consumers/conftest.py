"""Topics, tables and a Redis of each test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cjtasks.settings import Settings
from tests.integration.consumers.pipeline import Pipeline
from tests.integration.ringing import ringing_at

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipeline(kafka_servers: str, database_url: str, topic_prefix: str, redis_url: str) -> Iterator[Pipeline]:
    settings = Settings.model_validate(
        {
            "KAFKA_BOOTSTRAP_SERVERS": kafka_servers,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "KAFKA_CONSUMER_GROUP": f"{topic_prefix}group",
            "REQUEST_TOPIC": f"{topic_prefix}requests",
            "LLM_PROVIDER_CALLBACK_TOPIC": f"{topic_prefix}callbacks",
        }
    )
    with ringing_at(redis_url):
        pipeline = Pipeline(settings)
        pipeline.make_topics()
        yield pipeline
        pipeline.database.close()
