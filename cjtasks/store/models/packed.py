"""Many messages in one value: what they have in common is stored once, and one value crosses to the server.

As an array of `bytea` they would cross as twice their size in hexadecimal, both ways, and be compressed by a server
that is busier than we are, or not at all.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import zstandard
from sqlalchemy import LargeBinary
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Dialect

_LENGTH = struct.Struct(">I")
_QUICK = 1


class Packed(TypeDecorator["list[bytes]"]):
    """A list of messages as `bytea`: zstd over each message after its length in four bytes, big end first."""

    impl = LargeBinary
    cache_ok = True

    @property
    def python_type(self) -> type[list[bytes]]:
        return list

    def process_bind_param(self, value: Sequence[bytes] | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else pack(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> list[bytes] | None:  # noqa: ARG002
        return None if value is None else list(unpack(value))


def pack(messages: Sequence[bytes]) -> bytes:
    parts = [part for message in messages for part in (_LENGTH.pack(len(message)), message)]
    return zstandard.compress(b"".join(parts), _QUICK)


def unpack(packed: bytes) -> Iterator[bytes]:
    whole, start = zstandard.decompress(packed), 0
    while start < len(whole):
        (length,) = _LENGTH.unpack_from(whole, start)
        start += _LENGTH.size
        yield whole[start : start + length]
        start += length
