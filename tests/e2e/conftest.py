"""A platform of real servers and processes for each file of tests, and its picture when a test fails."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from sqlalchemy.exc import DBAPIError

from .picture import picture
from .platform import Platform, Setup, platform

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager


@pytest.fixture(scope="session")
def start(
    real_broker: None,  # noqa: ARG001
    services_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Setup], AbstractContextManager[Platform]]:
    """Give a function that runs a platform of its own, whatever services the environment names."""

    @contextmanager
    def run(setup: Setup) -> Iterator[Platform]:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=services_folder) as folder:
            for name in [name for name in os.environ if name.startswith("CJ_")]:
                patch.delenv(name)
            with platform(Path(folder), tmp_path_factory.mktemp("logs"), setup) as running:
                yield running

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    running = getattr(item, "funcargs", {}).get("running")
    if call.when == "call" and report.failed and isinstance(running, Platform):
        report.sections.append(("The platform", _picture(running)))
    return report


def _picture(running: Platform) -> str:
    try:
        return picture(running)
    except (DBAPIError, requests.RequestException, OSError) as error:
        return f"no picture of it: {error}; the logs are in {running.logs}"
