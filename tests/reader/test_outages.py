"""Redis or MongoDB is down: the other answers, and the reader recovers without a restart."""

from __future__ import annotations

import time

import httpx2
import pytest

from ops.stack import Stack
from tests.reader.conftest import RunningReader, hit
from tests.reader.world import World
from tests.support.harness import wait_until

WELL = {"reads": "ok", "redis": "ok", "mongodb": "ok"}


def test_without_redis_reads_come_from_mongodb(
    api: httpx2.Client, running_reader: RunningReader, shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.post(5, body="#sea")
    api.get("/post/5")
    shared_stack.redis.stop()
    try:
        for path in ("/post/5", "/user/1", "/user/1/posts", "/user/1/posts?limit=1", "/hashtag/sea"):
            answer = api.get(path)
            assert (answer.status_code, answer.headers["freshness"][:6]) == (200, "as-of=")
            assert answer.headers["cache-status"] == "redis; fwd=bypass; detail=unavailable"
        ready = running_reader.ready()
        assert (ready.status_code, ready.json()) == (
            200,
            {**WELL, "redis": "away: reads come from MongoDB"},
        )
    finally:
        shared_stack.redis.start()
    hit(api, "/post/5")
    assert running_reader.ready().json() == WELL


def test_requests_do_not_each_wait_for_a_redis_that_hangs(
    api: httpx2.Client, shared_stack: Stack, world: World
) -> None:
    world.user(1)
    api.get("/user/1")
    shared_stack.redis.pause()
    try:
        started = time.monotonic()
        for _ in range(50):
            assert api.get("/user/1").headers["cache-status"] == "redis; fwd=bypass; detail=unavailable"
        assert time.monotonic() - started < 2
    finally:
        shared_stack.redis.resume()
    hit(api, "/user/1")


def test_without_mongodb_cached_reads_go_on_and_others_are_503(
    api: httpx2.Client, running_reader: RunningReader, shared_stack: Stack, world: World
) -> None:
    world.user(1)
    world.post(5)
    for path in ("/post/5", "/user/1/posts"):
        api.get(path)
    shared_stack.mongodb.stop()
    try:
        for path in ("/post/5", "/user/1/posts", "/user/1"):
            answer = api.get(path)
            assert (answer.status_code, answer.headers["cache-status"]) == (200, "redis; hit")
        for path in ("/post/6", "/feed"):
            missing = api.get(path)
            assert (missing.status_code, missing.headers["retry-after"]) == (503, "1")
            assert missing.headers["content-type"] == "application/problem+json"
        ready = running_reader.ready()
        said = ready.json()
        assert (ready.status_code, {**said, "mongodb": "ok"}) == (200, WELL)
        assert said["mongodb"].startswith("away: ") and "Topology" not in said["mongodb"]
    finally:
        shared_stack.mongodb.start()
    wait_until(lambda: api.get("/feed").status_code == 200, "MongoDB to be used again", 20)
    assert running_reader.ready().json() == WELL


def test_without_both_the_reader_is_not_ready_and_recovers(
    api: httpx2.Client, running_reader: RunningReader, shared_stack: Stack, world: World
) -> None:
    world.user(1)
    shared_stack.redis.pause()
    shared_stack.mongodb.pause()
    try:
        assert api.get("/user/1").status_code == 503
        ready = running_reader.ready()
        assert ready.status_code == 503
        assert "ok" not in ready.json().values() and ready.json().keys() == WELL.keys()
        with running_reader.anonymous() as client:
            assert client.get(f"{running_reader.admin_url}/healthz").status_code == 200
    finally:
        shared_stack.mongodb.resume()
        shared_stack.redis.resume()
    hit(api, "/user/1")


@pytest.mark.parametrize("gone", ["serving", "checkpoint:3"])
def test_a_read_model_that_is_not_built_yet_is_a_503(
    api: httpx2.Client, running_reader: RunningReader, world: World, gone: str
) -> None:
    world.cache.flushall()
    world.database["control"].delete_one({"_id": gone})
    answer = wait_until(lambda: refused(api), "the reader to miss its watermark")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "projector" in running_reader.ready().json()["mongodb"]


def refused(api: httpx2.Client) -> httpx2.Response | None:
    answer = api.get("/user/1")
    return answer if answer.status_code != 404 else None


def test_before_the_first_build_reads_are_503(api: httpx2.Client, world: World) -> None:
    """A snapshot of a collection that does not exist has no cluster time."""
    world.cache.flushall()
    world.database.drop_collection("control")
    assert api.get("/user/1").status_code == 503
