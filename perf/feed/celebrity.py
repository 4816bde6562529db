"""The cost of one post, and the time until it is seen, by the number of its author's followers."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx2
import pymysql
from pymongo import MongoClient

from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.baseline.fanout import FanOut
from perf.catching_up import wait_until_caught_up
from perf.feed.people import People
from perf.measured import Reader
from reader.read_model.control import CONTROL, keys_of

POSTS, FANNED_OUT = 15, 3
POLL_SECONDS = 0.001
SEEN_WITHIN_SECONDS = 120.0
POST = "INSERT INTO posts (author_id, body) VALUES (%s, 'seen by how many?')"


class Posting:
    """Posts of known authors, and their followers' feeds in both designs. For one thread."""

    def __init__(self, system: System, people: People, reader: Reader, seed: int) -> None:
        self._system, self._people, self._reader = system, people, reader
        self._url = f"{system.stack.mysql.admin_url}tidemark"
        self._chance = random.Random(f"{seed} followers")

    def costs(self) -> dict[str, float]:
        """For each number of followers: keys that a post is fanned out to, and the milliseconds."""
        found: dict[str, float] = {}
        with FanOut(self._url, self._system.stack.redis.admin_url) as fanout:
            for followers in self._people.known:
                say(f"a post for {followers} followers, fanned out")
                author, times, keys = self._people.author_with(followers), [], 0
                for _ in range(FANNED_OUT):
                    post = self._post(author)
                    started = time.monotonic()
                    keys = fanout.deliver(author, post)
                    times.append((time.monotonic() - started) * 1000)
                found |= {f"post_{followers}_ms": round(statistics.median(times), 2)}
                found |= {f"post_{followers}_keys": keys}
        return found

    def visible(self) -> dict[str, Any]:
        """The celebrity next to the least known author, and both next to the fan-out."""
        many, few = self._people.celebrity, self._people.known[0]
        found: dict[str, Any] = {"followers": many, "few": few}
        for followers, name in ((many, ""), (few, "few_")):
            say(f"posts of an author with {followers} followers")
            found[f"{name}visible_ms"] = self._visible_ms(followers)
            found[f"{name}keys"] = self._keys(followers)
            found[f"{name}fanout_visible_ms"] = self._fanned_out_ms(followers)
            found[f"{name}fanout_keys"] = followers + 1
        return found

    def _visible_ms(self, followers: int) -> float:
        """From commit until a follower's feed shows the post: the median."""
        with httpx2.Client(timeout=30, trust_env=False) as http:

            def shows(follower: int, post: int) -> bool:
                headers = {"authorization": f"Bearer {bearers[follower]}"}
                return f'"id":"{post}"' in http.get(f"{self._reader.url}/feed", headers=headers).text

            samples = [self._follower(followers) for _ in range(POSTS)]
            bearers = {follower: self._system.token(f"perf-{follower}") for follower in samples}
            times = []
            for follower in samples:
                shows(follower, 0)  # warm, as the feed of somebody who is there
                post = self._post(self._people.author_with(followers))
                times.append(_ms_until(partial(shows, follower, post)))
        return round(statistics.median(times), 1)

    def _fanned_out_ms(self, followers: int) -> float:
        """The same, until the follower's sorted set has the post."""
        author, url, times = self._people.author_with(followers), self._system.stack.redis.admin_url, []
        with FanOut(self._url, url) as fanout, FanOut(self._url, url) as seen:
            for _ in range(FANNED_OUT):
                follower, post = self._follower(followers), self._post(author)
                with ThreadPoolExecutor(1) as thread:
                    delivering = thread.submit(fanout.deliver, author, post)
                    times.append(_ms_until(partial(seen.shows, follower, post)))
                    delivering.result()
        return round(statistics.median(times), 1)

    def _keys(self, followers: int) -> int:
        """Keys of the cache that a post touches: those of its batch's journal entry."""
        with MongoClient[dict[str, Any]](self._system.stack.mongodb.admin_url) as client:
            journal = client["tidemark"][CONTROL]
            newest = [("_id", -1)]
            wait_until_caught_up(self._system)
            before = journal.find_one({"_id.seq": {"$exists": True}}, sort=newest)
            self._post(self._people.author_with(followers))
            wait_until_caught_up(self._system)
            since = {"_id": {"$gt": before["_id"]}} if before else {}
            entries = journal.find({"_id.seq": {"$exists": True}, **since})
            return sum(len(keys_of(entry)) for entry in entries)

    def _follower(self, followers: int) -> int:
        return self._chance.choice(self._people.crowd[:followers])

    def _post(self, author: int) -> int:
        with (
            pymysql.connect(**mysql_arguments(self._url), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(POST, (author,))
            return int(cursor.lastrowid)


def _ms_until(seen: Callable[[], bool]) -> float:
    """Raises RuntimeError if it takes too long."""
    started = time.monotonic()
    while not seen():
        if time.monotonic() - started > SEEN_WITHIN_SECONDS:
            raise RuntimeError(f"a post was not seen within {SEEN_WITHIN_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
    return (time.monotonic() - started) * 1000
