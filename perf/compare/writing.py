"""Likes given and taken back at a steady rate over HTTP, and reads that must show them.

Each post belongs to one thread, so that the thread knows the true number of likes at any moment. A read is
stale if it begins after a write was acknowledged and shows another number. Stale reads are counted.
Tidemark's reads carry the writer's Consistency-Token; the other lanes have no such token.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from perf.compare.contenders import Contender, authorization
from perf.compare.crowd import Crowd
from perf.compare.jmeter import LoadFailed

THREADS = 16  # enough for the rate even where a write takes 50 ms
PICKS = 20_000
CHECK_EVERY = 2  # writes: the checks must not become a load of their own
TOKEN_SECONDS = 50.0  # the writer's tokens are good for 60
SETTLE_SECONDS = 1.0
CONSISTENCY_TOKEN = "Consistency-Token"


@dataclass
class Book:
    """Likes of each post by now, and the likes that the writers gave. Lanes write one after the other."""

    likes: dict[int, int]
    given: set[tuple[int, int]] = field(default_factory=set)


@dataclass
class Written:
    """Counts. `refused`: checks answered by 503, because the projector was too far behind.

    `left`: posts checked a second after the last write; `left_stale`: those among them that were still wrong.
    """

    writes: int = 0
    seconds: float = 0.0
    checks: int = 0
    stale: int = 0
    refused: int = 0
    left: int = 0
    left_stale: int = 0

    def add(self, other: Written) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@contextlib.contextmanager
def writes(
    lane: Contender, crowd: Crowd, book: Book, rate: float, mint: Callable[[str], str]
) -> Iterator[Written]:
    """Write to the lane while the block runs, then check all written posts once more.

    The result is filled when the block has ended. Raises LoadFailed for an answer that is none.
    """
    done, found, began = threading.Event(), Written(), time.monotonic()
    people = [_Writer(lane, crowd, book, number, mint) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads, contextlib.ExitStack() as undo:
        for person in people:
            undo.callback(person.close)
        under_way = [threads.submit(person.write, rate / THREADS, done) for person in people]
        try:
            yield found
        finally:
            done.set()
        _finish(under_way)
        found.seconds = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        _finish([threads.submit(person.look_again) for person in people])
    for person in people:
        found.add(person.found)


def _finish(under_way: Iterable[Future[None]]) -> None:
    for each in under_way:
        each.result()


class _Writer:
    """One thread's share: the posts whose id has the right remainder."""

    def __init__(
        self, lane: Contender, crowd: Crowd, book: Book, number: int, mint: Callable[[str], str]
    ) -> None:
        self.found = Written()
        self._lane = lane
        self._book = book
        self._chance = random.Random(f"{crowd.seed} writer {number}")
        picks = crowd.picks(PICKS, f"writes {lane.name}")
        self._posts = [post for post in picks if post % THREADS == number]
        self._people = {user: authorization(mint(f"perf-{user}")) for user in crowd.writers}
        self._users = list(self._people)
        self._reader = authorization(mint("perf-1"))
        self._tokens: dict[int, tuple[str, float]] = {}  # by post: the last write's
        self._reads, self._writes = _connection(lane.read_url), _connection(lane.write_url)

    def close(self) -> None:
        self._reads.close()
        self._writes.close()

    def write(self, rate: float, done: threading.Event) -> None:
        began = time.monotonic()
        for count in itertools.count():
            if done.wait(max(0.0, began + count / rate - time.monotonic())):
                return
            post = self._posts[count % len(self._posts)]
            if count % CHECK_EVERY == 0:
                self._check(post)
            self._toggle(post, self._chance.choice(self._users))
            if count % CHECK_EVERY == 0:
                self._check(post)

    def look_again(self) -> None:
        for post in self._tokens:
            self.found.left += 1
            self.found.left_stale += self._likes(post, *self._ask(post, {})) != self._book.likes[post]

    def _toggle(self, post: int, user: int) -> None:
        like = (post, user)
        method = "DELETE" if like in self._book.given else "PUT"
        self._writes.request(method, f"/post/{post}/like", headers=self._people[user])
        answer = self._writes.getresponse()
        answer.read()
        if answer.status != 204:
            raise LoadFailed(f"{self._lane.name}: {method} /post/{post}/like was answered {answer.status}")
        self._book.given ^= {like}
        self._book.likes[post] += 1 if method == "PUT" else -1
        self._tokens[post] = answer.headers.get(CONSISTENCY_TOKEN, ""), time.monotonic()
        self.found.writes += 1

    def _check(self, post: int) -> None:
        token, at = self._tokens.get(post, ("", 0.0))
        headers = {CONSISTENCY_TOKEN: token} if token and time.monotonic() - at < TOKEN_SECONDS else {}
        status, body = self._ask(post, headers)
        self.found.checks += 1
        if headers and status == 503:
            self.found.refused += 1
            return
        self.found.stale += self._likes(post, status, body) != self._book.likes[post]

    def _ask(self, post: int, headers: dict[str, str]) -> tuple[int, bytes]:
        self._reads.request("GET", f"/post/{post}", headers={**self._reader, **headers})
        answer = self._reads.getresponse()
        return answer.status, answer.read()

    def _likes(self, post: int, status: int, body: bytes) -> int:
        if status != 200:
            raise LoadFailed(f"{self._lane.name}: GET /post/{post} was answered {status}")
        likes: int = json.loads(body)["like_count"]
        return likes


def _connection(url: str) -> http.client.HTTPConnection:
    where = urlsplit(url)
    return http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
