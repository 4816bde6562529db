"""The running projector against real servers that come and go."""

from __future__ import annotations

import random

import httpx2
import pytest
import redis

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from reader.read_model.cached_values import WATERMARK_KEY, cache_key, encode_version
from tests.support.harness import (
    admin_connection,
    assert_everything_is_equal,
    process,
    projector,
    projector_environment,
    run_sql,
    wait_until,
    wait_until_caught_up,
    watermark,
)
from tests.support.oracle import actual_documents, expected_documents
from tests.support.reader_fills import fill_cache
from tests.support.traffic import write_traffic


def test_a_snapshot_and_the_stream_after_it_are_one_history(stack: Stack, connection: Connection) -> None:
    write_traffic(connection, random.Random(1), 50)
    with projector(projector_environment(stack)):
        write_traffic(connection, random.Random(2), 100)
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        write_traffic(connection, random.Random(3), 100)
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50


def test_counters_belong_to_the_id(stack: Stack, connection: Connection) -> None:
    """Trace 13. Likes of a post that is deleted and made again, with children left and keys changed."""
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        run_sql(
            connection,
            "SET foreign_key_checks = 0",
            "INSERT INTO likes (post_id, user_id) VALUES (1, 1), (1, 2), (999, 3)",
            "DELETE FROM posts WHERE id = 1",
        )
        wait_until_caught_up(stack, connection)
        assert_everything_is_equal(stack, connection)
        run_sql(
            connection,
            "INSERT INTO posts (id, author_id, body) VALUES (1, 2, 'again')",
            "UPDATE posts SET id = 5000 WHERE id = 2",
            "REPLACE INTO users (id, subject, handle, display_name) VALUES (1, 'new', 'h5', 'Replaced')",
            "DELETE FROM likes WHERE post_id = 999",
            "SET foreign_key_checks = 1",
        )
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50


def kill_and_start(stack: Stack, store: str) -> None:
    server = getattr(stack, store)
    server.kill()
    server.start()


@pytest.mark.parametrize("store", ["mysql", "mongodb", "redis"])
def test_it_reconnects_and_nothing_is_lost(stack: Stack, connection: Connection, store: str) -> None:
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        write_traffic(connection, random.Random(4), 30)
        kill_and_start(stack, store)
        with admin_connection(stack) as again:
            write_traffic(again, random.Random(5), 30)
            wait_until_caught_up(stack, again)
            assert_everything_is_equal(stack, again)


def test_mongodb_goes_on_while_redis_is_away(stack: Stack, connection: Connection) -> None:
    with projector(projector_environment(stack)) as running:
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        stack.redis.stop()
        try:
            write_traffic(connection, random.Random(6), 30)
            wait_until(
                lambda: actual_documents(stack) == expected_documents(connection), "MongoDB to follow alone"
            )
            assert running.popen.poll() is None
        finally:
            stack.redis.start()
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50


def test_readiness_names_a_silent_redis_within_two_seconds(stack: Stack, connection: Connection) -> None:
    """Redis gets a second to answer. A leader without Redis goes on with MongoDB, so it stays ready."""
    bind = f"127.0.0.1:{free_port()}"
    environment = {**projector_environment(stack), "TIDEMARK_PROJECTOR_ADMIN_BIND": bind}
    well = {"lease": "ok", "source": "ok", "mongodb": "ok", "redis": "ok"}
    away = {**well, "redis": "away: reads come from MongoDB"}
    with projector(environment), httpx2.Client(base_url=f"http://{bind}", trust_env=False) as admin:
        wait_until_caught_up(stack, connection)
        wait_until(lambda: admin.get("/readyz").json() == well, "all to be well")
        for transactions in (0, 20):
            stack.redis.pause()
            try:
                write_traffic(connection, random.Random(7), transactions)
                wait_until(lambda: admin.get("/readyz").json() != well, "Redis to be missed", seconds=2.5)
                ready = admin.get("/readyz")
                assert (ready.status_code, ready.json()) == (200, away)
            finally:
                stack.redis.resume()
            wait_until(lambda: admin.get("/readyz").json() == well, "Redis")


def test_a_flushed_redis_gets_a_new_epoch(stack: Stack, connection: Connection) -> None:
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        before = watermark(stack)
        with redis.Redis.from_url(stack.redis.admin_url) as cache:
            cache.flushall()
        after = wait_until(lambda: watermark(stack), "a watermark")
    assert before is not None and after.epoch != before.epoch


def test_a_watermark_of_another_history_is_not_continued(stack: Stack, connection: Connection) -> None:
    """Trace 8. The same seq under another batch id means that MongoDB has another history."""
    environment = projector_environment(stack)
    with projector(environment):
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
    mark = watermark(stack)
    assert mark is not None
    forged = mark.encode().replace(mark.batch_id, "0" * 16)
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        cache.set(WATERMARK_KEY, forged)
    with projector(environment):
        wait_until(lambda: (now := watermark(stack)) is not None and now.epoch != mark.epoch, "a new epoch")
    found = watermark(stack)
    assert found is not None and found.seq > mark.seq


def test_an_entry_that_looks_newer_than_its_batch_is_not_kept(stack: Stack, connection: Connection) -> None:
    """Filled ahead of the watermark from a history that MongoDB lost when it was restored from a backup."""
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, connection)
        mark = watermark(stack)
        assert mark is not None
        with redis.Redis.from_url(stack.redis.admin_url) as cache:
            lost = b"V" + encode_version(mark.seq + 1000) + b'1\n{"id":"1","body":"lost"}'
            cache.set(cache_key(mark.epoch, "post:1"), lost, px=600_000)
        run_sql(connection, "UPDATE posts SET body = 'true' WHERE id = 1")
        wait_until_caught_up(stack, connection)
        assert_everything_is_equal(stack, connection)


def test_an_old_dump_of_redis_is_brought_forward_by_the_journal(stack: Stack, connection: Connection) -> None:
    with projector(projector_environment(stack)):
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        dump = dump_redis(stack)
        write_traffic(connection, random.Random(8), 60)
        wait_until_caught_up(stack, connection)
        restore_redis(stack, dump)
        write_traffic(connection, random.Random(9), 5)
        wait_until_caught_up(stack, connection)
        assert assert_everything_is_equal(stack, connection) > 50
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        epochs = {key.split(b":")[1] for key in cache.scan_iter(match="tidemark:e*")}
    assert len(epochs) == 1, "the journal was enough: no new epoch was needed"


def dump_redis(stack: Stack) -> dict[bytes, tuple[int, bytes]]:
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        dumped = {}
        for key in cache.scan_iter():
            content = cache.dump(key)
            assert isinstance(content, bytes)
            dumped[key] = (max(0, int(cache.pttl(key))), content)
        return dumped


def restore_redis(stack: Stack, dump: dict[bytes, tuple[int, bytes]]) -> None:
    """Restores all keys at once, like a failover to an old copy."""
    with redis.Redis.from_url(stack.redis.admin_url) as cache, cache.pipeline(transaction=True) as pipeline:
        pipeline.flushall()
        for key, (ttl, content) in dump.items():
            pipeline.restore(key, ttl, content)
        pipeline.execute()


def test_sigterm_drains_and_the_next_one_goes_on_at_once(stack: Stack, connection: Connection) -> None:
    environment = projector_environment(stack)
    with projector(environment) as first:
        wait_until_caught_up(stack, connection)
        write_traffic(connection, random.Random(10), 50)
        assert first.stop() == 0
        assert first.events()[-1]["event"] == "drained"
    with projector(environment):
        write_traffic(connection, random.Random(11), 5)
        wait_until_caught_up(stack, connection, seconds=10)
        assert_everything_is_equal(stack, connection)


def test_an_error_for_the_operator_is_logged_and_a_rebuild_helps(
    stack: Stack, connection: Connection
) -> None:
    environment = projector_environment(stack)
    with projector(environment) as running:
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        run_sql(connection, "TRUNCATE TABLE follows")
        assert running.popen.wait(timeout=20) == 1
        stopped = running.events()[-1]
        running.expected_status = 1
    assert (stopped["event"], stopped["kind"]) == ("stopped", "UnsupportedEvent")
    assert "follows" in stopped["reason"] and "rebuild" in stopped["reason"]
    with process(environment, "-m", "binlog_projector", "status", "--json") as asking:
        asking.expected_status = 1
        assert asking.popen.wait(timeout=20) == 1
        missing = asking.events()[-1]["missing"]
    assert f"(in transaction {missing} at binlog." in stopped["reason"], (
        "all before it is applied, and nothing of it"
    )
    before = watermark(stack)
    write_traffic(connection, random.Random(11), 20)
    with process(environment, "-m", "binlog_projector", "rebuild", "--json") as rebuilding:
        assert rebuilding.popen.wait(timeout=60) == 0
        assert rebuilding.events()[-1] == {"build": 2}
    after = watermark(stack)
    assert before is not None and after is not None
    assert (after.build, after.seq > before.seq, after.epoch != before.epoch) == (2, True, True)
    with projector(environment):
        write_traffic(connection, random.Random(12), 20)
        wait_until_caught_up(stack, connection)
        fill_cache(stack)
        assert assert_everything_is_equal(stack, connection) > 50
