"""Ordinary GETs: polled by one client, and paced beside those that watch."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from perf.live.clients import Seen

POLL_SECONDS = 0.001
PACE_SECONDS = 0.01
LIKE_COUNT = re.compile(rb'"like_count":(\d+)')


class Gets:
    """One connection to the reader."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        self._headers = {"authorization": f"Bearer {token}"}

    def close(self) -> None:
        self._connection.close()

    def body(self, path: str) -> bytes | None:
        """None for a missing document. Raises RuntimeError for an answer that is no success."""
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 404):
            raise RuntimeError(f"GET {path} got {answer.status}: {body[:200]!r}")
        return body if answer.status == 200 else None

    def poll(self, post: int, is_over: Callable[[int], bool]) -> Seen:
        """Ask for the post, again POLL_SECONDS after each answer. `is_over` gets the shown count."""
        seen = Seen(post)
        while not is_over(seen.shown):
            found = LIKE_COUNT.search(self.body(f"/post/{post}") or b"")
            count = int(found[1]) if found else 0
            if count != seen.shown:
                seen.shown = count
                seen.messages.extend((time.time(), 0.0, count))
            time.sleep(POLL_SECONDS)
        return seen

    def paced_ms(self, path: str, is_over: Callable[[], bool]) -> list[float]:
        """Sorted times from when each was due, so that one that waits counts for those behind it, too."""
        found: list[float] = []
        begun = time.monotonic()
        while not is_over():
            due = begun + len(found) * PACE_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))
            self.body(path)
            found.append(round(1e3 * (time.monotonic() - due), 2))
        return sorted(found)
