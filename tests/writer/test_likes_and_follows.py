"""Likes and follows: PUT and DELETE state the wanted result, so repeats change nothing."""

from __future__ import annotations

from collections import Counter
from functools import partial

from tests.writer.mysql import MySql
from tests.writer.people import Writer, at_once

MISSING = "9999999999999999999"
WRITERS_STATEMENTS = (
    "SELECT SUBSTRING_INDEX(event_name, '/', -1), count_star"
    " FROM performance_schema.events_statements_summary_by_user_by_event_name"
    " WHERE user = 'writer' AND event_name LIKE 'statement/sql/%%'"
)


def statements(mysql: MySql) -> Counter[str]:
    """Kind of statement -> how many of it the writer has sent."""
    return Counter(dict(mysql.rows(WRITERS_STATEMENTS)))


def test_liking_twice_is_liking_once(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    post = jane.post()
    for _ in range(2):
        answer = jane.send("PUT", f"/post/{post}/like")
        assert (answer.status_code, answer.content) == (204, b"")
    assert mysql.rows("SELECT user_id FROM likes WHERE post_id = %s", post) == ((int(jane.id),),)


def test_a_like_is_one_statement_and_a_commit(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    liked, again = jane.post(), jane.post()
    jane.send("PUT", f"/post/{liked}/like")
    before = statements(mysql)
    assert jane.send("PUT", f"/post/{again}/like").status_code == 204
    assert statements(mysql) - before == {"insert_select": 1, "commit": 1}


def test_without_a_profile_nobody_likes_or_writes(writer: Writer) -> None:
    post, stranger = writer.person().post(), writer.stranger()
    answers = [
        stranger.send("PUT", f"/post/{post}/like"),
        stranger.send("POST", "/post", {"body": "hi"}),
        stranger.send("POST", f"/post/{post}/comment", {"body": "hi"}),
    ]
    assert [(answer.status_code, answer.json()["title"]) for answer in answers] == [(409, "Unknown user")] * 3


def test_repeated_likes_and_follows_leave_no_trace_in_the_binlog(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    paths = [f"/post/{jane.post()}/like", f"/user/{joe.id}/follow"]
    for path in paths:
        jane.send("PUT", path)
    executed = mysql.value("SELECT @@global.gtid_executed")
    for path in paths:
        jane.send("PUT", path)
    assert mysql.value("SELECT @@global.gtid_executed") == executed


def test_a_like_can_be_taken_back_even_if_there_was_none(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    post = jane.post()
    jane.send("PUT", f"/post/{post}/like")
    for _ in range(2):
        assert jane.send("DELETE", f"/post/{post}/like").status_code == 204
    assert mysql.rows("SELECT * FROM likes WHERE post_id = %s", post) == ()
    assert jane.send("DELETE", f"/post/{MISSING}/like").status_code == 204


def test_a_missing_post_cannot_be_liked(writer: Writer) -> None:
    answer = writer.person().send("PUT", f"/post/{MISSING}/like")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such post.")


def test_many_likes_at_once_are_all_kept(writer: Writer, mysql: MySql) -> None:
    fans = [writer.person() for _ in range(8)]
    post = fans[0].post()
    answers = at_once(*(partial(fan.send, "PUT", f"/post/{post}/like") for fan in [*fans, *fans]))
    assert {answer.status_code for answer in answers} == {204}
    assert mysql.value("SELECT COUNT(*) FROM likes WHERE post_id = %s", post) == len(fans)


def test_following_goes_one_way_and_ends_when_told(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    follows = "SELECT follower_id, followee_id FROM follows WHERE follower_id IN (%s, %s)"
    for _ in range(2):
        assert jane.send("PUT", f"/user/{joe.id}/follow").status_code == 204
    assert mysql.rows(follows, jane.id, joe.id) == ((int(jane.id), int(joe.id)),)
    for _ in range(2):
        assert jane.send("DELETE", f"/user/{joe.id}/follow").status_code == 204
    assert mysql.rows(follows, jane.id, joe.id) == ()


def test_nobody_follows_themselves(writer: Writer) -> None:
    jane = writer.person()
    answer = jane.send("PUT", f"/user/{jane.id}/follow")
    assert (answer.status_code, answer.json()["type"], answer.json()["field"]) == (
        422,
        "/problems/self-follow",
        "id",
    )
    assert answer.json()["errors"] == [{"parameter": "id", "detail": answer.json()["detail"]}]


def test_a_missing_user_cannot_be_followed(writer: Writer) -> None:
    answer = writer.person().send("PUT", f"/user/{MISSING}/follow")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such user.")


def test_two_who_follow_each_other_at_once_both_succeed(writer: Writer) -> None:
    jane, joe = writer.person(), writer.person()
    for _ in range(10):
        pairs = ((jane, joe), (joe, jane))
        answers = at_once(*(partial(who.send, "PUT", f"/user/{whom.id}/follow") for who, whom in pairs))
        assert [answer.status_code for answer in answers] == [204, 204]
        jane.send("DELETE", f"/user/{joe.id}/follow")
        joe.send("DELETE", f"/user/{jane.id}/follow")
