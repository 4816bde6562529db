"""Composing: an answer is a pure function of parts that are all valid at one moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from reader.asked import EntityQuery, ListQuery, PageQuery, Query
from reader.moments import Shared
from reader.named import Position
from reader.paging import FIRST_PAGE
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, Watermark, page_body, with_author
from reader.read_model.declarations import AUTHORED, MODEL_VERSION, POST, USER, Entity
from reader.replica import Replica


class Answer(msgspec.Struct, frozen=True):
    """A JSON body; None: there is no such document. `version` names exactly these bytes.

    The answer is the read model as of `moment`. `origin` is the worst of its parts.
    """

    body: bytes | None
    version: str
    moment: Watermark
    origin: Origin
    next_cursor: str | None = None


class View:
    """The parts of one composition, all valid at `moment`, and those that it lacks.

    `position`: that moment on this process's tide; None: it is not on it. `replica` is set while it is valid
    at `moment`, too. `stored`: the moment in MongoDB, once known. `pinned`: a part is a page, whose changes no
    message names, so the moment stays.
    """

    __slots__ = ("local", "missing", "moment", "origin", "parts", "pinned", "position", "replica", "stored")

    def __init__(self, moment: Watermark, position: Position | None, replica: Replica | None) -> None:
        self.moment = moment
        self.position = position
        self.replica = replica
        self.stored: Shared | None = None
        self.pinned = False
        self.parts: dict[str, Entry] = {}
        self.missing: dict[str, Wanted | WantedPage] = {}
        self.local: list[Wanted | WantedPage] = []  # parts that the replica gave
        self.origin = Origin.LOCAL

    def get(self, wanted: Wanted | WantedPage) -> Entry | None:
        entry = self.parts.get(wanted.key)
        if entry is None:
            entry = self.replica.get(wanted.key) if self.replica is not None else None
            if entry is None:
                self.missing[wanted.key] = wanted
                return None
            self.parts[wanted.key] = entry
            self.local.append(wanted)
        return entry

    def add(self, parts: Mapping[str, Entry], origin: Origin) -> None:
        self.parts |= parts
        if parts:
            self.came_from(origin)

    def came_from(self, origin: Origin) -> None:
        if origin.rank > self.origin.rank:
            self.origin = origin


def compose(query: Query, view: View) -> Answer | None:
    """The answer, or None if `view.missing` are parts that it needs."""
    view.missing.clear()
    if isinstance(query, EntityQuery):
        return _entity(query, view)
    return _list(query, view) if isinstance(query, ListQuery) else _posts(query, view)


def _entity(query: EntityQuery, view: View) -> Answer | None:
    found = view.get(Wanted(query.entity, query.id))
    if found is None:
        return None
    if not found.present:
        return _absent(view)
    if query.entity.name not in AUTHORED:
        return _present(view, found.body, str(found.version))
    author = view.get(_author(found))
    if author is None:
        return None
    return _present(view, _with_author(found, author), f"{found.version}.{author.version}")


def _list(query: ListQuery, view: View) -> Answer | None:
    """A page of a list; absent if the parent is absent."""
    listing = query.listing
    parent = view.get(Wanted(listing.parent, query.parent_id))
    ids = view.get(Wanted(listing, query.parent_id) if query.page == FIRST_PAGE else WantedPage(query))
    if parent is not None and not parent.present:
        view.missing.clear()
        return _absent(view)
    return None if parent is None or ids is None else _page(view, listing.item, ids)


def _posts(query: PageQuery, view: View) -> Answer | None:
    ids = view.get(WantedPage(query))
    return None if ids is None else _page(view, POST, ids)


def _page(view: View, entity: Entity, ids: Entry) -> Answer | None:
    found = [(id, view.get(Wanted(entity, id))) for id in ids.ids()]
    items = [(id, item) for id, item in found if item is not None and item.present]
    has_author = entity.name in AUTHORED
    authors = [view.get(_author(item)) if has_author else None for _, item in items]
    if view.missing:
        return None
    bodies, named = [], []
    for (id, item), author in zip(items, authors, strict=True):
        bodies.append(_with_author(item, author) if author else item.body)
        named.append(f"{id}@{item.version}+{author.version if author else 0}")
    cursor = ids.head.decode() or None
    digest = hashlib.sha256("\n".join([*named, cursor or ""]).encode()).hexdigest()[:32]
    return _present(view, page_body(bodies, cursor), digest, cursor)


def _author(authored: Entry) -> Wanted:
    return Wanted(USER, int(authored.head))


def _with_author(authored: Entry, author: Entry) -> bytes:
    return with_author(authored.body, author.head if author.present else None)


def _present(view: View, body: bytes, version: str, cursor: str | None = None) -> Answer:
    version = f"{MODEL_VERSION}.{view.moment.epoch}.{version}"
    return Answer(body, version, view.moment, view.origin, cursor)


def _absent(view: View) -> Answer:
    return Answer(None, "", view.moment, view.origin)
