"""HTTP sessions in which what all requests have in common is worked out once, because it costs as much as sending."""

from __future__ import annotations

import os

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

CONNECT_SECONDS = 3.05


def session_for(url: str, connections: int) -> requests.Session:
    """Return a session for requests to one service, from as many threads as it keeps connections.

    The environment's proxies and certificates are read once, because for each request it costs as much as half
    of the request itself. Its .netrc is not: a login found there would go out with every request.
    """
    session = requests.Session()
    session.trust_env = False
    session.proxies.update(get_environ_proxies(url))
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    # A comparison costs money: nothing below us may send a request again by itself.
    adapter = HTTPAdapter(pool_maxsize=connections, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
