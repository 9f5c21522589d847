"""Fetching essays and student prompts from the Content Service."""

from __future__ import annotations

from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter

from cjtasks.errors import ContentMissing, ContentUnavailable

CONNECT_SECONDS = 3.05
OPERATION = "fetch_content"

# Quoting leaves dots alone, and a path of dots alone climbs to another path.
_NO_NAMES = frozenset({"", ".", ".."})


class ContentServiceClient:
    """One session for a process; safe to use from several threads."""

    def __init__(self, url: str, *, timeout: float, connections: int = 8) -> None:
        self._url = url
        self._timeout = (min(CONNECT_SECONDS, timeout), timeout)
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def fetch(self, storage_id: str) -> str:
        """Return a text.

        Raises ContentMissing when it can never be had (404, 400, blank), ContentUnavailable when it may
        come later (5xx, time-out, lost connection).
        """
        if storage_id in _NO_NAMES:
            raise ContentMissing.of("the id names no text", operation=OPERATION, code="INVALID_REQUEST")
        try:
            # An id is a sender's text: unquoted it could name another path.
            response = self._session.get(f"{self._url}/{quote(storage_id, safe='')}", timeout=self._timeout)
        except requests.Timeout:
            raise ContentUnavailable.of("no answer in time", operation=OPERATION, code="TIMEOUT") from None
        except requests.RequestException:
            raise ContentUnavailable.of("no connection", operation=OPERATION, code="CONNECTION_ERROR") from None
        return _read(response)


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
