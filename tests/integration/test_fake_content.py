"""The fake Content Service, asked over real HTTP."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import requests

from cjtasks.dev import fake_content
from cjtasks.dev.fake_content import ContentBehaviour, FakeContent, storage_id_of

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "fixtures"
PATIENCE = 30.0


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=PATIENCE)


def test_content_that_was_stored_is_read_back_byte_for_byte() -> None:
    content = "Ånd \u2013 naïve".encode()
    with fake_content.running(FakeContent()) as url:
        stored = requests.post(url, data=content, timeout=PATIENCE)
        read = get(f"{url}/{stored.json()['storage_id']}")
    assert stored.status_code == 201
    assert stored.json().keys() == {"storage_id", "correlation_id"}
    assert len(bytes.fromhex(stored.json()["storage_id"])) == 16
    assert (read.status_code, read.content) == (200, content)
    assert read.headers["Content-Type"].startswith("text/plain")


def test_storing_the_same_twice_makes_two_ids_and_storing_nothing_is_refused() -> None:
    with fake_content.running(FakeContent()) as url:
        ids = {requests.post(url, data=b"x", timeout=PATIENCE).json()["storage_id"] for _ in range(2)}
        refused = requests.post(url, data=b"", timeout=PATIENCE)
    assert len(ids) == 2
    assert (refused.status_code, refused.json()["error"]["error_code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("storage_id", "status", "like"),
    [
        ("0" * 32, 404, "content_404.json"),
        ("not-hex", 400, "content_400_bad_id.json"),
        ("0" * 31, 400, "content_400_bad_id.json"),
        ("0" * 33, 400, "content_400_bad_id.json"),
        ("..%2Fhealthz", 400, "content_400_bad_id.json"),
    ],
)
def test_an_unknown_or_impossible_id_is_answered_in_the_platforms_error_form(
    storage_id: str, status: int, like: str
) -> None:
    with fake_content.running(FakeContent()) as url:
        reply = get(f"{url}/{storage_id}")
    error = reply.json()["error"]
    assert reply.status_code == status
    assert error["error_code"] == {404: "RESOURCE_NOT_FOUND", 400: "VALIDATION_ERROR"}[status]
    if FIXTURES.is_dir():
        example = json.loads((FIXTURES / "http" / like).read_text("utf-8"))["error"]
        assert error.keys() == example.keys()
        assert error["details"].keys() == example["details"].keys()


def test_a_folder_of_texts_is_served_under_ids_that_depend_on_the_file_names_alone(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("first", "utf-8")
    (tmp_path / "two.md").write_text("ignored", "utf-8")
    content = FakeContent.from_folder(tmp_path)
    with fake_content.running(content) as url:
        assert get(f"{url}/{storage_id_of('one.txt')}").text == "first"
        assert get(f"{url}/{storage_id_of('two.md')}").status_code == 404
        stats = get(f"{url.removesuffix('/v1/content')}/stats").json()
    assert stats == {"stored": 1, "reads": 2, "read_again": 0, "failed": 0}


def test_reads_of_chosen_texts_can_be_made_to_fail_and_to_work_again() -> None:
    content = FakeContent({storage_id_of(name): name for name in ("a", "b", "c")})
    a, b, c = (storage_id_of(name) for name in ("a", "b", "c"))
    with fake_content.running(content) as url:
        switch = f"{url.removesuffix('/v1/content')}/behaviour"
        requests.post(switch, json={"errors": {a: 503, b: 404}}, timeout=PATIENCE).raise_for_status()
        assert [get(f"{url}/{storage_id}").status_code for storage_id in (a, b, c)] == [503, 404, 200]
        requests.post(switch, json={"errors": {}}, timeout=PATIENCE).raise_for_status()
        assert [get(f"{url}/{storage_id}").text for storage_id in (a, b, c)] == ["a", "b", "c"]
        assert requests.post(switch, json={"errors": {a: 99}}, timeout=PATIENCE).status_code == 400
    assert content.stats() == {"stored": 3, "reads": 6, "read_again": 3, "failed": 2}


def test_a_share_of_reads_fails_the_same_way_in_every_run() -> None:
    ids = [storage_id_of(str(number)) for number in range(40)]

    def statuses() -> list[int]:
        content = FakeContent(dict.fromkeys(ids, "x"), ContentBehaviour(error_rate=0.5, error_status=502))
        with fake_content.running(content) as url:
            return [get(f"{url}/{storage_id}").status_code for storage_id in ids]

    first = statuses()
    assert first == statuses()
    assert {200, 502} == set(first)


def test_the_content_service_can_be_slow_and_tells_its_health() -> None:
    content = FakeContent({storage_id_of("a"): "a"}, ContentBehaviour(latency=0.1))
    with fake_content.running(content) as url:
        started = time.monotonic()
        assert get(f"{url}/{storage_id_of('a')}").text == "a"
        assert time.monotonic() - started >= 0.1
        assert get(f"{url.removesuffix('/v1/content')}/healthz").json()["status"] == "healthy"
