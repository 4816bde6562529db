"""`python -m perf feed`: the lanes, in their order."""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pymysql.cursors import Cursor

from ops.stack.progress import say
from ops.system import System
from perf import wrk
from perf.baseline.fanout import FanOut
from perf.baseline.running import Service, start, until_done
from perf.catching_up import wait_until_caught_up
from perf.dataset import WORDS, body
from perf.feed import judging, people
from perf.feed.celebrity import Posting
from perf.feed.cold import SMALL_REPLICA, cold_heads, cold_ms
from perf.feed.hot_list import hot_list
from perf.feed.people import People
from perf.feed.steady import steadily
from perf.measured import Measuring, Reader, checked, in_rounds
from perf.pausing import services_paused
from perf.second_reader import WITHOUT_LOCAL, second_reader
from perf.tuned import tune

FOLLOWEES = (20, 200, 1000)
POSTS_READ, LISTS_READ = 5_000, 500  # all lanes together fit in the replica
FILL_SECONDS = 4.0
INSERT = "INSERT INTO posts (author_id, body) VALUES (%s, %s)"
Posted = Callable[[int, int], object]  # author and post
WORKLOAD = (
    f"{people.CALLERS} callers for each number of followees, in turn; whom they follow is chosen at random "
    f"among {people.AUTHORS:,} authors of {people.POSTS:,} posts. These authors go on posting in the lanes "
    "post, list, feed, hot, hashtag, viewer, sql and fanout. Lanes hot, viewer, sql, fanout and cold_heads "
    f"have the middle number of followees. The cold heads are of {people.COLD_AUTHORS:,} authors with a post "
    "and one reader each."
)


def more_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that are no plain numbers, and what is read."""
    parser.description = WORKLOAD
    parser.add_argument(
        "--followees", type=_numbers, default=FOLLOWEES, help="of the callers (default: 20,200,1000)"
    )


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted({int(number) for number in text.split(",")}))
    if numbers[0] < 1 or numbers[-1] > people.AUTHORS:
        raise argparse.ArgumentTypeError(f"numbers must be from 1 to {people.AUTHORS}")
    return numbers


def feed(
    followees: Sequence[int], posts_per_s: float, seconds: float, celebrity: int, seed: int
) -> dict[str, Any]:
    """All lanes in one run. Raises StackError, RuntimeError for failed requests."""
    who = People(tuple(followees), celebrity)
    with System(os.environ) as system, tempfile.TemporaryDirectory() as folder:
        tune(system)
        say(f"loading {who.crowd.stop - 1:,} users")
        who.load(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"], seed)
        say("waiting for the projector")
        wait_until_caught_up(system)
        bench = Bench(system, who, Path(folder), posts_per_s, seed)
        return {**bench.lanes(seconds), "workload": {"text": WORKLOAD, "posts_per_s": posts_per_s}}


class Bench:
    """The running system, files for wrk, and one method for each group of lanes."""

    def __init__(self, system: System, who: People, folder: Path, posts_per_s: float, seed: int) -> None:
        self._system, self._who, self._folder = system, who, folder
        self._posts_per_s, self._seed = posts_per_s, seed
        self._token = system.token("perf-1")
        pid = system.children["reader"].identity.pid
        self._reader = Reader(system.url("reader"), system.admin_url("reader"), pid, self._token)
        self._middle = self._callers("middle", who.callers(who.middle))

    def lanes(self, seconds: float) -> dict[str, Any]:
        """Lane -> figures."""
        who, largest = self._who, self._who.followees[-1]
        with self._posts():
            found = self._warm(seconds)
        found |= judging.Judged(self._system, self._seed).run(judging.PAGES)
        found |= self._baselines(seconds)
        found["hot_list_under_writes"] = hot_list(
            self._system, [self._reader, self._another("third reader", {})], self._ids("one", [1]), seconds
        )
        without = self._another("reader without replica", WITHOUT_LOCAL)
        found[f"cold_{largest}_ms"] = cold_ms(self._system, without, self._bearers(who.callers(largest)))
        small = self._another("reader with a small replica", SMALL_REPLICA)
        cold = who.cold_callers
        found[f"feed_{who.middle}_cold_heads"] = cold_heads(
            small, self._callers("cold", cold), self._bearers(cold), seconds
        )
        posting = Posting(self._system, who, self._reader, self._seed)
        found["fanout"] |= posting.costs()
        if who.celebrity:
            found["celebrity"] = posting.visible()
        return found

    def _warm(self, seconds: float) -> dict[str, Any]:
        """The lanes of the reader whose entries are in its replica."""
        who, read = self._who, self._reader.load
        feeds = {
            f"feed_{count}": self._callers(f"callers-{count}", who.callers(count)) for count in who.followees
        }
        lanes: dict[str, Measuring] = {
            "post": partial(read, "post", self._ids("posts", range(1, min(POSTS_READ, people.POSTS) + 1))),
            "list": partial(
                read, "list", self._ids("users", range(1, LISTS_READ + 1)), path="/user/%s/posts"
            ),
            **{name: partial(read, name, callers, path="/feed") for name, callers in feeds.items()},
            f"hot_{who.middle}": partial(read, "hot", self._middle, path="/feed?order=hot"),
            "hashtag": partial(read, "hashtag", self._ids("tags", WORDS), path="/hashtag/%s"),
            f"feed_{who.middle}_viewer": partial(read, "viewer", self._middle, path="/feed?include=viewer"),
        }
        for lane in lanes.values():
            lane(FILL_SECONDS)
        return in_rounds(lanes, seconds)

    def _baselines(self, seconds: float) -> dict[str, Any]:
        """The same feeds from SQL and from lists per follower, while Tidemark's services are paused."""
        sql, fanout = (start(self._system, name) for name in ("sql", "fanout"))
        url, redis_url = f"{self._system.stack.mysql.admin_url}tidemark", self._system.stack.redis.admin_url
        turn = threading.Lock()  # a FanOut is for one thread

        def deliver(author: int, post: int) -> None:
            with turn:
                delivery.deliver(author, post)

        with until_done(self._system, [sql, fanout]), FanOut(url, redis_url) as delivery:
            delivery.fill(self._who.callers(self._who.middle))
            with self._posts(deliver), services_paused(self._system):
                lanes = {"sql": self._baseline("sql", sql), "fanout": self._baseline("fanout", fanout)}
                found = in_rounds(lanes, seconds)
        wait_until_caught_up(self._system)
        return found

    def _baseline(self, name: str, service: Service) -> Measuring:
        def load(seconds: float) -> dict[str, Any]:
            say(f"{name}, {seconds:.0f} s")
            return checked(
                wrk.run(service.url, service.pid, self._middle, self._token, seconds, path="/feed")
            ).as_json()

        return load

    @contextmanager
    def _posts(self, posted: Posted = lambda author, post: None) -> Iterator[None]:
        """Authors go on posting."""

        def write(cursor: Cursor, chance: random.Random) -> None:
            author = chance.randint(1, people.AUTHORS)
            cursor.execute(INSERT, (author, body(chance)))
            posted(author, cursor.lastrowid)

        url = self._system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        with steadily(url, self._posts_per_s, self._seed, write):
            yield

    def _another(self, name: str, settings: dict[str, str]) -> Reader:
        second = second_reader(self._system, settings, name)
        return Reader(second.url, second.admin_url, second.child.identity.pid, self._token)

    def _bearers(self, users: Sequence[int]) -> list[str]:
        return [self._system.token(f"perf-{user}") for user in users]

    def _callers(self, name: str, users: Sequence[int]) -> Path:
        """A file for wrk: reads by each of the users in turn."""
        lines = zip(users, self._bearers(users), strict=True)
        return self._ids(name, [f"{user} {bearer}" for user, bearer in lines])

    def _ids(self, name: str, ids: Sequence[int | str]) -> Path:
        path = self._folder / name
        path.write_text("".join(f"{id}\n" for id in ids))
        return path
