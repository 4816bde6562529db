"""The queries as values: an entity, or a page of one of four kinds."""

from __future__ import annotations

import msgspec

from reader.paging import Page
from reader.read_model.entities import Entity, Listing
from reader.read_model.scans import TextList


class EntityQuery(msgspec.Struct, frozen=True):
    """One entity with its author."""

    entity: Entity
    id: int


class UserQuery(msgspec.Struct, frozen=True):
    """The user whom a list of one finds by a text."""

    by: TextList
    text: str


class ListQuery(msgspec.Struct, frozen=True):
    """A page of a list, by its parent's id."""

    listing: Listing
    parent_id: int
    page: Page


class FeedQuery(msgspec.Struct, frozen=True):
    """A page of the newest posts of `subject`'s user and of the users that this one follows."""

    subject: str
    page: Page


class HotQuery(msgspec.Struct, frozen=True):
    """A page of the posts of `subject`'s feed, the hottest of the newest first."""

    subject: str
    page: Page


class HashtagQuery(msgspec.Struct, frozen=True):
    """A page of the newest posts with a hashtag, in its canonical spelling."""

    tag: str
    page: Page


class EverybodyQuery(msgspec.Struct, frozen=True):
    """A page of the newest posts of all."""

    page: Page


class NotificationsQuery(msgspec.Struct, frozen=True):
    """A page of the notifications of `subject`'s user."""

    subject: str
    page: Page


Plain = (
    EntityQuery
    | UserQuery
    | ListQuery
    | FeedQuery
    | HotQuery
    | HashtagQuery
    | EverybodyQuery
    | NotificationsQuery
)


class ViewedQuery(msgspec.Struct, frozen=True):
    """The same, and with each post or user what it is to `subject`'s user."""

    query: Plain
    subject: str


Query = Plain | ViewedQuery
