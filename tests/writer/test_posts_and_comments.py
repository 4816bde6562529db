"""Posts and comments belong to their authors."""

from __future__ import annotations

from functools import partial

import pytest

from tests.writer.mysql import MySql
from tests.writer.people import Writer, at_once

MISSING = "9999999999999999999"
EDITABLE = pytest.mark.parametrize("path", ["/post", "/post/{}/comment"])


def test_a_post_is_answered_with_its_id_and_place(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    answer = jane.send("POST", "/post", {"body": "Hello"})
    post = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/post/{post['id']}")
    assert post.keys() == {"id", "body", "created_at", "updated_at"}
    assert mysql.rows("SELECT author_id, body FROM posts WHERE id = %s", post["id"]) == (
        (int(jane.id), "Hello"),
    )


@pytest.mark.parametrize(
    "body", ["  indented\n", "a'b\"c\\d%s--;", "\u202e𐍈 👩‍👩‍👧 \uffff", "\t\x01x", "é" * 2000]
)
def test_text_is_kept_as_it_was_sent(writer: Writer, mysql: MySql, body: str) -> None:
    post = writer.person().post(body)
    assert mysql.value("SELECT body FROM posts WHERE id = %s", post) == body


@EDITABLE
def test_an_edit_changes_the_text_and_its_updated_at(writer: Writer, path: str) -> None:
    jane = writer.person()
    created = jane.send("POST", path.format(jane.post()), {"body": "Hello"})
    before = created.json()
    answer = jane.send("PATCH", created.headers["location"], {"body": "Bye"})
    assert answer.status_code == 200
    assert answer.json() == {**before, "body": "Bye", "updated_at": answer.json()["updated_at"]}
    assert answer.json()["updated_at"] > before["updated_at"]


@EDITABLE
def test_the_same_edit_again_changes_nothing(writer: Writer, path: str) -> None:
    jane = writer.person()
    edited = jane.send("POST", path.format(jane.post()), {"body": "Hello"}).headers["location"]
    first, again = (jane.send("PATCH", edited, {"body": "Bye"}) for _ in range(2))
    assert first.json() == again.json()


def test_only_the_author_changes_or_deletes_a_post(writer: Writer, mysql: MySql) -> None:
    post = writer.person().post("mine")
    other = writer.person()
    assert other.send("PATCH", f"/post/{post}", {"body": "yours"}).status_code == 403
    assert other.send("DELETE", f"/post/{post}").status_code == 403
    assert mysql.value("SELECT body FROM posts WHERE id = %s", post) == "mine"


def test_deleting_a_post_takes_its_likes_and_comments_along(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    post, kept = jane.post(), jane.post()
    for each in (post, kept):
        assert joe.send("PUT", f"/post/{each}/like").status_code == 204
        assert joe.send("POST", f"/post/{each}/comment", {"body": "Hi"}).status_code == 201
    assert jane.send("DELETE", f"/post/{post}").status_code == 204
    for table in ("likes", "comments"):
        left = mysql.rows(f"SELECT post_id FROM {table} WHERE post_id IN (%s, %s)", post, kept)
        assert left == ((int(kept),),)


def test_deleting_again_or_what_never_was_is_fine(writer: Writer) -> None:
    jane = writer.person()
    post = jane.post()
    comment = jane.send("POST", f"/post/{post}/comment", {"body": "Hi"}).headers["location"]
    for path in (
        comment,
        comment,
        f"/post/{post}",
        f"/post/{post}",
        f"/post/{MISSING}",
        f"/comment/{MISSING}",
    ):
        assert jane.send("DELETE", path).status_code == 204


def test_a_missing_post_can_be_neither_edited_nor_commented(writer: Writer) -> None:
    jane = writer.person()
    assert jane.send("PATCH", f"/post/{MISSING}", {"body": "x"}).status_code == 404
    edited = jane.send("PATCH", f"/comment/{MISSING}", {"body": "x"})
    assert (edited.status_code, edited.json()["detail"]) == (404, "There is no such comment.")
    answer = jane.send("POST", f"/post/{MISSING}/comment", {"body": "x"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such post.")


def test_a_comment_is_answered_with_its_id_place_and_post(writer: Writer) -> None:
    jane = writer.person()
    post = jane.post()
    answer = jane.send("POST", f"/post/{post}/comment", {"body": "Hi"})
    comment = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/comment/{comment['id']}")
    assert (comment["post_id"], comment["body"]) == (post, "Hi")


def test_only_the_author_changes_a_comment_not_even_the_posts_author(writer: Writer) -> None:
    jane, joe = writer.person(), writer.person()
    comment = joe.send("POST", f"/post/{jane.post()}/comment", {"body": "Hi"}).headers["location"]
    assert jane.send("PATCH", comment, {"body": "Ho"}).status_code == 403
    assert jane.send("DELETE", comment).status_code == 403
    assert joe.send("DELETE", comment).status_code == 204


def test_likes_and_comments_during_a_posts_deletion_succeed_or_find_nothing(
    writer: Writer, mysql: MySql
) -> None:
    jane, fans = writer.person(), [writer.person() for _ in range(3)]
    for _ in range(8):
        post = jane.post()
        deleting = partial(jane.send, "DELETE", f"/post/{post}")
        likes = [partial(fan.send, "PUT", f"/post/{post}/like") for fan in fans]
        comments = [partial(fan.send, "POST", f"/post/{post}/comment", {"body": "Hi"}) for fan in fans]
        deleted, *others = at_once(deleting, *likes, *comments)
        assert deleted.status_code == 204
        assert {answer.status_code for answer in others[:3]} <= {204, 404}
        assert {answer.status_code for answer in others[3:]} <= {201, 404}
        for table in ("likes", "comments"):
            assert mysql.value(f"SELECT COUNT(*) FROM {table} WHERE post_id = %s", post) == 0
