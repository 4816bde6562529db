"""Notifications as an answer: a page of the cached list or of one behind it, and the unread count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec

from reader.paging import Page
from reader.parts import Wanted, WantedPage
from reader.read_model.cached_values import Entry, encode_cursor
from reader.read_model.declarations import USER, USERS_BY_SUBJECT, Author, Time
from reader.read_model.notifications import FOLLOWED, NOTIFICATIONS, Notification, Told
from reader.read_model.scans import microseconds, time_text
from reader.view import View
from tidemark.ids import Id

KINDS = tuple(source.kind for source in NOTIFICATIONS.sources)


class UserNotification(msgspec.Struct):
    """A deed of another user. `post_id`: null for a follow.

    `comment_id`: that of a comment, or of a mention in one.
    """

    kind: Literal["follow", "like", "comment", "mention"]
    created_at: Time
    actor: Author | None  # null: gone
    post_id: Id | None
    comment_id: Id | None


class UserNotificationPage(msgspec.Struct):
    """`unread_count`: of the newest 50, those that came after the moment up to which all are read."""

    items: list[UserNotification]
    next: str | None
    unread_count: int


class Slice(msgspec.Struct, frozen=True):
    """The notifications of a page, and the cursor of the next one if there is one."""

    items: Sequence[Notification]
    cursor: str | None


def slice_of(first: Entry, page: Page) -> Slice | None:
    """A page of the cached list, if the list reaches so far."""
    items = first.told().items
    if page.after:
        at, *place = page.after
        behind = (microseconds(str(at)), *place)
        items = [each for each in items if (each.at, each.kind, each.id, each.of) < behind]
    if len(items) > page.limit:
        shown = items[: page.limit]
        return Slice(shown, encode_cursor(shown[-1].cursor))
    return None if first.head and len(items) < page.limit else all_of(first, items)


def all_of(found: Entry, items: Sequence[Notification] | None = None) -> Slice:
    return Slice(found.told().items if items is None else items, found.head.decode() or None)


def unread_count(told: Told) -> int:
    return sum(each.at > told.until for each in told.items)


def notifications_body(shown: Slice, actors: Sequence[Entry | None], unread: int) -> bytes:
    """The JSON. `actors`: of the items, in order; None or absent: gone."""
    items = [
        {
            "kind": KINDS[each.kind - 1],
            "created_at": time_text(each.at),
            "actor": msgspec.Raw(actor.head) if actor is not None and actor.present else None,
            "post_id": None if KINDS[each.kind - 1] == FOLLOWED.kind else str(each.of),
            "comment_id": str(each.comment) if each.comment else None,
        }
        for each, actor in zip(shown.items, actors, strict=True)
    ]
    return msgspec.json.encode({"items": items, "next": shown.cursor, "unread_count": unread})


def notifications(view: View, subject: str, page: Page) -> tuple[bytes, str, str | None] | None:
    """The body, its version and the next cursor; None if `view.missing` are parts that they need."""
    users = view.get(Wanted(USERS_BY_SUBJECT, subject))
    if users is None:
        return None
    if not users.present:
        return notifications_body(Slice([], None), [], 0), "none", None
    (user,) = users.ids()
    first = view.get(Wanted(NOTIFICATIONS, user))
    if first is None:
        return None
    shown = slice_of(first, page)
    if shown is None:
        deeper = view.get(WantedPage(NOTIFICATIONS, (user,), page))
        if deeper is None:
            return None
        shown = all_of(deeper)
    actors = [view.get(Wanted(USER, each.actor)) for each in shown.items]
    if view.missing:
        return None
    body = notifications_body(shown, actors, unread_count(first.told()))
    return body, hashlib.sha256(body).hexdigest()[:32], shown.cursor
