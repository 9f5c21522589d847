"""The services that tests use: started once for the session unless the environment names them.

A database or Redis named by the environment is written to and emptied: name one that is kept for tests.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import redis
from alembic.config import Config

from alembic import command
from cjtasks.dev.kafka import broker_available, kafka
from cjtasks.dev.postgres import create_database, drop_database, postgres
from cjtasks.dev.stack import DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS, REDIS_URL
from cjtasks.dev.valkey import valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["cjtasks.testing"]

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "cj_template"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "real_broker" in item.fixturenames:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """Give a folder outside pytest's own, which each new session of pytest closes to other users again."""
    with tempfile.TemporaryDirectory(prefix="cjtasks-tests-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_url(services_folder: Path) -> Iterator[str]:
    """Give the URL of a database on a server on which databases can be made."""
    named = os.environ.get(DATABASE_URL)
    if named:
        yield named
        return
    with postgres(services_folder / "postgres", durable=False) as url:
        yield url


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """Give the name of a migrated database that nobody is connected to."""
    drop_database(postgres_url, TEMPLATE)
    url = create_database(postgres_url, TEMPLATE)
    config = Config(str(ROOT / "alembic.ini"))
    # The ini's syntax gives the percent sign a meaning.
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")
    return TEMPLATE


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """Give the URL of a migrated, empty database of the test's own."""
    name = f"cj_test_{uuid4().hex}"
    yield create_database(postgres_url, name, template=template_database)
    drop_database(postgres_url, name)


@pytest.fixture(scope="session")
def redis_server_url(services_folder: Path) -> Iterator[str]:
    named = os.environ.get(REDIS_URL)
    if named:
        yield named
        return
    with valkey(services_folder / "valkey") as url:
        yield url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """Give the URL of an empty Redis database."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture(scope="session")
def real_broker() -> None:
    """Skip aloud where no broker can run; where everything must run, that is a failure."""
    reason = None if os.environ.get(KAFKA_BOOTSTRAP_SERVERS) else broker_available()
    if reason is not None and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_servers(real_broker: None, services_folder: Path) -> Iterator[str]:  # noqa: ARG001
    """Give the bootstrap servers of a real broker; it is shared, so a test's topics want `topic_prefix`."""
    named = os.environ.get(KAFKA_BOOTSTRAP_SERVERS)
    if named:
        yield named
        return
    with kafka(services_folder / "kafka") as servers:
        yield servers


@pytest.fixture
def topic_prefix() -> str:
    return f"{uuid4().hex}."
