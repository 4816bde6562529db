"""`?include=viewer`: what posts and users are to the caller, exact, and plain reads as if there were none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2
import pytest

from authorizer_lambda.middleware import CLAIMS
from authorizer_lambda.tokens import Claims
from ops.stack import Stack
from reader.asked import EverybodyQuery, FeedQuery, ListQuery, ViewedQuery
from reader.endpoints import caller, hashtag
from reader.paging import FIRST_PAGE, Page
from reader.parts import Origin, Wanted, WantedPage
from reader.read_model.cached_values import Entry, decode, encode_absent, encode_cursor, encode_page
from reader.read_model.declarations import (
    MAX_FOLLOWEES,
    MAX_LIKED,
    POST,
    POST_LIKES,
    USER,
    USER_FOLLOWEES,
    USER_LIKED,
    USERS_BY_SUBJECT,
)
from reader.viewer import marks
from tests.reader.conftest import RunningReader
from tests.reader.inside import inside, shown
from tests.reader.world import World

INCLUDE = {"include": "viewer"}
ME = "subject-1"


@dataclass
class Facts:
    """Likes and follows in the order of their lists. Gives any part as MongoDB would."""

    liked: list[int]
    followees: dict[int, list[int]]
    limit: int
    asked: list[WantedPage] = field(default_factory=list)

    def get(self, wanted: Wanted | WantedPage) -> Entry:
        if isinstance(wanted, WantedPage):
            self.asked.append(wanted)
            ids = self.ids(wanted.kind, int(wanted.values[0]))
            return entry(encode_page(1, [id for id in ids[self.limit :] if id in wanted.among], None))
        if wanted.kind is USERS_BY_SUBJECT:
            return entry(encode_page(1, [1], None) if wanted.id == ME else encode_absent(1))
        ids = self.ids(wanted.kind, int(wanted.id))
        last: list[int | str] = [ids[self.limit - 1]] if len(ids) > self.limit else []
        if wanted.kind is USER_FOLLOWEES and last:
            last = ["2026-11-23T16:00:00.000000Z", *last]
        return entry(encode_page(1, ids[: self.limit], encode_cursor(last) if last else None))

    def ids(self, kind: object, owner: int) -> list[int]:
        return self.liked if kind is USER_LIKED else self.followees.get(owner, [])


def entry(value: bytes) -> Entry:
    found = decode(value)
    assert found is not None
    return found


def viewer(end: bytes) -> Any:
    return json.loads(b"{" + end[1:])["viewer"]


def test_marks_of_any_world_are_its_likes_and_follows() -> None:
    """Lists with and without more behind their cached ends."""
    behind = 0
    for seed in range(500):
        chance = Random(seed)
        people, posts = range(1, 40), range(1, 3_000)
        facts = Facts(
            sorted(chance.sample(posts, chance.choice((0, 1, 30, 900))), reverse=True),
            {id: chance.sample(people, chance.choice((0, 1, 5, 30))) for id in people},
            chance.choice((4, 10, 2_000)),
        )
        ids = chance.sample(posts, chance.choice((1, 20)))
        assert [viewer(mark.end) for mark in marks(facts.get, ME, POST, ids)] == [
            {"liked": id in facts.liked} for id in ids
        ], seed
        assert all(id <= facts.liked[facts.limit - 1] for one in facts.asked for id in one.among), seed
        users = chance.sample(people, chance.choice((1, 20)))
        assert [viewer(mark.end) for mark in marks(facts.get, ME, USER, users)] == [
            {"following": id in facts.followees[1], "followed_by": 1 in facts.followees[id]} for id in users
        ], seed
        behind += len(facts.asked)
        assert {viewer(mark.end)["liked"] for mark in marks(facts.get, "nobody", POST, ids)} == {False}
    assert behind > 100


def populate(world: World) -> None:
    """User 1 likes even posts, follows users 2 and 3, and is followed by 3 and 4."""
    with world.many():
        for id in range(1, 6):
            world.user(id, handle=f"user_{id}")
            world.post(id, author_id=2, body="#sea")
            world.like(5, id, id)
        for id in (2, 4):
            world.like(id, 1)
        for follower, followee in ((1, 2), (1, 3), (3, 1), (4, 1)):
            world.follow(follower, followee)
        world.comment(7, post_id=5, author_id=1)
    world.batch(2)


LIKED = {id: {"liked": id in (2, 4, 5)} for id in range(1, 6)}
FOLLOWS = {id: {"following": id in (2, 3), "followed_by": id in (3, 4)} for id in range(1, 6)}
POSTS, USERS = ("/feed", "/posts", "/user/2/posts", "/hashtag/sea"), ("/post/5/likes", "/user/1/following")


def test_items_say_what_they_are_to_the_caller(api: httpx2.Client, world: World) -> None:
    populate(world)
    for paths, viewers in ((POSTS, LIKED), (USERS, FOLLOWS)):
        for path in paths:
            plain, viewed = api.get(path), api.get(path, params=INCLUDE)
            found = viewed.json()
            assert {int(item["id"]): item.pop("viewer") for item in found["items"]}.items() <= viewers.items()
            assert found == plain.json() and found["items"], path
            assert api.get(path).content == plain.content
            assert viewed.headers["etag"] != plain.headers["etag"] == api.get(path).headers["etag"]
    for id in range(1, 6):
        assert api.get(f"/post/{id}", params=INCLUDE).json()["viewer"] == LIKED[id]
        for path in (f"/user/{id}", f"/user/by-handle/user_{id}"):
            assert api.get(path, params=INCLUDE).json()["viewer"] == FOLLOWS[id]
    assert api.get("/user/me", params=INCLUDE).json()["viewer"] == {"following": False, "followed_by": False}


def test_the_next_page_says_it_too(api: httpx2.Client, world: World) -> None:
    populate(world)
    page = api.get("/posts", params={**INCLUDE, "limit": 2})
    following = api.get(page.links["next"]["url"])
    assert [item["viewer"] for item in following.json()["items"]] == [LIKED[3], LIKED[2]]


def test_a_caller_without_a_user_likes_and_follows_nothing(
    running_reader: RunningReader, api: httpx2.Client, world: World
) -> None:
    populate(world)
    with running_reader.client("somebody-else") as other:
        assert other.get("/user/3", params=INCLUDE).json()["viewer"] == {
            "following": False,
            "followed_by": False,
        }
        assert not any(
            item["viewer"]["liked"] for item in other.get("/posts", params=INCLUDE).json()["items"]
        )


@pytest.mark.parametrize("path", [*POSTS, *USERS, "/post/5", "/user/1", "/user/me", "/user/by-handle/user_1"])
def test_what_cannot_be_included_is_named(api: httpx2.Client, world: World, path: str) -> None:
    for include in ("", "viewers", "author", "viewer,viewer"):
        answer = api.get(path, params={"include": include})
        assert (answer.status_code, answer.json()["field"]) == (400, "include")


@pytest.mark.parametrize("path", ["/post/5/comments", "/user/1/comments"])
def test_comments_have_no_viewer(api: httpx2.Client, world: World, path: str) -> None:
    populate(world)
    answer = api.get(path, params=INCLUDE)
    assert (answer.status_code, answer.json()["field"]) == (400, "include")


def test_no_path_is_kept_as_the_answer_to_another_caller() -> None:
    """A path may contain a space or a question mark, and a subject a slash."""
    read, feed = hashtag(), caller()
    subjects, paths = ("s", "/feed", "viewer"), ("/feed", "/feed s", "/feed?include=viewer s", "/a /feed")
    scopes = [
        (kind, {"path": path, "query_string": query, CLAIMS: Claims(subject, frozenset(), 0, 0)})
        for kind in (read, feed)
        for path in paths
        for query in (b"", b"include=viewer")
        for subject in subjects
    ]
    kept = [kind.kept_as(scope) for kind, scope in scopes]
    same_for_all = len(paths)
    assert len({*kept}) == same_for_all + len(paths) * len(subjects) * 2
    assert feed.kept_as({**scopes[0][1], "query_string": b"limit=20"}) == ""


@pytest.mark.anyio
async def test_a_kept_answer_ends_with_a_like(shared_stack: Stack, world: World) -> None:
    populate(world)
    query = ViewedQuery(FeedQuery(ME, FIRST_PAGE), ME)
    async with inside(shared_stack, local_bytes=2**24) as reader:
        first = shown(await reader.ask(query))
        assert (await reader.ask(query)).origin is Origin.LOCAL
        world.like(3, 1)
        world.batch(3, [USER_LIKED.key(1), "post:3:likes"])
        await reader.follows(world)
        second = shown(await reader.ask(query))
    assert [item["viewer"]["liked"] for item in first["items"]] == [True, True, False, True, False]
    assert [item["viewer"]["liked"] for item in second["items"]] == [True, True, True, True, False]


@pytest.mark.anyio
@pytest.mark.parametrize("redis", [True, False], ids=["cached", "without redis"])
async def test_likes_and_follows_behind_the_cached_ones_are_exact(
    shared_stack: Stack, world: World, redis: bool
) -> None:
    """Post 1 is liked, and 2 not; user 2 was followed first, and user 3 never."""
    first = 10
    with world.many():
        for id in (1, 2, 3):
            world.user(id)
            world.post(id)
            world.like(3, id, id)
        world.like(1, 1)
        for id in range(first, first + MAX_LIKED):
            world.like(id, 1)
        world.follow(1, 2, second=-1)
        for id in range(first, first + MAX_FOLLOWEES):
            world.follow(1, id, second=id)
            world.follow(3, id, second=id)
        world.follow(3, 1, second=-1)
    world.batch(2)
    url = "" if redis else "redis://127.0.0.1:1"
    async with inside(shared_stack, follow=redis, redis_url=url, local_bytes=2**24) as reader:
        posts = shown(await reader.ask(ViewedQuery(EverybodyQuery(FIRST_PAGE), ME)))
        users = shown(await reader.ask(ViewedQuery(ListQuery(POST_LIKES, 3, Page()), ME)))
        behind = [
            one
            for one in reader.commands.sent
            if "$in" in str(one.get("filter")) and one["find"] != "control"
        ]
        looked_up = [one for one in behind if one["find"] in ("likes_b3", "follows_b3")]
    liked = {int(item["id"]): item["viewer"]["liked"] for item in posts["items"]}
    assert liked == {1: True, 2: False, 3: True}
    both = {int(item["id"]): tuple(item["viewer"].values()) for item in users["items"]}
    assert both == {1: (False, False), 2: (True, False), 3: (False, True)}
    assert len(looked_up) == 4
    for command in looked_up:
        query = {name: command[name] for name in ("find", "filter", "sort", "projection")}
        query |= {"hint": command["hint"]} if "hint" in command else {}
        ran = world.database.command("explain", query, verbosity="executionStats")["executionStats"]
        most = 8 if command["find"] == "likes_b3" else 4
        assert max(ran["totalDocsExamined"], ran["totalKeysExamined"]) <= most, query
