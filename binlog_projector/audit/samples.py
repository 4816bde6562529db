"""Samples: cache entries and answers of the reader, checked some seconds after MySQL was read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpx2
import structlog

from binlog_projector.audit.cached import Cached, Found
from binlog_projector.audit.expectations import Expectation, expectations
from binlog_projector.audit.report import CONSISTENT, Difference, Report
from binlog_projector.audit.settling import Settling
from binlog_projector.audit.source import SourceView
from binlog_projector.domain.truth import STALE
from binlog_projector.mysql.consistent_snapshot import consistent_snapshot
from binlog_projector.mysql.freshness import timestamp
from binlog_projector.stores.audit_store import RepairRequest, Touched
from reader.read_model.declarations import ENTITIES
from tidemark.gtid import EMPTY, GtidSet

BEHIND, MOVED, GONE, UNAVAILABLE = "behind", "moved", "gone", "unavailable"
AS_OF = re.compile(r'as-of="([^"]+)"')
log = structlog.get_logger()


@dataclass(frozen=True)
class SampledAnswer:
    """An answer of the reader, which claims to be complete as of `as_of` (RFC 3339)."""

    status: int
    body: bytes
    as_of: str


class ReaderClient:
    """Asks the reader as any client does."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=5, trust_env=False)

    def get(self, path: str) -> SampledAnswer | None:
        """None if there is no answer, or the answer does not say how fresh it is."""
        try:
            answer = self.http.get(path)
        except httpx2.TransportError:
            return None
        bound = AS_OF.search(answer.headers.get("freshness", ""))
        return SampledAnswer(answer.status_code, answer.content, bound[1]) if bound else None

    def close(self) -> None:
        self.http.close()


@dataclass(frozen=True)
class Sample:
    """MySQL's rows as of `gtid_set`, which is all that MySQL had committed by `as_of`."""

    expected: Mapping[str, Expectation]
    gtid_set: GtidSet = EMPTY
    as_of: str = ""


class Samples:
    """Takes a sample when a pass starts, checks it after each of `after_seconds`. `stale`: key -> repair."""

    def __init__(
        self,
        settling: Settling,
        cached: Cached,
        reader: ReaderClient | None,
        size: int,
        after_seconds: Sequence[float],
    ) -> None:
        self.settling = settling
        self.cached = cached
        self.reader = reader
        self.size = size
        self.after_seconds = after_seconds
        self.sample = Sample({})
        self.stale: dict[str, RepairRequest] = {}
        self.due: list[tuple[float, float]] = []

    def take(self) -> None:
        """Choose cached keys, and some documents that may not be cached. Read MySQL once for all."""
        self.stale = {}
        keys = [*self.cached.keys(self.size), *self._other_keys()][: self.size]
        self.sample = self._read_source(keys)
        begun = time.monotonic()
        self.due = [(begun + seconds, seconds) for seconds in sorted(self.after_seconds)]

    def look(self, report: Report) -> None:
        """Check the sample if it is due."""
        while self.due and time.monotonic() >= self.due[0][0]:
            self._look(self.due.pop(0)[1], report)

    def finish(self, report: Report) -> None:
        """Wait for the checks that are left."""
        while self.due and not self.settling.stopping.wait(max(0.0, self.due[0][0] - time.monotonic())):
            self.look(report)

    def look_again(self, keys: Sequence[str]) -> dict[str, RepairRequest]:
        """Read MySQL again for these keys. Returns the keys that are still stale, with their repairs."""
        self.stale, self.sample = {}, self._read_source(keys)
        with self.settling.view_containing(self.sample.gtid_set):
            self._look(0, Report())
        return self.stale

    def _read_source(self, keys: Iterable[str]) -> Sample:
        with consistent_snapshot(self.settling.source) as snapshot:
            expected = expectations(keys, SourceView(snapshot.connection))
        with self.settling.source.session() as connection:
            return Sample(expected, snapshot.executed, timestamp(self.settling.source.clock(connection).now))

    def _look(self, after_seconds: float, report: Report) -> None:
        """Read the stores first, then which keys were touched since: those are not judged."""
        entries = self.cached.entries(self.sample.expected)
        answers = self._answers()
        with self.settling.source.session() as connection:
            now = self.settling.source.clock(connection).now
        with self.settling.store.view() as view:
            touched, build = view.touched_since(self.sample.gtid_set), view.checkpoint.build
        for as_of in {found.watermark.as_of for found in entries.values() if found.watermark}:
            report.stale("redis", now, as_of)
        for key, expected in self.sample.expected.items():
            result = self._judge_entry(entries[key], expected, touched)
            report.sampled("redis", after_seconds, result)
            if result == STALE:
                self._note(Difference("cache entry", STALE, key), build, expected, report)
        for expected in (one for one in self.sample.expected.values() if one.path in answers):
            answer = answers[expected.path]
            result = self._judge_answer(answer, expected, touched)
            report.sampled("reader", after_seconds, result)
            if answer is not None:
                report.stale("reader", now, answer.as_of)
            if result == STALE:
                self._note(Difference("answer", STALE, str(expected.path)), build, expected, report)

    def _judge_entry(self, found: Found, expected: Expectation, touched: Touched) -> str:
        watermark, entry = found
        if watermark is None:
            return UNAVAILABLE
        if entry is None:
            return GONE
        if expected.is_entry(entry):
            return CONSISTENT
        if not GtidSet.parse(watermark.gtid_set) >= self.sample.gtid_set:
            return BEHIND
        return MOVED if touched.any_of({expected.key}) else STALE

    def _judge_answer(self, answer: SampledAnswer | None, expected: Expectation, touched: Touched) -> str:
        if answer is None:
            return UNAVAILABLE
        if expected.is_answer(answer.status, answer.body):
            return CONSISTENT
        if answer.as_of < self.sample.as_of:
            return BEHIND
        return MOVED if touched.any_of(expected.parts) else STALE

    def _answers(self) -> dict[str | None, SampledAnswer | None]:
        paths = [one.path for one in self.sample.expected.values() if one.path]
        return {path: self.reader.get(path) for path in paths} if self.reader else {}

    def _other_keys(self) -> list[str]:
        with self.settling.store.view() as view:
            return [
                entity.key(id)
                for entity in ENTITIES.values()
                for id in view.random_ids(entity.collection, self.size // 10)
            ]

    def _note(self, found: Difference, build: int, expected: Expectation, report: Report) -> None:
        if found not in report.differences:
            report.differences.append(found)
            log.warning("difference", found=str(found), read_at=str(self.sample.gtid_set))
        keys = () if expected.truth else (expected.key,)
        self.stale[expected.key] = RepairRequest(build, str(self.sample.gtid_set), expected.truth, keys)
