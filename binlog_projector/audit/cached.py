"""The cache as the audit sees it: some of its keys, and entries beside the watermark of their shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from binlog_projector.errors import CacheUnavailable
from binlog_projector.stores.cache import Client, cache_errors, connect, decode_watermark, read_watermark
from binlog_projector.stores.cache_topology import find_nodes
from reader.read_model.cached_values import Entry, Watermark, decode
from reader.read_model.shards import Shard, shard_number, shards
from tidemark.redis_url import RedisUrl

SCAN_COUNT, SCAN_ROUNDS = 500, 100
log = structlog.get_logger()


class Found(NamedTuple):
    """`watermark`: None while the key's shard is away or has none."""

    watermark: Watermark | None
    entry: Entry | None


class Cached:
    """Connects for each question."""

    def __init__(self, url: RedisUrl) -> None:
        self.url = url
        self.every = shards(url.shards)
        self.cursors = [0] * url.shards  # of the scan, by shard
        self.turn = 0

    def keys(self, most: int) -> list[str]:
        """About `most` keys, from where the last call ended; on a cluster, of another shard each time."""
        shard = self.every[self.turn % len(self.every)]
        self.turn += 1
        try:
            with _client(find_nodes(self.url), shard) as client, cache_errors():
                return self._scan(client, shard, most)
        except CacheUnavailable as error:
            log.warning("cache unavailable", error=str(error))
            return []

    def entries(self, keys: Iterable[str]) -> dict[str, Found]:
        """The entries under `keys`, each shard's in one MGET with its watermark."""
        by_shard: dict[int, list[str]] = {}
        for key in keys:
            by_shard.setdefault(shard_number(key, len(self.every)), []).append(key)
        found: dict[str, Found] = {}
        nodes = self._nodes()
        for number, its in by_shard.items():
            try:
                with _client(nodes, self.every[number]) as client:
                    watermark, entries = read_entries(client, its, self.every[number])
            except CacheUnavailable as error:
                log.warning("cache unavailable", error=str(error))
                watermark, entries = None, {}
            found |= {key: Found(watermark, entries.get(key)) for key in its}
        return found

    def _nodes(self) -> Mapping[int, str]:
        try:
            return find_nodes(self.url)
        except CacheUnavailable as error:
            log.warning("cache unavailable", error=str(error))
            return {}

    def _scan(self, client: Client, shard: Shard, most: int) -> list[str]:
        found: list[str] = []
        watermark = read_watermark(client, shard)
        prefix = shard.cache_key(watermark.epoch, "") if watermark else ""
        for _ in range(SCAN_ROUNDS if prefix else 0):
            self.cursors[shard.number], keys = client.scan(
                self.cursors[shard.number], match=f"{prefix}*", count=SCAN_COUNT
            )
            found += [key.decode().removeprefix(prefix) for key in keys if isinstance(key, bytes)]
            if not self.cursors[shard.number] or len(found) >= most:
                break
        return found


def _client(nodes: Mapping[int, str], shard: Shard) -> Client:
    """Raises CacheUnavailable."""
    if shard.number not in nodes:
        raise CacheUnavailable(f"no node of the cluster serves shard {shard.number}")
    return connect(nodes[shard.number])


def read_entries(
    client: Client, keys: Sequence[str], shard: Shard
) -> tuple[Watermark | None, dict[str, Entry | None]]:
    """The watermark and the entries under `keys`, in one MGET per epoch. Raises CacheUnavailable."""
    with cache_errors():
        watermark = read_watermark(client, shard)
        for _ in range(3):
            if watermark is None or not keys:
                break
            epoch = watermark.epoch
            found = client.mget([shard.watermark_key, *(shard.cache_key(epoch, key) for key in keys)])
            raw, *values = (value if isinstance(value, bytes) else None for value in found)
            watermark = decode_watermark(raw)
            if watermark is not None and watermark.epoch == epoch:
                return watermark, dict(zip(keys, map(decode, values), strict=True))
    return watermark, {}
