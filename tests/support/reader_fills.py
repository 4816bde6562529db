"""Fills the cache like a reader, without HTTP: every entity at the present watermark."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

from ops.stack import Stack
from reader.read_model.cached_values import VALUE_TTL_MS, Watermark, encode_entity
from reader.read_model.declarations import COLLECTIONS, ENTITIES
from reader.read_model.entities import is_present
from reader.read_model.shards import shard_number
from tests.support.caches import caches


def fill_cache(stack: Stack) -> None:
    """Every shard must have a watermark."""
    with caches(stack) as shards, MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        raw = [cache.get(shard.watermark_key) for shard, cache in shards]
        marks = [Watermark.decode(mark) for mark in raw if isinstance(mark, bytes)]
        assert len(marks) == len(shards) > 0
        for entity in ENTITIES.values():
            collection = COLLECTIONS[entity.collection].in_build(marks[0].build)
            for document in client["tidemark"][collection].find():
                if is_present(document):
                    key = entity.key(document["_id"])
                    number = shard_number(key, len(shards))
                    shard, cache = shards[number]
                    name = shard.cache_key(marks[number].epoch, key)
                    cache.set(name, encode_entity(entity, document), px=VALUE_TTL_MS, nx=True)
