"""Feeds: merges of heads, each the newest posts of one author.

The newest k of a union are among the newest k of its parts. So only the k heads with the greatest first ids
can hold a page of k, and a head that is cut is exact down to its last id.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

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
    posts = None if found is None else view.get_all(POST, found.ids)
    if found is None or posts is None:
        return None
    places = sorted(
        (place for id, post in zip(found.ids, posts, strict=True) if (place := _place(id, post))),
        reverse=True,
    )
    if last:
        places = [place for place in places if place < (*last,)]
    shown = places[: page.limit]
    cursor = encode_cursor((*shown[-1], found.ids[0])) if len(places) > page.limit else None
    return Ids([id for _, id in shown], cursor, found.complete)


def newest_of(
    authors: Sequence[int], heads: Sequence[Entry], below: int, wanted: int
) -> tuple[list[int], tuple[int, ...]]:
    """The `wanted` greatest ids below `below` that heads of authors have.

    Also the authors who may have others as great, below their heads.
    """
    firsts = [head.first for head in heads]
    if below <= MAX_ID:
        firsts = [
            first if first < below else next(_ids(head, below), 0)
            for first, head in zip(firsts, heads, strict=True)
        ]
    by_first = dict(zip(firsts, range(len(heads)), strict=True))
    nothing = by_first.pop(0, None) is not None  # of some head is below `below`
    opened = [by_first[first] for first in sorted(by_first, reverse=True)[:wanted]]
    ids = [*islice(heapq.merge(*(_ids(heads[at], below) for at in opened), reverse=True), wanted)]
    end = ids[-1] if len(ids) == wanted else 0
    ends = opened + [at for at, first in enumerate(firsts) if not first] if nothing else opened
    return ids, tuple(authors[at] for at in sorted(ends) if heads[at].head and _last(heads[at]) > end)


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
    authors = followees.ids()
    if user not in authors:
        authors.append(user)
    ids: list[int] = []
    deeper = tuple(authors)
    if view.position is not None:  # else all is read from MongoDB: not a head of each
        heads = view.get_all(USER_POSTS, authors)
        if heads is None:
            return None
        ids, deeper = newest_of(authors, heads, below, wanted)
    if deeper:
        after = (below,) if below <= MAX_ID else None
        others = view.get(WantedPage(USER_POSTS, deeper, Page(wanted, after)))
        if others is None:
            return None
        ids = sorted({*ids, *others.ids()}, reverse=True)[:wanted]
    return Newest(ids, complete=not followees.head)


def _place(id: int, post: Entry) -> tuple[int, int] | None:
    """A post's place among the hottest."""
    if not post.present:
        return None
    _, created_at, likes, comments = post.head.split()
    return hot(int(created_at), int(likes), int(comments)), id


def _cut(ids: Sequence[int], page: Page, complete: bool = True) -> Ids:
    shown = [*ids[: page.limit]]
    return Ids(shown, encode_cursor([shown[-1]]) if len(ids) > page.limit else None, complete)


def _ids(head: Entry, below: int) -> Iterator[int]:
    """Its ids below `below`, parsed only as far as they are taken."""
    rest = head.body
    while rest:
        text, _, rest = rest.partition(b",")
        id = int(text)
        if id < below:
            yield id


def _last(head: Entry) -> int:
    return int(head.body.rpartition(b",")[2])
