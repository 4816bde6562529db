"""Reads of the demo: each is repeated until it shows a command. Before, it must not claim to be newer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2

VISIBLE_WITHIN_SECONDS = 10.0
POLL_SECONDS = 0.001
FRESHNESS = re.compile(r'as-of="(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"')
Json = dict[str, Any]


class NotAsPromised(Exception):
    """An answer differs from the expected one."""

    def __init__(self, step: str, expected: object, found: str) -> None:
        super().__init__(step, expected, found)
        self.step, self.expected, self.found = step, str(expected), found


@dataclass(frozen=True)
class Done:
    """A command that the writer has carried out; `ticks` (seconds) measure durations, `at` is the time."""

    step: str
    request: str
    status: int
    body: Json
    ticks: float
    at: datetime


@dataclass(frozen=True)
class Expected:
    """The answer that a read must give; `body` None: status 404."""

    path: str
    body: Json | None

    def __str__(self) -> str:
        return f"GET {self.path} -> {'404' if self.body is None else f'200 {json.dumps(self.body)}'}"

    def is_met_by(self, answer: httpx2.Response) -> bool:
        if self.body is None:
            return answer.status_code == 404
        return answer.status_code == 200 and bool(answer.json() == self.body)

    def counts(self) -> dict[str, int]:
        """The counters of the body."""
        return {name: count for name, count in (self.body or {}).items() if name.endswith("_count")}


@dataclass(frozen=True)
class Read:
    """An answer of the reader, `seconds` after the command; `as_of` is its claim of freshness."""

    answer: httpx2.Response
    seconds: float
    as_of: datetime


@dataclass(frozen=True)
class Step:
    """A command that held. `visible_ms`: from the writer's answer to the first read with the change."""

    step: str
    request: str
    status: int
    visible_ms: float
    served_from: str
    cache_status: str
    freshness: str
    counts: Mapping[str, int]


class Observer:
    """Reads with one person's client. Methods raise NotAsPromised and httpx2.TransportError."""

    def __init__(self, reader: httpx2.Client) -> None:
        self.reads = 0
        self._reader = reader

    def see(self, done: Done, first: Expected, *others: Expected) -> Step:
        """Read until all expectations are met; the first one is measured."""
        read = self._until_met(done, first)
        for expected in others:
            self._until_met(done, expected)
        cache_status, freshness = (read.answer.headers[name] for name in ("cache-status", "freshness"))
        served_from = cache_status.removesuffix("; hit") if cache_status.endswith("; hit") else "mongo"
        counts = next((counts for expected in (first, *others) if (counts := expected.counts())), {})
        visible_ms = round(read.seconds * 1000, 1)
        return Step(
            done.step, done.request, done.status, visible_ms, served_from, cache_status, freshness, counts
        )

    def see_newer(self, done: Done, path: str) -> Read:
        """Read until an answer claims to be newer than the command."""
        while (read := self._read(done, path)).as_of <= done.at:
            if read.seconds > VISIBLE_WITHIN_SECONDS:
                expected = f"Freshness later than {done.at:%T.%f} within {VISIBLE_WITHIN_SECONDS:g} s"
                raise NotAsPromised("freshness", expected, in_words(read.answer))
            time.sleep(POLL_SECONDS)
        return read

    def _until_met(self, done: Done, expected: Expected) -> Read:
        while not expected.is_met_by((read := self._read(done, expected.path)).answer):
            if read.as_of > done.at:
                claim = f"it claims to be newer than the answer of the writer at {done.at:%T.%f}"
                raise NotAsPromised(done.step, f"{expected}, since {claim}", in_words(read.answer))
            if read.seconds > VISIBLE_WITHIN_SECONDS:
                late = f"{expected} within {VISIBLE_WITHIN_SECONDS:g} s"
                raise NotAsPromised(done.step, late, in_words(read.answer))
            time.sleep(POLL_SECONDS)
        return read

    def _read(self, done: Done, path: str) -> Read:
        answer = self._reader.get(path)
        seconds = time.perf_counter() - done.ticks
        said = FRESHNESS.fullmatch(answer.headers.get("freshness", ""))
        if said is None or "cache-status" not in answer.headers:
            raise NotAsPromised(done.step, f"GET {path} with Freshness and Cache-Status", in_words(answer))
        self.reads += 1
        return Read(answer, seconds, datetime.fromisoformat(said[1]))


def in_words(answer: httpx2.Response) -> str:
    """Status, the headers of a read, and body."""
    told = [
        f"{name}: {answer.headers[name]}" for name in ("freshness", "cache-status") if name in answer.headers
    ]
    return " ".join([str(answer.status_code), *told, answer.text])
