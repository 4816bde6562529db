"""The keys that the latest messages named, so that a value tells at which points of the tide it is valid."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from itertools import islice
from typing import NamedTuple, Protocol

KEPT = 50_000  # keys, and batches


class Position(NamedTuple):
    """A point of the tide as this process follows it: batches since a reset. `life` counts resets."""

    life: int
    messages: int


class Listener(Protocol):
    """Is told at once, before the tide moves."""

    def named(self, names: frozenset[str], counted: frozenset[str]) -> None:
        """A batch named `names`; of those in `counted` only counters changed."""

    def reset(self) -> None:
        """Messages may have been missed."""


class Named:
    """The names of the latest messages, in order."""

    listener: Listener | None = None

    def __init__(self) -> None:
        self.position = Position(0, 0)
        self._names: deque[frozenset[str] | None] = deque()
        self._unions: dict[tuple[int, int], frozenset[str]] = {}  # of messages, by the first and last
        self._unknown = 0  # batches whose names are not all known
        self._kept = 0
        self._begin_batch()

    def add(
        self, keys: Iterable[str], counted: Iterable[str] = (), *, last: bool = True, whole: bool = True
    ) -> frozenset[str]:
        """One more message; of the names in `counted` only counters changed.

        A batch counts at its last message. Returns its names then, else nothing. `whole`: these are all;
        otherwise the listener hears of a reset, as a later message would prove nothing about the others.
        """
        self._counted.update(counted)
        self._others.update(keys)
        if not last:
            return frozenset()
        names, counted = frozenset(self._others | self._counted), frozenset(self._counted)
        self._begin_batch()
        self.position = Position(self.position.life, self.position.messages + 1)
        self._names.append(names if whole else None)
        self._unions.clear()
        self._unknown += not whole
        self._kept += 1 + len(names) * whole
        while self._kept > KEPT:
            self._forget(self._names.popleft())
        if self.listener is not None and whole:
            self.listener.named(names, counted)
        elif self.listener is not None:
            self.listener.reset()
        return names

    def _forget(self, names: frozenset[str] | None) -> None:
        self._kept -= 1 + len(names or ())
        self._unknown -= names is None

    def _begin_batch(self) -> None:
        self._others: set[str] = set()
        self._counted: set[str] = set()

    def reset(self) -> None:
        self.position = Position(self.position.life + 1, 0)
        self._names.clear()
        self._unions.clear()
        self._kept = self._unknown = 0
        self._begin_batch()
        if self.listener is not None:
            self.listener.reset()

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
            some = [*islice(self._names, begin, begin + last - first)]
            if self._unknown and None in some:
                return None
            union = frozenset[str]().union(*filter(None, some))
            self._unions[first, last] = union
        return union
