"""A client can read its own write, on every path of a read, and never gets an older answer."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import httpx2
import pytest

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.conftest import AUTH
from tests.support.harness import admin_connection, rows, wait_until, wait_until_caught_up, watermark
from tests.support.services import Services, running_services
from tidemark.consistency_token import COOKIE, HEADER, ConsistencyKeys, sign, verify
from tidemark.gtid import GtidSet

KEYS = ConsistencyKeys.parse(AUTH["TIDEMARK_CONSISTENCY_SECRET"])
UNKNOWN = GtidSet.parse("aaaaaaaa-0000-0000-0000-000000000001:7")


@pytest.fixture(scope="module")
def system(shared_stack: Stack) -> Iterator[tuple[Stack, Services]]:
    from tests.conftest import empty_stores

    empty_stores(shared_stack)
    with running_services(shared_stack) as services:
        assert (
            services.write("s0", "PUT", "/user/me", {"handle": "zero", "display_name": "Z"}).status_code
            == 201
        )
        assert services.write("s0", "POST", "/post", {"body": "one"}).status_code == 201
        yield shared_stack, services


@pytest.fixture
def services(system: tuple[Stack, Services]) -> Services:
    return system[1]


@pytest.fixture
def connection(system: tuple[Stack, Services]) -> Iterator[Connection]:
    with admin_connection(system[0]) as connection:
        yield connection


def token_of(answer: httpx2.Response) -> str:
    assert answer.status_code < 300, answer.text
    return answer.headers[HEADER]


def gtids_of(answer: httpx2.Response) -> GtidSet:
    return verify(token_of(answer), KEYS, time.time())


def test_the_token_names_the_gtid_of_the_commands_own_commit(
    services: Services, connection: Connection
) -> None:
    before = executed(connection)
    found = gtids_of(services.write("s0", "POST", "/post", {"body": "two"}))
    assert executed(connection) - before == found
    assert len(found.intervals) == 1


def test_a_command_that_changes_nothing_names_all_that_was_committed(
    services: Services, connection: Connection
) -> None:
    """Trace 11. INSERT IGNORE of an existing row has no GTID; the client must still see the state it saw."""
    assert services.write("s0", "PUT", "/post/1/like").status_code == 204
    again = services.write("s0", "PUT", "/post/1/like")
    assert gtids_of(again) == executed(connection)


def test_a_write_is_seen_by_the_very_next_read(services: Services) -> None:
    for number in range(60):
        token = token_of(services.write("s0", "PATCH", "/post/1", {"body": f"edit {number}"}))
        answer = services.read("/post/1", headers={HEADER: token, "Prefer": "wait=2"})
        assert (answer.status_code, answer.json()["body"]) == (200, f"edit {number}")
        assert answer.headers["preference-applied"] == "wait=2"


def test_a_deleted_post_leaves_the_list_at_the_next_read(services: Services) -> None:
    for number in range(20):
        created = services.write("s0", "POST", "/post", {"body": f"short-lived {number}"})
        id = created.json()["id"]
        listed = services.read("/user/1/posts", headers={HEADER: token_of(created)})
        assert id in [post["id"] for post in listed.json()["items"]]
        deleted = services.write("s0", "DELETE", f"/post/{id}")
        headers = {HEADER: token_of(deleted)}
        assert services.read(f"/post/{id}", headers=headers).status_code == 404
        assert id not in [
            post["id"] for post in services.read("/user/1/posts", headers=headers).json()["items"]
        ]


def test_the_very_next_feed_shows_a_follow_an_unfollow_and_a_delete(services: Services) -> None:
    """There is no job behind it: the feed with the write's token is right at once. Nobody likes anything, so
    the ranked feed has the same order.
    """
    author = services.write("s5", "PUT", "/user/me", {"handle": "five", "display_name": "F"}).json()["id"]
    services.write("s6", "PUT", "/user/me", {"handle": "six", "display_name": "S"})

    def feed(written: httpx2.Response) -> list[str]:
        headers = {HEADER: token_of(written), "Prefer": "wait=2"}
        newest, hottest = (services.read(path, "s6", headers) for path in ("/feed", "/feed?order=hot"))
        assert newest.status_code == hottest.status_code == 200, (newest.text, hottest.text)
        assert newest.json()["items"] == hottest.json()["items"]
        return [post["id"] for post in newest.json()["items"]]

    for number in range(15):
        post = services.write("s5", "POST", "/post", {"body": f"{number} #five"})
        own = services.write("s6", "POST", "/post", {"body": f"own {number}"})
        ids = [own.json()["id"], post.json()["id"]]
        assert feed(own)[:1] == ids[:1] and ids[1] not in feed(own)
        assert feed(services.write("s6", "PUT", f"/user/{author}/follow"))[:2] == ids
        tagged = services.read("/hashtag/five", "s6", {HEADER: token_of(post)})
        assert tagged.json()["items"][0]["id"] == ids[1]
        assert ids[1] not in feed(services.write("s5", "DELETE", f"/post/{ids[1]}"))
        assert ids[0] in feed(services.write("s6", "DELETE", f"/user/{author}/follow"))
    kept = services.write("s5", "POST", "/post", {"body": "kept"}).json()["id"]
    assert kept in feed(services.write("s6", "PUT", f"/user/{author}/follow"))
    assert kept not in feed(services.write("s6", "DELETE", f"/user/{author}/follow"))


def test_browsers_get_a_cookie_that_scripts_cannot_read(services: Services) -> None:
    answer = services.write("s0", "PATCH", "/post/1", {"body": "with a cookie"})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={token_of(answer)};")
    assert {"HttpOnly", "Secure", "Path=/", "Max-Age=60", "SameSite=lax"} <= set(cookie.split("; "))
    read = services.read("/post/1", headers={"cookie": f"{COOKIE}={token_of(answer)}", "prefer": "wait=2"})
    assert read.json()["body"] == "with a cookie"
    refused = services.read("/post/1", headers={"cookie": f"{COOKIE}=forged"})
    assert refused.status_code == 400


BAD_TOKENS = {
    "empty": "",
    "short": "x",
    "not base64url": "not/base64url",
    "cut off": sign(UNKNOWN, KEYS, time.time())[:-2],
    "of another key": sign(UNKNOWN, ConsistencyKeys.parse("k" * 32), time.time()),
    "expired": sign(UNKNOWN, KEYS, time.time() - 61),
    "long": "A" * 5000,
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_forged_foreign_and_expired_tokens_are_refused(services: Services, name: str) -> None:
    answer = services.read("/post/1", headers={HEADER: BAD_TOKENS[name]})
    assert (answer.status_code, answer.json()["field"]) == (400, HEADER)


def test_two_tokens_are_refused(services: Services) -> None:
    token = sign(UNKNOWN, KEYS, time.time())
    answer = services.read("/post/1", headers=[(HEADER, token), (HEADER, token)])
    assert answer.status_code == 400


def test_an_unknown_token_is_waited_for_and_then_gets_503(
    services: Services,
) -> None:
    """Trace 9. The reader cannot know MySQL's head, so this is never a 400."""
    token = sign(UNKNOWN, KEYS, time.time())
    started = time.monotonic()
    answer = services.read("/post/1", headers={HEADER: token, "Prefer": "wait=0.3"})
    assert time.monotonic() - started >= 0.3
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "/problems/not-yet-consistent"


def test_the_wait_is_capped(services: Services) -> None:
    started = time.monotonic()
    token = sign(UNKNOWN, KEYS, time.time())
    assert services.read("/post/1", headers={HEADER: token, "Prefer": "wait=3600"}).status_code == 503
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("wait", ["99999999", "9" * 5000, "99999999.9999999", '"99999999"; x=y'])
def test_a_wait_of_any_size_is_capped_and_not_ignored(services: Services, wait: str) -> None:
    token = token_of(services.write("s0", "POST", "/post", {"body": "x"}))
    answer = services.read("/post/1", headers={HEADER: token, "Prefer": f"wait={wait}"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=2")


def test_with_redis_away_mongodb_serves_the_write(system: tuple[Stack, Services]) -> None:
    stack, services = system
    stack.redis.pause()
    try:
        token = token_of(services.write("s0", "PATCH", "/post/1", {"body": "without redis"}))
        answer = wait_until(lambda: served(services, token), "MongoDB to have it", 20)
        assert answer.json()["body"] == "without redis"
        assert "redis; hit" not in answer.headers["cache-status"]
    finally:
        stack.redis.resume()


def served(services: Services, token: str) -> httpx2.Response | None:
    answer = services.read("/post/1", headers={HEADER: token, "Prefer": "wait=1"})
    assert answer.status_code in (200, 503), answer.text
    return answer if answer.status_code == 200 else None


def test_while_the_projector_is_paused_no_read_pretends(system: tuple[Stack, Services]) -> None:
    stack, services = system
    with admin_connection(stack) as connection:
        wait_until_caught_up(stack, connection)
    services.read("/post/1")
    services.projector.popen.send_signal(signal.SIGSTOP)
    try:
        token = token_of(services.write("s0", "PATCH", "/post/1", {"body": "not there yet"}))
        refused = services.read("/post/1", headers={HEADER: token, "Prefer": "wait=0.2"})
        assert refused.status_code == 503
        assert services.read("/post/1").status_code == 200, "without a token the old answer is fine"
    finally:
        services.projector.popen.send_signal(signal.SIGCONT)
    answer = wait_until(lambda: served(services, token), "the projector to go on", 20)
    assert answer.json()["body"] == "not there yet"
    assert watermark(stack) is not None


def executed(connection: Connection) -> GtidSet:
    return GtidSet.parse(rows(connection, "SELECT @@global.gtid_executed")[0][0])
