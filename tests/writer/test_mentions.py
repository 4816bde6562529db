"""Mentions follow the text; a read mark only moves forward; likes and comments name the post's author."""

from __future__ import annotations

from typing import Any

import pytest

from tests.writer.mysql import MySql
from tests.writer.people import Person, Writer
from writer.mentions import handles

PATH = "/user/me/notifications/read"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hi @jane, and @JOE_2!", ["jane", "joe_2"]),
        ("@jane@joe jane@joe.org x@jane", []),
        ("(@jane) @jane. 你好@Jane你好", ["jane"]),
        ("@ab @" + "a" * 31, []),
        ("@abc @" + "a" * 30, ["abc", "a" * 30]),
        (" ".join(f"@user{n} @USER{n}" for n in range(12)), [f"user{n}" for n in range(10)]),
    ],
)
def test_a_mention_is_a_handle_behind_an_at_sign_and_ten_count(text: str, found: list[str]) -> None:
    assert handles(text) == found


def mentioned(mysql: MySql, where: str = "TRUE") -> list[Any]:
    return list(mysql.rows(f"SELECT user_id, comment_id FROM mentions WHERE {where} ORDER BY user_id"))


def handle(mysql: MySql, person: Person) -> str:
    return str(mysql.value("SELECT handle FROM users WHERE id = %s", person.id))


def test_an_edit_keeps_adds_and_deletes_mentions(writer: Writer, mysql: MySql) -> None:
    jane, joe, ann = (writer.person() for _ in range(3))
    at_jane, at_joe, at_ann = (f"@{handle(mysql, one)}" for one in (jane, joe, ann))
    post = jane.post(f"{at_joe.upper()} {at_ann} {at_jane} @nobody_at_all")
    where = f"post_id = {post}"
    assert mentioned(mysql, where) == [(int(joe.id), None), (int(ann.id), None)]
    kept = mysql.value(f"SELECT id FROM mentions WHERE {where} AND user_id = {ann.id}")
    jane.send("PATCH", f"/post/{post}", {"body": f"only {at_ann}"})
    assert mentioned(mysql, where) == [(int(ann.id), None)]
    jane.send("PATCH", f"/post/{post}", {"body": f"{at_ann} {at_joe}"})
    assert mentioned(mysql, where) == [(int(joe.id), None), (int(ann.id), None)]
    assert mysql.value(f"SELECT id FROM mentions WHERE {where} AND user_id = {ann.id}") == kept
    jane.send("PATCH", f"/post/{post}", {"body": "nobody"})
    assert mentioned(mysql, where) == []


def test_an_edited_comment_mentions_as_its_text_does(writer: Writer, mysql: MySql) -> None:
    jane, joe, ann = (writer.person() for _ in range(3))
    post = jane.post()
    comment = jane.send("POST", f"/post/{post}/comment", {"body": f"@{handle(mysql, joe)}"}).json()["id"]
    assert jane.send("PATCH", f"/comment/{comment}", {"body": f"@{handle(mysql, ann)}"}).status_code == 200
    assert mentioned(mysql, f"post_id = {post}") == [(int(ann.id), int(comment))]


def test_an_account_goes_with_its_mentions_and_its_read_mark(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    post = jane.post(f"@{handle(mysql, joe)}")
    joe.send("POST", f"/post/{post}/comment", {"body": f"@{handle(mysql, jane)}"})
    joe.send("PUT", PATH, {"until": "2026-01-02T03:04:05Z"})
    assert joe.send("DELETE", "/user/me").status_code == 204
    assert mentioned(mysql, f"post_id = {post}") == []
    assert mysql.rows("SELECT * FROM notification_reads WHERE user_id = %s", joe.id) == ()


def test_mentions_go_with_their_comment_and_with_their_post(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    text = f"@{handle(mysql, joe)}"
    post = jane.post(text)
    first, second = (
        jane.send("POST", f"/post/{post}/comment", {"body": text}).json()["id"] for _ in range(2)
    )
    where = f"post_id = {post}"
    assert {comment for _, comment in mentioned(mysql, where)} == {None, int(first), int(second)}
    assert jane.send("DELETE", f"/comment/{first}").status_code == 204
    assert {comment for _, comment in mentioned(mysql, where)} == {None, int(second)}
    assert jane.send("DELETE", f"/post/{post}").status_code == 204
    assert mentioned(mysql, where) == []


def test_likes_and_comments_name_the_author_of_the_post(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    post = jane.post()
    joe.send("PUT", f"/post/{post}/like")
    joe.send("POST", f"/post/{post}/comment", {"body": "hi"})
    for table in ("likes", "comments"):
        named = f"SELECT post_author_id FROM {table} WHERE post_id = %s"
        assert mysql.rows(named, post) == ((int(jane.id),),)
    for method, path in (("PUT", "/post/999999999/like"), ("POST", "/post/999999999/comment")):
        answer = joe.send(method, path, {"body": "hi"})
        assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such post.")


def test_a_read_mark_only_moves_forward_and_never_beyond_now(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    mark = f"SELECT CAST(until AS CHAR) FROM notification_reads WHERE user_id = {jane.id}"
    for sent, kept in (
        ("2026-01-02T03:04:05.000006Z", "2026-01-02 03:04:05.000006"),
        ("2026-01-02T03:04:05.000005Z", "2026-01-02 03:04:05.000006"),
        ("2026-01-02T05:04:05.000007+02:00", "2026-01-02 03:04:05.000007"),
        ("0001-01-01T00:00:00+14:00", "2026-01-02 03:04:05.000007"),
    ):
        assert jane.send("PUT", PATH, {"until": sent}).status_code == 204
        assert mysql.value(mark) == kept
    assert jane.send("PUT", PATH, {"until": "9999-12-31T23:59:59-14:00"}).status_code == 204
    assert mysql.value(mark) <= str(mysql.value("SELECT UTC_TIMESTAMP(6)"))


@pytest.mark.parametrize("until", ["2026-02-30T00:00:00Z", "2026-02-03T00:00:00", "now", 5, None])
def test_a_read_mark_is_a_time_with_its_zone(writer: Writer, until: object) -> None:
    answer = writer.person().send("PUT", PATH, {"until": until})
    assert (answer.status_code, answer.json()["field"]) == (422, "until")


def test_without_a_profile_nothing_is_marked_as_read(writer: Writer) -> None:
    assert writer.stranger().send("PUT", PATH, {"until": "2026-01-02T03:04:05Z"}).status_code == 409
