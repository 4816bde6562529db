"""The notifications of a user: one cached list, merged from rows of several tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec

from reader.read_model.scans import CachedList, Order, microseconds, time_text

KEPT = 50  # the newest ones that are cached, and at most so many are counted as unread
CURSOR: Order = (("created_at", -1), ("kind", -1), ("id", -1), ("of", -1))
LAST_MOMENT = microseconds("9999-12-31T23:59:59.999998Z")


class Notification(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Ordered by the first four fields, which name it.

    `at`: microseconds since 1970. `kind`: number of its source, from 1. `id`: of the source's row, beside
    `of`: the post, or the followed user. `comment`: 0 if there is none.
    """

    at: int
    kind: int
    id: int
    of: int
    actor: int
    comment: int

    @property
    def cursor(self) -> list[int | str]:
        return [time_text(self.at), self.kind, self.id, self.of]


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The value of the list: notifications, newest first, and up to when (`at`) they have been read."""

    until: int
    items: list[Notification]


@dataclass(frozen=True, kw_only=True)
class OfNotifications(CachedList):
    """A scan whose documents change a user's notifications, so that all of these have one key."""

    name: str = "notifications"
    limit: int = KEPT

    def key(self, value: int) -> str:
        return f"user:{value}:{self.name}"

    def value(self, text: str) -> int:
        return int(text)

    @cached_property
    def label(self) -> str:
        return f"user_{self.name}"


@dataclass(frozen=True, kw_only=True)
class Source(OfNotifications):
    """One kind of notification. `actor`, `of` and `comment` are columns, and `item_id` that of `id`."""

    kind: str
    actor: str
    of: str
    comment: str = ""

    @property
    def shows(self) -> tuple[str, ...]:
        return (self.actor, self.of, self.comment) if self.comment else (self.actor, self.of)

    def after(self, cursor: tuple[int | str, ...], number: int) -> tuple[int | str, ...]:
        """The order values of this source, its number given, behind which it continues after a cursor."""
        time, kind, id, of = cursor
        at = min(microseconds(str(time)), LAST_MOMENT)
        if number < int(kind):
            values: tuple[int | str, ...] = (time_text(at + 1), 0, 0)
        else:
            values = (time_text(at), id, of) if number == kind else (time_text(at), 0, 0)
        return values[: len(self.order)]


@dataclass(frozen=True, kw_only=True)
class Notifications(OfNotifications):
    """The merged list. As a scan, it is that of the read mark."""

    sources: tuple[Source, ...]


LIKED = Source(
    kind="like",
    collection="likes",
    by="told",
    order=(("created_at", -1), ("user_id", -1), ("post_id", -1)),
    item_id="user_id",
    actor="user_id",
    of="post_id",
)
COMMENTED = Source(
    kind="comment",
    collection="comments",
    by="told",
    order=(("created_at", -1), ("_id", -1)),
    item_id="_id",
    actor="author_id",
    of="post_id",
    comment="_id",
)
FOLLOWED = Source(
    kind="follow",
    collection="follows",
    by="followee_id",
    order=(("created_at", -1), ("follower_id", -1)),
    item_id="follower_id",
    actor="follower_id",
    of="followee_id",
)
MENTIONED = Source(
    kind="mention",
    collection="mentions",
    by="user_id",
    order=(("created_at", -1), ("id", -1)),
    item_id="id",
    actor="author_id",
    of="post_id",
    comment="comment_id",
)
NOTIFICATIONS = Notifications(
    collection="notification_reads",
    by="user_id",
    order=(("until", -1), ("user_id", -1)),
    item_id="user_id",
    sources=(FOLLOWED, LIKED, COMMENTED, MENTIONED),
)
