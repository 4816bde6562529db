"""The baseline services answer like Tidemark, and stay right under simultaneous writes."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pymysql
import pytest
import redis
from starlette.testclient import TestClient

from ops.stack import Stack
from ops.stack.urls import mysql_arguments
from perf.baseline.app import Stores, create_app
from perf.baseline.cache_aside import PREFIX
from perf.baseline.counters import recount
from perf.baseline.fanout import FanOut
from perf.baseline.lanes import ALL_LANES, LANES
from perf.compare.crowd import Crowd
from tests.conftest import empty_stores
from tests.support.harness import admin_connection, rows, wait_until
from tests.support.services import Services, running_services
from tests.support.tokens import AUTH_SETTINGS, bearer

CROWD = Crowd(posts=30, seed=3)
ODD = r"""Zürich 🌊 "quoted" \ back/slash, #Tide #tide &#38; #Größe <b> \u2028"""


@dataclass(frozen=True)
class World:
    """A loaded schema, a client for each lane, and Tidemark itself."""

    lanes: dict[str, TestClient]
    services: Services
    mysql_url: str
    cache: redis.Redis
    stack: Stack


@pytest.fixture(scope="module")
def world(shared_stack: Stack) -> Iterator[World]:
    empty_stores(shared_stack)
    url = f"{shared_stack.mysql.admin_url}tidemark"
    stores = Stores(url, shared_stack.redis.admin_url)
    with contextlib.ExitStack() as undo:
        services = undo.enter_context(running_services(shared_stack))
        CROWD.load(url)
        change_body(url, 7, ODD)
        recount(url)
        lanes = {
            name: undo.enter_context(TestClient(create_app(lane, stores, AUTH_SETTINGS)))
            for name, lane in ALL_LANES.items()
        }
        cache = undo.enter_context(redis.Redis.from_url(shared_stack.redis.admin_url))
        yield World(lanes, services, url, cache, shared_stack)


def headers(user: int = 1) -> dict[str, str]:
    return bearer(f"perf-{user}")


def body(world: World, lane: str, post: int) -> bytes:
    answer = world.lanes[lane].get(f"/post/{post}", headers=headers())
    assert answer.status_code == 200, answer.text
    return answer.content


def change_body(mysql_url: str, post: int, text: str) -> None:
    with (
        pymysql.connect(**mysql_arguments(mysql_url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("UPDATE posts SET body = %s WHERE id = %s", (text, post))


def wait_until_read(world: World, post: int, truth: bytes) -> None:
    path = f"/post/{post}"
    wait_until(lambda: world.services.read(path, "perf-1").content == truth, f"{path} in the read model")


def test_every_lane_and_tidemark_answer_the_same_bytes(world: World) -> None:
    for post in range(1, CROWD.posts + 1):
        truth = body(world, "sql", post)
        wait_until_read(world, post, truth)
        for _ in range(2):  # cache_aside fills first, then answers from Redis
            assert {name: body(world, name, post) for name in LANES} == dict.fromkeys(LANES, truth)
    assert (
        json.loads(body(world, "sql", CROWD.by_popularity[0]))["like_count"]
        == CROWD.likes_of(0)
        == CROWD.users
    )


def test_every_lane_and_tidemark_answer_the_same_feed(world: World) -> None:
    reader, lonely = 2, CROWD.users
    with admin_connection(world.stack) as connection:
        found = rows(
            connection, f"SELECT MIN(followee_id) FROM tidemark.follows WHERE follower_id = {reader}"
        )
    author = int(found[0][0])
    with FanOut(world.mysql_url, world.stack.redis.admin_url) as fanout:
        fanout.fill([reader, lonely])
        first = feed(world, reader)
        assert len(first["items"]) == 20 and first["next"]
        assert feed(world, lonely) == {"items": [], "next": None}
        written = world.lanes["sql"].post("/post", headers=headers(author), json={"body": ODD})
        assert fanout.deliver(author, id := int(written.json()["id"])) == followers(world, author) + 1
        assert fanout.shows(reader, id) and not fanout.shows(lonely, id)
    recount(world.mysql_url)
    assert feed(world, reader)["items"][0]["id"] == str(id)


def feed(world: World, user: int) -> Any:
    """The feed, which all lanes and the reader answer with the same bytes."""
    truth = world.lanes["sql"].get("/feed", headers=headers(user)).content
    wait_until(lambda: world.services.read("/feed", f"perf-{user}").content == truth, "the feed")
    for name, lane in world.lanes.items():
        assert lane.get("/feed", headers=headers(user)).content == truth, name
    return json.loads(truth)


def followers(world: World, user: int) -> int:
    with admin_connection(world.stack) as connection:
        return int(
            rows(connection, f"SELECT COUNT(*) FROM tidemark.follows WHERE followee_id = {user}")[0][0]
        )


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [("GET", "/post/999", headers()), ("GET", "/post/1", {}), ("PATCH", "/user/1", {})],
)
def test_every_lane_and_tidemark_refuse_alike(
    world: World, method: str, path: str, given: dict[str, str]
) -> None:
    with httpx2.Client(base_url=world.services.reader_url, verify=False) as client:
        ours = client.request(method, path, headers=given)
    for lane in world.lanes.values():
        theirs = lane.request(method, path, headers=given)
        assert (theirs.status_code, theirs.json()) == (ours.status_code, ours.json())


@pytest.mark.parametrize("lane", LANES)
def test_writes_at_once_leave_every_lane_true(world: World, lane: str) -> None:
    client, chance = world.lanes[lane], random.Random(lane)
    recount(world.mysql_url)

    def write(number: int) -> int:
        method, post = chance.choice(("PUT", "DELETE")), chance.randint(1, 3)
        return client.request(
            method, f"/post/{post}/like", headers=headers(chance.randint(1, 20))
        ).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(write, range(120))) == {204}
    written = client.post("/post", headers=headers(), json={"body": f"new in {lane}"})
    assert written.status_code == 201
    world.cache.delete(
        *(f"{PREFIX}{post}" for post in (1, 2, 3))
    )  # a race may leave stale entries: see the next test
    for post in (1, 2, 3, int(written.json()["id"])):
        assert body(world, lane, post) == body(world, "sql", post)


def test_cache_aside_answers_from_redis_until_it_writes_itself(world: World) -> None:
    before = body(world, "cache_aside", 5)
    change_body(world.mysql_url, 5, "changed behind its back")
    assert body(world, "cache_aside", 5) == before
    assert world.lanes["cache_aside"].put("/post/5/like", headers=headers(2)).status_code == 204
    assert body(world, "cache_aside", 5) == body(world, "sql", 5) != before
