"""Twenty-four short student essays on one assignment, written for the demo and the tests."""

from __future__ import annotations

from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

# In the order of the files essay-01.txt to essay-24.txt; 1 = weak, 5 = strong.
INTENDED_QUALITY: Mapping[str, int] = MappingProxyType(
    {
        "Amira": 3,
        "Bruno": 5,
        "Chidi": 1,
        "Dalia": 4,
        "Elif": 2,
        "Farid": 3,
        "Greta": 4,
        "Hugo": 1,
        "Ines": 5,
        "Jonas": 2,
        "Kaia": 3,
        "Liam": 4,
        "Mina": 2,
        "Noor": 5,
        "Oskar": 3,
        "Petra": 1,
        "Quentin": 4,
        "Rosa": 2,
        "Sami": 3,
        "Tove": 5,
        "Umar": 2,
        "Vera": 3,
        "Wilma": 1,
        "Yusuf": 4,
    }
)


def demo_essays() -> dict[str, str]:
    """Each essay's id (a first name) and its text."""
    return {name: _read(f"essay-{number:02}.txt") for number, name in enumerate(INTENDED_QUALITY, start=1)}


def demo_assignment() -> str:
    """Give the task that the students were set."""
    return _read("assignment.txt")


def _read(name: str) -> str:
    return _folder().joinpath(name).read_text(encoding="utf-8").strip()


def _folder() -> Traversable:
    return files("cjtasks.dev").joinpath("essays")
