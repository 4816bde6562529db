"""After any history, through HTTP and straight SQL, every document, counter and answer equals MySQL."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Sequence
from typing import Any

import httpx2
import pytest

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from reader.read_model.declarations import LISTINGS
from reader.read_model.entities import is_present
from tests.support.acts import ACTS, FIRST_IDS, IDS, begin_at
from tests.support.harness import (
    admin_connection,
    assert_everything_is_equal,
    run_sql,
    wait_until_caught_up,
)
from tests.support.oracle import Documents, expected_documents, hot_feed, present, read_until, told
from tests.support.services import Services, running_services


@pytest.fixture(scope="module")
def services_and_sql(shared_stack: Stack) -> Iterable[tuple[Stack, Services, Connection]]:
    from tests.conftest import empty_stores

    empty_stores(shared_stack)
    with contextlib.ExitStack() as opened:
        services = opened.enter_context(running_services(shared_stack))
        yield shared_stack, services, opened.enter_context(admin_connection(shared_stack))


@pytest.mark.parametrize("first", FIRST_IDS)
def test_any_history_ends_with_everything_equal(
    services_and_sql: tuple[Stack, Services, Connection], first: int
) -> None:
    stack, services, connection = services_and_sql
    chance = random.Random(first)
    begin_at(connection, first)
    for _ in range(chance.randint(200, 240)):
        a, b, c = (chance.randrange(IDS) for _ in range(3))
        chance.choice(ACTS)(services, connection, first, a, b, c)
        if chance.random() < 0.3:
            services.read(f"/post/{first + b}")  # fills entries to keep true
            services.read(f"/user/{first + a}/followers")
            services.read("/feed", f"s{a}")
            services.read("/feed?order=hot", f"s{a}")
            services.read("/hashtag/tag0")
            services.read(f"/user/by-handle/hh{b}")
            services.read(f"/user/{first + a}/comments")
            services.read("/posts?include=viewer", f"s{b}")
            services.read("/user/me", f"s{a}")
            services.read("/user/me/notifications", f"s{a}")
    wait_until_caught_up(stack, connection)
    assert_everything_is_equal(stack, connection)
    assert_every_read_is_equal(services, connection, first)
    assert assert_everything_is_equal(stack, connection) > IDS


def test_the_hot_feed_is_mysqls_order_of_the_newest_hundred(
    services_and_sql: tuple[Stack, Services, Connection],
) -> None:
    """Random posts, likes and comments, and users who follow most of the others or nobody."""
    stack, services, connection = services_and_sql
    chance, users, posts = random.Random(8), range(1, 9), range(1, 301)
    begin_at(connection, 1)
    insert(connection, "users (subject, handle, display_name)", [(f"s{id}", f"h{id}", "N") for id in users])
    times = [f"2026-01-{chance.randint(1, 3):02} 0{chance.randint(0, 9)}:00:00.{at:06}" for at in posts]
    insert(
        connection,
        "posts (author_id, created_at, body)",
        [(chance.choice(users), at, "text") for at in times],
    )
    for _ in range(3):
        popular = [int(300 * chance.random() ** chance.choice((0.1, 1))) for _ in range(600)]
        likes = [(id, chance.choice(users)) for id in popular]
        insert(connection, "likes (post_id, user_id)", likes)
        insert(connection, "comments (post_id, author_id, body)", [(*like, "") for like in likes[::2]])
        insert(
            connection, "follows (follower_id, followee_id)", [(id % 5, chance.choice(users)) for id in posts]
        )
        wait_until_caught_up(stack, connection)
        for id in users:
            expected = hot_feed(connection, id)
            found = [int(post["id"]) for post in read_all(services, "/feed?order=hot", f"s{id}")]
            assert found == expected != sorted(expected, reverse=True)
        gone = ", ".join(str(id) for id in chance.sample(posts, 20))
        deletions = (("comments", "post_id"), ("likes", "post_id"), ("posts", "id"))
        run_sql(
            connection, *(f"DELETE FROM {table} WHERE {column} IN ({gone})" for table, column in deletions)
        )
        run_sql(connection, "DELETE FROM follows WHERE follower_id = 2")


def insert(connection: Connection, into: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert the rows that no constraint refuses."""
    with connection.cursor() as cursor:
        values = ", ".join(["%s"] * len(rows[0]))
        cursor.executemany(f"INSERT IGNORE INTO {into} VALUES ({values})", rows)


def assert_every_read_is_equal(services: Services, connection: Connection, first: int) -> None:
    documents = expected_documents(connection)
    for number in range(first, first + IDS + 1):
        check_entity(
            services, f"/user/{number}", user_json(documents, number), documents["users"].get(number)
        )
    for number in {*range(first, first + IDS + 1), *documents["posts"]}:
        check_entity(
            services, f"/post/{number}", post_json(documents, number), documents["posts"].get(number)
        )
    for listing in LISTINGS:
        for parent_id, parent in documents[listing.parent.collection].items():
            if is_present(parent):
                path = listing.path.format(id=parent_id)
                assert read_all(services, path) == listed(documents, listing.path, parent_id), path
    for tag in ("tag0", "tag1", "x", "back", "nobody", "हिन्दी", "สวัสดี", "தமிழ்", "café", "日本語"):
        tagged = [id for id, post in documents["posts"].items() if tag in post.get("hashtags", [])]
        expected = [post_json(documents, id) for id in sorted(tagged, reverse=True)]
        assert read_all(services, f"/hashtag/{tag}") == expected
    posts = sorted(posts_of(documents), reverse=True)
    assert read_all(services, "/posts") == [post_json(documents, id) for id in posts]
    check_feeds(services, connection, documents)
    check_notifications(services, documents)
    check_people(services, documents)
    check_viewers(services, documents)


def check_entity(services: Services, path: str, expected: object, document: dict[str, Any] | None) -> None:
    answer = services.read(path)
    assert answer.headers["freshness"].startswith('as-of="')
    if is_present(document):
        assert (answer.status_code, answer.json()) == (200, expected), path
    else:
        assert answer.status_code == 404, path


def check_feeds(services: Services, connection: Connection, documents: Documents) -> None:
    for user_id, user in documents["users"].items():
        if is_present(user):
            follows = present(documents, "follows")
            authors = {edge["followee_id"] for edge in follows if edge["follower_id"] == user_id} | {user_id}
            wanted = [id for id, post in posts_of(documents).items() if post["author_id"] in authors]
            expected = [post_json(documents, id) for id in sorted(wanted, reverse=True)]
            assert read_all(services, "/feed", user["subject"]) == expected
            hottest = [post_json(documents, id) for id in hot_feed(connection, user_id)]
            assert read_all(services, "/feed?order=hot", user["subject"]) == hottest


def check_notifications(services: Services, documents: Documents) -> None:
    for user_id, user in documents["users"].items():
        if is_present(user):
            every, until = told(user_id, documents), read_until(user_id, documents)
            expected = [
                {
                    "kind": kind[2:],
                    "created_at": at,
                    "actor": author_json(documents, actor),
                    "post_id": None if kind == "1 follow" else str(of),
                    "comment_id": str(comment) if comment else None,
                }
                for at, kind, _, of, actor, comment in every
            ]
            assert read_all(services, "/user/me/notifications", user["subject"]) == expected
            unread = services.read("/user/me/notifications", user["subject"]).json()["unread_count"]
            assert unread == sum(at > until for at, *_ in every[:50])


def posts_of(documents: Documents) -> dict[Any, dict[str, Any]]:
    """The documents with rows, by id."""
    return {id: post for id, post in documents["posts"].items() if is_present(post)}


def check_people(services: Services, documents: Documents) -> None:
    """Each subject's own user, and the user of each handle."""
    people = {user["subject"]: id for id, user in documents["users"].items() if is_present(user)}
    for subject in {*people, *(f"s{number}" for number in range(IDS))}:
        own = services.read("/user/me", subject)
        expected = user_json(documents, people[subject]) if subject in people else None
        assert (own.json() if own.status_code == 200 else None) == expected, subject
    by_handle = {documents["users"][id]["handle"].lower(): id for id in people.values()}
    handles = [*by_handle, *(f"{start}{number}" for start in ("hh", "_h", "h") for number in range(IDS))]
    for handle in handles:
        answer = services.read(f"/user/by-handle/{handle.upper()}")
        if handle in by_handle and len(handle) > 2 and handle.isascii():
            assert answer.json() == user_json(documents, by_handle[handle]), handle
        else:
            assert answer.status_code == 404, handle


def check_viewers(services: Services, documents: Documents) -> None:
    """The `viewer` of all posts and users for each subject."""
    likes = {(edge["user_id"], edge["post_id"]) for edge in present(documents, "likes")}
    follows = {(edge["follower_id"], edge["followee_id"]) for edge in present(documents, "follows")}
    people = {user["subject"]: id for id, user in documents["users"].items() if is_present(user)}
    for subject in (*people, "nobody"):
        me = people.get(subject, 0)
        for post in pages(services, "/posts?include=viewer", subject):
            assert post["viewer"] == {"liked": (me, int(post["id"])) in likes}
        for id in people.values():
            user = services.read(f"/user/{id}?include=viewer", subject).json()
            both = {"following": (me, id) in follows, "followed_by": (id, me) in follows}
            assert user["viewer"] == both, (subject, id)
            for user in pages(services, f"/user/{id}/followers?include=viewer&limit=2", subject):
                other = int(user["id"])
                assert user["viewer"]["following"] == ((me, other) in follows)


def read_all(services: Services, path: str, subject: str = "s0") -> list[Any]:
    """All items, page by page, and the same again in small pages."""
    whole = pages(services, path, subject)
    assert whole == pages(services, f"{path}{'&' if '?' in path else '?'}limit=2", subject)
    return whole


def pages(services: Services, path: str, subject: str) -> list[Any]:
    items: list[Any] = []
    next_path: str | None = path
    while next_path:
        answer = services.read(next_path, subject)
        assert answer.status_code == 200, (next_path, answer.text)
        items += answer.json()["items"]
        next_path = next_link(answer)
    return items


def next_link(answer: httpx2.Response) -> str | None:
    link = answer.headers.get("link")
    return link.split(">")[0].lstrip("<") if link else None


def author_json(documents: Documents, id: int) -> dict[str, Any] | None:
    user = documents["users"].get(id)
    if user is None or not is_present(user):
        return None
    return {"id": str(id), "handle": user["handle"], "display_name": user["display_name"]}


def user_json(documents: Documents, id: int) -> dict[str, Any] | None:
    user = documents["users"].get(id)
    names = ("bio", "post_count", "follower_count", "following_count", "created_at", "updated_at")
    author = author_json(documents, id)
    return {**author, **{name: user[name] for name in names}} if user and author else None


def post_json(documents: Documents, id: int) -> dict[str, Any] | None:
    post = documents["posts"].get(id)
    if post is None or not is_present(post):
        return None
    names = ("body", "hashtags", "like_count", "comment_count", "created_at", "updated_at")
    return {
        "id": str(id),
        **{name: post[name] for name in names},
        "author": author_json(documents, post["author_id"]),
    }


def comment_json(documents: Documents, id: int) -> dict[str, Any]:
    comment = documents["comments"][id]
    names = ("body", "created_at", "updated_at")
    return {
        "id": str(id),
        "post_id": str(comment["post_id"]),
        **{name: comment[name] for name in names},
        "author": author_json(documents, comment["author_id"]),
    }


def listed(documents: Documents, path: str, parent_id: int) -> list[dict[str, Any]]:
    """The items that a list must show, newest first, without those whose document is gone."""
    collection, by, item, shown = {
        "/post/{id}/comments": ("comments", "post_id", "_id", comment_json),
        "/post/{id}/likes": ("likes", "post_id", "user_id", user_json),
        "/user/{id}/posts": ("posts", "author_id", "_id", post_json),
        "/user/{id}/comments": ("comments", "author_id", "_id", comment_json),
        "/user/{id}/followers": ("follows", "followee_id", "follower_id", user_json),
        "/user/{id}/following": ("follows", "follower_id", "followee_id", user_json),
    }[path]
    edges = [edge for edge in present(documents, collection) if edge[by] == parent_id]
    order = (lambda edge: edge["_id"]) if item == "_id" else (lambda edge: (edge["created_at"], edge[item]))
    found = [shown(documents, edge[item]) for edge in sorted(edges, key=order, reverse=True)]
    return [json for json in found if json is not None]
