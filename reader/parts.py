"""The parts of an answer: what is wanted, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from reader.paging import Page
from reader.read_model.entities import Entity
from reader.read_model.scans import CachedList


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
    """One cache key: an entity by its id, or the first ids of a list by its value."""

    __slots__ = ("id", "key", "kind")

    def __init__(self, kind: Entity | CachedList, id: int | str) -> None:
        self.kind = kind
        self.id = id
        self.key: str = kind.key(id)  # type: ignore[arg-type]  # an entity's id is an int

    @property
    def label(self) -> str:
        """The kind in words, for metrics: `post`, `post_comments`."""
        return self.kind.label


class WantedPage:
    """A page of ids beyond what is cached, of one list or of several merged. Only MongoDB gives it.

    Lists are merged in the order of ids. `among`: only these items of one list are asked for.
    """

    __slots__ = ("among", "key", "kind", "page", "values")

    def __init__(
        self, kind: CachedList, values: Sequence[int | str], page: Page, among: Sequence[int] = ()
    ) -> None:
        self.kind = kind
        self.values = values
        self.page = page
        self.among = among
        self.key = f"page {kind.label} {_text(values)} {page.limit} {page.after} {_text(among)}"

    @property
    def label(self) -> str:
        return self.kind.label


def _text(values: Sequence[int | str]) -> str:
    return ",".join(map(str, values))
