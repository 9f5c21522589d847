"""A runtime on a database of the test's own, with a clock that stands still; nobody answers its HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cjtasks import runtime as runtimes
from cjtasks.settings import Settings
from cjtasks.testing import SettableClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cjtasks.runtime import Runtime
    from cjtasks.store.session import Database


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def runtime(database_url: str, clock: SettableClock) -> Iterator[Runtime]:
    chosen = runtimes.build(Settings.model_validate({"DATABASE_URL": database_url}), clock)
    yield chosen
    chosen.database.close()


@pytest.fixture
def database(runtime: Runtime) -> Database:
    return runtime.database
