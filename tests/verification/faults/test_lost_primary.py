"""A MongoDB primary dies with a batch that no other node has."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient

from ops.stack import Stack
from reader.read_model.cached_values import Entry, cache_key, decode
from reader.read_model.control import journal_id, keys_of
from tests.conftest import service_environment
from tests.support.harness import wait_until
from tests.support.traffic import write_traffic
from tests.verification.faults.replica_set import (
    has_rolled_back,
    hold_back_a_batch,
    lose_primary,
    replica_set,
    service_urls,
)
from tests.verification.faults.system import System, running_system, standing_in
from tests.verification.faults.witness import Witness


def test_a_batch_lost_with_its_primary_leaves_nothing_stale(stack: Stack, tmp_path: Path) -> None:
    """Trace 1. A reader fills while the next batch is on the primary alone. Another batch takes its number.

    The old primary comes back and rolls back.
    """
    chance = random.Random(1)
    with replica_set(tmp_path) as nodes, standing_in(stack, "mongodb", nodes[0]):
        environment = {**service_environment(stack), **service_urls(stack, nodes[0])}
        with running_system(stack, environment) as system, Witness(stack, system.reading) as witness:
            lost = hold_back_a_batch(nodes, system.catch_up_and_fill().build)
            assert_fill_lacks(system, lost)
            write_traffic(system.connection, chance, 40)
            lose_primary(nodes)
            witness.wait_until_fresh(system.connection)
            assert not has_rolled_back(nodes[0])
            nodes[0].start()
            wait_until(lambda: has_rolled_back(nodes[0]), "the old primary to roll back")
            write_traffic(system.connection, chance, 20)
            witness.wait_until_fresh(system.connection)
            witness.stop()
            system.assert_all_is_well()
            assert final_batch_id(system, lost["_id"]["seq"]) != lost["batch_id"]


def assert_fill_lacks(system: System, batch: dict[str, Any]) -> None:
    """A reader whose replica is empty, and that misses a key of this batch, caches the value before it."""
    key = next(key for key in keys_of(batch) if key.startswith("post:") and key.count(":") == 1)
    name = cache_key(system.watermark().epoch, key)
    with redis.Redis.from_url(system.stack.redis.admin_url) as cache, system.reading.client() as client:

        def filled() -> Entry | None:
            client.get(f"/{key.replace(':', '/')}")
            value = cache.get(name)
            return decode(value if isinstance(value, bytes) else None)

        cache.delete(name)
        cache.client_kill_filter(_type="pubsub")
        wait_until(filled, "a fill")
        entry = filled()
    assert entry is not None and entry.version < batch["_id"]["seq"]


def final_batch_id(system: System, seq: int) -> str:
    """The id under which the batch with this number is committed in the end."""
    with MongoClient[dict[str, Any]](system.stack.mongodb.admin_url) as client:
        entry = client["tidemark"]["control"].find_one({"_id": journal_id(system.watermark().build, seq)})
    assert entry is not None
    return str(entry["batch_id"])
