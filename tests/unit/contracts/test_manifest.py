"""The platform's own fixtures, where they lie beside the repository: read and refused as its manifest says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cjtasks.contracts.callback import read_callback
from cjtasks.contracts.envelope import read_envelope
from cjtasks.contracts.request import read_request
from cjtasks.errors import UnreadableMessage

FIXTURES = Path(__file__).resolve().parents[4] / "shared" / "contracts" / "fixtures"

READERS: dict[str, Callable[[bytes], object]] = {
    "callback": read_callback,
    "seed_callback": read_callback,
    "request": read_request,
    "seed_request": read_request,
}

# The platform's present models refuse these of July 2025; we read them.
ALSO_READ = {
    "invalid/cb_winner_error_legacy.json",
    "seed_era/callback_winner_Error_july2025.json",
    "seed_era/request_july2025.json",
}


def entries() -> list[dict[str, Any]]:
    manifest = FIXTURES / "manifest.json"
    if not manifest.exists():
        return []
    listed = json.loads(manifest.read_text(encoding="utf-8"))["entries"]
    return [entry for entry in listed if entry["kind"] in READERS]


def accepted(entry: dict[str, Any]) -> bool:
    return entry["valid"] or entry["file"] in ALSO_READ


def field_of(entry: dict[str, Any]) -> str:
    """Return the path of the first error, without the names of the platform's enumerations."""
    location = entry["errors"][0]["loc"]
    return ".".join(part for part in location if "[" not in part)


def name(entry: dict[str, Any]) -> str:
    return str(entry["file"])


@pytest.mark.parametrize("entry", [entry for entry in entries() if accepted(entry)], ids=name)
def test_what_the_platform_accepts_is_read(entry: dict[str, Any]) -> None:
    READERS[entry["kind"]]((FIXTURES / entry["file"]).read_bytes())


@pytest.mark.parametrize("entry", [entry for entry in entries() if not accepted(entry)], ids=name)
def test_what_the_platform_refuses_is_refused_at_the_same_level_and_field(entry: dict[str, Any]) -> None:
    with pytest.raises(UnreadableMessage) as refusal:
        READERS[entry["kind"]]((FIXTURES / entry["file"]).read_bytes())
    assert (refusal.value.level, refusal.value.field) == (entry["rejected_at"], field_of(entry))


@pytest.mark.parametrize("entry", [entry for entry in entries() if "match_on" in entry], ids=name)
def test_a_callback_matches_on_the_id_that_the_manifest_names(entry: dict[str, Any]) -> None:
    answer = read_callback((FIXTURES / entry["file"]).read_bytes())
    assert str(answer.correlation_id) == entry["match_on"]


@pytest.mark.parametrize("entry", [entry for entry in entries() if entry["valid"]], ids=name)
def test_the_envelope_alone_reads_as_well(entry: dict[str, Any]) -> None:
    payload = (FIXTURES / entry["file"]).read_bytes()
    assert read_envelope(payload).event_timestamp.tzinfo is not None
