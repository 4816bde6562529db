"""Notifications: who followed, liked, commented, mentioned; private, and gone with the deed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.conftest import empty_stores
from tests.support.harness import (
    admin_connection,
    assert_everything_is_equal,
    run_sql,
    wait_until,
    wait_until_caught_up,
)
from tests.support.services import Services, running_services
from tests.support.streams import watching
from tests.support.tokens import bearer

PATH = "/user/me/notifications"
PEOPLE = ("jane", "joe", "ann")


@pytest.fixture(scope="module")
def system(shared_stack: Stack) -> Iterator[tuple[Stack, Services, Connection]]:
    empty_stores(shared_stack)
    with contextlib.ExitStack() as opened:
        services = opened.enter_context(running_services(shared_stack))
        yield shared_stack, services, opened.enter_context(admin_connection(shared_stack))


@pytest.fixture
def services(system: tuple[Stack, Services, Connection]) -> Iterator[Services]:
    """Jane (1), Joe (2) and Ann (3), and nothing else. In the end everything is equal."""
    stack, services, connection = system
    for table in ("mentions", "notification_reads", "likes", "follows", "comments", "posts", "users"):
        run_sql(connection, f"DELETE FROM {table}", f"ALTER TABLE {table} AUTO_INCREMENT = 1")
    for name in PEOPLE:
        done(services, name, "PUT", "/user/me", {"handle": name, "display_name": name})
    yield services
    wait_until_caught_up(stack, connection)
    for name in PEOPLE:
        everything(services, name)
    assert assert_everything_is_equal(stack, connection)


def done(services: Services, subject: str, method: str, path: str, body: object = None) -> Any:
    answer = services.write(subject, method, path, body)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def post(services: Services, subject: str, body: str = "hi") -> str:
    return str(done(services, subject, "POST", "/post", {"body": body})["id"])


def everything(services: Services, subject: str, limit: int = 20) -> list[dict[str, Any]]:
    """All items of all pages."""
    items, path = [], f"{PATH}?limit={limit}"
    while path:
        answer = services.read(path, subject)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        path = answer.headers.get("link", "").partition(">")[0].lstrip("<")
    return items


def shown(services: Services, subject: str, count: int) -> Any:
    """The first page, once it has so many items."""
    wait_until(lambda: len(services.read(PATH, subject).json()["items"]) == count, f"{count} notifications")
    return services.read(PATH, subject).json()


def brief(page: Any) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (each["kind"], each["actor"]["handle"], each["post_id"], each["comment_id"]) for each in page["items"]
    ]


def test_each_kind_is_shown_newest_first_and_ones_own_deeds_are_not(services: Services) -> None:
    mine = post(services, "jane", "hello @jane @joe")
    done(services, "joe", "PUT", f"/post/{mine}/like")
    comment = done(services, "joe", "POST", f"/post/{mine}/comment", {"body": "yes"})["id"]
    done(services, "joe", "PUT", "/user/1/follow")
    other = post(services, "joe", "ask @Jane")
    answer = done(services, "ann", "POST", f"/post/{other}/comment", {"body": "or @jane"})["id"]
    done(services, "jane", "PUT", f"/post/{mine}/like")
    done(services, "jane", "POST", f"/post/{mine}/comment", {"body": "I like it @jane"})
    page = shown(services, "jane", 5)
    assert brief(page) == [
        ("mention", "ann", other, answer),
        ("mention", "joe", other, None),
        ("follow", "joe", None, None),
        ("comment", "joe", mine, comment),
        ("like", "joe", mine, None),
    ]
    assert (page["unread_count"], page["next"]) == (5, None)
    assert brief(shown(services, "joe", 2)) == [
        ("comment", "ann", other, answer),
        ("mention", "jane", mine, None),
    ]
    assert shown(services, "ann", 0) == {"items": [], "next": None, "unread_count": 0}
    assert services.read(PATH, "stranger").json() == {"items": [], "next": None, "unread_count": 0}


def test_a_notification_goes_with_its_deed_and_with_its_post(services: Services) -> None:
    first, second = post(services, "jane"), post(services, "jane")
    deeds = (f"/post/{first}/like", "/user/1/follow", f"/post/{second}/like")
    for path in deeds:
        done(services, "joe", "PUT", path)
    comment = done(services, "joe", "POST", f"/post/{first}/comment", {"body": "@jane"})["id"]
    done(services, "joe", "POST", f"/post/{second}/comment", {"body": "@jane"})
    mentioning = post(services, "joe", "@jane")
    assert len(shown(services, "jane", 8)["items"]) == 8
    for left, path in ((7, deeds[0]), (6, deeds[1]), (4, f"/comment/{comment}")):
        done(services, "joe", "DELETE", path)
        shown(services, "jane", left)
    done(services, "joe", "PATCH", f"/post/{mentioning}", {"body": "nobody"})
    assert {each["post_id"] for each in shown(services, "jane", 3)["items"]} == {second}
    done(services, "jane", "DELETE", f"/post/{second}")
    shown(services, "jane", 0)


def test_what_came_up_to_the_mark_is_read(services: Services) -> None:
    mine = post(services, "jane")
    done(services, "joe", "PUT", f"/post/{mine}/like")
    done(services, "ann", "PUT", f"/post/{mine}/like")
    newer, older = shown(services, "jane", 2)["items"]
    for until, unread in ((older, 1), (newer, 0), (older, 0)):
        written = services.write("jane", "PUT", f"{PATH}/read", {"until": until["created_at"]})
        token = {"Consistency-Token": written.headers["consistency-token"], "Prefer": "wait=5"}
        assert services.read(PATH, "jane", token).json()["unread_count"] == unread
    done(services, "joe", "PUT", "/user/1/follow")
    assert shown(services, "jane", 3)["unread_count"] == 1


def test_pages_are_cut_anywhere_also_among_deeds_of_one_moment(
    services: Services, system: tuple[Stack, Services, Connection]
) -> None:
    stack, _, connection = system
    moment = "'2026-01-01 00:00:00.000001' + INTERVAL n % 3 MICROSECOND"
    numbers = "WITH RECURSIVE t (n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM t WHERE n < 139)"
    run_sql(
        connection,
        f"INSERT INTO users (id, subject, handle, display_name) {numbers} SELECT n, n, n, n FROM t",
        f"INSERT INTO posts (id, author_id, body) {numbers} SELECT n, 1, 'p' FROM t WHERE n < 103",
        f"INSERT INTO follows (follower_id, followee_id, created_at) {numbers} SELECT n, 1, {moment} FROM t",
        "INSERT INTO follows (follower_id, followee_id) VALUES (1, 1)",
        "INSERT INTO likes (post_id, user_id, created_at, post_author_id)"
        f" {numbers} SELECT 100 + n % 3, n, {moment}, 1 FROM t UNION ALL SELECT 100, 1, {moment}, 1 FROM t"
        " WHERE n = 100",
        "INSERT INTO likes (post_id, user_id, created_at)"
        f" {numbers} SELECT 100 + (n + 1) % 3, n, {moment} FROM t",
        "INSERT INTO comments (post_id, author_id, body, created_at, post_author_id)"
        f" {numbers} SELECT 100, n, 'c', {moment}, 1 FROM t"
        f" UNION ALL SELECT 100, 1, 'own', {moment}, 1 FROM t",
        "INSERT INTO mentions (user_id, author_id, post_id, created_at)"
        f" {numbers} SELECT 1, n, 100, {moment} FROM t",
    )
    wait_until_caught_up(stack, connection)
    whole = everything(services, "jane", 100)
    assert len(whole) == 160
    assert {each["actor"]["handle"] for each in whole}.isdisjoint(PEOPLE)
    assert [each["created_at"] for each in whole] == sorted(
        (each["created_at"] for each in whole), reverse=True
    )
    for limit in (1, 7, 49, 50, 51):
        assert everything(services, "jane", limit) == whole
    page = services.read(PATH, "jane").json()
    assert (len(page["items"]), page["unread_count"]) == (20, 50)
    run_sql(connection, "UPDATE likes SET post_author_id = 1 WHERE post_author_id IS NULL")
    wait_until_caught_up(stack, connection)
    wait_until(lambda: len(everything(services, "jane", 100)) == 200, "the likes that name the author now")


@pytest.mark.parametrize("cursor", ["x", "WzFd"])
def test_a_cursor_of_another_list_is_refused(services: Services, cursor: str) -> None:
    answer = services.read(f"{PATH}?cursor={cursor}", "jane")
    assert (answer.status_code, answer.json()["field"]) == (400, "cursor")


def test_a_cursor_at_the_end_of_time_is_no_fault(services: Services) -> None:
    from reader.read_model.cached_values import encode_cursor

    cursor = encode_cursor(["9999-12-31T23:59:59.999999Z", 4, 1, 1])
    assert services.read(f"{PATH}?cursor={cursor}", "jane").json()["items"] == []


def test_the_page_is_private_and_has_a_version(services: Services) -> None:
    mine = post(services, "jane")
    done(services, "joe", "PUT", f"/post/{mine}/like")
    shown(services, "jane", 1)
    first = services.read(PATH, "jane")
    assert first.headers["cache-control"] == "private, no-cache"
    again = services.read(PATH, "jane", {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    done(services, "joe", "PUT", "/user/me", {"handle": "joseph", "display_name": "J"})
    renamed = partial(services.read, PATH, "jane", {"If-None-Match": first.headers["etag"]})
    wait_until(lambda: renamed().status_code == 200, "the new name")
    assert brief(renamed().json()) == [("like", "joseph", mine, None)]


def test_notifications_can_be_watched_and_a_read_mark_is_seen(services: Services) -> None:
    mine = post(services, "jane")
    shown(services, "jane", 0)  # not the state that the test before has left
    with watching(services.reader_url, PATH, bearer("jane")) as stream:
        assert stream.status == 200, stream.body
        assert stream.state()["body"]["unread_count"] == 0
        done(services, "joe", "PUT", f"/post/{mine}/like")
        (liked,) = stream.state()["body"]["items"]
        assert (liked["kind"], liked["post_id"]) == ("like", mine)
        done(services, "jane", "PUT", f"{PATH}/read", {"until": liked["created_at"]})
        assert stream.state()["body"]["unread_count"] == 0
