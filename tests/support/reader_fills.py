"""Fills the cache like a reader, without HTTP: every entity at the present watermark."""

from __future__ import annotations

from typing import Any

import redis
from pymongo import MongoClient

from ops.stack import Stack
from reader.read_model.cached_values import VALUE_TTL_MS, cache_key, encode_entity
from reader.read_model.declarations import COLLECTIONS, ENTITIES
from reader.read_model.entities import is_present
from tests.support.harness import watermark


def fill_cache(stack: Stack) -> None:
    mark = watermark(stack)
    assert mark is not None
    with (
        redis.Redis.from_url(stack.redis.admin_url) as cache,
        MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client,
    ):
        for entity in ENTITIES.values():
            for document in client["tidemark"][COLLECTIONS[entity.collection].in_build(mark.build)].find():
                if is_present(document):
                    key = cache_key(mark.epoch, entity.key(document["_id"]))
                    cache.set(key, encode_entity(entity, document), px=VALUE_TTL_MS, nx=True)
