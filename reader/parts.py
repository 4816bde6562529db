"""The parts of an answer: what is wanted, and where it came from."""

from __future__ import annotations

from enum import Enum

from reader.asked import FeedQuery, ListQuery, PageQuery
from reader.read_model.declarations import Entity, Listing


class Origin(Enum):
    """The origin of a part, best first; `cache_status` is the text of RFC 9211."""

    LOCAL = "local; hit"
    HIT = "redis; hit"
    STORED = "redis; fwd=miss; stored"
    MISS = "redis; fwd=miss"
    LEASE_HELD = "redis; fwd=miss; detail=lease-held"
    MOVED_ON = "redis; fwd=stale; detail=moved-on"
    TOKEN = "redis; fwd=request; detail=consistency-token"
    MAX_AGE = "redis; fwd=request; detail=max-age"
    NOT_CACHED = "redis; fwd=bypass; detail=not-cached"
    OTHER_MODEL = "redis; fwd=bypass; detail=other-model"
    NO_WATERMARK = "redis; fwd=bypass; detail=no-watermark"
    UNAVAILABLE = "redis; fwd=bypass; detail=unavailable"

    def __init__(self, cache_status: str) -> None:
        self.cache_status = cache_status
        self.rank = len(type(self).__members__)


class Wanted:
    """One cache key: an entity by its id, or the first page of a list by its parent's id."""

    __slots__ = ("id", "key", "kind")

    def __init__(self, kind: Entity | Listing, id: int) -> None:
        self.kind = kind
        self.id = id
        self.key = kind.key(id)

    @property
    def label(self) -> str:
        """The kind in words, for metrics: `post`, `post_comments`."""
        return (
            self.kind.name if isinstance(self.kind, Entity) else f"{self.kind.parent.name}_{self.kind.name}"
        )


class WantedPage:
    """A page of ids that is not cached: its key could not be invalidated. Only MongoDB gives it."""

    __slots__ = ("key", "query")

    def __init__(self, query: PageQuery) -> None:
        self.query = query
        self.key = f"page {self.label} {_of(query)} {query.page.limit} {query.page.after}"

    @property
    def label(self) -> str:
        if isinstance(self.query, ListQuery):
            return f"{self.query.listing.parent.name}_{self.query.listing.name}"
        return "feed" if isinstance(self.query, FeedQuery) else "hashtag"


def _of(query: PageQuery) -> int | str:
    if isinstance(query, ListQuery):
        return query.parent_id
    return query.subject if isinstance(query, FeedQuery) else query.tag
