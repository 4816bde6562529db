"""A view: the parts of one composition, found so far, and those that it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from reader.moments import Shared
from reader.named import Position
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, Watermark
from reader.read_model.entities import Entity
from reader.read_model.scans import CachedList
from reader.replica import Replica


class View:
    """The parts of one composition, all valid at `moment`, and those that it lacks.

    `position`: that moment on this process's tide; None: it is not on it. `replica` is set while it is valid
    at `moment`, too. `stored`: the moment in MongoDB, once known. `pinned`: a part is a page, whose
    changes no message names, so the moment stays. `viewer`: the subject to whom items are shown; None: to
    anybody.
    """

    __slots__ = (
        *("local", "missing", "moment", "origin", "parts", "pinned", "position", "replica", "stored"),
        "viewer",
    )

    def __init__(self, moment: Watermark, position: Position | None, replica: Replica | None) -> None:
        self.moment = moment
        self.position = position
        self.replica = replica
        self.stored: Shared | None = None
        self.pinned = False
        self.parts: dict[str, Entry] = {}
        self.missing: dict[str, Wanted | WantedPage] = {}
        self.local: Counter[str] = Counter()  # parts that the replica gave, by label
        self.origin = Origin.LOCAL
        self.viewer: str | None = None

    def get(self, wanted: Wanted | WantedPage) -> Entry | None:
        entry = self.parts.get(wanted.key)
        if entry is None:
            entry = self.replica.get(wanted.key) if self.replica is not None else None
            if entry is None:
                self.missing[wanted.key] = wanted
                return None
            self.parts[wanted.key] = entry
            self.local[wanted.label] += 1
        return entry

    def get_all(self, kind: Entity | CachedList, ids: Sequence[int]) -> list[Entry] | None:
        """The entries of many keys of one kind, in order; None if any is missing."""
        parts, keys = self.parts, [*map(kind.key, ids)]
        new = [key for key in keys if key not in parts]
        if new and self.replica is not None:
            found = self.replica.get_all(new)
            parts |= found
            self.local[kind.label] += len(found)
        if any(key not in parts for key in new):
            wanted = zip(keys, ids, strict=True)
            self.missing |= {key: Wanted(kind, id) for key, id in wanted if key not in parts}
            return None
        return [parts[key] for key in keys]

    def add(self, parts: Mapping[str, Entry], origin: Origin) -> None:
        self.parts |= parts
        if parts:
            self.came_from(origin)

    def came_from(self, origin: Origin) -> None:
        if origin.rank > self.origin.rank:
            self.origin = origin
