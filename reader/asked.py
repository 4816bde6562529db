"""The queries as values: an entity, or a page of one of three kinds."""

from __future__ import annotations

import msgspec

from reader.paging import Page
from reader.read_model.declarations import Entity, Listing


class EntityQuery(msgspec.Struct, frozen=True):
    """One entity with its author."""

    entity: Entity
    id: int


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


Query = EntityQuery | ListQuery | FeedQuery | HotQuery | HashtagQuery
