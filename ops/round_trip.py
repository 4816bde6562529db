"""The script of the demo: jane and joe write, and every answer of the reader is compared with all it must be."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx2

from ops.system import System

VISIBLE_WITHIN_SECONDS = 10.0
POLL_SECONDS = 0.001
FRESHNESS = re.compile(r'as-of="(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"')
Json = dict[str, Any]


class NotAsPromised(Exception):
    """A step found something else than what had to be."""

    def __init__(self, step: str, expected: object, found: str) -> None:
        super().__init__(step, expected, found)
        self.step, self.expected, self.found = step, str(expected), found


@dataclass(frozen=True)
class Step:
    """A command that held. `visible_ms` passed from the writer's answer to the first read that showed the change."""

    step: str
    request: str
    status: int
    visible_ms: float
    served_from: str
    cache_status: str
    freshness: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Done:
    """A command that the writer has carried out; `ticks` (seconds) measure durations, `at` is the time of day."""

    step: str
    request: str
    status: int
    body: Json
    ticks: float
    at: datetime


@dataclass(frozen=True)
class View:
    """What a read must show; `body` None: that there is no such thing."""

    path: str
    body: Json | None

    def __str__(self) -> str:
        return f"GET {self.path} -> {'404' if self.body is None else f'200 {json.dumps(self.body)}'}"

    def is_in(self, answer: httpx2.Response) -> bool:
        """Whether the answer is exactly that."""
        if self.body is None:
            return answer.status_code == 404
        return answer.status_code == 200 and bool(answer.json() == self.body)

    def counts(self) -> dict[str, int]:
        """The counters that it shows."""
        return {name: count for name, count in (self.body or {}).items() if name.endswith("_count")}


@dataclass(frozen=True)
class Read:
    """An answer of the reader, `seconds` after the command, and the time up to which it claims to be complete."""

    answer: httpx2.Response
    seconds: float
    as_of: datetime


class Person:
    """Somebody with a token; `shown` is the profile as the reader must show it."""

    def __init__(self, system: System, name: str) -> None:
        self.name = name
        self.shown: Json = {"post_count": 0, "follower_count": 0, "following_count": 0}
        headers = {"Authorization": f"Bearer {system.token(name)}"}
        self.writer = httpx2.Client(
            base_url=system.url("writer"), headers=headers, timeout=15, trust_env=False
        )
        self.reader = httpx2.Client(
            base_url=system.url("reader"), headers=headers, timeout=15, trust_env=False
        )

    def send(self, step: str, method: str, path: str, status: int, body: Json | None = None) -> Done:
        """Send a command. Raises NotAsPromised unless the answer has that status and all that was sent."""
        answer = self.writer.request(method, path, json=body)
        ticks, at = time.perf_counter(), datetime.now(UTC)
        written: Json = answer.json() if answer.status_code == status and answer.content else {}
        if answer.status_code != status or written != {**written, **(body or {})}:
            raise NotAsPromised(
                step, f"{method} {path} -> {status} {json.dumps(body or '')}", in_words(answer)
            )
        return Done(step, f"{method} {path}", status, written, ticks, at)

    def put_profile(self, step: str, status: int, display_name: str) -> Done:
        """Create or change the profile."""
        profile = {"handle": self.name, "display_name": display_name, "bio": f"I am {self.name}."}
        done = self.send(step, "PUT", "/user/me", status, profile)
        self.shown.update(done.body)
        return done

    @property
    def author(self) -> Json:
        """What posts and comments show of their author."""
        return {name: self.shown[name] for name in ("id", "handle", "display_name")}

    @property
    def path(self) -> str:
        return f"/user/{self.shown['id']}"

    def view(self) -> View:
        return View(self.path, self.shown)


class RoundTrip:
    """The steps, in order; joe reads. What must be shown is kept here and follows each command.

    All methods raise NotAsPromised at the first thing that does not hold, and httpx2.TransportError.
    """

    def __init__(self, system: System) -> None:
        self.jane, self.joe = Person(system, "jane"), Person(system, "joe")
        self.post: Json = {}
        self.steps: list[Step] = []
        self.checks: list[str] = []
        self._reads = 0

    def run(self) -> None:
        self.refuse_strangers()
        self.create_profiles()
        self.write_post()
        self.write_comment()
        self.like()
        self.unlike()
        self.edit()
        self.rename()
        self.follow()
        self.grow_fresh(self.delete())
        self.checks.append(
            f"each of the reader's {self._reads} answers said how fresh it was, and none claimed too much"
        )

    def close(self) -> None:
        for person in (self.jane, self.joe):
            person.writer.close()
            person.reader.close()

    def refuse_strangers(self) -> None:
        for client, method, path in (
            (self.jane.writer, "POST", "/post"),
            (self.jane.reader, "GET", "/post/1"),
        ):
            answer = httpx2.request(method, client.base_url.join(path), trust_env=False)
            if answer.status_code != 401:
                raise NotAsPromised("no token", f"{method} {path} -> 401", in_words(answer))
            self.checks.append(f"{method} {path} without a token is answered with 401")

    def create_profiles(self) -> None:
        for person in (self.jane, self.joe):
            done = person.put_profile(f"{person.name} joins", 201, person.name.title())
            self.see(done, person.view())

    def write_post(self) -> None:
        done = self.jane.send("post", "POST", "/post", 201, {"body": "High #water at noon"})
        self.post = {**done.body, "hashtags": ["water"], "like_count": 0, "comment_count": 0}
        self.jane.shown["post_count"] = 1
        lists = [View(path, self._page_of_post()) for path in (f"{self.jane.path}/posts", "/hashtag/water")]
        self.see(done, self._post(), *lists, self.jane.view())

    def write_comment(self) -> None:
        done = self.joe.send("comment", "POST", f"{self._path}/comment", 201, {"body": "Bring boots"})
        self.post["comment_count"] = 1
        self.see(
            done,
            self._post(),
            View(f"{self._path}/comments", _page({**done.body, "author": self.joe.author})),
        )

    def like(self) -> None:
        done = self.joe.send("like", "PUT", f"{self._path}/like", 204)
        self.post["like_count"] = 1
        self.see(done, self._post(), View(f"{self._path}/likes", _page(self.joe.shown)))

    def unlike(self) -> None:
        done = self.joe.send("unlike", "DELETE", f"{self._path}/like", 204)
        self.post["like_count"] = 0
        self.see(done, self._post(), View(f"{self._path}/likes", _page()))

    def edit(self) -> None:
        done = self.jane.send("edit", "PATCH", self._path, 200, {"body": "High #tide at one"})
        self.post.update({**done.body, "hashtags": ["tide"]})
        self.see(
            done, self._post(), View("/hashtag/tide", self._page_of_post()), View("/hashtag/water", _page())
        )

    def rename(self) -> None:
        done = self.jane.put_profile("rename", 200, "Jane Ebb")
        self.see(done, self._post(), self.jane.view(), View(f"{self.jane.path}/posts", self._page_of_post()))

    def follow(self) -> None:
        done = self.joe.send("follow", "PUT", f"{self.jane.path}/follow", 204)
        self.jane.shown["follower_count"] = self.joe.shown["following_count"] = 1
        followers = View(f"{self.jane.path}/followers", _page(self.joe.shown))
        following = View(f"{self.joe.path}/following", _page(self.jane.shown))
        self.see(
            done, self.jane.view(), self.joe.view(), followers, following, View("/feed", self._page_of_post())
        )

    def delete(self) -> Done:
        done = self.jane.send("delete", "DELETE", self._path, 204)
        self.jane.shown["post_count"] = 0
        gone = [View(f"{self._path}{rest}", None) for rest in ("", "/comments", "/likes")]
        empty = [View(path, _page()) for path in (f"{self.jane.path}/posts", "/hashtag/tide", "/feed")]
        self.see(done, *gone, *empty, self.jane.view())
        return done

    def grow_fresh(self, last: Done) -> None:
        """Nothing is written any more; still answers must prove soon that they are newer than the last command."""
        while (read := self._read(last, self.jane.path)).as_of <= last.at:
            if read.seconds > VISIBLE_WITHIN_SECONDS:
                wanted = f"Freshness later than {last.at:%T.%f} within {VISIBLE_WITHIN_SECONDS:g} s"
                raise NotAsPromised("freshness", wanted, in_words(read.answer))
            time.sleep(POLL_SECONDS)
        self.checks.append(
            f"a read proved to be newer than the last command {read.seconds * 1000:.0f} ms after it"
        )

    @property
    def _path(self) -> str:
        return f"/post/{self.post['id']}"

    def _shown_post(self) -> Json:
        return {**self.post, "author": self.jane.author}

    def _post(self) -> View:
        return View(self._path, self._shown_post())

    def _page_of_post(self) -> Json:
        return _page(self._shown_post())

    def see(self, done: Done, first: View, *others: View) -> None:
        """Poll until each read shows the command; the first of them is the one that is measured."""
        read = self._poll(done, first)
        for view in others:
            self._poll(done, view)
        cache_status, freshness = (read.answer.headers[name] for name in ("cache-status", "freshness"))
        served_from = "redis" if cache_status == "redis; hit" else "mongo"
        counts = next((counts for view in (first, *others) if (counts := view.counts())), {})
        visible_ms = round(read.seconds * 1000, 1)
        step = Step(
            done.step, done.request, done.status, visible_ms, served_from, cache_status, freshness, counts
        )
        self.steps.append(step)

    def _poll(self, done: Done, view: View) -> Read:
        while not view.is_in((read := self._read(done, view.path)).answer):
            if read.as_of > done.at:
                wanted = (
                    f"{view}, since it claims to be newer than the answer of the writer at {done.at:%T.%f}"
                )
                raise NotAsPromised(done.step, wanted, in_words(read.answer))
            if read.seconds > VISIBLE_WITHIN_SECONDS:
                raise NotAsPromised(
                    done.step, f"{view} within {VISIBLE_WITHIN_SECONDS:g} s", in_words(read.answer)
                )
            time.sleep(POLL_SECONDS)
        return read

    def _read(self, done: Done, path: str) -> Read:
        answer = self.joe.reader.get(path)
        seconds = time.perf_counter() - done.ticks
        said = FRESHNESS.fullmatch(answer.headers.get("freshness", ""))
        if said is None or "cache-status" not in answer.headers:
            raise NotAsPromised(done.step, f"GET {path} with Freshness and Cache-Status", in_words(answer))
        self._reads += 1
        return Read(answer, seconds, datetime.fromisoformat(said[1]))


def in_words(answer: httpx2.Response) -> str:
    """Status, headers that matter here, and body."""
    told = [
        f"{name}: {answer.headers[name]}" for name in ("freshness", "cache-status") if name in answer.headers
    ]
    return " ".join([str(answer.status_code), *told, answer.text])


def _page(*items: Json) -> Json:
    return {"items": list(items), "next": None}
