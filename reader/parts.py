"""The parts of an answer: what was wanted, what was found, where it came from and how fresh it is proved to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from reader.read_model import Entity, Entry, Listing, Watermark, decode


class Origin(Enum):
    """Where a part came from, best first; `cache_status` is RFC 9211's word for it."""

    HIT = "redis; hit"
    STORED = "redis; fwd=miss; stored"
    MISS = "redis; fwd=miss"
    LEASE_HELD = "redis; fwd=miss; detail=lease-held"
    TOKEN = "redis; fwd=request; detail=consistency-token"
    NOT_CACHED = "redis; fwd=bypass; detail=not-cached"
    OTHER_MODEL = "redis; fwd=bypass; detail=other-model"
    NO_WATERMARK = "redis; fwd=bypass; detail=no-watermark"
    UNAVAILABLE = "redis; fwd=bypass; detail=unavailable"

    @property
    def cache_status(self) -> str:
        return self.value


_RANKS = {origin: rank for rank, origin in enumerate(Origin)}


class Wanted(NamedTuple):
    """One cached thing: an entity by its id, or the first page of a list by its parent's id."""

    kind: Entity | Listing
    id: int

    @property
    def key(self) -> str:
        return self.kind.key(self.id)

    @property
    def label(self) -> str:
        """The kind in words, for metrics: `post`, `post_comments`."""
        return self.kind.name if isinstance(self.kind, Entity) else f"{self.kind.parent.name}_{self.kind.name}"


@dataclass(frozen=True)
class Part:
    """One thing that was read. `proof` is the watermark of its MGET, or the checkpoint read before its document."""

    entry: Entry
    proof: Watermark
    origin: Origin

    @property
    def version(self) -> str:
        """Names the bytes: the same epoch and version mean the same content."""
        return f"{self.proof.epoch}:{self.entry.version}"


def part(value: bytes, proof: Watermark, origin: Origin) -> Part:
    """The part of a value in the cache's encoding; it must not be a lease."""
    entry = decode(value)
    assert entry is not None
    return Part(entry, proof, origin)


def present_parts(values: Mapping[str, bytes | None], proof: Watermark) -> dict[str, Part]:
    """Key -> part for the keys that the cache had; those without a value, or with a lease, are left out."""
    entries = {key: decode(value) for key, value in values.items()}
    return {key: Part(entry, proof, Origin.HIT) for key, entry in entries.items() if entry is not None}


def oldest(parts: Iterable[Part]) -> Watermark:
    """The proof of the part with the earliest `as_of`: it bounds the whole answer."""
    return min((part.proof for part in parts), key=lambda proof: proof.as_of)


def worst(parts: Iterable[Part]) -> Origin:
    return max((part.origin for part in parts), key=_RANKS.__getitem__)
