"""The promises of the cache, of the watermark and of answers, checked during a schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

import redis

from reader.parts import Part
from reader.read_model.cached_values import WATERMARK_KEY, Entry, Watermark, cache_key, decode
from reader.read_model.control import Checkpoint, JournalEntry
from tests.verification.schedules.history import START, Content, History, content_of, last_number
from tests.verification.schedules.redis_commands import read_values

SECONDS_APART = 10  # between two transactions, by MySQL's clock


class BrokenPromise(AssertionError):
    """The message tells the observation and the promise."""


def as_of(number: int, seconds: int = 1) -> str:
    """A moment after transaction `number` and before the next one."""
    return (START + timedelta(seconds=number * SECONDS_APART + seconds)).isoformat(
        timespec="microseconds"
    ) + "Z"


def number_at(moment: str) -> int:
    """The last transaction that was committed at `moment`."""
    return int((datetime.fromisoformat(moment.rstrip("Z")) - START).total_seconds()) // SECONDS_APART


class Promises:
    """Compares Redis's entries and readers' answers with the commits in MongoDB."""

    def __init__(self, cache: redis.Redis, history: History, start: Checkpoint, epoch: str) -> None:
        self._cache = cache
        self._history = history
        self._first = last_number(start.gtid_set)
        self._start = JournalEntry(start, ())
        self._keys = [one.key for one in history.wanted]
        self._entities = {one.key for one in history.wanted[:2]}
        self._epoch = epoch
        self._seen: Mapping[str, Entry] = {}
        self._seen_seq = 0
        self._named: dict[tuple[str, str], Content] = {}
        self.committed: list[JournalEntry] = []
        self.checks: Counter[str] = Counter()  # comparisons by kind

    def forget(self) -> None:
        """Redis has gone back: entries may be older than before."""
        self._seen, self._seen_seq = {}, 0

    def restored(self) -> None:
        """MongoDB has gone back, and uses versions again."""
        self._named = {}

    def look(self) -> None:
        """Checks every promise of the cache. Called after any step that may have changed the cache."""
        watermark, values = self._read()
        if watermark is None:
            return self.forget()
        floor = self._committed_state(watermark)
        if watermark.seq < self._seen_seq:
            raise BrokenPromise(f"the watermark went back from {self._seen_seq} to {watermark.seq}")
        entries = {key: entry for key, value in values.items() if (entry := decode(value)) is not None}
        for key, entry in entries.items():
            self._compare("entries", f"cached under watermark {watermark.seq}", key, entry, floor)
            if key in self._seen and entry.version < self._seen[key].version:
                raise BrokenPromise(
                    f"{key} went back from version {self._seen[key].version} to {entry.version}"
                )
        if watermark.seq == self._seen_seq + 1:
            self._compare_applied(watermark, entries, floor)
        self._seen, self._seen_seq = entries, watermark.seq
        return None

    def answered(self, parts: Mapping[str, Part]) -> None:
        """Checks every promise of an answer."""
        for key, part in parts.items():
            floor = max(self._committed_state(part.proof), 2 * (number_at(part.proof.as_of) - self._first))
            proof = f"answered with the proof of {part.proof.seq} ({part.origin.name})"
            self._compare("parts of answers", proof, key, part.entry, floor)
            if part.entry.present and key in self._entities:
                content = content_of(part.entry)
                if self._named.setdefault((key, part.version), content) != content:
                    raise BrokenPromise(f"{key} has two contents under one version, {part.version}")

    def at_the_end(self, checkpoint: Checkpoint) -> None:
        """MongoDB and the cache have reached the last state; `look` compares the entries with it."""
        watermark, _ = self._read()
        if watermark is None or watermark.seq != checkpoint.seq:
            raise BrokenPromise(f"the cache does not catch up with {checkpoint.seq}: {watermark}")
        if last_number(checkpoint.gtid_set) != self._first + len(self._history.changes):
            raise BrokenPromise(f"not everything was committed: {checkpoint.gtid_set}")
        self.look()

    def _read(self) -> tuple[Watermark | None, dict[str, bytes | None]]:
        """Watermark and entries in one MGET, repeated if the epoch has changed."""
        names = [cache_key(self._epoch, key) for key in self._keys]
        text, *values = read_values(self._cache, [WATERMARK_KEY, *names])
        watermark = Watermark.decode(text) if text else None
        if watermark is not None and watermark.epoch != self._epoch:
            self._epoch = watermark.epoch
            self.forget()
            return self._read()
        return watermark, dict(zip(self._keys, values, strict=True))

    def _compare_applied(self, watermark: Watermark, entries: Mapping[str, Entry], state: int) -> None:
        """What an APPLY has left of the keys that it names is exactly what its batch made them."""
        for key in self._entry_of(watermark).touched:
            if key in entries and content_of(entries[key]) != self._history.states[state][key]:
                raise BrokenPromise(f"{key} is not what batch {watermark.seq} left: {entries[key]!r}")

    def _committed_state(self, mark: Watermark) -> int:
        """The state after the batch that `mark` names."""
        return self._state_after(self._entry_of(mark))

    def _entry_of(self, mark: Watermark) -> JournalEntry:
        """The batch that `mark` names, which MongoDB must have, or have had before a restore."""
        for entry in (self._start, *self.committed):
            known = entry.checkpoint
            named = (mark.build, mark.seq, mark.batch_id, mark.gtid_set)
            if named == (known.build, known.seq, known.batch_id, known.gtid_set):
                return entry
        raise BrokenPromise(f"MongoDB has no batch {mark.lineage}{mark.gtid_set}")

    def _state_after(self, entry: JournalEntry) -> int:
        """The entry's index in the history's states. A part of a transaction has an odd one."""
        return 2 * (last_number(entry.checkpoint.gtid_set) - self._first) + len(entry.partials)

    def _compare(self, kind: str, what: str, key: str, entry: Entry, floor: int) -> None:
        self.checks[kind] += 1
        states = [0, *map(self._state_after, self.committed)]
        content = content_of(entry)
        allowed = [state for state in states if state >= floor]
        if not any(self._history.states[state][key] == content for state in allowed):
            known = [number for number, state in enumerate(self._history.states) if state[key] == content]
            raise BrokenPromise(
                f"{key}, {what}: version {entry.version} is of states {known}, promised was one of {allowed};"
                f" {content!r}"
            )
