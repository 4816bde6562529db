"""Feeds, and pages of cached lists."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from reader.heads import Heads
from reader.paging import Page
from reader.parts import Wanted, WantedPage
from reader.ranking import hot
from reader.read_model.cached_values import Entry, encode_cursor
from reader.read_model.declarations import HEAD, POST, USER_FOLLOWEES, USER_POSTS, USERS_BY_SUBJECT
from reader.read_model.scans import Order
from reader.view import Newest, View
from tidemark.ids import MAX_ID

HOTTEST_FIRST: Order = (("hot", -1), ("_id", -1), ("newest", -1))  # and the newest post of the window


class Ids(NamedTuple):
    """The ids of a page, and the cursor of the next one if there is one.

    `complete`: False if a feed leaves out followees.
    """

    ids: list[int]
    cursor: str | None
    complete: bool = True


def all_of(found: Entry) -> Ids:
    return Ids(found.ids(), found.head.decode() or None)


def page_of(first: Entry, page: Page) -> Ids | None:
    """A page of a cached list, if the list reaches so far.

    A list that is longer than the page is in the order of ids, the greatest first.
    """
    ids = first.ids()
    if page.after:
        ids = [id for id in ids if id < int(page.after[0])]
    if len(ids) > page.limit:
        return _cut(ids, page)
    if len(ids) < page.limit and first.head:
        return None
    return Ids(ids, first.head.decode() or None)


def feed(view: View, subject: str, page: Page) -> Ids | None:
    """The newest posts of the subject's user and of those whom this one follows."""
    after = int(page.after[0]) if page.after else MAX_ID + 1
    found = _newest(view, subject, after, page.limit + 1)
    return None if found is None else _cut(found.ids, page, found.complete)


def hot_feed(view: View, subject: str, page: Page) -> Ids | None:
    """The newest posts of the feed, the hottest first.

    A cursor names the last post's place, and the first of the newest posts: all pages are of one window.
    """
    *last, newest = map(int, page.after or (MAX_ID,))
    found = _newest(view, subject, newest + 1, HEAD)
    ids = {} if found is None else {POST.key(id): id for id in found.ids}
    posts = view.get_all(POST, ids)
    if found is None or posts is None:
        return None
    places = sorted(
        ((_rank(post.head), ids[key]) for key, post in posts.items() if post.present), reverse=True
    )
    if last:
        places = [place for place in places if place < (*last,)]
    shown = places[: page.limit]
    cursor = encode_cursor((*shown[-1], found.ids[0])) if len(places) > page.limit else None
    return Ids([id for _, id in shown], cursor, found.complete)


def _newest(view: View, subject: str, below: int, wanted: int) -> Newest | None:
    """Up to `wanted` of the feed's newest posts with ids below `below`."""
    if view.newest is None:
        view.newest = _merged(view, subject, below, wanted)
    return view.newest


def _merged(view: View, subject: str, below: int, wanted: int) -> Newest | None:
    users = view.get(Wanted(USERS_BY_SUBJECT, subject))
    if users is None or not users.present:
        return None if users is None else Newest([])
    (user,) = users.ids()
    followees = view.get(Wanted(USER_FOLLOWEES, user))
    if followees is None:
        return None
    ids: list[int] = []
    if view.position is None:  # all is read from MongoDB: not a head of each
        deeper = tuple(_authors(user, followees))
    else:
        heads = _heads(view, user, followees)
        if heads is None:
            return None
        view.heads = heads
        ids, deeper = heads.newest(below, wanted)
    if deeper:
        after = (below,) if below <= MAX_ID else None
        others = view.get(WantedPage(USER_POSTS, deeper, Page(wanted, after)))
        if others is None:
            return None
        ids = sorted({*ids, *others.ids()}, reverse=True)[:wanted]
    return Newest(ids, complete=not followees.head)


def _heads(view: View, user: int, followees: Entry) -> Heads | None:
    """The heads of the feed's authors, from those of a former composition if it had the same followees."""
    former = view.heads
    if former is None or former.followees is not followees:
        authors = {USER_POSTS.key(author): author for author in _authors(user, followees)}
        entries = view.get_all(USER_POSTS, authors)
        return None if entries is None else Heads.of(followees, authors, entries)
    gone = {key: former.authors[key] for key in view.gone if key in former.entries}
    entries = view.get_all(USER_POSTS, gone)
    return None if entries is None else former.replaced(entries)


def _authors(user: int, followees: Entry) -> list[int]:
    authors = followees.ids()
    return authors if user in authors else [*authors, user]


@lru_cache(maxsize=10_000)
def _rank(head: bytes) -> int:
    """Cached: the posts of a window stay the same for many reads."""
    _, created_at, likes, comments = head.split()
    return hot(int(created_at), int(likes), int(comments))


def _cut(ids: Sequence[int], page: Page, complete: bool = True) -> Ids:
    shown = [*ids[: page.limit]]
    return Ids(shown, encode_cursor([shown[-1]]) if len(ids) > page.limit else None, complete)
