"""The keys that the latest messages named, so that a value tells at which points of the tide it is valid."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import islice
from typing import NamedTuple

KEPT = 50_000  # keys, and messages


class Position(NamedTuple):
    """A point of the tide as this process follows it: messages since a reset. `life` counts resets."""

    life: int
    messages: int


class Named:
    """The names of the latest messages, in order."""

    def __init__(self) -> None:
        self.position = Position(0, 0)
        self._names: deque[frozenset[str]] = deque()
        self._unions: dict[tuple[int, int], frozenset[str]] = {}  # of messages, by the first and last
        self._kept = 0

    def add(self, names: frozenset[str]) -> None:
        """One more message."""
        self.position = Position(self.position.life, self.position.messages + 1)
        self._names.append(names)
        self._unions.clear()
        self._kept += 1 + len(names)
        while self._kept > KEPT:
            self._kept -= 1 + len(self._names.popleft())

    def reset(self) -> None:
        self.position = Position(self.position.life + 1, 0)
        self._names.clear()
        self._unions.clear()
        self._kept = 0

    def between(self, keys: Collection[str], one: Position, other: Position) -> bool:
        """False if certainly no message between the two positions named any of `keys`."""
        if one == other:
            return False
        names = self.names(one, other)
        return names is None or not names.isdisjoint(keys)

    def names(self, one: Position, other: Position) -> frozenset[str] | None:
        """All that messages between two positions named; None if it is not known."""
        if one.life != self.position.life or other.life != self.position.life:
            return None
        first, last = sorted((one.messages, other.messages))
        begin = len(self._names) - (self.position.messages - first)
        if begin < 0:
            return None
        union = self._unions.get((first, last))
        if union is None:  # asked for again and again until the next message
            union = frozenset().union(*islice(self._names, begin, begin + last - first))
            self._unions[first, last] = union
        return union
