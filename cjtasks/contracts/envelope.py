"""The envelope around every Kafka message, and how bytes become one.

Reading goes through three levels: the bytes are decoded, the envelope is read, then its `data`. The first
level that fails names the error. No error carries a value of the message: essays and secrets must not reach
a log.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from cjtasks.errors import UnreadableMessage

_PLAIN_NAME = re.compile(r"[a-z_]{1,40}")
_LONGEST_REASON = 160

# Pydantic's own words for these quote a character of the input, list a whole registry or speak of Python.
_REASONS = {
    "model_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "tuple_type": "Input should be a list",
    "uuid_parsing": "Input should be a valid UUID",
    "enum": "Input should be one of the values that the contract lists",
    "literal_error": "Input should be one of the values that the contract lists",
}


def as_utc(moment: datetime) -> datetime:
    """Return the moment in UTC; a time without a zone is taken as UTC already."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # Within a day of the calendar's ends the offset leads out of it.
        return moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(as_utc)]


def now() -> datetime:
    return datetime.now(UTC)


class WireModel(BaseModel):
    """A frozen part of a message; keys that the contract does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, ser_json_inf_nan="constants")


class EventEnvelope(WireModel):
    """The platform's envelope; `data` is any JSON value until the payload's own contract reads it."""

    event_id: UUID = Field(default_factory=uuid4)
    event_type: str
    event_timestamp: Moment = Field(default_factory=now)
    source_service: str
    schema_version: int = 1
    # The platform would invent one; absent must stay absent, or a duplicate would look like another request.
    correlation_id: UUID | None = None
    data_schema_uri: str | None = None
    data: Any
    metadata: dict[str, Any] | None = None

    @field_validator("correlation_id", mode="before")
    @classmethod
    def _absent_but_not_null(cls, value: object) -> object:
        if value is None:
            raise PydanticCustomError("uuid_type", "UUID input should be a string, bytes or UUID object")
        return value


Message = TypeVar("Message", bound=EventEnvelope)
Part = TypeVar("Part", bound=WireModel)


def read_envelope(payload: bytes) -> EventEnvelope:
    """Read the envelope, leave `data` as parsed JSON; raise UnreadableMessage at level decode or envelope."""
    return read_message(EventEnvelope, payload)


def read_message(message: type[Message], payload: bytes) -> Message:
    """Read envelope and payload in one pass; `message` is an envelope whose `data` is typed."""
    text = _decoded(payload)
    try:
        return message.model_validate_json(text)
    except ValidationError as error:
        problem = _unreadable_message(_problems(error))
    # Raised here and not above, so that no context hangs on it that holds the message.
    raise problem


def read_data(part: type[Part], data: object) -> Part:
    """Read a payload that is parsed JSON already; raise UnreadableMessage at level data."""
    try:
        return part.model_validate(data)
    except ValidationError as error:
        problem = _unreadable("data", _problems(error)[0])
    raise problem


def write_envelope(envelope: EventEnvelope) -> bytes:
    """Write UTF-8 JSON in the platform's form: nulls written, UTC times with Z; refuse NaN and infinity."""
    return json.dumps(envelope.model_dump(mode="json"), allow_nan=False).encode()


def _decoded(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        problem = UnreadableMessage("decode", "", f"no UTF-8 at byte {error.start}")
    raise problem


def _problems(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _unreadable_message(problems: Sequence[ErrorDetails]) -> UnreadableMessage:
    outer = next((problem for problem in problems if not _within_data(problem)), None)
    if outer is not None:
        return _unreadable("envelope", outer)
    return _unreadable("data", problems[0], skip=1)


def _within_data(problem: ErrorDetails) -> bool:
    """Blame the envelope for a missing `data`, the payload for anything within it."""
    location = problem["loc"]
    return location[:1] == ("data",) and not (len(location) == 1 and problem["type"] == "missing")


def _unreadable(level: str, problem: ErrorDetails, skip: int = 0) -> UnreadableMessage:
    field = ".".join(_name(part) for part in problem["loc"][skip:])
    reason = _REASONS.get(problem["type"], problem["msg"]).removeprefix("Value error, ")
    return UnreadableMessage(level, field, reason[:_LONGEST_REASON])


def _name(part: int | str) -> str:
    """Keys of free maps are the sender's own text: only what looks like a field's name is shown."""
    return str(part) if isinstance(part, int) or _PLAIN_NAME.fullmatch(part) else "*"
