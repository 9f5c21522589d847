"""The pages that name a test for each promise: the tests are there, and no promise stands without one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs" / name for name in ("input.md", "task-status.md")]
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")
FEWEST_ROWS = 25


def rows(page: Path) -> list[str]:
    """Return the rows of all tables without their headings."""
    lines = page.read_text(encoding="utf-8").splitlines()
    ruled = {number for number, line in enumerate(lines) if line.startswith("|---")}
    headings = {number - 1 for number in ruled}
    return [line for n, line in enumerate(lines) if line.startswith("|") and n not in ruled | headings]


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text(encoding="utf-8"))
    assert len(named) > FEWEST_ROWS
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / "tests" / file).is_file() or name not in functions_of(ROOT / "tests" / file)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_row_of_a_page_names_a_test_unless_it_says_that_it_is_missing(page: Path) -> None:
    found = rows(page)
    assert len(found) >= FEWEST_ROWS
    assert [row for row in found if not NAMED.search(row) and "| missing" not in row] == []
    assert [row for row in found if NAMED.search(row) and "| missing" in row] == []
