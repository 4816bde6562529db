"""The script of the demo: jane and joe write, and each answer of the reader must be the expected one."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import httpx2

from ops.observer import Done, Expected, Json, NotAsPromised, Observer, Step, in_words
from ops.system import System


class Person:
    """A user with a token; `shown` is the profile as the reader must show it."""

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
        """Send a command. Raises NotAsPromised unless the answer has `status` and all of `body`."""
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
        """The author as posts and comments show it."""
        return {name: self.shown[name] for name in ("id", "handle", "display_name")}

    @property
    def path(self) -> str:
        return f"/user/{self.shown['id']}"

    def profile(self) -> Expected:
        return Expected(self.path, self.shown)


class RoundTrip:
    """The steps, in order; joe reads. The expected documents are kept here, and change with each command.

    Methods raise NotAsPromised at the first wrong answer, and httpx2.TransportError.
    """

    def __init__(self, system: System) -> None:
        self.jane, self.joe = Person(system, "jane"), Person(system, "joe")
        self.post: Json = {}
        self.steps: list[Step] = []
        self.checks: list[str] = []
        self.observer = Observer(self.joe.reader)

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
            f"each of the reader's {self.observer.reads} answers said how fresh it was, "
            "and none claimed too much"
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
            self.see(done, person.profile())

    def write_post(self) -> None:
        done = self.jane.send("post", "POST", "/post", 201, {"body": "High #water at noon"})
        self.post = {**done.body, "hashtags": ["water"], "like_count": 0, "comment_count": 0}
        self.jane.shown["post_count"] = 1
        lists = [
            Expected(path, self._page_of_post()) for path in (f"{self.jane.path}/posts", "/hashtag/water")
        ]
        self.see(done, self._post(), *lists, self.jane.profile())

    def write_comment(self) -> None:
        done = self.joe.send("comment", "POST", f"{self._path}/comment", 201, {"body": "Bring boots"})
        self.post["comment_count"] = 1
        self.see(
            done,
            self._post(),
            Expected(f"{self._path}/comments", _page({**done.body, "author": self.joe.author})),
        )

    def like(self) -> None:
        done = self.joe.send("like", "PUT", f"{self._path}/like", 204)
        self.post["like_count"] = 1
        self.see(done, self._post(), Expected(f"{self._path}/likes", _page(self.joe.shown)))

    def unlike(self) -> None:
        done = self.joe.send("unlike", "DELETE", f"{self._path}/like", 204)
        self.post["like_count"] = 0
        self.see(done, self._post(), Expected(f"{self._path}/likes", _page()))

    def edit(self) -> None:
        done = self.jane.send("edit", "PATCH", self._path, 200, {"body": "High #tide at one"})
        self.post.update({**done.body, "hashtags": ["tide"]})
        self.see(
            done,
            self._post(),
            Expected("/hashtag/tide", self._page_of_post()),
            Expected("/hashtag/water", _page()),
        )

    def rename(self) -> None:
        done = self.jane.put_profile("rename", 200, "Jane Ebb")
        self.see(
            done, self._post(), self.jane.profile(), Expected(f"{self.jane.path}/posts", self._page_of_post())
        )

    def follow(self) -> None:
        done = self.joe.send("follow", "PUT", f"{self.jane.path}/follow", 204)
        self.jane.shown["follower_count"] = self.joe.shown["following_count"] = 1
        followers = Expected(f"{self.jane.path}/followers", _page(self.joe.shown))
        following = Expected(f"{self.joe.path}/following", _page(self.jane.shown))
        self.see(
            done,
            self.jane.profile(),
            self.joe.profile(),
            followers,
            following,
            Expected("/feed", self._page_of_post()),
        )

    def delete(self) -> Done:
        done = self.jane.send("delete", "DELETE", self._path, 204)
        self.jane.shown["post_count"] = 0
        gone = [Expected(f"{self._path}{rest}", None) for rest in ("", "/comments", "/likes")]
        empty = [Expected(path, _page()) for path in (f"{self.jane.path}/posts", "/hashtag/tide", "/feed")]
        self.see(done, *gone, *empty, self.jane.profile())
        return done

    def grow_fresh(self, last: Done) -> None:
        """After the last write, answers must soon prove to be newer than the last command."""
        read = self.observer.see_newer(last, self.jane.path)
        self.checks.append(
            f"a read proved to be newer than the last command {read.seconds * 1000:.0f} ms after it"
        )

    @property
    def _path(self) -> str:
        return f"/post/{self.post['id']}"

    def _shown_post(self) -> Json:
        return {**self.post, "author": self.jane.author}

    def _post(self) -> Expected:
        return Expected(self._path, self._shown_post())

    def _page_of_post(self) -> Json:
        return _page(self._shown_post())

    def see(self, done: Done, first: Expected, *others: Expected) -> None:
        self.steps.append(self.observer.see(done, first, *others))


def _page(*items: Json) -> Json:
    return {"items": list(items), "next": None}
