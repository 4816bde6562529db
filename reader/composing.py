"""Composing: an answer is a pure function of parts that are all valid at one moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from reader.asked import EntityQuery, FeedQuery, HashtagQuery, ListQuery, Query
from reader.feed import Ids, all_of, merged, newest, page_of
from reader.moments import Shared
from reader.named import Position
from reader.paging import FIRST_PAGE, Page
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, Watermark, page_body, with_author
from reader.read_model.declarations import (
    AUTHORED,
    MODEL_VERSION,
    PAGE_LIMIT,
    POST,
    POSTS_BY_HASHTAG,
    USER,
    USER_FOLLOWEES,
    USER_POSTS,
    USERS_BY_SUBJECT,
    Entity,
)
from reader.read_model.scans import CachedList
from reader.replica import Replica
from tidemark.hashtags import MAX_LENGTH


class Answer(msgspec.Struct, frozen=True):
    """A JSON body; None: there is no such document. `version` names exactly these bytes.

    The answer is the read model as of `moment`. `origin` is the worst of its parts.
    """

    body: bytes | None
    version: str
    moment: Watermark
    origin: Origin
    next_cursor: str | None = None
    view: View | None = None  # that it was composed of


class View:
    """The parts of one composition, all valid at `moment`, and those that it lacks.

    `position`: that moment on this process's tide; None: it is not on it. `replica` is set while it is valid
    at `moment`, too. `stored`: the moment in MongoDB, once known. `pinned`: a part is a page, whose
    changes no message names, so the moment stays.
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
    match query:
        case EntityQuery():
            return _entity(query, view)
        case ListQuery():
            return _list(query, view)
        case HashtagQuery(tag, page):
            fits = len(tag) <= 2 * MAX_LENGTH  # in lower case a letter may be two
            return _page(view, POST, _ids(view, POSTS_BY_HASHTAG, tag, page) if fits else Ids([], None))
        case FeedQuery():
            return _feed(query, view)


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
    ids = _ids(view, listing, query.parent_id, query.page)
    if parent is not None and not parent.present:
        view.missing.clear()
        return _absent(view)
    return None if parent is None else _page(view, listing.item, ids)


def _ids(view: View, kept: CachedList, value: int | str, page: Page) -> Ids | None:
    """A page of ids: from the cached list if it reaches so far."""
    if page == FIRST_PAGE or kept.limit > PAGE_LIMIT:
        first = view.get(Wanted(kept, value))
        if first is None:
            return None
        if (ids := page_of(first, page)) is not None:
            return ids
    found = view.get(WantedPage(kept, (value,), page))
    return None if found is None else all_of(found)


def _feed(query: FeedQuery, view: View) -> Answer | None:
    """The newest posts of the caller's user and of those whom this one follows."""
    users = view.get(Wanted(USERS_BY_SUBJECT, query.subject))
    if users is None or not users.present:
        return None if users is None else _page(view, POST, Ids([], None))
    (user,) = users.ids()
    followees = view.get(Wanted(USER_FOLLOWEES, user))
    if followees is None:
        return None
    authors = dict.fromkeys((user, *followees.ids()))
    found: list[int] = []
    deeper = tuple(authors)
    if view.position is not None:  # else all is read from MongoDB: not a head of each
        heads = [(author, view.get(Wanted(USER_POSTS, author))) for author in authors]
        if view.missing:
            return None
        found, deeper = newest([(author, head) for author, head in heads if head is not None], query.page)
    others = view.get(WantedPage(USER_POSTS, deeper, query.page)) if deeper else None
    if view.missing:
        return None
    ids = merged(found, others, query.page)
    return _page(view, POST, ids, complete=not followees.head)


def _page(view: View, entity: Entity, ids: Ids | None, *, complete: bool = True) -> Answer | None:
    if ids is None:
        return None
    found = [(id, view.get(Wanted(entity, id))) for id in ids.ids]
    items = [(id, item) for id, item in found if item is not None and item.present]
    has_author = entity.name in AUTHORED
    authors = [view.get(_author(item)) if has_author else None for _, item in items]
    if view.missing:
        return None
    bodies, named = [], []
    for (id, item), author in zip(items, authors, strict=True):
        bodies.append(_with_author(item, author) if author else item.body)
        named.append(f"{id}@{item.version}+{author.version if author else 0}")
    named += [ids.cursor or "", *([] if complete else ["incomplete"])]
    digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:32]
    return _present(view, page_body(bodies, ids.cursor, complete=complete), digest, ids.cursor)


def _author(authored: Entry) -> Wanted:
    return Wanted(USER, int(authored.head))


def _with_author(authored: Entry, author: Entry) -> bytes:
    return with_author(authored.body, author.head if author.present else None)


def _present(view: View, body: bytes, version: str, cursor: str | None = None) -> Answer:
    version = f"{MODEL_VERSION}.{view.moment.epoch}.{version}"
    return Answer(body, version, view.moment, view.origin, cursor, view)


def _absent(view: View) -> Answer:
    return Answer(None, "", view.moment, view.origin, None, view)
