"""Asking the LLM Provider Service to judge one comparison; its verdict comes later, over Kafka."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pybreaker
import requests
from pydantic_core import from_json, to_json

from cjtasks.clients.http import CONNECT_SECONDS, session_for
from cjtasks.contracts.provider import read_queue_id
from cjtasks.errors import CircuitOpen, ProviderRefused, ProviderRejected

if TYPE_CHECKING:
    from uuid import UUID

    from cjtasks.contracts.provider import ComparisonRequest

CONNECTIONS = 32
"""How many requests of one process may be in the air; each keeps its connection for the next one."""

OPERATION = "generate_comparison"

_CODES = {
    400: "INVALID_REQUEST",
    401: "AUTHENTICATION_ERROR",
    403: "AUTHORIZATION_ERROR",
    404: "RESOURCE_NOT_FOUND",
    408: "TIMEOUT",
    429: "RATE_LIMIT",
    502: "EXTERNAL_SERVICE_ERROR",
    503: "SERVICE_UNAVAILABLE",
    504: "TIMEOUT",
}


class _Watch(pybreaker.CircuitBreakerListener):
    """Remembers when the breaker opened; the breaker itself tells only that it did."""

    opened_at = 0.0

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,  # noqa: ARG002 - The listener's signature is the library's.
        old_state: pybreaker.CircuitBreakerState | None,  # noqa: ARG002
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        if new_state.name == pybreaker.STATE_OPEN:
            self.opened_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class Submission:
    """What the provider said: 202 brings a queue id and never a result; 200 a callback's `data` instead."""

    queue_id: str | None
    result: dict[str, Any] | None


class LLMProviderServiceClient:
    """One session and one circuit breaker for a process; safe to use from several threads."""

    def __init__(self, url: str, breaker: pybreaker.CircuitBreaker, *, timeout: float) -> None:
        self._url = f"{url}/comparison"
        self._breaker = breaker
        self._watch = _Watch()
        breaker.add_listener(self._watch)
        self._probing = threading.Lock()
        self._timeout = (min(CONNECT_SECONDS, timeout), timeout)
        self._session = session_for(self._url, CONNECTIONS)
        json = {"Content-Type": "application/json"}
        self._blank = self._session.prepare_request(requests.Request("POST", self._url, json))

    def allowance(self, most: int) -> int:
        """Return how many comparisons it makes sense to claim: none while the breaker is open, one to probe."""
        if self._breaker.current_state == pybreaker.STATE_CLOSED:
            return most
        waiting = time.monotonic() - self._watch.opened_at < self._breaker.reset_timeout
        return 0 if waiting else 1

    def generate_comparison(self, request: ComparisonRequest) -> Submission:
        """Send one comparison.

        Raises ProviderRefused when it may be sent again later, ProviderRejected when it never can, and
        CircuitOpen when nothing was sent. Each carries the request's correlation id.
        """
        if self._breaker.current_state != pybreaker.STATE_CLOSED:
            return self._probe(request)
        try:
            submission = self._post(request)
        except (ProviderRefused, ProviderRejected) as error:
            self._record(error)
            raise
        self._record(None)
        return submission

    def _probe(self, request: ComparisonRequest) -> Submission:
        # The breaker holds its lock during a call; whoever comes while a probe is out must not wait for it.
        if not self._probing.acquire(blocking=False):
            raise _circuit_open(request.correlation_id)
        try:
            return self._breaker.call(self._post, request)
        except pybreaker.CircuitBreakerError:
            raise _circuit_open(request.correlation_id) from None
        finally:
            self._probing.release()

    def _record(self, error: ProviderRefused | ProviderRejected | None) -> None:
        """Tell the breaker after the call, because inside it all threads would wait for one another."""

        def outcome() -> None:
            if error is not None:
                raise error

        # Meanwhile another thread's outage may have opened the breaker, which then refuses even good news.
        with suppress(ProviderRefused, ProviderRejected, pybreaker.CircuitBreakerError):
            self._breaker.call(outcome)

    def _post(self, request: ComparisonRequest) -> Submission:
        try:
            response = self._session.send(self._filled(request), timeout=self._timeout, allow_redirects=False)
        except requests.Timeout:
            raise self._no_answer("TIMEOUT", request.correlation_id) from None
        except requests.RequestException:
            raise self._no_answer("CONNECTION_ERROR", request.correlation_id) from None
        return _read(response, request.correlation_id)

    def _filled(self, request: ComparisonRequest) -> requests.PreparedRequest:
        filled = self._blank.copy()
        filled.body = to_json(request.body())
        filled.prepare_content_length(filled.body)
        return filled

    def _no_answer(self, code: str, correlation_id: UUID) -> ProviderRefused:
        error = ProviderRefused.of(
            "the LLM Provider did not answer", operation=OPERATION, code=code, correlation_id=correlation_id
        )
        error.outage = True
        return error


def breaker(failures: int, open_seconds: float) -> pybreaker.CircuitBreaker:
    """Return a breaker that only outages open: time-outs, lost connections and 5xx."""
    return pybreaker.CircuitBreaker(
        fail_max=failures,
        reset_timeout=open_seconds,
        # The caller wants to know what the provider said, also when it is this call that opens the breaker.
        throw_new_error_on_trip=False,
        exclude=[lambda error: not getattr(error, "outage", False)],
    )


def _read(response: requests.Response, correlation_id: UUID) -> Submission:
    body = _json(response)
    if response.status_code == requests.codes.accepted:
        queue_id = read_queue_id(body)
        if queue_id is None:
            raise _queue_full(response, correlation_id)
        return Submission(queue_id, None)
    if response.status_code == requests.codes.ok and _answers(body, correlation_id):
        return Submission(None, body)
    raise _error(response, body, correlation_id)


def _answers(body: object, correlation_id: UUID) -> bool:
    return isinstance(body, dict) and str(body.get("correlation_id")).lower() == str(correlation_id)


def _json(response: requests.Response) -> Any:
    """Read strictly: half a surrogate, which Python's own parser lets through, no column can hold."""
    try:
        return from_json(response.content)
    except ValueError:
        return None


def _circuit_open(correlation_id: UUID) -> CircuitOpen:
    return CircuitOpen.of("the circuit breaker is open", operation=OPERATION, correlation_id=correlation_id)


def _queue_full(response: requests.Response, correlation_id: UUID) -> ProviderRefused:
    error = ProviderRefused.of(
        "the LLM Provider's queue is full",
        operation=OPERATION,
        code="LLM_QUEUE_FULL",
        correlation_id=correlation_id,
    )
    error.closes_gate = True
    error.retry_after = _retry_after(response.headers.get("Retry-After"))
    return error


def _error(response: requests.Response, body: object, correlation_id: UUID) -> ProviderRefused | ProviderRejected:
    """Classify any other answer; of its body only the code is kept, because the rest may quote the prompt."""
    status = response.status_code
    told_code = _code_in(body) if status >= requests.codes.bad_request else None
    code = told_code or _CODES.get(status) or ("EXTERNAL_SERVICE_ERROR" if status >= 500 else "INVALID_RESPONSE")
    told: dict[str, Any] = {
        "operation": OPERATION,
        "code": code,
        "correlation_id": correlation_id,
        "status_code": status,
    }
    message = f"the LLM Provider answered HTTP {status}"
    if status not in {408, 429} and status < 500 and not _is_retryable(body):
        return ProviderRejected.of(message, **told)
    error = ProviderRefused.of(message, **told)
    error.closes_gate = status in {429, 503}
    error.outage = status >= 500
    error.retry_after = _retry_after(response.headers.get("Retry-After"))
    return error


def _code_in(body: object) -> str | None:
    """Return the code of an error that came as an object; some come as plain text."""
    error = body.get("error") if isinstance(body, dict) else None
    code = (error.get("code") or error.get("error_code")) if isinstance(error, dict) else None
    return code if isinstance(code, str) and code.isidentifier() and len(code) <= 100 else None


def _is_retryable(body: object) -> bool:
    if not isinstance(body, dict):
        return False
    error = body.get("error")
    return body.get("is_retryable") is True or (isinstance(error, dict) and error.get("is_retryable") is True)


def _retry_after(value: str | None) -> float | None:
    """Read Retry-After, in seconds or as a date; nonsense counts as absent."""
    if value is None:
        return None
    # Not isdigit: a superscript is a digit too, but no number.
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        # A date whose zone is unknown comes without one; HTTP's dates are all of Greenwich.
        zoned = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max((zoned - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return None
