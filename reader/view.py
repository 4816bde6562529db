"""A view: the parts of one composition, found so far, and those that it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    feed, once known. `viewer`: the subject to whom items are shown; None: to anybody.
    """

    __slots__ = (
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

    def get_all(self, kind: Entity | OwnedList, ids: Sequence[int]) -> list[Entry] | None:
        """The entries of many keys of one kind, in order; None if any is missing."""
        keys, parts = kind.keys(ids), self.parts
        new = [key for key in keys if key not in parts]
        if new and self.replica is not None:
            found = self.replica.get_all([key for key in new if key not in self.named] if self.named else new)
            parts |= found
            self.local[kind.label] += len(found)
            new = [] if len(found) == len(new) else [key for key in new if key not in parts]
        if new:
            lacking, wanted = {*new}, zip(keys, ids, strict=True)
            self.missing |= {key: Wanted(kind, id) for key, id in wanted if key in lacking}
            return None
        return [parts[key] for key in keys]

    def add(self, parts: Mapping[str, Entry], origin: Origin) -> None:
        self.parts |= parts
        if parts:
            self.came_from(origin)

    def came_from(self, origin: Origin) -> None:
        if origin.rank > self.origin.rank:
            self.origin = origin
