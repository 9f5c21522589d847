"""Fetching essays and student prompts from the Content Service."""

from __future__ import annotations

from urllib.parse import quote

import requests

from cjtasks.clients.http import CONNECT_SECONDS, session_for
from cjtasks.errors import ContentMissing, ContentUnavailable

CONNECTIONS = 8
OPERATION = "fetch_content"

# Quoting leaves dots alone, and a path of dots alone climbs to another path.
_NO_NAMES = frozenset({"", ".", ".."})


class ContentServiceClient:
    """One session for a process; safe to use from several threads."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._timeout = (min(CONNECT_SECONDS, timeout), timeout)
        self._session = session_for(url, CONNECTIONS)
        self._blank = self._session.prepare_request(requests.Request("GET", f"{url}/"))

    def fetch(self, storage_id: str) -> str:
        """Return a text.

        Raises ContentMissing when it can never be had (404, 400, blank), ContentUnavailable when it may
        come later (5xx, time-out, lost connection).
        """
        if storage_id in _NO_NAMES:
            raise ContentMissing.of("the id names no text", operation=OPERATION, code="INVALID_REQUEST")
        try:
            response = self._session.send(self._filled(storage_id), timeout=self._timeout)
        except requests.Timeout:
            raise ContentUnavailable.of("no answer in time", operation=OPERATION, code="TIMEOUT") from None
        except requests.RequestException:
            raise ContentUnavailable.of("no connection", operation=OPERATION, code="CONNECTION_ERROR") from None
        return _read(response)

    def _filled(self, storage_id: str) -> requests.PreparedRequest:
        filled = self._blank.copy()
        # An id is a sender's text: unquoted it could name another path.
        filled.url = f"{self._blank.url}{quote(storage_id, safe='')}"
        return filled


def _read(response: requests.Response) -> str:
    status = response.status_code
    if status >= 500 or status in {408, 429}:
        raise ContentUnavailable.of(f"HTTP {status}", operation=OPERATION, status_code=status)
    if status != requests.codes.ok:
        code = "RESOURCE_NOT_FOUND" if status == requests.codes.not_found else "CONTENT_SERVICE_ERROR"
        raise ContentMissing.of(f"HTTP {status}", operation=OPERATION, code=code, status_code=status)
    # Postgres holds no NUL; a byte that is no UTF-8 spoils one letter, not the essay.
    text = response.content.decode("utf-8", "replace").replace("\x00", "")
    if not text.strip():
        raise ContentMissing.of("the text is blank", operation=OPERATION, code="INVALID_RESPONSE")
    return text
