"""The cache of a stack, shard by shard: the one of a single Redis, or those of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis

from ops.stack import Stack
from reader.read_model.shards import SINGLE, Shard, shards
from tests.support.clusters import primaries
from tidemark.redis_url import RedisUrl


@contextlib.contextmanager
def caches(stack: Stack) -> Iterator[list[tuple[Shard, redis.Redis]]]:
    """Each shard, and the administrator's client of the server that has it now."""
    with contextlib.ExitStack() as opened:
        if stack.cluster is None:
            client = opened.enter_context(redis.Redis.from_url(stack.redis.admin_url))
            yield [(SINGLE, client)]
            return
        slots: dict[int, redis.Redis] = {}
        for node in primaries(stack.cluster):
            client = opened.enter_context(redis.Redis.from_url(node.node.admin_url))
            slots |= {slot: client for part in node.slots for slot in part if slot not in slots}
        count = RedisUrl.parse(stack.cluster.admin_url).shards
        yield [(shard, slots[shard.slot]) for shard in shards(count) if shard.slot in slots]
