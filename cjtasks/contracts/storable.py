"""Bringing JSON values into a form that Postgres and strict JSON can hold."""

import math
from typing import Any

MAX_BIGINT = 2**63 - 1


def without_nul(text: str) -> str:
    """Postgres refuses U+0000 in every text type, JSON allows it."""
    return text.replace("\0", "")


def bounded(number: int) -> int:
    """Hold an integer of any length within what a bigint column takes."""
    if -MAX_BIGINT <= number <= MAX_BIGINT:
        return number
    return MAX_BIGINT if number > 0 else -MAX_BIGINT


def storable(value: Any) -> Any:
    """Copy a JSON value: NUL characters go, NaN and infinity become null, integers are held to a bigint."""
    if isinstance(value, str):
        return without_nul(value)
    if isinstance(value, dict):
        return {without_nul(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item) for item in value]
    return _storable_number(value)


def _storable_number(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return bounded(value)
    return value
