"""Clients that read everything, again and again, and record the answers."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pymysql

from binlog_projector.mysql.connections import Connection, query_row, query_value
from ops.stack import Stack
from tests.conftest import AUTH
from tests.support.harness import admin_connection
from tests.support.services import Services
from tests.verification.torture.history import Observed
from tests.verification.torture.judge import VISIBLE_WITHIN_SECONDS, Answer
from tidemark.consistency_token import HEADER, ConsistencyKeys, verify
from tidemark.gtid import EMPTY, GtidSet

KEYS = ConsistencyKeys.parse(AUTH["TIDEMARK_CONSISTENCY_SECRET"])
AS_OF = re.compile(r'as-of="([^"]+)"')
IDS = range(13)  # added to the first id
PAGES = 3  # of one list in a row, at most
PATHS = (
    *("/post/{id}", "/user/{id}", "/post/{id}/comments", "/post/{id}/likes"),
    *("/user/{id}/posts", "/user/{id}/followers", "/user/{id}/following", "/hashtag/tag{tag}"),
    *("/user/{id}/comments", "/posts", "/user/me", "/user/by-handle/HH{tag}"),
    *("/posts?include=viewer", "/user/{id}?include=viewer", "/post/{id}/likes?include=viewer"),
    *("/hashtag/हिन्दी", "/hashtag/สวัสดี", "/hashtag/Cafe\u0301"),
    *("/feed", "/feed?limit=3", "/feed?order=hot", "/feed?order=hot&limit=3"),
    *("/user/me/notifications", "/user/me/notifications?limit=3"),
)
PAGED = ("/feed", "/hashtag", "/user/me/notifications")


@dataclass
class Token:
    """The latest token of a write, and the time after which these tests do not send it."""

    text: str = ""
    issued: float = 0.0


@dataclass
class Records:
    """Answers, refusals by status, ends of watchers' connections, and MySQL's commits over time."""

    first_id: int
    answers: list[Answer] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    observed: list[Observed] = field(default_factory=list)
    token: Token = field(default_factory=Token)


class Asking:
    """One client. Now and then it sends the latest token of a write, or the ETag of an earlier answer.

    It reads feeds and notifications as anybody, and of `PAGED` often the next page, too.
    """

    def __init__(self, services: Services, records: Records, chance: random.Random) -> None:
        self.services = services
        self.records = records
        self.chance = chance
        self.known: dict[tuple[str, str], tuple[str, Any]] = {}

    def ask_for_anything(self) -> None:
        template = self.chance.choice(PATHS)
        self.ask(template, self.chance.choice(IDS), self.chance.randint(0, 2))

    def ask(self, template: str, number: int, tag: int) -> None:
        subject = f"s{number}"
        path = template.format(id=self.records.first_id + number, tag=tag)
        for _ in range(PAGES):
            next = self._read(path, subject)
            if not next or not path.startswith(PAGED) or self.chance.random() < 0.5:
                return
            path = next

    def _read(self, path: str, subject: str) -> str:
        """Returns the next page's path; empty if there is none."""
        headers, token = {}, EMPTY
        held = self.records.token
        if held.text and time.monotonic() - held.issued < 30 and self.chance.random() < 0.3:
            headers, token = {HEADER: held.text, "Prefer": "wait=1"}, verify(held.text, KEYS, time.time())
        if (path, subject) in self.known and self.chance.random() < 0.3:
            headers["If-None-Match"] = self.known[path, subject][0]
        try:
            answer = self.services.read(path, subject, headers)
        except httpx2.TransportError:
            self.records.refused[0] += 1
            return ""
        self._record(path, subject, token, answer)
        return answer.headers.get("link", "").partition(">")[0].lstrip("<")

    def _record(self, path: str, subject: str, token: GtidSet, answer: httpx2.Response) -> None:
        bound = AS_OF.match(answer.headers.get("freshness", ""))
        if answer.status_code not in (200, 304, 404) or bound is None:
            self.records.refused[answer.status_code] += 1
            return
        body = self.known[path, subject][1] if answer.status_code == 304 else None
        if answer.status_code == 200:
            body = answer.json()
            self.known[path, subject] = answer.headers["etag"], body
        origin = f"{answer.status_code} {answer.headers.get('cache-status', '')}"
        self.records.answers.append(
            Answer(path, body, comparable(bound[1]), token, received(), origin, subject)
        )


def observe(stack: Stack, records: Records, stopping: threading.Event) -> None:
    """Notes MySQL's executed set and then its clock, again and again."""
    while not stopping.wait(0.1):
        with contextlib.suppress(pymysql.err.MySQLError, OSError), admin_connection(stack) as connection:
            while not stopping.wait(0.01):
                observed(connection, records)


def observed(connection: Connection, records: Records) -> str:
    """Returns MySQL's time."""
    executed = GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))
    (now,) = query_row(connection, "SELECT NOW(6)")
    records.observed.append(Observed(now.isoformat(timespec="microseconds"), executed))
    return records.observed[-1].now


def comparable(as_of: str) -> str:
    """A time of either clock as text that sorts like time."""
    return datetime.fromisoformat(as_of).replace(tzinfo=None).isoformat(timespec="microseconds")


def received() -> str:
    """Now (MySQL is on this machine), plus MySQL's possible delay between showing and counting a commit."""
    now = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=VISIBLE_WITHIN_SECONDS)
    return now.isoformat(timespec="microseconds")
