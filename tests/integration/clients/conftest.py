"""The server that the clients' tests ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.clients.told_service import Service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as told:
        yield told
