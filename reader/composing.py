"""Composing: an answer is a pure function of parts that are all valid at one moment."""

from __future__ import annotations

import hashlib

import msgspec

from reader.asked import (
    EntityQuery,
    EverybodyQuery,
    FeedQuery,
    HashtagQuery,
    HotQuery,
    ListQuery,
    NotificationsQuery,
    Query,
    UserQuery,
    ViewedQuery,
)
from reader.feed import Ids, all_of, feed, hot_feed, page_of
from reader.notifications import notifications
from reader.paging import FIRST_PAGE, Page
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, Watermark, page_body, with_author
from reader.read_model.declarations import (
    AUTHORED,
    EVERYBODY_POSTS,
    MODEL_VERSION,
    POST,
    POSTS_BY_HASHTAG,
    USER,
    USERS_BY_SUBJECT,
)
from reader.read_model.entities import PAGE_LIMIT, Entity
from reader.read_model.scans import CachedList
from reader.view import View
from reader.viewer import Mark, marks
from tidemark.hashtags import MAX_LENGTH


class Answer(msgspec.Struct, frozen=True):
    """A JSON body; None: there is no such document. `version` names exactly these bytes.

    The answer is the read model as of `moment`. `origin` is the worst of its parts.
    """

    body: bytes | None
    version: str
    moment: Watermark
    origin: Origin
    view: View  # that it was composed of
    next_cursor: str | None = None


def compose(query: Query, view: View) -> Answer | None:
    """The answer, or None if `view.missing` are parts that it needs."""
    view.missing.clear()
    if isinstance(query, ViewedQuery):
        view.viewer, query = query.subject, query.query
        view.get(Wanted(USERS_BY_SUBJECT, view.viewer))  # at once: a level less
    match query:
        case EntityQuery():
            return _entity(query, view)
        case UserQuery():
            return _user(query, view)
        case ListQuery():
            return _list(query, view)
        case HashtagQuery(tag, page):
            fits = len(tag) <= 2 * MAX_LENGTH  # in lower case a letter may be two
            return _page(view, POST, _ids(view, POSTS_BY_HASHTAG, tag, page) if fits else Ids([], None))
        case EverybodyQuery(page):
            return _page(view, POST, _ids(view, EVERYBODY_POSTS, "", page))
        case FeedQuery(subject, page):
            return _page(view, POST, feed(view, subject, page))
        case HotQuery(subject, page):
            return _page(view, POST, hot_feed(view, subject, page))
        case NotificationsQuery(subject, page):
            shown = notifications(view, subject, page)
            return None if shown is None else _present(view, *shown)


def _entity(query: EntityQuery, view: View) -> Answer | None:
    found = view.get(Wanted(query.entity, query.id))
    (mark,) = marks(view.get, view.viewer, query.entity, [query.id])
    if found is None:
        return None
    if not found.present:
        return _absent(view)
    author = view.get(_author(found)) if query.entity.name in AUTHORED else None
    if view.missing:
        return None
    version = str(found.version) if author is None else f"{found.version}.{author.version}"
    return _present(view, _item(found, author, mark), version + mark.version)


def _user(query: UserQuery, view: View) -> Answer | None:
    """The version names the user, too: a handle may go from one to another in one batch."""
    ids = view.get(Wanted(query.by, query.text))
    if ids is None:
        return None
    found = view.get(Wanted(USER, ids.ids()[0])) if ids.present else ids
    if found is None:
        return None
    if not found.present:
        return _absent(view)
    id = ids.ids()[0]
    (mark,) = marks(view.get, view.viewer, USER, [id])
    if view.missing:
        return None
    return _present(view, _item(found, None, mark), f"{id}.{found.version}{mark.version}")


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


def _page(view: View, entity: Entity, ids: Ids | None) -> Answer | None:
    if ids is None:
        return None
    found = [view.get(Wanted(entity, id)) for id in ids.ids]
    all = zip(ids.ids, found, marks(view.get, view.viewer, entity, ids.ids), strict=True)
    items = [(id, item, mark) for id, item, mark in all if item is not None and item.present]
    has_author = entity.name in AUTHORED
    authors = [view.get(_author(item)) if has_author else None for _, item, _ in items]
    if view.missing:
        return None
    bodies, named = [], []
    for (id, item, mark), author in zip(items, authors, strict=True):
        bodies.append(_item(item, author, mark))
        named.append(f"{id}@{item.version}+{author.version if author else 0}{mark.version}")
    named += [ids.cursor or "", *([] if ids.complete else ["incomplete"])]
    digest = hashlib.sha256("\n".join(named).encode()).hexdigest()[:32]
    return _present(view, page_body(bodies, ids.cursor, complete=ids.complete), digest, ids.cursor)


def _author(authored: Entry) -> Wanted:
    return Wanted(USER, authored.author_id)


def _item(entry: Entry, author: Entry | None, mark: Mark) -> bytes:
    """The JSON of an entity with its author, if it is of a kind that has one, and its mark."""
    body = entry.body
    if author is not None:
        body = with_author(body, author.head if author.present else None)
    return body[:-1] + mark.end if mark.end else body


def _present(view: View, body: bytes, version: str, cursor: str | None = None) -> Answer:
    version = f"{MODEL_VERSION}.{view.moment.epoch}.{version}"
    return Answer(body, version, view.moment, view.origin, view, cursor)


def _absent(view: View) -> Answer:
    return Answer(None, "", view.moment, view.origin, view)
