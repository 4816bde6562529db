"""`python -m perf overload`: twice what the reader and the writer can serve, and how soon all is as before.

One more client asks at a steady pace throughout: alone, beside the load, and after its end. Its answers are
checked.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ops.stack.progress import say
from ops.system import System
from perf import wrk
from perf.dataset import load_posts
from perf.procfs import rss_kib
from perf.projector.projecting import wait_until_caught_up

POSTS = 2_000
THINK_MS = 1_000  # between two requests of one connection
PACE_SECONDS = 0.05
CAPACITY_SECONDS, QUIET_SECONDS, AFTER_SECONDS = 5.0, 5.0, 10.0
WRITE = {"PERF_METHOD": "POST", "PERF_BODY": json.dumps({"body": "one of very many"})}
Check = Callable[[bytes], bool]


@dataclass
class Asked:
    """When each request was sent (seconds of the monotonic clock), milliseconds until its answer, status."""

    times: list[tuple[float, float, int]] = field(default_factory=list)
    wrong: int = 0  # successes with another content, and refusals without Retry-After

    def figures(self, since: float, until: float) -> dict[str, Any]:
        found = [one for one in self.times if since <= one[0] < until]
        answered = sorted(ms for _, ms, status in found if status < 300)
        return {
            "answered_p50_ms": _percentile(answered, 50),
            "answered_p99_ms": _percentile(answered, 99),
            "statuses": {str(status): count for status, count in Counter(one[2] for one in found).items()},
        }

    def as_before_after(self, end: float, usual_ms: float) -> float:
        """Seconds after `end` from which on every answer was a success within twice the usual time."""
        bad = [at for at, ms, status in self.times if at >= end and (status >= 300 or ms > 2 * usual_ms)]
        return round(max([*bad, end]) - end, 2)


def overload(seconds: float, seed: int) -> dict[str, Any]:
    """Raises StackError, RuntimeError."""
    with System(os.environ) as system, tempfile.TemporaryDirectory() as folder:
        load_posts(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], POSTS, seed)
        wait_until_caught_up(system.stack)
        ids = Path(folder) / "ids"
        ids.write_text("".join(f"{id}\n" for id in range(1, POSTS + 1)))
        token = system.token("perf-1")
        return {
            "reader": _lane(system, "reader", ids, token, seconds, {}),
            "writer": _lane(system, "writer", ids, token, seconds, WRITE),
        }


def _lane(
    system: System, name: str, ids: Path, token: str, seconds: float, write: dict[str, str]
) -> dict[str, Any]:
    identity = system.children[name].identity
    url, path = system.url(name), "/post" if write else "/post/%s"
    say(f"{name}: what it can serve")
    most = wrk.run(url, identity.pid, ids, token, CAPACITY_SECONDS, path=path, more=write)
    connections = round(2 * most.rps * THINK_MS / 1000)
    rss_before = rss_kib(identity.pid)
    with _asking(url, token, write) as asked:
        begun = time.monotonic()
        time.sleep(QUIET_SECONDS)
        say(f"{name}: {connections} clients, each about once a second, for {seconds:g} s")
        started = time.monotonic()
        load = wrk.run(
            url,
            identity.pid,
            ids,
            token,
            seconds,
            path=path,
            more=write,
            delay_ms=THINK_MS,
            connections=connections,
        )
        ended = time.monotonic()
        rss_after = rss_kib(identity.pid)
        time.sleep(AFTER_SECONDS)
    quiet = asked.figures(begun, started)
    return {
        "capacity_rps": round(most.rps),
        "offered_connections": connections,
        "done_rps": round(load.rps),
        "refused_share": round(load.failed / max(1, load.requests), 3),
        "quiet": quiet,
        "beside": asked.figures(started, ended),
        "wrong": asked.wrong,
        "as_before_after_s": asked.as_before_after(ended, max(50.0, quiet["answered_p99_ms"])),
        "rss_mib": {"before": rss_before >> 10, "after": rss_after >> 10},
    }


@contextlib.contextmanager
def _asking(url: str, token: str, write: dict[str, str]) -> Iterator[Asked]:
    asked, ended = Asked(), threading.Event()
    thread = threading.Thread(target=_ask, args=(asked, ended, url, token, write))
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join()


def _ask(asked: Asked, ended: threading.Event, url: str, token: str, write: dict[str, str]) -> None:
    address = urlsplit(url)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    method, path = ("POST", "/post") if write else ("GET", "/post/1")
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    known: set[bytes] = set()
    begun, count = time.monotonic(), 0
    while not ended.wait(max(0.0, begun + count * PACE_SECONDS - time.monotonic())):
        sent = time.monotonic()
        connection.request(method, path, write.get("PERF_BODY"), headers)
        answer = connection.getresponse()
        body = answer.read()
        asked.times.append((sent, 1000 * (time.monotonic() - sent), answer.status))
        if answer.status < 300:
            known.add(body if not write else b"")
        asked.wrong += answer.status in (429, 503) and "retry-after" not in answer.headers
        asked.wrong += answer.status not in (200, 201, 429, 503) or len(known) > 1
        count += 1
    connection.close()


def _percentile(ordered: list[float], percent: int) -> float:
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1) if ordered else 0.0
