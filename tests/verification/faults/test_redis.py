"""Redis loses a suffix, comes back in an old state, or has no memory left."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import redis

from reader.read_model.cached_values import cache_key
from tests.support.harness import wait_until, wait_until_caught_up
from tests.support.oracle import assert_cache_is_true, expected_documents
from tests.support.proxy import Proxy
from tests.support.traffic import write_traffic
from tests.verification.faults.redis_servers import FILLER, fill_memory, replica_of, short_of_memory
from tests.verification.faults.system import POSTS, System, standing_in, stopped
from tests.verification.faults.witness import Witness

MEBIBYTE = 1 << 20
BUSY = "redis; fwd=miss; detail=lease-held"


def test_a_failover_to_a_replica_behind_leaves_nothing_stale(
    system: System, witness: Witness, redis_address: Proxy, tmp_path: Path
) -> None:
    """Trace 12. The replica's link ends while writes go on; it is promoted behind the services' address."""
    chance, stack, primary = random.Random(12), system.stack, system.stack.redis
    with replica_of(stack, tmp_path) as replica:
        system.catch_up_and_fill()
        with redis.Redis.from_url(replica.admin_url) as client:
            client.replicaof("NO", "ONE")
        write_traffic(system.connection, chance, 60)
        wait_until_caught_up(stack, system.connection)
        lost = system.watermark()
        try:
            with standing_in(stack, "redis", replica):
                assert system.watermark().seq < lost.seq
                with pytest.raises(AssertionError, match="is stale"):
                    assert_cache_is_true(stack, expected_documents(system.connection))
                primary.kill()
                redis_address.switch(replica.port)
                write_traffic(system.connection, chance, 20)
                witness.wait_until_fresh(system.connection)
                witness.stop()
                system.assert_all_is_well()
                assert system.watermark().epoch == lost.epoch, (
                    "the journal was enough: no new epoch was needed"
                )
        finally:
            primary.start()
            redis_address.switch(primary.port)


def test_a_restart_brings_entries_and_watermark_back_together(system: System, witness: Witness) -> None:
    """Redis 8.0 drops transactions of its append-only file at load if the default user may do nothing.

    So an APPLY without keys must be dropped along with those that changed entries.
    """
    system.catch_up_and_fill()
    write_traffic(system.connection, random.Random(11), 60)
    witness.wait_until_fresh(system.connection)
    witness.stop()
    wait_until_caught_up(system.stack, system.connection)
    mark = system.watermark()
    wait_until(lambda: (now := system.watermark()).as_of > mark.as_of and now.seq == mark.seq, "a tick")
    system.stack.redis.kill()
    system.stack.redis.start()
    system.assert_all_is_well()


def test_an_old_copy_of_the_redis_folder_leaves_nothing_stale(
    system: System, witness: Witness, tmp_path: Path
) -> None:
    """Trace 12. A volume is restored: old entries come back together with their old watermark."""
    chance, copy, server = random.Random(13), tmp_path / "copy", system.stack.redis
    system.catch_up_and_fill()
    with stopped(server):
        shutil.copytree(server.data, copy)
    witness.wait_until_fresh(system.connection)
    write_traffic(system.connection, chance, 60)
    wait_until_caught_up(system.stack, system.connection)
    lost = system.watermark()
    with redis.Redis.from_url(server.admin_url) as client:
        client.set("made-after-the-copy", 1)
        with stopped(server):
            shutil.rmtree(server.data)
            shutil.copytree(copy, server.data)
        assert not client.exists("made-after-the-copy")
    write_traffic(system.connection, chance, 20)
    witness.wait_until_fresh(system.connection)
    witness.stop()
    system.assert_all_is_well()
    assert system.watermark().epoch == lost.epoch, "the journal was enough: no new epoch was needed"


def test_eviction_takes_entries_and_never_the_watermark(system: System, witness: Witness) -> None:
    """Trace 22. Other keys with a TTL, used more than ours, take all memory that volatile-lfu can free."""
    chance, before = random.Random(22), system.catch_up_and_fill()
    with short_of_memory(system.stack, "volatile-lfu") as client:
        cached = entries(system, client)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + MEBIBYTE)
        rounds = iter(range(1_000))

        def half_is_gone() -> bool:
            fill_memory(client, range(first := next(rounds) * 100, first + 100), seconds=3600)
            write_traffic(system.connection, chance, 1)
            return len(cached & entries(system, client)) < len(cached) / 2

        wait_until(half_is_gone, "eviction")
        witness.wait_until_fresh(system.connection)
        witness.stop()
        wait_until_caught_up(system.stack, system.connection)
        assert_cache_is_true(system.stack, expected_documents(system.connection))
    system.assert_all_is_well()
    after = system.watermark()
    assert (after.epoch, after.seq > before.seq) == (before.epoch, True)


def test_full_memory_stops_neither_the_watermark_nor_reads(system: System, witness: Witness) -> None:
    """Trace 22. Nothing can be evicted: APPLY may exceed the limit, fills are refused, entries stay true."""
    chance, before = random.Random(23), system.catch_up_and_fill()
    witness.wait_until_fresh(system.connection)
    with short_of_memory(system.stack, "noeviction") as client:
        fill_memory(client, range(500), seconds=None)
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 3 * MEBIBYTE)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("filler:more", FILLER)
        cached = entries(system, client)
        write_traffic(system.connection, chance, 30)
        witness.wait_until_fresh(system.connection)
        assert_fills_are_refused(system)
        assert entries(system, client) <= cached
    witness.wait_until_fresh(system.connection)
    witness.stop()
    system.assert_all_is_well()
    assert system.watermark().epoch == before.epoch


def entries(system: System, client: redis.Redis) -> set[bytes]:
    return set(client.scan_iter(cache_key(system.watermark().epoch, "*"), count=1000))


def assert_fills_are_refused(system: System) -> None:
    """A missing key is read from MongoDB, every time."""
    with system.reading.client() as client:
        answers = [client.get(f"/post/{POSTS.stop}") for _ in range(3)]
    assert [(answer.status_code, answer.headers["cache-status"]) for answer in answers] == [(200, BUSY)] * 3
