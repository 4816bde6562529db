"""Clients that watch reads over both transports, through faults, and record all that they are told."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import quote

from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from tests.support.streams import Ended, watching
from tests.support.threads import in_threads
from tests.support.tokens import short_token
from tests.verification.torture.answers import IDS, KEYS, PATHS, Records, comparable, received
from tests.verification.torture.judge import Answer
from tidemark.consistency_token import HEADER, verify
from tidemark.gtid import EMPTY, GtidSet

STREAMS, SOCKETS = 4, 2
WATCHES = 6  # of a WebSocket
QUIET_SECONDS = 60.0  # for all to be told of everything, once nothing is written any more
REASONS = {"token-expired", "drain", "slow", "other-history"}  # that a reader may give for an end
OTHERS = {"left", "broken", "refused"}  # of the client; of the network; `Records.refused` has the status
WATCHED = tuple(path for path in PATHS if "limit=" not in path)
BARRIER = "/"  # messages are answered in order: whatever was watched before is watched


class Had(NamedTuple):
    """The client named the ETag of this state, and got no other."""

    state: Answer


class Tide(NamedTuple):
    as_of: str
    received: str


class Left(NamedTuple):
    path: str


Told = Answer | Had | Tide | Left


class Watcher:
    """A client with one connection after the other. `told`: on each of them. Bodies are JSON texts.

    `quiet`: once it is told a tide of this moment, it has finished.
    """

    def __init__(self, url: str, records: Records, chance: random.Random) -> None:
        self.told: list[list[Told]] = []
        self.quiet = "9999"
        self.finished = False
        self._url = url
        self._records = records
        self._chance = chance
        self._subject = f"s{chance.choice(IDS)}"
        self._known: dict[str, tuple[str, Answer]] = {}  # path -> ETag and state
        self._until = 0.0
        self._settled = True  # what is to be watched is watched

    def run(self, stopping: threading.Event) -> None:
        while not self.finished and not stopping.wait(self._chance.uniform(0, 1)):
            self.told.append([])
            self._until = time.monotonic() + self._chance.uniform(5, 90)
            try:
                end = self._follow(stopping)
            except InvalidStatus as error:
                end = self._refused(error.response.status_code)
            except (Ended, OSError, WebSocketException):
                end = "broken"
            self._records.ends[end] += 1

    def _follow(self, stopping: threading.Event) -> str:
        """One connection, and the reason of its end."""
        raise NotImplementedError

    def _goes_on(self, stopping: threading.Event) -> bool:
        return not self.finished and not stopping.is_set() and time.monotonic() < self._until

    def _token(self) -> str:
        """At times it ends before the connection does."""
        return short_token(self._subject, self._chance.randint(10, 90))

    def _path(self) -> str:
        id, tag = self._records.first_id + self._chance.choice(IDS), self._chance.randint(0, 2)
        return quote(self._chance.choice(WATCHED).format(id=id, tag=tag), safe="/?=&")

    def _etag(self, path: str) -> str:
        return self._known[path][0] if path in self._known else ""

    def _refused(self, status: int) -> str:
        self._records.refused[status] += 1
        return "refused"

    def _shown(self, path: str, message: Mapping[str, Any], token: GtidSet = EMPTY) -> None:
        body = json.dumps(message["body"]) if message["status"] == 200 else None
        as_of, origin = comparable(message["as_of"]), f"watched: {message['status']}"
        state = Answer(path, body, as_of, token, received(), origin, self._subject)
        self.told[-1].append(state)
        self._known.pop(path, None)
        if message["etag"]:
            self._known[path] = message["etag"], state

    def _tide(self, as_of: str) -> None:
        self.told[-1].append(Tide(comparable(as_of), received()))
        self.finished = self._settled and comparable(as_of) >= self.quiet


class StreamWatcher(Watcher):
    """Watches one read at a time, the same one again with its ETag, or another, at times with a token."""

    _watched = ""

    def _follow(self, stopping: threading.Event) -> str:
        if not self._watched or self._chance.random() < 0.5:
            self._watched = self._path()
        headers, path, token = {"Authorization": f"Bearer {self._token()}"}, self._watched, EMPTY
        held = self._records.token
        if etag := self._etag(path):
            headers["Last-Event-ID"] = etag
        elif held.text and time.monotonic() - held.issued < 30 and self._chance.random() < 0.5:
            token = verify(held.text, KEYS, time.time())
            headers |= {HEADER: held.text, "Prefer": "wait=1"}
        with watching(self._url, path, headers) as stream:
            if stream.status != 200:
                return self._refused(stream.status)
            if etag:
                self.told[-1].append(Had(self._known[path][1]))
            while self._goes_on(stopping):
                stream.events.clear()
                try:
                    event = stream.next("state", "tide", "end", seconds=1)
                except TimeoutError:
                    continue
                if event.name == "end":
                    return str(event.data["reason"])
                if event.name == "tide":
                    self._tide(event.data["as_of"])
                else:
                    self._shown(path, event.data, token)
                    token = EMPTY
        return "left"


class SocketWatcher(Watcher):
    """Watches several reads, and now and then another one in place of one of them."""

    def _follow(self, stopping: threading.Event) -> str:
        headers = {"Authorization": f"Bearer {self._token()}"}
        url = f"ws{self._url.removeprefix('http')}/live"
        watched = [*self._known][: WATCHES // 2]
        while len(watched) < WATCHES:
            watched = [*dict.fromkeys([*watched, self._path()])]
        first, self._settled = tuple(watched), False
        with connect(url, additional_headers=headers, compression=None, proxy=None) as socket:
            for path in watched:
                socket.send(json.dumps({"watch": path, "etag": self._etag(path)}))
            socket.send(json.dumps({"unwatch": BARRIER}))
            while self._goes_on(stopping):
                if self.quiet == "9999" and self._chance.random() < 0.02:
                    socket.send(json.dumps({"unwatch": watched.pop(0)}))
                    watched.append(self._path())
                    socket.send(json.dumps({"watch": watched[-1]}))
                try:
                    message = json.loads(socket.recv(timeout=1))
                except TimeoutError:
                    continue
                if "end" in message:
                    return str(message["end"])
                if "problem" in message:
                    return self._refused(message["problem"]["status"])
                self._hear(message, first)
        return "left"

    def _hear(self, message: Mapping[str, Any], first: Sequence[str]) -> None:
        if "tide" in message:
            self._tide(message["tide"])
        elif message.get("path") == BARRIER:
            shown = {told.path for told in self.told[-1] if isinstance(told, Answer)}
            unshown = [path for path in first if path in self._known and path not in shown]
            self.told[-1] += [Had(self._known[path][1]) for path in unshown]
            self._settled = True
        elif "unwatched" in message:
            self.told[-1].append(Left(message["path"]))
        else:
            self._shown(message["path"], message)


class Watchers:
    """All of them, each in a thread. They take the readers in turn."""

    def __init__(self, urls: Sequence[str], records: Records, seed: int) -> None:
        kinds = [*[StreamWatcher] * STREAMS, *[SocketWatcher] * SOCKETS]
        self.all = [
            kind(url, records, random.Random(f"{seed}:watch {at}"))
            for at, (kind, url) in enumerate(zip(kinds, cycle(urls), strict=False))
        ]

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """For the length of a block."""
        return in_threads([one.run for one in self.all])

    def wait_until_quiet(self, moment: str) -> None:
        """Until all are told of all up to this moment; who is not has not `finished`."""
        deadline = time.monotonic() + QUIET_SECONDS
        for one in self.all:
            one.quiet = moment
        while time.monotonic() < deadline and not all(one.finished for one in self.all):
            time.sleep(0.05)
