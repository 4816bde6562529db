"""Lists over HTTP: every page in order to the end, the first page cached, bad cursors refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from reader.read_model.cached_values import encode_entity
from reader.read_model.declarations import LISTINGS, POST, USER
from reader.read_model.entities import PAGE_LIMIT
from tests.reader.conftest import hit
from tests.reader.world import World, moment

PEOPLE = range(1, 48)


def populate(world: World) -> dict[str, list[str]]:
    """Fill every list of parent 1. Returns path -> the ids that the list must show, in order."""
    with world.many():
        for id in PEOPLE:
            world.user(id)
            world.post(id, author_id=1)
            world.comment(id, post_id=1, author_id=id)
            world.comment(100 + id, post_id=2, author_id=1)
            second = id % 5  # many rows at the same moment: their ids decide the order
            world.like(1, id, second)
            world.follow(id + 1, 1, second)
            world.follow(1, id + 1, second)
        world.user(48)
    by_id = [str(id) for id in sorted(PEOPLE, reverse=True)]
    by_time = [str(id) for id in sorted(PEOPLE, key=lambda id: (id % 5, id), reverse=True)]
    others = [str(int(id) + 1) for id in by_time]
    return {
        "/post/{id}/comments": by_id,
        "/post/{id}/likes": by_time,
        "/user/{id}/posts": by_id,
        "/user/{id}/followers": others,
        "/user/{id}/following": others,
        "/user/{id}/comments": [*(str(100 + id) for id in sorted(PEOPLE, reverse=True)), "1"],
    }


def ids(page: httpx2.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return [item["id"] for item in page.json()["items"]]


def by_next(api: httpx2.Client, path: str, **query: Any) -> list[list[str]]:
    pages: list[list[str]] = []
    while True:
        page = api.get(path, params=query)
        pages.append(ids(page))
        if page.json()["next"] is None:
            assert "link" not in page.headers
            return pages
        query["cursor"] = page.json()["next"]


def by_link(api: httpx2.Client, path: str, **query: Any) -> list[list[str]]:
    page = api.get(path, params=query)
    pages = [ids(page)]
    while "next" in page.links:
        page = api.get(page.links["next"]["url"])
        pages.append(ids(page))
    return pages


@pytest.mark.parametrize("path", [listing.path for listing in LISTINGS])
def test_every_list_can_be_walked_to_its_end(api: httpx2.Client, world: World, path: str) -> None:
    expected = populate(world)[path]
    url = path.format(id=1)
    for walk in (by_next, by_link):
        for query in ({}, {"limit": 7}, {"limit": 47}, {"limit": 100}):
            pages = walk(api, url, **query)
            assert [id for page in pages for id in page] == expected
            assert all(len(page) == query.get("limit", PAGE_LIMIT) for page in pages[:-1])
            assert pages[-1]


def test_only_the_first_page_at_the_default_limit_is_cached(api: httpx2.Client, world: World) -> None:
    populate(world)
    url = "/post/1/likes"
    first = hit(api, url)
    hit(api, url, params={"limit": PAGE_LIMIT})
    for query in ({"limit": "3"}, {"cursor": first.json()["next"]}):
        assert api.get(url, params=query).headers["cache-status"] == "redis; fwd=bypass; detail=not-cached"
    assert world.cache.keys("*likes*") == [b"tidemark:e7:post:1:likes"]


def test_items_are_whole_and_have_their_authors(api: httpx2.Client, world: World) -> None:
    world.user(1, handle="jane")
    world.post(5, author_id=1, like_count=2)
    world.comment(9, post_id=5, author_id=1)
    assert api.get("/user/1/posts").json()["items"] == [api.get("/post/5").json()]
    assert api.get("/post/5/comments").json()["items"][0]["author"]["handle"] == "jane"
    world.like(5, 1)
    assert api.get("/post/5/likes").json()["items"] == [api.get("/user/1").json()]


def test_an_item_that_vanished_is_skipped(api: httpx2.Client, world: World) -> None:
    world.user(1)
    with world.many():
        for id in range(1, 26):
            world.post(id)
    assert len(ids(api.get("/user/1/posts"))) == PAGE_LIMIT
    world.remove("posts", 24)
    world.cache.delete("tidemark:e7:post:24")
    page = api.get("/user/1/posts")
    assert ids(page) == [str(id) for id in range(25, 5, -1) if id != 24]
    assert page.json()["next"] is not None


def test_an_empty_list_is_a_list(api: httpx2.Client, world: World) -> None:
    world.user(1)
    for _ in range(2):
        assert api.get("/user/1/followers").json() == {"items": [], "next": None}


@pytest.mark.parametrize("query", [{}, {"limit": "3"}])
@pytest.mark.parametrize("path", [listing.path for listing in LISTINGS])
def test_the_lists_of_what_is_absent_are_absent(
    api: httpx2.Client, world: World, path: str, query: dict[str, str]
) -> None:
    world.put("posts", {"_id": 1, "like_count": 1, "comment_count": 1, "v": 1})
    world.like(1, 1)
    world.comment(1, 1)
    for _ in range(2):
        answer = api.get(path.format(id=1), params=query)
        assert (answer.status_code, answer.headers["freshness"][:6]) == (404, "as-of=")


def test_a_lists_version_changes_with_its_items_and_their_authors(api: httpx2.Client, world: World) -> None:
    for id in (1, 2):
        world.user(id)
    post = world.post(5)
    world.comment(7, post_id=5, author_id=2)
    url = "/post/5/comments"
    tags = [api.get(url).headers["etag"]]
    assert api.get(url, headers={"if-none-match": tags[0]}).status_code == 304
    assert tags[0].startswith('"4.7.')
    changes = [
        ("user:2", encode_entity(USER, world.user(2, v=2, display_name="Other"))),
        ("post:5", encode_entity(POST, {**post, "v": 3, "like_count": 9})),  # not shown: the same version
        ("post:5:comments", None),
    ]
    for key, value in changes:
        if value:
            world.put_cached(key, value)
        else:
            world.comment(8, post_id=5, author_id=2)
            world.cache.delete(f"tidemark:e7:{key}")
        tags.append(api.get(url).headers["etag"])
    assert tags[1] == tags[2]
    assert len(set(tags)) == 3


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "٣", "020", "1000"])
def test_a_bad_limit_is_named(api: httpx2.Client, limit: str) -> None:
    for path in ("/user/1/posts", "/feed", "/hashtag/sea", "/posts"):
        answer = api.get(path, params={"limit": limit})
        assert (answer.status_code, answer.json()["field"]) == (400, "limit")


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "",
            "x",
            "!!!!",
            "ü",
            cursor("[]"),
            cursor("{}"),
            cursor('["2026-11-23T16:00:00.000000Z"]'),
            "A" * 5000,
        ),
        *(cursor("[5]"), cursor('[5,"2026-11-23T16:00:00.000000Z"]'), cursor('["2026-11-23T16:00:00Z",5]')),
        *(
            cursor(f'["2026-11-23T16:00:00.000000Z",{id}]')
            for id in ("0", "-1", "5.5", "true", '"5"', str(2**63))
        ),
        *(cursor(f'[{{"$gt":""}},{id}]') for id in ("5", '{"$gt":0}')),
        cursor('[ "2026-11-23T16:00:00.000000Z",5]'),
        cursor('["2026-11-23T16:00:00.000000Z",5]') + "=",
    ],
)
def test_a_bad_cursor_is_named(api: httpx2.Client, world: World, bad: str) -> None:
    world.user(1)
    answer = api.get("/user/1/followers", params={"cursor": bad})
    assert (answer.status_code, answer.json()["field"]) == (400, "cursor")


@pytest.mark.parametrize(
    ("path", "faulty"),
    [
        ("/user/1/posts?limit=0&cursor=x", ["limit", "cursor"]),
        ("/user/x/posts?include=all&cursor=x", ["include", "cursor"]),
        ("/feed?limit=0&order=new&include=all&cursor=x", ["include", "order", "limit"]),
        ("/post/x?include=all", ["include"]),
    ],
)
def test_all_bad_parameters_are_named_at_once(api: httpx2.Client, path: str, faulty: list[str]) -> None:
    answer = api.get(path)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (400, f"/problems/bad-{faulty[0]}")
    assert [each["parameter"] for each in problem["errors"]] == faulty
    assert problem["detail"] == " ".join(each["detail"] for each in problem["errors"])


def test_unknown_parameters_mean_nothing(api: httpx2.Client, world: World) -> None:
    world.user(1)
    assert api.get("/user/1/posts", params={"colour": "blue"}).status_code == 200


def test_the_feed_shows_the_newest_posts_of_followed_users(api: httpx2.Client, world: World) -> None:
    with world.many():
        for id in range(1, 5):
            world.user(id)
        for id in range(1, 31):
            world.post(id, author_id=1 + id % 4)
        for followee in (2, 3):
            world.follow(1, followee)
    expected = [str(id) for id in range(30, 0, -1) if 1 + id % 4 in (1, 2, 3)]
    for walk in (by_next, by_link):
        assert [id for page in walk(api, "/feed", limit=4) for id in page] == expected
    assert ids(api.get("/feed")) == expected[:20]
    hit(api, "/feed")


def test_the_feed_of_one_who_follows_hundreds_is_merged_rightly(api: httpx2.Client, world: World) -> None:
    followees = range(2, 1103)
    with world.many():
        world.user(1)
        for id in followees:
            world.follow(1, id, second=id)
            world.post(10_000 - id, author_id=id)
    walked = [int(id) for page in by_next(api, "/feed", limit=100) for id in page]
    assert walked == sorted((10_000 - id for id in followees), reverse=True)


def test_the_feed_of_a_caller_without_a_user_is_empty(api: httpx2.Client) -> None:
    answer = api.get("/feed")
    assert (answer.status_code, answer.json()) == (200, {"items": [], "next": None})
    assert answer.headers["freshness"].startswith("as-of=")


def test_the_posts_of_all_can_be_walked_past_the_cached_ones(api: httpx2.Client, world: World) -> None:
    """Counters without a post are none of them."""
    assert api.get("/posts").json() == {"items": [], "next": None}
    with world.many():
        for id in range(1, 251, 2):
            world.post(id, author_id=id)
            world.put("posts", {"_id": id + 1, "like_count": 1, "comment_count": 0, "v": 1})
    world.batch(3, ["everybody:posts"])
    expected = [str(id) for id in range(249, 0, -2)]
    for walk in (by_next, by_link):
        for query in ({}, {"limit": 7}, {"limit": 100}):
            pages = walk(api, "/posts", **query)
            assert [id for page in pages for id in page] == expected
            assert all(len(page) == query.get("limit", PAGE_LIMIT) for page in pages[:-1])
    for query in ({}, {"limit": 60}):
        hit(api, "/posts", params=query)


def test_a_hashtag_shows_its_posts_newest_first_in_any_case(api: httpx2.Client, world: World) -> None:
    with world.many():
        world.user(1)
        for id in range(1, 31):
            world.post(id, body=f"#Sea #Überfahrt {id}" if id % 2 else "#other")
    expected = [str(id) for id in range(29, 0, -2)]
    for tag in ("sea", "SEA", "überfahrt", "%C3%9Cberfahrt"):
        assert [id for page in by_link(api, f"/hashtag/{tag}", limit=4) for id in page] == expected
    assert ids(api.get("/hashtag/nothing")) == []


def test_a_hashtag_is_found_by_each_of_its_spellings(api: httpx2.Client, world: World) -> None:
    world.user(1)
    for number, tag in enumerate(("caf\u00e9", "हिन्दी", "कि\u200dत"), 1):
        world.post(number, hashtags=[tag])
    for path, id in (
        ("cafe\u0301", "1"),
        ("CAF\u00c9", "1"),
        ("Cafe%CC%81", "1"),
        ("हिन्दी", "2"),
        ("कि\u200dत", "3"),
    ):
        assert ids(api.get(f"/hashtag/{path}")) == [id]
    assert ids(api.get("/hashtag/cafe")) == ids(api.get("/hashtag/हिन")) == []


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("path", ["/post/5", "/user/2/posts"])
def test_no_answer_mixes_two_builds(api: httpx2.Client, world: World, path: str, timed: bool) -> None:
    """At a switch the cache still has the old build while MongoDB already serves the new one.

    The cluster time of the watermark tells where the old one ended; else MongoDB has only the new one.
    """
    world.user(2, display_name="old")
    world.post(5, author_id=2, body="old")
    checkpoint = world.commit(10)
    world.apply(checkpoint if timed else replace(checkpoint, cluster_time=""))
    for _ in range(2):
        assert api.get(path).text.count('"old"') == 2
    world.cache.delete("tidemark:e7:user:2")
    world.begin_build(4, "8")
    world.user(2, display_name="new")
    world.post(5, author_id=2, body="new")
    world.commit(50, as_of=moment(50))
    answer = api.get(path)
    shown, other = ('"old"', '"new"') if timed else ('"new"', '"old"')
    assert (answer.text.count(shown), answer.text.count(other)) == (2, 0)
    as_of = checkpoint.as_of if timed else moment(50)
    assert answer.headers["freshness"].startswith(f'as-of="{as_of[:23]}Z"')
    world.clear_build(4)
