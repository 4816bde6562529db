"""The promises of the cache, of the watermark and of answers, checked during a schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from reader.composing import Answer
from reader.read_model.cached_values import WATERMARK_KEY, Entry, Watermark, cache_key, decode
from reader.read_model.control import Checkpoint, JournalEntry
from tests.verification.schedules.history import START, History, content_of, last_number
from tests.verification.schedules.redis_commands import read_values
from tests.verification.schedules.wire import Wire

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

    def __init__(self, cache: Wire, history: History, start: Checkpoint, epoch: str) -> None:
        self._cache = cache
        self._history = history
        self._first = last_number(start.gtid_set)
        self._start = JournalEntry(start, ())
        self._keys = [one.key for one in history.wanted]
        self._epoch = epoch
        self._seen: Mapping[str, Entry] = {}
        self._seen_seq = 0
        self.went_back = False
        self._named: dict[tuple[str, str], Any] = {}
        self._states: dict[Watermark, int] = {}
        self.committed: list[JournalEntry] = []
        self.checks: Counter[str] = Counter()  # comparisons by kind

    def forget(self) -> None:
        """Redis has gone back: entries may be older than before."""
        self._seen, self._seen_seq, self.went_back = {}, 0, True

    def restored(self) -> None:
        """MongoDB has gone back, and uses versions again."""
        self._named = {}

    def look(self) -> None:
        """Checks every promise of the cache. Called after any step that may have changed the cache."""
        watermark, values = self._read()
        if watermark is None:
            return self.forget()
        state = self.state_of(watermark)
        if watermark.seq < self._seen_seq:
            raise BrokenPromise(f"the watermark went back from {self._seen_seq} to {watermark.seq}")
        entries = {key: entry for key, value in values.items() if (entry := decode(value)) is not None}
        for key, entry in entries.items():
            self._compare("entries of Redis", f"cached under watermark {watermark.seq}", key, entry, state)
            if key in self._seen and entry.version < self._seen[key].version:
                raise BrokenPromise(
                    f"{key} went back from version {self._seen[key].version} to {entry.version}"
                )
        self._seen, self._seen_seq = entries, watermark.seq
        return None

    def replicated(self, tide: Watermark | None, entries: Mapping[str, Entry]) -> None:
        """Checks every promise of a replica."""
        if tide is None:
            if entries:
                raise BrokenPromise(f"a replica without a tide has {[*entries]}")
            return
        state = self.state_of(tide)
        for key, entry in entries.items():
            self._compare("entries of replicas", f"in a replica at tide {tide.seq}", key, entry, state)

    def answered(self, asked: str, answer: Answer, at_least: int) -> int:
        """Checks every promise of an answer. `at_least`: the oldest state to show. Returns its own."""
        self.checks["answers"] += 1
        state, _ = self.shown(asked, answer.body, answer.version, answer.moment)
        if state < at_least:
            raise BrokenPromise(f"{asked} is of state {state}, and {at_least} was told before")
        return state

    def shown(self, asked: str, body: bytes | None, version: str, moment: Watermark) -> tuple[int, Any]:
        """Checks that this is the read model at its moment. Returns the state, and the JSON."""
        state, told = self.state_of(moment), _told(body)
        if told != self._history.answer(asked, state):
            known = [at for at in range(len(self._history.states)) if told == self._history.answer(asked, at)]
            raise BrokenPromise(f"{asked} is of states {known}, and names {state}: {told}")
        if told is not None and self._named.setdefault((asked, version), told) != told:
            raise BrokenPromise(f"{asked} has two contents under one version, {version}")
        return state, told

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

    def state_of(self, mark: Watermark) -> int:
        """The state after the batch that `mark` names."""
        if mark not in self._states:
            self._states[mark] = self._committed_state(mark)
        return self._states[mark]

    def _committed_state(self, mark: Watermark) -> int:
        entry = self._entry_of(mark)
        state = self.state_after(entry)
        if self.state_at(mark.as_of) > state:
            raise BrokenPromise(f"{mark} is not complete as of {mark.as_of}")
        if mark.open != bool(entry.partials):
            raise BrokenPromise(f"{mark.open} of an open transaction at {mark}: {entry.partials}")
        return state

    def _entry_of(self, mark: Watermark) -> JournalEntry:
        """The batch that `mark` names, which MongoDB must have, or have had before a restore."""
        for entry in (self._start, *self.committed):
            known = entry.checkpoint
            named = (mark.build, mark.seq, mark.batch_id, mark.gtid_set)
            if named == (known.build, known.seq, known.batch_id, known.gtid_set):
                return entry
        raise BrokenPromise(f"MongoDB has no batch {mark.lineage}{mark.gtid_set}")

    def state_after(self, entry: JournalEntry) -> int:
        """The entry's index in the history's states. A part of a transaction has an odd one."""
        return self.state_with(entry.checkpoint.gtid_set) + len(entry.partials)

    def state_with(self, gtid_set: str) -> int:
        return 2 * (last_number(gtid_set) - self._first)

    @property
    def last_state(self) -> int:
        return self.state_after(self.committed[-1]) if self.committed else 0

    def state_at(self, moment: str) -> int:
        """All that was committed at a time of MySQL's clock."""
        return 2 * (number_at(moment) - self._first)

    def _compare(self, kind: str, what: str, key: str, entry: Entry, state: int) -> None:
        self.checks[kind] += 1
        content = content_of(entry)
        if self._history.states[state][key] != content:
            known = [number for number, one in enumerate(self._history.states) if one[key] == content]
            raise BrokenPromise(
                f"{key}, {what}: version {entry.version} is of states {known}, not of {state}; {content!r}"
            )


def _told(body: bytes | None) -> Any:
    """An answer's JSON; of a cursor only whether there is one."""
    told = None if body is None else msgspec.json.decode(body)
    return {**told, "next": told["next"] is not None} if told and "next" in told else told
