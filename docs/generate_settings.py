#!/usr/bin/env python3
"""Writes settings.md from the settings themselves: `make docs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import PydanticUndefined

from cjtasks.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).with_name("settings.md")

HEAD = """# Settings

Every process reads its settings from the environment when it starts, and does not start with a value that is out of
range: it names the variable and ends. There is no configuration file. Timers take fractions.

This page is written by `make docs`; the texts stand in `cjtasks/settings.py`.

| variable | default | what it is for, and what happens without it |
|---|---|---|
"""


def page() -> str:
    """Return the whole page as Markdown."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    meaning = (field.description or "").replace("|", "\\|")
    return f"| `CJ_{name}` | {_default(field)} | {meaning} |\n"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "must be set"
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
