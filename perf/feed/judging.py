"""Pages of feeds, read while people post, follow, unfollow and delete, each compared with MySQL's history.

One client writes, so that commits have an order. An answer to a read with a token brings the token of its own
moment: this names the commits that the page must show, and no later one may be in it. A plain answer names a
time. It must be one of the states from that time until the answer came.
"""

from __future__ import annotations

import bisect
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from ops.stack.progress import say
from ops.system import System
from perf.feed.client import Client
from tidemark.consistency_token import HEADER, ConsistencyKeys, verify
from tidemark.gtid import GtidSet

PAGES = 10_000
USERS, READERS = 24, 8
PAUSE_SECONDS = 0.02  # between commands: most time is for reads
LIMIT, LIMITS = 20, (3, 20, 100)
TOKEN_SECONDS = 45.0
KEPT_POSTS = 400


@dataclass(frozen=True)
class State:
    """All feeds after a commit: the author of each post, and whom each user follows."""

    posts: Mapping[int, int] = field(default_factory=dict)
    follows: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def page(self, user: int, below: int | None, limit: int) -> tuple[list[tuple[int, int]], bool]:
        """(post, author) of a page, and whether there are more."""
        authors = self.follows.get(user, frozenset()) | {user}
        ids = sorted((id for id, author in self.posts.items() if author in authors), reverse=True)
        ids = [id for id in ids if below is None or id < below]
        return [(id, self.posts[id]) for id in ids[:limit]], len(ids) > limit


@dataclass(frozen=True)
class Commit:
    """A command, when it was sent and acknowledged (Unix seconds), its token, and the state after it."""

    user: int
    sent: float
    acknowledged: float
    token: str
    gtids: GtidSet
    state: State


@dataclass(frozen=True)
class Seen:
    """A page that was read. `least`: the commit whose token the reader had.

    `moment`: the GTIDs of the page, if there was a token; else the page is as of `as_of` or later.
    """

    user: int
    below: int | None
    limit: int
    items: list[tuple[int, int]]
    more: bool
    moment: GtidSet | None
    as_of: float
    received: float
    least: int = 0


class History:
    """The commits in their order; the first stands for all before. Written by one thread."""

    def __init__(self, first: Commit) -> None:
        self.commits = [first]

    def is_true(self, seen: Seen) -> bool:
        """Whether the page is of a state that it may be of."""
        if seen.moment is not None:
            at = self._last_in(seen.moment)
            allowed = [at] if at >= seen.least else []
        else:
            since = bisect.bisect(self.commits, seen.as_of, key=lambda commit: commit.acknowledged) - 1
            until = bisect.bisect(self.commits, seen.received, key=lambda commit: commit.sent) - 1
            allowed = [*range(until, max(0, since) - 1, -1)]
        found = seen.items, seen.more
        return any(self.commits[at].state.page(seen.user, seen.below, seen.limit) == found for at in allowed)

    def _last_in(self, moment: GtidSet) -> int:
        """The last commit that a set of GTIDs has; -1: none."""
        return bisect.bisect(self.commits, False, key=lambda commit: not moment >= commit.gtids) - 1


class Judged:
    """A running system whose feeds are changed and read at once."""

    def __init__(self, system: System, seed: int) -> None:
        self._reads, self._writes = system.url("reader"), system.url("writer")
        self._keys = ConsistencyKeys.parse(system.environment()["TIDEMARK_CONSISTENCY_SECRET"])
        self._seed = seed
        subjects = {number: system.token(f"judged-{number}") for number in range(USERS)}
        self._bearers: dict[int, str] = {}
        last = ""
        for number, bearer in subjects.items():
            profile = {"handle": f"judged_{number}", "display_name": f"Judged {number}", "bio": ""}
            with closing(Client(self._writes, {0: bearer})) as client:
                _, headers, user = client.ask("PUT", "/user/me", 0, profile)
            self._bearers[int(user["id"])] = bearer
            last = headers[HEADER]
        now, first = time.time(), next(iter(self._bearers))
        self._history = History(Commit(first, now, now, last, self._gtids(last), State()))
        self._done = threading.Event()

    def run(self, pages: int) -> dict[str, int]:
        """Pages read, commits, refused reads, and pages that are not true."""
        say(f"judging {pages} pages")
        with ThreadPoolExecutor(READERS + 1) as threads:
            writing = threads.submit(self._write)
            reading = [threads.submit(self._read, number, pages // READERS + 1) for number in range(READERS)]
            try:
                found = [each.result() for each in reading]
            finally:
                self._done.set()
            writing.result()
        seen = [one for some, _ in found for one in some]
        wrong = [one for one in seen if not self._history.is_true(one)]
        if wrong:
            say(f"not true: {wrong[0]}")
        return {
            "oracle_pages": len(seen),
            "oracle_commits": len(self._history.commits) - 1,
            "oracle_refused": sum(refused for _, refused in found),
            "oracle_mismatches": len(wrong),
        }

    def _gtids(self, token: str) -> GtidSet:
        return verify(token, self._keys, time.time())

    def _write(self) -> None:
        """Commands one after the other."""
        chance = random.Random(f"{self._seed} writes")
        with closing(Client(self._writes, self._bearers)) as writer:
            while not self._done.wait(PAUSE_SECONDS):
                self._history.commits.append(self._command(writer, chance))

    def _command(self, writer: Client, chance: random.Random) -> Commit:
        """Send one that changes something."""
        state = self._history.commits[-1].state
        users = [*self._bearers]
        user, other = chance.sample(users, 2)
        command = chance.choice(("post", "post", "follow", "follow", "unfollow", "delete"))
        followees = state.follows.get(user, frozenset())
        if command == "follow" and other in followees:
            command = "unfollow"
        elif command == "unfollow" and followees:
            other = chance.choice(sorted(followees))
        if len(state.posts) > KEPT_POSTS:
            command = "delete"
        sent = time.time()
        if command == "delete" and state.posts:
            id = chance.choice([*state.posts])
            user = state.posts[id]
            _, headers, _ = writer.ask("DELETE", f"/post/{id}", user)
            state = State({post: author for post, author in state.posts.items() if post != id}, state.follows)
        elif command in ("follow", "unfollow") and (command == "follow" or other in followees):
            method, after = (
                ("PUT", followees | {other}) if command == "follow" else ("DELETE", followees - {other})
            )
            _, headers, _ = writer.ask(method, f"/user/{other}/follow", user)
            state = State(state.posts, {**state.follows, user: after})
        else:
            _, headers, post = writer.ask("POST", "/post", user, {"body": f"of {user}"})
            state = State({**state.posts, int(post["id"]): user}, state.follows)
        token = headers[HEADER]
        return Commit(user, sent, time.time(), token, self._gtids(token), state)

    def _read(self, number: int, pages: int) -> tuple[list[Seen], int]:
        """Feeds of users at random, with a token or without, and sometimes the page after."""
        chance, users = random.Random(f"{self._seed} reads {number}"), [*self._bearers]
        seen, refused = list[Seen](), 0
        with closing(Client(self._reads, self._bearers)) as reader:
            while len(seen) < pages:
                limit, least = chance.choice(LIMITS), self._recent(chance)
                user, token = chance.choice(users), ""
                if least is not None:
                    commit = self._history.commits[least]
                    user, token = chance.choice((user, commit.user)), commit.token
                page = self._page(reader, user, limit, token, least or 0)
                while page:
                    one, cursor = page
                    seen.append(one)
                    if not cursor or chance.random() < 0.5:
                        break
                    page = self._page(reader, user, limit, token, least or 0, one.items[-1][0], cursor)
                refused += not page
                if refused > pages:
                    raise RuntimeError(f"{refused} reads were refused, and {len(seen)} answered")
        return seen, refused

    def _recent(self, chance: random.Random) -> int | None:
        """The last commit, or a former one whose token is good; None for a read without a token."""
        least = max(0, len(self._history.commits) - 1 - chance.choice((0, 0, 1, 20)))
        is_good = self._history.commits[least].acknowledged > time.time() - TOKEN_SECONDS
        return least if is_good and chance.random() < 0.5 else None

    def _page(
        self,
        reader: Client,
        user: int,
        limit: int,
        token: str,
        least: int,
        below: int | None = None,
        cursor: str = "",
    ) -> tuple[Seen, str | None] | None:
        """A page as it was seen, and the cursor of the next one. None if the read was refused."""
        query = {**({} if limit == LIMIT else {"limit": limit}), **({"cursor": cursor} if cursor else {})}
        headers = {HEADER: token, "prefer": "wait=2"} if token else {}
        path = f"/feed?{urlencode(query)}" if query else "/feed"
        status, given, body = reader.ask("GET", path, user, **headers)
        received = time.time()
        if status == 503:
            return None
        as_of = datetime.fromisoformat(given["freshness"].split('"')[1]).timestamp()
        moment = self._gtids(given[HEADER]) if token else None
        items = [(int(item["id"]), int(item["author"]["id"])) for item in body["items"]]
        following = body["next"]
        more = following is not None
        return Seen(user, below, limit, items, more, moment, as_of, received, least), following
