"""Messages that were packed together come apart as they were."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.store.models.packed import pack, unpack


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_messages_come_apart_as_they_were(messages: list[bytes]) -> None:
    assert list(unpack(pack(messages))) == messages


def test_what_messages_have_in_common_is_stored_once() -> None:
    message = bytes(range(256)) * 4
    assert len(pack([message] * 50)) < 5 * len(pack([message]))


def test_a_value_that_was_cut_is_refused() -> None:
    with pytest.raises(zstandard.ZstdError):
        list(unpack(pack([b"a message"])[:-5]))
