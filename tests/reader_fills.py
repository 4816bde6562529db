from typing import Any
import redis
from pymongo import MongoClient
from ops.stack import Stack
from reader.read_model import *


def fill_everything(stack: Stack) -> None:
    with (
        redis.Redis.from_url(stack.redis.admin_url) as cache,
        MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client,
    ):
        mark = Watermark.decode(cache.get(WATERMARK_KEY))
        for entity in ENTITIES.values():
            for doc in client["tidemark"][COLLECTIONS[entity.collection].in_build(mark.build)].find():
                if is_present(doc):
                    cache.set(
                        cache_key(mark.epoch, entity.key(doc["_id"])),
                        encode_entity(entity, doc),
                        px=VALUE_TTL_MS,
                        nx=True,
                    )
