"""Redis: batched lookups, fill leases and fills, all on the connections that follow the tide."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from reader.asking import ask_all, by_strand
from reader.errors import CacheBypassed
from reader.following import Following
from reader.lookups import Looked, Lookups, together
from reader.named import Position
from reader.node import Node
from reader.read_model.cached_values import (
    ABSENT,
    LEASE,
    LEASE_TTL_MS,
    Watermark,
    absent_ttl_ms,
    value_ttl_ms,
)
from reader.strand import Strand
from reader.wire import packed

# The shebang makes Redis refuse the script when memory is full, instead of failing in its middle.
FILL = """#!lua
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1"""


class FillLease(NamedTuple):
    """The right to fill `keys`, with the tide after it was taken, and its position there.

    `lives`: of the strands on which it was taken.
    """

    token: bytes
    keys: frozenset[str]
    watermark: Watermark
    position: Position
    lives: Mapping[Strand, int]


class Cache:
    """The reader's requests to Redis. Every failure is a CacheBypassed."""

    def __init__(self, following: Following, fraction: Callable[[], float] = random.random) -> None:
        self._following = following
        self._fraction = fraction
        self._lookups = Lookups(following)  # of a single server
        self._of_nodes: WeakKeyDictionary[Node, Lookups] = WeakKeyDictionary()

    def get(self, keys: Sequence[str]) -> asyncio.Future[Looked]:
        """The entries of at most 255 keys."""
        if len(self._following.strands) == 1:
            return self._lookups.get(keys)
        return asyncio.create_task(self._get_of_nodes(keys))

    async def lease(self, keys: Iterable[str]) -> list[FillLease]:
        """Take a fill lease on each missing key, then read the watermark.

        A batch that is applied after the watermark was read finds the lease and ends it. There are several
        leases if the tide has moved between the replies of shards.
        """
        following, keys = self._following, list(keys)
        token = LEASE + secrets.token_hex(16).encode()

        def granted(strand: Strand, keys: Sequence[str], replies: list[Any]) -> FillLease:
            held = frozenset(key for key, reply in zip(keys, replies, strict=False) if reply == b"OK")
            assert following.tide is not None
            return FillLease(token, held, following.tide, following.position, {strand: strand.life})

        asked = []
        for strand, some in by_strand(following, keys).items():
            names = [strand.names_begin + key for key in some]
            commands = [packed("SET", name, token, "NX", "PX", LEASE_TTL_MS) for name in names]
            asked.append((strand, [*commands, strand.ask], len(commands) + 1, partial(granted, strand, some)))
        leases: dict[Position, FillLease] = {}
        for lease in await ask_all(following, asked):
            if isinstance(lease, FillLease):
                former = leases.get(lease.position)
                leases[lease.position] = lease if former is None else _both(former, lease)
            elif not isinstance(lease, CacheBypassed):
                raise lease
        return list(leases.values())

    async def fill(self, lease: FillLease, values: Mapping[str, bytes]) -> dict[str, str]:
        """Store in Redis where the lease is still in place: key -> `stored`, `lease_lost` or `error`.

        A reset orphans leases: the node that knows this one may have an older watermark.
        """
        results = dict.fromkeys(values, "lease_lost")
        asked, keys_asked = [], []
        for strand, keys in by_strand(self._following, [*values]).items():
            if lease.lives[strand] != strand.life:
                continue
            commands = [
                packed("EVAL", FILL, 1, strand.names_begin + key, lease.token, value, self._ttl_ms(value))
                for key, value in ((key, values[key]) for key in keys)
            ]
            asked.append((strand, [*commands, strand.ask], len(commands) + 1, list))
            keys_asked.append(keys)
        try:
            replies = await ask_all(self._following, asked) if asked else []
        except CacheBypassed as bypassed:
            replies = [bypassed]
        for keys, reply in zip(keys_asked, replies, strict=True):
            results |= dict.fromkeys(keys, "error")
            if isinstance(reply, list):
                results |= zip(keys, map(_outcome, reply), strict=False)
        return results

    def _ttl_ms(self, value: bytes) -> int:
        return (absent_ttl_ms if value.startswith(ABSENT) else value_ttl_ms)(self._fraction())

    async def _get_of_nodes(self, keys: Sequence[str]) -> Looked:
        """A slow node keeps nobody waiting who asks others."""
        of_nodes: dict[Node, list[str]] = {}
        for key in keys:
            node = self._following.strand_of(key).node
            if node is not None:
                of_nodes.setdefault(node, []).append(key)
        asked = [self._of_node(node).get(some) for node, some in of_nodes.items()]
        return together(await asyncio.gather(*asked, return_exceptions=True))

    def _of_node(self, node: Node) -> Lookups:
        if node not in self._of_nodes:
            self._of_nodes[node] = Lookups(self._following)
        return self._of_nodes[node]


def _both(one: FillLease, other: FillLease) -> FillLease:
    return one._replace(keys=one.keys | other.keys, lives={**one.lives, **other.lives})


def _outcome(reply: Any) -> str:
    return {1: "stored", 0: "lease_lost"}[reply] if isinstance(reply, int) else "error"
