"""A view: the parts of one composition, found so far, and those that it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Set
from typing import NamedTuple

from reader.heads import Heads
from reader.moments import Shared
from reader.named import Position
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, Watermark
from reader.read_model.entities import Entity, OwnedList
from reader.replica import Replica


class Newest(NamedTuple):
    """The newest posts of a feed. `complete`: False if it leaves out followees."""

    ids: list[int]
    complete: bool = True


class View:
    """The parts of one composition, all valid at `moment`, and those that it lacks.

    `position`: that moment on this process's tide; None: it is not on it. The `replica`, if set, is valid at
    `moment`, too, but for the keys that messages have `named` since. `stored`: the moment in MongoDB, once
    known. `pages`: parts whose changes no message names, so that the moment stays. `newest`: the posts of a
    feed, once known; `heads`: of its authors, at first those of a former composition, of which `gone` are
    not valid any more. `viewer`: the subject to whom items are shown; None: to anybody.
    """

    __slots__ = (
        "gone",
        "heads",
        "local",
        "missing",
        "moment",
        "named",
        "newest",
        "origin",
        "pages",
        "parts",
        "position",
        "replica",
        "stored",
        "viewer",
    )

    def __init__(self, moment: Watermark, position: Position | None, replica: Replica | None) -> None:
        self.moment = moment
        self.position = position
        self.replica = replica
        self.named: frozenset[str] = frozenset()
        self.stored: Shared | None = None
        self.pages: list[WantedPage] = []
        self.newest: Newest | None = None
        self.heads: Heads | None = None
        self.gone: Collection[str] = ()
        self.parts: dict[str, Entry] = {}
        self.missing: dict[str, Wanted | WantedPage] = {}
        self.local: Counter[str] = Counter()  # parts that the replica gave, by label
        self.origin = Origin.LOCAL
        self.viewer: str | None = None

    def get(self, wanted: Wanted | WantedPage) -> Entry | None:
        key = wanted.key
        entry = self.parts.get(key)
        if entry is None:
            if self.replica is not None and key not in self.named:
                entry = self.replica.get(key)
            if entry is None:
                self.missing[key] = wanted
                return None
            self.parts[key] = entry
            self.local[wanted.label] += 1
        return entry

    def get_all(self, kind: Entity | OwnedList, wanted: Mapping[str, int]) -> dict[str, Entry] | None:
        """The entries of many keys of one kind, in order; None if any is missing. `wanted`: key -> id."""
        parts = self.parts
        new = [key for key in wanted if key not in parts]
        if new and self.replica is not None:
            found = self.replica.get_all([key for key in new if key not in self.named] if self.named else new)
            parts |= found
            self.local[kind.label] += len(found)
            new = [] if len(found) == len(new) else [key for key in new if key not in parts]
        if new:
            self.missing |= {key: Wanted(kind, wanted[key]) for key in new}
            return None
        return {key: parts[key] for key in wanted}

    @property
    def all_parts(self) -> tuple[Mapping[str, Entry], ...]:
        return (self.parts,) if self.heads is None else (self.parts, self.heads.entries)

    def depends_on(self, names: Set[str]) -> bool:
        return not all(parts.keys().isdisjoint(names) for parts in self.all_parts)

    def add(self, parts: Mapping[str, Entry], origin: Origin) -> None:
        self.parts |= parts
        if parts:
            self.came_from(origin)

    def came_from(self, origin: Origin) -> None:
        if origin.rank > self.origin.rank:
            self.origin = origin
