"""The `viewer` of items, exact: from cached lists, and behind their ends from MongoDB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import msgspec
from msgspec import structs

from reader.paging import Page, decode_cursor
from reader.parts import Wanted, WantedPage
from reader.read_model.cached_values import Entry
from reader.read_model.declarations import (
    POST,
    USER_FOLLOWEES,
    USER_LIKED,
    USERS_BY_SUBJECT,
    VIEWED,
    PostViewer,
    UserViewer,
)
from reader.read_model.entities import Entity, OwnedList

Get = Callable[[Wanted | WantedPage], Entry | None]  # None: the part is missing
FIRST_BYTES = 1_024


class Mark(NamedTuple):
    """An item's `viewer`: its place in the version of an answer, and the end of the item's JSON."""

    version: str
    end: bytes


def _mark(viewer: PostViewer | UserViewer) -> Mark:
    bits = "".join(f"{value:d}" for value in structs.astuple(viewer))
    return Mark(f".v{bits}", b',"viewer":%b}' % msgspec.json.encode(viewer))


NO_MARK = Mark("", b"")
LIKED = {liked: _mark(PostViewer(liked)) for liked in (False, True)}
FOLLOWS = {both: _mark(UserViewer(*both)) for both in product((False, True), repeat=2)}


def marks(get: Get, subject: str | None, entity: Entity, ids: Sequence[int]) -> list[Mark]:
    """One for each of `ids`; none are marked for nobody. While parts are missing, marks mean nothing."""
    if subject is None or entity.name not in VIEWED:
        return [NO_MARK] * len(ids)
    users = get(Wanted(USERS_BY_SUBJECT, subject))
    me = users.ids()[0] if users is not None and users.present else 0
    if entity is POST:
        liked = _members(get, USER_LIKED, me, ids) if me else ()
        return [LIKED[id in liked] for id in ids]
    following = _members(get, USER_FOLLOWEES, me, ids) if me else ()
    return [FOLLOWS[id in following, me > 0 and me in _members(get, USER_FOLLOWEES, id, [me])] for id in ids]


def _members(get: Get, kind: OwnedList, owner: int, ids: Sequence[int]) -> set[int]:
    """The members of `ids` in the list. MongoDB is asked only for those that may lie behind its end."""
    cached = get(Wanted(kind, owner))
    if cached is None or not ids:
        return set()
    by_id = kind.order == ((kind.item_id, -1),)
    found = _among(_from(cached.body, min(ids)) if by_id else cached.body, ids)
    if cached.head:
        after = decode_cursor(cached.head.decode(), kind.order)
        left = [id for id in ids if id not in found and not (by_id and id > int(after[0]))]
        behind = get(WantedPage(kind, (owner,), Page(len(left), after), left)) if left else None
        found |= {*behind.ids()} if behind is not None else set()
    return found


def _among(body: bytes, ids: Sequence[int]) -> set[int]:
    """The members of `ids` that are in a list. Its ids stay bytes: to parse thousands would take long."""
    if len(ids) == 1:
        return {*ids} if b",%d," % ids[0] in b",%b," % body else set()
    texts = {b"%d" % id: id for id in ids}
    return {texts[text] for text in texts.keys() & body.split(b",")}


def _from(body: bytes, least: int) -> bytes:
    """The beginning of a list in the order of ids, the greatest first, with all ids from `least` on."""
    size = FIRST_BYTES
    while size < len(body):
        end = body.rindex(b",", 0, size)
        if int(body[body.rindex(b",", 0, end) + 1 : end]) < least:
            return body[:end]
        size *= 4
    return body
