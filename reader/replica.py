"""The replica: entries of the read model that this process holds, all of them valid at the tide."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from reader.metrics import ReaderMetrics
from reader.read_model.cached_values import Entry

OVERHEAD_BYTES = 400  # of an entry beside its bytes: key, objects, places in tables


class Replica:
    """At most `limit_bytes` of entries by key; the least recently used one goes first. 0: it keeps none."""

    def __init__(self, limit_bytes: int, metrics: ReaderMetrics) -> None:
        self._limit = limit_bytes
        self._drops = metrics.replica_drops
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry) -> None:
        size = _size(entry)
        if key in self._entries or size > self._limit:
            return
        self._entries[key] = entry
        self.bytes += size
        while self.bytes > self._limit:
            _, last = self._entries.popitem(last=False)
            self.bytes -= _size(last)
            self._drops.add("memory")

    def drop(self, keys: Iterable[str]) -> None:
        """A message named them."""
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self.bytes -= _size(entry)
                self._drops.add("named")

    def clear(self) -> None:
        self._drops.add("reset", amount=len(self._entries))
        self._entries.clear()
        self.bytes = 0


def _size(entry: Entry) -> int:
    return OVERHEAD_BYTES + len(entry.head) + len(entry.body)
