"""The parts of an answer: the keys wanted; for each its value, its origin and the proof of its freshness."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from reader.read_model.cached_values import Entry, Watermark, decode
from reader.read_model.declarations import Entity, Listing


class Origin(Enum):
    """The origin of a part, best first; `cache_status` is the text of RFC 9211."""

    HIT = "redis; hit"
    STORED = "redis; fwd=miss; stored"
    MISS = "redis; fwd=miss"
    LEASE_HELD = "redis; fwd=miss; detail=lease-held"
    TOKEN = "redis; fwd=request; detail=consistency-token"
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


class Part(msgspec.Struct, frozen=True):
    """One value that was read. `proof`: the watermark of its MGET, or the checkpoint read before it."""

    entry: Entry
    proof: Watermark
    origin: Origin

    @property
    def version(self) -> str:
        """The name of the content: the same epoch and version mean the same bytes."""
        return f"{self.proof.epoch}:{self.entry.version}"


def part(value: bytes, proof: Watermark, origin: Origin) -> Part:
    """The part of a value in the cache's encoding; the value must not be a fill lease."""
    entry = decode(value)
    assert entry is not None
    return Part(entry, proof, origin)


def present_part(value: bytes | None, proof: Watermark) -> Part | None:
    """The part of a cached value; None if the key was missing or had a fill lease."""
    entry = decode(value)
    return None if entry is None else Part(entry, proof, Origin.HIT)


def oldest(parts: Sequence[Part]) -> Watermark:
    """The proof with the earliest `as_of`: the freshness of the whole answer."""
    found = parts[0].proof
    for part in parts:
        if part.proof.as_of < found.as_of:
            found = part.proof
    return found


def is_of_one_build(parts: Sequence[Part]) -> bool:
    return len({part.proof.build for part in parts}) == 1


def worst(parts: Sequence[Part]) -> Origin:
    found = parts[0].origin
    for part in parts:
        if part.origin.rank > found.rank:
            found = part.origin
    return found
