import json
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cjtasks.contracts.envelope import as_utc, read_envelope, write_envelope
from cjtasks.errors import UnreadableMessage

CORRELATION_ID = "5cc7afdf-81ba-50ea-9268-2262c6798924"


def message(**changes: Any) -> dict[str, Any]:
    return {
        "event_id": "0225827a-f230-4c16-a4c7-da308d12faa0",
        "event_type": "some.event",
        "event_timestamp": "2026-03-02T09:15:10Z",
        "source_service": "a_service",
        "correlation_id": CORRELATION_ID,
        "data": {"any": "thing"},
        **changes,
    }


def encoded(**changes: Any) -> bytes:
    return json.dumps(message(**changes)).encode()


def refusal_of(payload: bytes) -> UnreadableMessage:
    with pytest.raises(UnreadableMessage) as refusal:
        read_envelope(payload)
    return refusal.value


def test_an_envelope_carries_its_fields() -> None:
    envelope = read_envelope(encoded(metadata={"max_comparisons": 24}))
    assert envelope.correlation_id == UUID(CORRELATION_ID)
    assert envelope.event_timestamp == datetime(2026, 3, 2, 9, 15, 10, tzinfo=UTC)
    assert envelope.data == {"any": "thing"}
    assert envelope.metadata == {"max_comparisons": 24}
    assert envelope.schema_version == 1


@pytest.mark.parametrize("absent", ["event_id", "event_timestamp", "schema_version", "metadata"])
def test_what_has_a_default_may_be_absent(absent: str) -> None:
    fields = message(metadata=None, schema_version=1)
    del fields[absent]
    read_envelope(json.dumps(fields).encode())


def test_an_absent_correlation_id_stays_absent() -> None:
    fields = message()
    del fields["correlation_id"]
    assert read_envelope(json.dumps(fields).encode()).correlation_id is None


@pytest.mark.parametrize(
    "written",
    [CORRELATION_ID.upper(), CORRELATION_ID.replace("-", ""), f"urn:uuid:{CORRELATION_ID.upper()}"],
)
def test_a_uuid_may_be_written_in_any_of_its_forms(written: str) -> None:
    assert read_envelope(encoded(correlation_id=written)).correlation_id == UUID(CORRELATION_ID)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-03-02T09:15:10", datetime(2026, 3, 2, 9, 15, 10, tzinfo=UTC)),
        ("2026-03-02 09:15:10", datetime(2026, 3, 2, 9, 15, 10, tzinfo=UTC)),
        ("2026-03-02T11:15:10+02:00", datetime(2026, 3, 2, 9, 15, 10, tzinfo=UTC)),
        ("2026-03-02", datetime(2026, 3, 2, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_every_way_to_write_a_time_ends_in_utc(written: str | int, moment: datetime) -> None:
    read = read_envelope(encoded(event_timestamp=written)).event_timestamp
    assert read == moment
    assert read.utcoffset() == timedelta(0)


def test_keys_unknown_are_ignored_and_of_two_equal_keys_the_last_counts() -> None:
    payload = b'{"event_type": 5, "surprise": [1],' + encoded()[1:]
    assert read_envelope(payload).event_type == "some.event"


@pytest.mark.parametrize(
    ("payload", "level", "field"),
    [
        (b"caf\xe9", "decode", ""),
        ("{}".encode("utf-16"), "decode", ""),
        (b"", "envelope", ""),
        (b"null", "envelope", ""),
        (b"[]", "envelope", ""),
        (b"\xef\xbb\xbf" + encoded(), "envelope", ""),
        (encoded() + encoded(), "envelope", ""),
        (b"[" * 100_000, "envelope", ""),
        (encoded()[:-20], "envelope", ""),
        (rb'{"event_type": "\ud800"}', "envelope", ""),
        (encoded(event_id=None), "envelope", "event_id"),
        (encoded(correlation_id=None), "envelope", "correlation_id"),
        (encoded(correlation_id="no-uuid"), "envelope", "correlation_id"),
        (encoded(schema_version="one"), "envelope", "schema_version"),
        (encoded(event_type=None), "envelope", "event_type"),
        (encoded(metadata=[1]), "envelope", "metadata"),
        (b'{"event_type": "e", "source_service": "s"}', "envelope", "data"),
    ],
)
def test_what_is_no_envelope_is_refused_with_level_and_field(payload: bytes, level: str, field: str) -> None:
    refusal = refusal_of(payload)
    assert (refusal.level, refusal.field) == (level, field)
    assert refusal.reason


@pytest.mark.parametrize("field", ["event_id", "event_timestamp", "schema_version", "correlation_id", "metadata"])
def test_a_refusal_shows_nothing_of_the_message(field: str) -> None:
    refusal = refusal_of(encoded(**{field: "Dear-Diary"}))
    assert "Dear" not in "".join(traceback.format_exception(refusal))
    assert refusal.__context__ is None


def test_not_even_one_character_of_a_wrong_uuid_is_shown() -> None:
    assert refusal_of(encoded(correlation_id="\N{BLACK HEART SUIT}")).reason == "Input should be a valid UUID"


@given(st.binary())
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        read_envelope(payload)


def test_what_is_written_reads_the_same() -> None:
    envelope = read_envelope(encoded(data={"grå": ["é", None, 1.5]}, metadata={}))
    assert read_envelope(write_envelope(envelope)) == envelope


def test_an_envelope_is_written_with_its_nulls_and_z_times() -> None:
    written = json.loads(write_envelope(read_envelope(encoded())))
    assert written == message(schema_version=1, data_schema_uri=None, metadata=None)


def test_a_number_that_json_does_not_know_is_not_written() -> None:
    envelope = read_envelope(encoded(data={"score": float("nan")}))
    with pytest.raises(ValueError, match="JSON"):
        write_envelope(envelope)


@given(st.datetimes(timezones=st.none() | st.timezones()))
def test_every_moment_has_a_form_in_utc(moment: datetime) -> None:
    assert as_utc(moment).utcoffset() == timedelta(0)
