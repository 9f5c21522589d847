"""Our own nasty requests, each with what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cjtasks.contracts.refusal import LONGEST_ID
from cjtasks.store.inbox import Kind
from tests.nasty import Becomes, Case, own, request, swapped

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = "[" * 1000 + "]" * 1000
OF_USER = "llm_config_overrides"
OF_BATCH = "batch_config_overrides"


def essays(*ids: str) -> dict[str, Any]:
    return {"essays_for_cj": [{"essay_id": one, "text_storage_id": f"{n:032x}"} for n, one in enumerate(ids)]}


def endless(name: str) -> str:
    """Return an id that no compression makes fit into an index."""
    return "".join(own(f"{name}-{n}") for n in range(500))


def asked(name: str, becomes: Becomes, says: str = "", data: dict[str, Any] | None = None, **envelope: Any) -> Case:
    return Case(name, Kind.REQUEST, request(name, data, **envelope), becomes, says)


def written(name: str, payload: bytes, says: str, becomes: Becomes = Becomes.SET_ASIDE) -> Case:
    return Case(name, Kind.REQUEST, payload, becomes, says)


def requests() -> Iterator[Case]:
    """Yield every request; no two are about the same batch."""
    yield from _bytes_that_are_no_request()
    yield from _requests_against_the_contract()
    yield from _requests_that_are_refused()
    yield from _requests_that_are_only_odd()


def _bytes_that_are_no_request() -> Iterator[Case]:
    yield written("a truncated request", request("cut")[:200], "envelope: ")
    yield written("a request in UTF-16", request("wide").decode().encode("utf-16"), "decode: ")
    yield written("a request in Latin-1", request("latin").replace(b"teacher-1", b"\xe9"), "decode: ")
    yield written("a byte order mark", b"\xef\xbb\xbf" + request("mark"), "envelope: ")
    yield written("a lone surrogate", swapped(request("half"), "teacher-1", "\\ud800"), "envelope: ")
    yield written("nesting without end", swapped(request("deep"), '"teacher-1"', DEEP), "envelope: ")
    yield written("two requests in one message", request("two") * 2, "envelope: ")
    for word in ("null", "[]", "7", '"text"', "{}"):
        yield written(f"a message that is {word}", word.encode(), "envelope: ")


def _requests_against_the_contract() -> Iterator[Case]:
    for value in ("null", "[]", "7", '"text"'):
        payload = b'{"event_type": "x", "source_service": "y", "data": %s}' % value.encode()
        yield written(f"data that is {value}", payload, "data: ")
    yield written("no data", b'{"event_type": "x", "source_service": "y"}', "envelope: data: ")
    yield asked("metadata that is a list", Becomes.SET_ASIDE_AND_TOLD, "envelope: metadata: ", metadata=[1])
    yield asked("a bad correlation id", Becomes.SET_ASIDE, "envelope: correlation_id: ", correlation_id="x")
    yield asked("no entity id", Becomes.SET_ASIDE, "data: entity_id: ", {"entity_id": None})
    yield asked("an entity id of NUL characters", Becomes.SET_ASIDE, "data: entity_id: ", {"entity_id": "\0"})
    yield asked("essays that are a number", Becomes.SET_ASIDE_AND_TOLD, "data: essays_for_cj: ", {"essays_for_cj": 3})
    yield asked("an unknown course", Becomes.SET_ASIDE_AND_TOLD, "data: course_code: ", {"course_code": "\0"})
    long = {"entity_id": endless("long"), "course_code": 1}
    yield asked(
        "a course that is a number in a batch with an endless id",
        Becomes.SET_ASIDE_AND_TOLD,
        "data: course_code: ",
        long,
    )
    hot = {OF_USER: {"temperature_override": float("nan")}}
    yield asked(
        "a temperature that is no number", Becomes.SET_ASIDE_AND_TOLD, f"data: {OF_USER}.temperature_override: ", hot
    )


def _requests_that_are_refused() -> Iterator[Case]:
    yield asked("an empty list of essays", Becomes.REFUSED, "essays_for_cj", {"essays_for_cj": []})
    yield asked("an essay twice", Becomes.REFUSED, "essays_for_cj.1.essay_id", essays("a", "a"))
    yield asked(
        "an essay twice but for a NUL character", Becomes.REFUSED, "essays_for_cj.1.essay_id", essays("a", "a\0")
    )
    yield asked("an endless essay id", Becomes.REFUSED, "essays_for_cj.1.essay_id", essays("a", endless("essay")))
    yield asked("an endless batch id", Becomes.REFUSED, "entity_id", {"entity_id": endless("batch")})
    for user in ("", " ", "\0"):
        yield asked(f"a user called {user!r}", Becomes.REFUSED, "user_id", {"user_id": user})
    for name, value in {"provider_override": "nobody", "reasoning_effort": "much", "output_verbosity": "loud"}.items():
        yield asked(f"an unknown {name}", Becomes.REFUSED, f"{OF_USER}.{name}", {OF_USER: {name: value}})
    odd: dict[str, list[Any]] = {
        "batch_size": [5, 201, "many"],
        "max_concurrent_batches": [0, 6],
        "partial_completion_threshold": [0.4, 1.1, "NaN"],
        "llm_batching_mode_override": ["often"],
    }
    for name, values in odd.items():
        for value in values:
            wanted = {OF_BATCH: {name: value}}
            yield asked(f"a {name} of {value}", Becomes.REFUSED, f"{OF_BATCH}.{name}", metadata=wanted)
    yield asked("a batch configuration that is a text", Becomes.REFUSED, OF_BATCH, metadata={OF_BATCH: "fast"})


def _requests_that_are_only_odd() -> Iterator[Case]:
    for budget in (True, "9", -1, 0, 2.5, None, 10**27, [3], float("nan")):
        yield asked(f"a budget of {budget}", Becomes.OPENED, metadata={"max_comparisons": budget})
    limit = {"entity_id": endless("limit")[:LONGEST_ID], **essays(*(endless(one)[:LONGEST_ID] for one in "ab"))}
    yield asked("ids at the limit", Becomes.OPENED, data=limit)
    long = {"language": "x" * 5000, "user_id": "u" * 3000, "org_id": "o" * 3000}
    yield asked("names longer than the platform's columns", Becomes.OPENED, data=long)
    yield asked(
        "names with NUL characters", Becomes.OPENED, data={"parent_id": "\0", "org_id": "\0", **essays("a\0", "b\0")}
    )
    yield asked("names in other scripts", Becomes.OPENED, data=essays("räksmörgås", "作文", "🦊"))
    climbing = [{"essay_id": f"e-{n}", "text_storage_id": name} for n, name in enumerate(("../secrets", "..", ""))]
    yield asked("storage ids that climb", Becomes.OPENED, data={"essays_for_cj": climbing})
    yield asked("a time without a zone", Becomes.OPENED, event_timestamp="2026-03-02T09:00:00")
    yield asked("a time before all others", Becomes.OPENED, event_timestamp="0001-01-01T00:00:00+14:00")
    yield asked("another event's type", Becomes.OPENED, event_type="")
    yield asked("keys that nobody knows", Becomes.OPENED, data={"a": {"b": [1]}}, unknown=float("inf"))
    twice = swapped(request("keys twice"), '"language": "en"', '"language": 7, "language": "en"')
    yield written("a key twice, of which the last counts", twice, "", Becomes.OPENED)
    unnamed = swapped(request("nobody's"), '"correlation_id"', '"another_id"')
    yield written("no correlation id", unnamed, "", Becomes.OPENED)
    yield written("space around a request", b" \r\n\t" + request("space") + b"\n ", "", Becomes.OPENED)
