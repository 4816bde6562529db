"""Redis with a replica, and Redis short of memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import redis

from ops.stack import RedisServer, Stack
from ops.stack.accounts.create import create_accounts
from tests.support.harness import wait_until

FILLER = b"x" * 10_000


@contextlib.contextmanager
def replica_of(stack: Stack, folder: Path) -> Iterator[RedisServer]:
    """A second Redis that has all of the first one's keys, and follows it."""
    primary = stack.redis
    options = (
        "--replicaof",
        "127.0.0.1",
        str(primary.port),
        "--masteruser",
        "admin",
        "--masterauth",
        primary.password,
    )
    replica = RedisServer(folder, options=options, password=primary.password)
    with redis.Redis.from_url(primary.admin_url) as client:
        client.config_set("repl-diskless-sync-delay", 0)
    try:
        replica.start()
        create_accounts("redis", replica.admin_url, stack.state.passwords["redis"])
        with redis.Redis.from_url(replica.admin_url) as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow"
            )
        yield replica
    finally:
        replica.kill()


@contextlib.contextmanager
def short_of_memory(stack: Stack, policy: str) -> Iterator[redis.Redis]:
    """The administrator's client of a Redis whose memory limit the block sets. Settings are restored."""
    with redis.Redis.from_url(stack.redis.admin_url) as client:
        before = {
            name: client.config_get(name)[name]
            for name in ("maxmemory", "maxmemory-policy", "lfu-log-factor")
        }
        client.config_set("maxmemory-policy", policy)
        client.config_set("lfu-log-factor", 0)  # each use counts
        try:
            yield client
        finally:
            for name, value in before.items():
                client.config_set(name, value)
            client.delete(*client.scan_iter("filler:*", count=1000))


def fill_memory(client: redis.Redis, keys: range, seconds: int | None) -> None:
    """10 kB under each key, with this TTL and frequent use: volatile-lfu evicts less used keys first."""
    with client.pipeline(transaction=False) as pipeline:
        for name in (f"filler:{number}" for number in keys):
            pipeline.set(name, FILLER, ex=seconds)
            pipeline.touch(*[name] * 20)
        pipeline.execute()
