"""Shards: the parts of a cache that live, fail and fall behind apart. A single server has one.

All names of a shard have one tag, so they lie in one slot of a Redis Cluster. The tag contains the number of
shards: with another number, all names are others.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count as numbers
from typing import Any

SLOTS = 16_384
PREFIX = "tidemark"


@dataclass(frozen=True)
class Shard:
    """`prefix` begins each of its names in Redis."""

    number: int
    prefix: str

    @cached_property
    def watermark_key(self) -> str:
        return f"{self.prefix}:watermark"

    @cached_property
    def channel(self) -> str:
        """Of announcements."""
        return f"{self.prefix}:tide"

    @cached_property
    def slot(self) -> int:
        """The slot in which its names lie."""
        return slot_of(self.prefix.partition("{")[2].partition("}")[0])

    def cache_key(self, epoch: str, key: str) -> str:
        return f"{self.prefix}:e{epoch}:{key}"


SINGLE = Shard(0, PREFIX)


@lru_cache(maxsize=8)
def shards(count: int) -> tuple[Shard, ...]:
    """All shards. Their slots lie evenly spread, as slots are spread over nodes."""
    if count == 1:
        return (SINGLE,)
    return tuple(Shard(number, f"{PREFIX}:{{{_tag(number, count)}}}") for number in range(count))


def shard_number(key: str, count: int) -> int:
    """The shard of a key, which has no prefix."""
    return zlib.crc32(key.encode()) % count if count > 1 else 0


def owners(slots: Sequence[Sequence[Any]], shards: Iterable[Shard]) -> dict[int, tuple[str, int]]:
    """Number of each shard -> host and port of its primary, from the raw reply to CLUSTER SLOTS.

    A shard whose slot no node serves is left out. An empty host is that of the node that was asked.
    """
    ranges = [(first, last, primary) for first, last, primary, *_ in slots]
    found = {}
    for shard in shards:
        for first, last, (host, port, *_) in ranges:
            if first <= shard.slot <= last:
                found[shard.number] = (_text(host), int(port))
    return found


def _text(host: bytes | str | None) -> str:
    return host.decode() if isinstance(host, bytes) else host or ""


def slot_of(tag: str) -> int:
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def _tag(number: int, count: int) -> str:
    tags = (f"{number}.{count}.{n}" for n in numbers())
    return next(tag for tag in tags if slot_of(tag) * count // SLOTS == number)
