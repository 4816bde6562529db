"""The checks of Redis for `check`: settings under which readers or the cache would suffer."""

from __future__ import annotations

from redis.exceptions import ResponseError

from binlog_projector.findings import Finding
from binlog_projector.stores.cache import Client, cache_errors
from binlog_projector.stores.cache_scripts import MAY_PUBLISH
from reader.read_model.shards import PREFIX, SINGLE, Shard

BUFFERS = "client-output-buffer-limit"
MEBIBYTE = 1 << 20
PUBSUB_LIMIT = (4 * MEBIBYTE, MEBIBYTE, 5)  # at once, or for so many seconds


def check_cache(client: Client, shard: Shard = SINGLE) -> list[Finding]:
    """All findings, also the good ones. `shard`: one that the server holds. Raises CacheUnavailable."""
    with cache_errors():
        return [_eviction(client), _publishing(client, shard), *_buffers(client)]


def _eviction(client: Client) -> Finding:
    """The watermark has no TTL: under volatile-* it is never evicted, and memory pressure only costs hits."""
    policy = str(client.info("memory")["maxmemory_policy"])
    ok = policy.startswith("volatile-") or policy == "noeviction"
    return Finding(
        "redis maxmemory-policy", ok, policy, "volatile-*", "CONFIG SET maxmemory-policy volatile-lfu"
    )


def may_publish(client: Client, shard: Shard = SINGLE) -> bool:
    """Asks Redis for the right: a message would reach readers. Raises CacheUnavailable."""
    with cache_errors():
        return bool(client.eval(MAY_PUBLISH, 0, shard.channel))


def _publishing(client: Client, shard: Shard) -> Finding:
    may = may_publish(client, shard)
    pattern = shard.channel if shard is SINGLE else f"{PREFIX}:*"
    return Finding(
        "redis announcements",
        may,
        "published" if may else "refused",
        f"SPUBLISH to {shard.channel}",
        f"ACL SETUSER projector +spublish &{pattern}",
        stops=False,
    )


def _buffers(client: Client) -> list[Finding]:
    """A reader that is stuck must be cut off before its messages evict the cache. None without the right."""
    try:
        words = str(client.config_get(BUFFERS)[BUFFERS]).split()
    except ResponseError:  # the projector's own account needs no right to read the configuration
        return []
    limits = tuple(map(int, words[words.index("pubsub") + 1 :][:3]))
    ok = all(0 < found <= most for found, most in zip(limits, PUBSUB_LIMIT, strict=True))
    found = " ".join(map(str, limits))
    return [
        Finding(
            f"redis {BUFFERS} pubsub",
            ok,
            found,
            "4mb 1mb 5 or less",
            f"CONFIG SET {BUFFERS} 'pubsub 4mb 1mb 5'",
            stops=False,
        )
    ]
