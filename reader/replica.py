"""The replica: entries of the read model that this process holds, all of them valid at the tide."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from reader.metrics import ReaderMetrics
from reader.read_model.cached_values import Entry

OVERHEAD_BYTES = 400  # of an entry beside its bytes: key, objects, places in tables
PART_BYTES = 120  # of an answer
LEFT_KEPT = 10_000  # keys


class Kept(NamedTuple):
    """A composed answer, with the entries it was made of. It is valid while the replica has all these.

    `checked`: how many entries had left the replica when it had all these for certain.
    """

    answer: Any
    parts: Sequence[Mapping[str, Entry]]
    bytes: int
    checked: int


class Replica:
    """At most `limit_bytes` of entries and answers; the least recently used goes first. 0: it keeps none.

    `dropped` is told the keys of entries that a message took away, and all names of the message.
    """

    dropped: Callable[[Sequence[str], Collection[str]], None] = staticmethod(lambda keys, names: None)

    def __init__(self, limit_bytes: int, metrics: ReaderMetrics) -> None:
        self._limit = limit_bytes
        self._drops = metrics.replica_drops
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._answers: OrderedDict[str, Kept] = OrderedDict()
        self._left = 0  # entries that are not here any more
        self._latest_left: deque[str] = deque(maxlen=LEFT_KEPT)
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def get_all(self, keys: Iterable[str]) -> dict[str, Entry]:
        """The entries that are here, by key."""
        entries = self._entries
        found = {key: entry for key in keys if (entry := entries.get(key)) is not None}
        deque(map(entries.move_to_end, found), maxlen=0)
        return found

    def put(self, key: str, entry: Entry) -> None:
        size = _size(entry)
        if key not in self._entries and size <= self._limit:
            self._entries[key] = entry
            self.bytes += size
            self._make_room()

    def answer(self, path: str) -> Kept | None:
        """The answer kept for `path`, if all its entries are there still."""
        kept = self._answers.get(path)
        if kept is None:
            return None
        if kept.checked != self._left:
            if self._gone(kept):
                return None
            kept = self._answers[path] = kept._replace(checked=self._left)
        self._answers.move_to_end(path)
        return kept

    def former(self, path: str) -> tuple[Any, Collection[str]] | None:
        """The answer kept for `path`, valid or not, and the keys of its parts that are here no more."""
        kept = self._answers.get(path)
        return None if kept is None else (kept.answer, self._gone(kept))

    def keep(self, path: str, answer: Any, parts: Sequence[Mapping[str, Entry]], size: int) -> None:
        """Keep an answer of `size` bytes, made of `parts`, all of which are here."""
        if path in self._answers:
            self._forget(path)
        size += OVERHEAD_BYTES + PART_BYTES * sum(map(len, parts))
        if size <= self._limit:
            self._answers[path] = Kept(answer, parts, size, self._left)
            self.bytes += size
            self._make_room()

    def _gone(self, kept: Kept) -> list[str]:
        """The keys of its parts that have left since, also those that came back."""
        since, parts = self._left - kept.checked, kept.parts
        if since > min(LEFT_KEPT, sum(map(len, parts))):
            return [
                key for some in parts for key, entry in some.items() if self._entries.get(key) is not entry
            ]
        return [
            key for key in islice(reversed(self._latest_left), since) if any(key in some for some in parts)
        ]

    def drop(self, keys: Collection[str]) -> None:
        """A message named them."""
        dropped = [key for key in keys if key in self._entries]
        if dropped:
            self._drop(dropped, "named")
            self.dropped(dropped, keys)

    def drop_if(self, is_gone: Callable[[str], bool]) -> None:
        """No message will name them any more."""
        self._drop([key for key in self._entries if is_gone(key)], "away")

    def unread(self, keys: Iterable[str]) -> None:
        """Nobody has asked for these entries yet: for memory, they go first."""
        for key in keys:
            if key in self._entries:
                self._entries.move_to_end(key, last=False)

    def clear(self) -> None:
        self._drops.add("reset", amount=len(self._entries))
        self._entries.clear()
        self._answers.clear()
        self.bytes = 0

    def _drop(self, keys: Sequence[str], cause: str) -> None:
        for key in keys:
            self.bytes -= _size(self._entries.pop(key))
        self._leaves(keys)
        self._drops.add(cause, amount=len(keys))

    def _make_room(self) -> None:
        """Answers go first: they can be made again from entries."""
        while self.bytes > self._limit:
            if self._answers:
                self._forget(next(iter(self._answers)))
            else:
                key, entry = self._entries.popitem(last=False)
                self.bytes -= _size(entry)
                self._leaves([key])
            self._drops.add("memory")

    def _leaves(self, keys: Sequence[str]) -> None:
        self._left += len(keys)
        self._latest_left.extend(keys)

    def _forget(self, path: str) -> None:
        self.bytes -= self._answers.pop(path).bytes


def _size(entry: Entry) -> int:
    return OVERHEAD_BYTES + len(entry.head) + len(entry.body)
