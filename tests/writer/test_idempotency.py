"""Idempotency-Key: a request that arrives several times is executed once."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import httpx2
import pytest

from tests.support.harness import wait_until
from tests.writer.mysql import MySql
from tests.writer.people import Person, Writer, at_once, serving
from writer.idempotency import PURGE_ROWS


def post_once(person: Person, key: str, body: str = "Hello", path: str = "/post") -> httpx2.Response:
    return person.send("POST", path, {"body": body}, headers={"Idempotency-Key": key})


def seen(answer: httpx2.Response) -> tuple[int, str | None, bytes, str]:
    return answer.status_code, answer.headers.get("location"), answer.content, answer.headers["content-type"]


def count_posts(mysql: MySql, person: Person) -> Any:
    return mysql.value("SELECT COUNT(*) FROM posts WHERE author_id = %s", person.id)


def test_the_same_request_again_gets_the_same_answer_and_changes_nothing(
    writer: Writer, mysql: MySql
) -> None:
    jane = writer.person()
    first = post_once(jane, "k")
    executed = mysql.value("SELECT @@global.gtid_executed")
    assert seen(post_once(jane, "k")) == seen(first)
    assert first.status_code == 201
    assert mysql.value("SELECT @@global.gtid_executed") == executed


def test_the_answer_stays_the_same_when_the_post_has_changed_since(writer: Writer) -> None:
    jane = writer.person()
    first = post_once(jane, "k")
    jane.send("DELETE", first.headers["location"])
    assert seen(post_once(jane, "k")) == seen(first)


def test_another_request_with_the_same_key_is_refused(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    post = post_once(jane, "k").json()["id"]
    for answer in (post_once(jane, "k", "Other"), post_once(jane, "k", path=f"/post/{post}/comment")):
        assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")
    assert count_posts(mysql, jane) == 1


def test_a_key_belongs_to_one_subject(writer: Writer) -> None:
    jane, joe = writer.person(), writer.person()
    assert post_once(jane, "k").json()["id"] != post_once(joe, "k").json()["id"]


def test_keys_differ_in_case(writer: Writer) -> None:
    jane = writer.person()
    assert post_once(jane, "k").json()["id"] != post_once(jane, "K").json()["id"]


def test_requests_at_once_with_one_key_are_carried_out_once(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    for number in range(1, 6):
        key = secrets.token_hex(4)
        answers = at_once(*(partial(post_once, jane, key) for _ in range(6)))
        assert len({seen(answer) for answer in answers}) == 1
        assert answers[0].status_code == 201
        assert count_posts(mysql, jane) == number


def test_a_command_that_failed_leaves_its_key_free(writer: Writer) -> None:
    jane, stranger = writer.person(), writer.stranger()
    assert post_once(jane, "k", path="/post/9999999999/comment").status_code == 404
    assert post_once(jane, "k").status_code == 201
    assert post_once(stranger, "k").status_code == 409
    stranger.send("PUT", "/user/me", {"handle": secrets.token_hex(8), "display_name": "J"})
    assert post_once(stranger, "k").status_code == 201


@pytest.mark.parametrize("key", ["!", " inner space ~", "k" * 255])
def test_any_printable_ascii_is_a_key(writer: Writer, key: str) -> None:
    jane = writer.person()
    assert seen(post_once(jane, key)) == seen(post_once(jane, key))


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there", b"\xe9"])
def test_anything_else_is_not(writer: Writer, key: Any) -> None:
    answer = post_once(writer.person(), key)
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")
    assert [each["header"] for each in answer.json()["errors"]] == ["Idempotency-Key"]


def test_two_keys_are_none(writer: Writer) -> None:
    jane = writer.person()
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    request = jane.http.build_request("POST", "/post", json={"body": "x"}, headers=headers)
    request.headers["Authorization"] = jane.send("POST", "/post", {"body": "x"}).request.headers[
        "Authorization"
    ]
    assert jane.http.send(request).status_code == 400


def test_a_day_old_keys_are_purged_and_younger_ones_kept(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    for key, age in (("old", "24:00:01"), ("young", "23:59:00")):
        post_once(jane, key)
        mysql.execute(
            "UPDATE idempotency_keys SET created_at = created_at - INTERVAL %s HOUR_SECOND"
            " WHERE subject = %s AND idempotency_key = %s",
            age,
            jane.subject,
            key,
        )
    kept = "SELECT idempotency_key FROM idempotency_keys WHERE subject = %s"
    with serving(mysql.url):
        wait_until(lambda: mysql.rows(kept, jane.subject) == (("young",),), "the old key to be purged")


def test_many_expired_keys_are_purged_too(mysql: MySql) -> None:
    mysql.execute(
        "INSERT INTO idempotency_keys (subject, idempotency_key, request_hash, created_at)"
        " WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < %s)"
        " SELECT 'purged', n, REPEAT('x', 32), NOW(6) - INTERVAL 2 DAY FROM numbers",
        PURGE_ROWS - 1,
    )
    mysql.execute(
        "INSERT INTO idempotency_keys (subject, idempotency_key, request_hash, created_at)"
        " SELECT 'purged', CONCAT('more ', idempotency_key), request_hash, created_at FROM idempotency_keys"
        " WHERE subject = 'purged'"
    )
    with serving(mysql.url):
        left = "SELECT COUNT(*) FROM idempotency_keys WHERE subject = 'purged'"
        wait_until(lambda: mysql.value(left) == 0, "all expired keys to be purged")
