"""Texts over real HTTP: what is final, what may come later, and what an id may not do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from cjtasks.clients.content import ContentServiceClient
from cjtasks.dev import fake_content
from cjtasks.dev.fake_content import ContentBehaviour, FakeContent
from cjtasks.dev.servers import free_port
from cjtasks.errors import ContentMissing, ContentUnavailable, GiveUp, HuleEduError, Retryable
from tests.integration.clients.told_service import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.clients.told_service import Service


def client_of(url: str, timeout: float = 5.0) -> ContentServiceClient:
    return ContentServiceClient(url, timeout=timeout)


def error_of(service: Service, storage_id: str = "a" * 32, timeout: float = 5.0) -> HuleEduError:
    with pytest.raises(HuleEduError) as caught:
        client_of(service.url, timeout).fetch(storage_id)
    assert UUID(caught.value.correlation_id)
    assert caught.value.operation == "fetch_content"
    return caught.value


def test_a_text_is_fetched_by_its_id() -> None:
    content = FakeContent({"b" * 32: "Bilar och åska."})
    with fake_content.running(content) as url:
        assert client_of(url).fetch("b" * 32) == "Bilar och åska."


def test_the_content_services_own_refusals_are_final() -> None:
    with fake_content.running(FakeContent()) as url:
        for storage_id in ("c" * 32, "no-hex", "../healthz", "..", ".", ""):
            with pytest.raises(ContentMissing):
                client_of(url).fetch(storage_id)


def test_a_failing_content_service_is_asked_again_later() -> None:
    content = FakeContent({"d" * 32: "text"}, ContentBehaviour(error_rate=1.0, error_status=500))
    with fake_content.running(content) as url:
        with pytest.raises(ContentUnavailable):
            client_of(url).fetch("d" * 32)
        content.change({"error_rate": 0.0})
        assert client_of(url).fetch("d" * 32) == "text"


@pytest.mark.parametrize(
    ("storage_id", "path"),
    [
        ("../x", "/base/..%2Fx"),
        ("a/b?c=d#e", "/base/a%2Fb%3Fc%3Dd%23e"),
        ("%2e%2e", "/base/%252e%252e"),
        ("å b", "/base/%C3%A5%20b"),
        ("a\r\nHost: other", "/base/a%0D%0AHost%3A%20other"),
    ],
)
def test_an_id_is_quoted_whatever_it_holds(service: Service, storage_id: str, path: str) -> None:
    service.told = Answer(200, b"text")
    assert client_of(service.url).fetch(storage_id) == "text"
    assert service.paths == [path]


def test_a_proxy_of_the_environment_is_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.told = Answer(200, b"text")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{service.port}")
    monkeypatch.setenv("no_proxy", "")

    assert client_of("http://texts.invalid/v1/content").fetch("a") == "text"

    assert service.paths == ["http://texts.invalid/v1/content/a"]


def test_a_login_in_netrc_does_not_go_out_with_a_request(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    service.told = Answer(200, b"text")

    client_of(service.url).fetch("a")

    assert service.headers[0].get("Authorization") is None


@pytest.mark.parametrize("storage_id", ["", ".", ".."])
def test_an_id_that_would_climb_out_of_the_path_is_asked_of_nobody(service: Service, storage_id: str) -> None:
    service.told = Answer(200, b"not an essay")
    assert isinstance(error_of(service, storage_id), ContentMissing)
    assert service.paths == []


@pytest.mark.parametrize("body", [b"", b"  \r\n\t ", b"\x00", b" \x00\n"])
def test_a_blank_text_is_final(service: Service, body: bytes) -> None:
    service.told = Answer(200, body)
    error = error_of(service)
    assert isinstance(error, ContentMissing)
    assert error.error_code == "INVALID_RESPONSE"


@pytest.mark.parametrize(("status", "code"), [(404, "RESOURCE_NOT_FOUND"), (400, "CONTENT_SERVICE_ERROR")])
def test_not_found_and_bad_request_are_final(service: Service, status: int, code: str) -> None:
    service.told = Answer(status, b"{}")
    error = error_of(service)
    assert isinstance(error, ContentMissing)
    assert isinstance(error, GiveUp)
    assert error.error_code == code
    assert dict(error.error_detail.details) == {"status_code": status}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_service_in_trouble_is_asked_again_later(service: Service, status: int) -> None:
    service.told = Answer(status, b"<html>oops</html>")
    error = error_of(service)
    assert isinstance(error, ContentUnavailable)
    assert isinstance(error, Retryable)


def test_no_text_of_an_answer_enters_the_error(service: Service) -> None:
    service.told = Answer(500, b"SELECT secret FROM essays")
    error = error_of(service)
    assert "secret" not in str(error)
    assert "secret" not in json.dumps(dict(error.error_detail.details))


def test_a_hanging_service_is_given_up_after_the_timeout(service: Service) -> None:
    service.told = service.hang
    error = error_of(service, timeout=0.2)
    assert isinstance(error, ContentUnavailable)
    assert error.error_code == "TIMEOUT"


def test_a_lost_connection_is_tried_again_later(service: Service) -> None:
    service.told = lambda _: None
    error = error_of(service)
    assert isinstance(error, ContentUnavailable)
    assert error.error_code == "CONNECTION_ERROR"


def test_a_service_that_is_not_there_is_tried_again_later() -> None:
    with pytest.raises(ContentUnavailable):
        client_of(f"http://127.0.0.1:{free_port()}/v1/content").fetch("a" * 32)


def test_what_postgres_cannot_hold_is_left_out_and_what_is_no_utf_8_spoils_one_letter(service: Service) -> None:
    service.told = Answer(200, b"A\x00 th\xffought \xc3\xa5", {"Content-Type": "text/plain; charset=latin-1"})
    assert client_of(service.url).fetch("a" * 32) == "A th�ought å"


def test_each_text_is_asked_for_once(service: Service) -> None:
    service.told = Answer(503)
    error_of(service)
    assert len(service.paths) == 1
