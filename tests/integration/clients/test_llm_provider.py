"""Asking the LLM Provider over real HTTP: every answer that it may give."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from cjtasks.clients.llm_provider import LLMProviderServiceClient, Submission, breaker
from cjtasks.contracts.provider import ComparisonRequest, JudgeSettings
from cjtasks.dev import fake_provider
from cjtasks.dev.fake_provider import FakeProvider, ProviderBehaviour
from cjtasks.dev.servers import free_port
from cjtasks.errors import HuleEduError, ProviderRefused, ProviderRejected
from tests.integration.clients.told_service import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.clients.told_service import Service

CORRELATION = UUID("0190a0b0-0000-7000-8000-000000000001")
ACCEPTED = Answer(202, json.dumps({"queue_id": "q-1", "status": "queued"}).encode())
DOWN = Answer(500, b"down")
PATIENCE = 20.0


def asked(correlation_id: UUID = CORRELATION) -> ComparisonRequest:
    judge = JudgeSettings("openai", "a-model", 0.0, "You judge.")
    return ComparisonRequest("Which is better?", [], "answers", correlation_id, judge, {"essay_a_id": "a"})


def client_of(url: str, *, timeout: float = 5.0) -> LLMProviderServiceClient:
    return LLMProviderServiceClient(url, breaker(5, 60.0), timeout=timeout)


def error_of(client: LLMProviderServiceClient) -> HuleEduError:
    with pytest.raises(HuleEduError) as caught:
        client.generate_comparison(asked())
    assert caught.value.correlation_id == str(CORRELATION)
    return caught.value


def refusal_of(service: Service) -> ProviderRefused:
    error = error_of(client_of(service.url))
    assert isinstance(error, ProviderRefused)
    return error


def rejection_of(service: Service) -> ProviderRejected:
    error = error_of(client_of(service.url))
    assert isinstance(error, ProviderRejected)
    return error


def as_json(status: int, body: Any, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), {name.replace("_", "-"): text for name, text in headers.items()})


def test_an_accepted_comparison_has_a_queue_id_and_no_result(service: Service) -> None:
    service.told = ACCEPTED
    assert client_of(service.url).generate_comparison(asked()) == Submission("q-1", None)
    assert service.paths == ["/base/comparison"]
    sent = json.loads(service.bodies[0])
    assert sent["correlation_id"] == str(CORRELATION)
    assert sent["callback_topic"] == "answers"
    assert sent["llm_config_overrides"]["temperature_override"] == 0.0


def test_the_fake_provider_accepts_and_answers_to_the_same_correlation_id() -> None:
    sent: list[bytes] = []
    provider = FakeProvider(lambda _topic, payload: sent.append(payload))
    with fake_provider.running(provider) as url:
        submission = client_of(url).generate_comparison(asked())
        until = time.monotonic() + PATIENCE
        while not sent:
            assert time.monotonic() < until
            time.sleep(0.01)
    data = json.loads(sent[0])["data"]
    assert (data["request_id"], data["correlation_id"]) == (submission.queue_id, str(CORRELATION))


@pytest.mark.parametrize("status", [202, 400, 401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_the_fake_providers_refusals_are_read(status: int) -> None:
    behaviour = ProviderBehaviour(refuse_rate=1.0, refuse_status=status, retry_after=7)
    with fake_provider.running(FakeProvider(lambda *_: None, behaviour)) as url:
        error = error_of(client_of(url))
    final = status in {400, 401, 403, 404}
    assert isinstance(error, ProviderRejected if final else ProviderRefused)
    if isinstance(error, ProviderRefused):
        assert error.retry_after == 7
        assert error.closes_gate == (status in {202, 429, 503})
        assert error.outage == (status >= 500)


@pytest.mark.parametrize(
    "body", [{}, {"queue_id": ""}, {"queue_id": None}, {"error": {"code": "REQUEST_QUEUED"}}, [], 7]
)
def test_an_acceptance_without_a_queue_id_is_a_full_queue(service: Service, body: Any) -> None:
    service.told = as_json(202, body)
    error = refusal_of(service)
    assert error.error_code == "LLM_QUEUE_FULL"
    assert (error.closes_gate, error.outage, error.retry_after) == (True, False, None)


def test_an_answer_in_the_response_is_the_callbacks_data(service: Service) -> None:
    data = {"request_id": "r-1", "correlation_id": str(CORRELATION).upper(), "winner": "Essay A"}
    service.told = as_json(200, data)
    assert client_of(service.url).generate_comparison(asked()) == Submission(None, data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"fine",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"winner": "Essay A"}',
        b'{"error": {"code": "RATE_LIMIT"}}',
        b'{"correlation_id": "0190a0b0-0000-7000-8000-000000000002", "winner": "Essay A"}',
    ],
)
def test_anything_else_with_200_is_an_invalid_response(service: Service, body: bytes) -> None:
    service.told = Answer(200, body)
    assert rejection_of(service).error_code == "INVALID_RESPONSE"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_REQUEST"),
        (401, "AUTHENTICATION_ERROR"),
        (403, "AUTHORIZATION_ERROR"),
        (404, "RESOURCE_NOT_FOUND"),
        (409, "INVALID_RESPONSE"),
        (301, "INVALID_RESPONSE"),
    ],
)
def test_a_final_refusal_has_the_code_of_its_status(service: Service, status: int, code: str) -> None:
    service.told = Answer(status, b"{}", {"Location": "/elsewhere"})
    error = rejection_of(service)
    assert error.error_code == code
    assert error.error_detail.details["status_code"] == status
    assert len(service.paths) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (408, "TIMEOUT"),
        (429, "RATE_LIMIT"),
        (500, "EXTERNAL_SERVICE_ERROR"),
        (502, "EXTERNAL_SERVICE_ERROR"),
        (503, "SERVICE_UNAVAILABLE"),
        (504, "TIMEOUT"),
        (599, "EXTERNAL_SERVICE_ERROR"),
    ],
)
def test_a_refusal_for_now_has_the_code_of_its_status(service: Service, status: int, code: str) -> None:
    service.told = Answer(status, b"<html>no JSON</html>")
    assert refusal_of(service).error_code == code


@pytest.mark.parametrize("body", [{"is_retryable": True}, {"error": {"code": "X", "is_retryable": True}}])
def test_what_calls_itself_retryable_is_asked_again(service: Service, body: Any) -> None:
    service.told = as_json(400, body)
    assert not refusal_of(service).outage


@pytest.mark.parametrize("body", [{"is_retryable": "yes"}, {"is_retryable": False}, {"error": "is_retryable"}])
def test_only_a_true_is_retryable_counts(service: Service, body: Any) -> None:
    service.told = as_json(400, body)
    rejection_of(service)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "QUOTA_EXCEEDED", "message": "m"}, "QUOTA_EXCEEDED"),
        ({"error_code": "CONTENT_TOO_LONG"}, "CONTENT_TOO_LONG"),
        ("a plain text", "INVALID_REQUEST"),
        ({"code": "select * from essays"}, "INVALID_REQUEST"),
        ({"code": 7}, "INVALID_REQUEST"),
        (None, "INVALID_REQUEST"),
    ],
)
def test_an_error_may_be_a_text_or_an_object(service: Service, error: Any, code: str) -> None:
    service.told = as_json(400, {"error": error})
    assert rejection_of(service).error_code == code


def test_no_text_of_an_answer_enters_the_error(service: Service) -> None:
    service.told = as_json(400, {"error": {"code": "X", "message": "the essay says hello"}, "details": "hello"})
    error = rejection_of(service)
    assert "hello" not in str(error)
    assert dict(error.error_detail.details) == {"status_code": 400}


def test_retry_after_may_be_a_date(service: Service) -> None:
    service.told = as_json(429, {}, Retry_After=format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True))
    assert 290 < (refusal_of(service).retry_after or 0) <= 300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 0),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_counts_as_absent(
    service: Service, text: str, seconds: float | None
) -> None:
    service.told = as_json(429, {}, Retry_After=text)
    assert refusal_of(service).retry_after == seconds


def test_a_hanging_provider_is_given_up_after_the_timeout(service: Service) -> None:
    service.told = service.hang
    error = error_of(client_of(service.url, timeout=0.2))
    assert isinstance(error, ProviderRefused)
    assert (error.error_code, error.outage) == ("TIMEOUT", True)


def test_a_lost_connection_is_an_outage_and_nothing_is_sent_twice(service: Service) -> None:
    service.told = lambda _: None
    error = refusal_of(service)
    assert (error.error_code, error.outage) == ("CONNECTION_ERROR", True)
    assert len(service.paths) == 1


def test_a_provider_that_is_not_there_is_an_outage() -> None:
    error = error_of(client_of(f"http://127.0.0.1:{free_port()}/api/v1"))
    assert isinstance(error, ProviderRefused)
    assert error.outage


def test_a_proxy_of_the_environment_is_used(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.told = ACCEPTED
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{service.port}")
    monkeypatch.setenv("no_proxy", "")

    assert client_of("http://judges.invalid/api/v1").generate_comparison(asked()) == Submission("q-1", None)

    assert service.paths == ["http://judges.invalid/api/v1/comparison"]


def test_a_login_in_netrc_does_not_go_out_with_a_comparison(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    service.told = ACCEPTED

    client_of(service.url).generate_comparison(asked())

    assert service.headers[0].get("Authorization") is None
    assert service.headers[0]["Content-Type"] == "application/json"
