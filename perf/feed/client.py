"""A client of writer or reader that can be any of the users."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class Client:
    """One connection to a service as any of the users. A status that is not expected raises RuntimeError."""

    def __init__(self, url: str, bearers: Mapping[int, str]) -> None:
        where = urlsplit(url)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
        self._bearers = bearers

    def close(self) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, user: int, body: Any = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        """Status, headers and the decoded body."""
        given = {"authorization": f"Bearer {self._bearers[user]}", "content-type": "application/json"}
        sent = json.dumps(body) if body is not None else None
        self._connection.request(method, path, sent, {**given, **headers})
        answer = self._connection.getresponse()
        found = answer.read()
        if answer.status >= 300 and (method, answer.status) != ("GET", 503):
            raise RuntimeError(f"{method} {path} was answered {answer.status}: {found[:200]!r}")
        return answer.status, answer.headers, json.loads(found) if found else None
