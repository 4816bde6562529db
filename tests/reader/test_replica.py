"""The replica: bounded memory, the least recently used out first, and answers kept with their entries."""

from __future__ import annotations

import gc
import tracemalloc
from random import Random

import pytest

from ops.stack import Stack
from reader.metrics import ReaderMetrics
from reader.parts import Origin
from reader.read_model.cached_values import Entry, encode_entity
from reader.read_model.declarations import LISTINGS, POST, USER
from reader.replica import OVERHEAD_BYTES, Replica
from tests.reader.inside import inside, shown, until
from tests.reader.world import World

BODY = b"x" * (1_000 - OVERHEAD_BYTES)  # entries of 1,000 bytes
POSTS = next(listing for listing in LISTINGS if listing.path == "/user/{id}/posts")


def replica(limit_bytes: int) -> tuple[Replica, ReaderMetrics]:
    metrics = ReaderMetrics()
    return Replica(limit_bytes, metrics), metrics


def drops(metrics: ReaderMetrics, cause: str) -> float:
    return metrics.registry.get_sample_value("tidemark_replica_drops_total", {"cause": cause}) or 0.0


def test_the_least_recently_used_entry_leaves_first() -> None:
    held, metrics = replica(3_000)
    for id in (1, 2, 3):
        held.put(f"user:{id}", Entry(True, 1, b"", BODY))
    assert held.get("user:1")
    held.put("user:4", Entry(True, 1, b"", BODY))
    assert [bool(held.get(f"user:{id}")) for id in (1, 2, 3, 4)] == [True, False, True, True]
    assert (held.bytes, len(held), drops(metrics, "memory")) == (3_000, 3, 1)


def test_a_replica_of_no_bytes_keeps_nothing() -> None:
    held, _ = replica(0)
    held.put("user:1", Entry(False, 1))
    held.keep("/user/1", object(), (), 0)
    assert (held.get("user:1"), held.answer("/user/1"), len(held), held.bytes) == (None, None, 0, 0)


def test_an_entry_larger_than_the_replica_does_not_empty_it() -> None:
    held, metrics = replica(3_000)
    held.put("user:1", Entry(True, 1, b"", BODY))
    held.put("user:2", Entry(True, 1, b"", BODY * 10))
    assert (len(held), held.bytes, drops(metrics, "memory")) == (1, 1_000, 0)


def test_every_way_out_gives_the_bytes_back() -> None:
    held, metrics = replica(10_000)
    entries = {f"user:{id}": Entry(True, 1, b"", BODY) for id in range(5)}
    for key, entry in entries.items():
        held.put(key, entry)
        held.put(key, entry)
    held.keep("/list", object(), [entries], 1_000)
    held.keep("/list", object(), [entries], 500)
    assert held.bytes > 5_500
    held.drop(["user:0", "user:9"])
    assert held.answer("/list") is None
    held.keep("/list", object(), (), 10_000)
    assert held.bytes == 4_000
    held.clear()
    assert (held.bytes, drops(metrics, "named"), drops(metrics, "reset")) == (0, 1, 4)


def test_an_answer_is_kept_as_long_as_each_of_its_entries() -> None:
    held, _ = replica(100_000)
    parts = {key: Entry(True, 1, b"", BODY) for key in ("post:1", "user:1")}
    for key, entry in parts.items():
        held.put(key, entry)
    held.keep("/post/1", "the answer", [parts], 100)
    kept = held.answer("/post/1")
    assert kept is not None and kept.answer == "the answer"
    held.drop(["user:7", "post:9"])
    held.put("user:7", Entry(True, 1, b"", BODY))
    held.drop(["user:7"])
    assert all(held.answer("/post/1") for _ in range(2))
    held.drop(["user:1"])
    held.put("user:1", Entry(True, 2, b"", BODY))
    assert held.answer("/post/1") is None


def test_the_parts_that_left_are_told_however_many_others_left_meanwhile() -> None:
    for seed in range(200):
        chance = Random(seed)
        held, _ = replica(2**30)
        keys = [f"user:{id}" for id in range(chance.choice((1, 5, 40)))]
        for key in keys:
            held.put(key, Entry(True, 1, b"", BODY))
        entries = {key: held.get(key) for key in chance.sample(keys, chance.randint(1, len(keys)))}
        held.keep("/list", "the answer", [{key: entry for key, entry in entries.items() if entry}], 0)
        for _ in range(chance.choice((1, 3, 100))):
            key = chance.choice(keys)
            held.drop([key])
            if chance.random() < 0.8:
                held.put(key, Entry(True, 2, b"", BODY))
        former = held.former("/list")
        assert former is not None
        assert {*former[1]} == {key for key, entry in entries.items() if held.get(key) is not entry}
        assert (held.answer("/list") is None) == bool(former[1])


def test_memory_is_what_the_limit_says() -> None:
    """Python's objects, keys and tables included: 20,000 small entries."""
    values = [encode_entity(USER, _user(id)) for id in range(20_000)]
    held, _ = replica(2**40)
    gc.collect()
    tracemalloc.start()
    try:
        for id, value in enumerate(values):
            head, _, body = value[17:].partition(b"\n")
            held.put(f"user:{id}", Entry(True, 1, head, body))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 * held.bytes < used < 1.05 * held.bytes


def _user(id: int) -> dict[str, object]:
    texts = dict.fromkeys(("handle", "display_name", "bio", "created_at", "updated_at"), "some text")
    return {"_id": id, "v": 1, **texts, "post_count": 0, "follower_count": 0, "following_count": 0}


@pytest.mark.anyio
async def test_a_reader_at_its_limit_stays_there_and_answers_rightly(
    shared_stack: Stack, world: World
) -> None:
    with world.many():
        for id in range(1, 301):
            world.user(id)
    world.batch(2)
    limit = 50_000
    async with inside(shared_stack, local_bytes=limit) as reader:
        origins = []
        for id in [*range(1, 301), *range(1, 301), 300]:
            answer = await reader.read(USER, id)
            assert shown(answer)["id"] == str(id)
            assert reader.replica.bytes <= limit
            origins.append(answer.origin)
        assert reader.replica.bytes > 0.9 * limit
        assert set(origins[:300]) == {Origin.STORED}
        assert set(origins[300:600]) == {Origin.HIT}  # 1 to 300 in turn: always the one that has left
        assert origins[600] is Origin.LOCAL


@pytest.mark.anyio
async def test_a_kept_answer_is_not_given_after_a_message_names_a_part(
    shared_stack: Stack, world: World
) -> None:
    world.user(1, bio="old")
    for id in (1, 2):
        world.post(id)
    world.batch(2)
    async with inside(shared_stack) as reader:
        for path, kind in (("/post/1", POST), ("/user/1/posts", POSTS)):
            assert reader.consistency.ready(path) is None
            for _ in range(2):
                await reader.read(kind, 1, path=path)
            assert reader.consistency.ready(path) is not None
        world.batch(3, ["user:77"])
        await reader.follows(world)
        kept = reader.consistency.ready("/post/1")
        assert kept is not None
        assert (kept.moment.seq, kept.origin) == (3, Origin.LOCAL)
        world.user(1, display_name="new", v=4)
        world.batch(4, ["user:1"])
        await reader.follows(world)
        for path, kind in (("/post/1", POST), ("/user/1/posts", POSTS)):
            assert reader.consistency.ready(path) is None
            assert b'"new"' in ((await reader.read(kind, 1, path=path)).body or b"")


@pytest.mark.anyio
async def test_no_kept_answer_is_given_while_blind_or_after_a_reset(
    shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.batch(2)
    async with inside(shared_stack) as reader:
        for _ in range(2):
            await reader.read(USER, 1, path="/user/1")
        assert reader.consistency.ready("/user/1") is not None
        shared_stack.redis.pause()
        try:
            await until(lambda: reader.following.bypass, "the reader to be blind")
            assert reader.consistency.ready("/user/1") is None
        finally:
            shared_stack.redis.resume()
        await until(lambda: reader.following.bypass is None, "the tide to go on")
        assert reader.consistency.ready("/user/1") is not None
        world.epoch = "8"
        world.set_watermark(world.commit(3))
        await until(lambda: reader.resets("broken"), "a reset")
        assert reader.consistency.ready("/user/1") is None
