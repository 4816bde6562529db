"""Deleting one's own profile takes everything along, in transactions that one batch of a projector holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from binlog_projector.binlog.parts import MAX_ROWS
from binlog_projector.domain.changes import Transaction
from binlog_projector.mysql.connections import query_value
from binlog_projector.mysql.source import MySqlSource
from tests.support.harness import admin_connection, wait_until
from tests.support.received import Received
from tests.writer.mysql import MySql
from tests.writer.people import Person, Writer, new_handle, serving
from tidemark.gtid import GtidSet
from writer import endpoints
from writer.deletion import OF_POST, OF_USER

FANS = 4_500


@pytest.fixture(scope="module")
def fans(mysql: MySql) -> int:
    """Many users; the id of the first one."""
    with mysql.session() as cursor:
        cursor.execute("SET cte_max_recursion_depth = 10000")
        cursor.execute(
            "INSERT INTO users (subject, handle, display_name) WITH RECURSIVE number (n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < %s)"
            " SELECT CONCAT('fan', n), CONCAT('fan', n), 'Fan' FROM number",
            (FANS,),
        )
    return int(mysql.value("SELECT id FROM users WHERE subject = 'fan1'"))


@pytest.fixture
def star(writer: Writer, mysql: MySql, fans: int) -> Person:
    """A person with 300 posts of 3 rows each, one with 4,500 likes, 4,500 followers, and others' likes."""
    star, other = writer.person(), writer.person()
    hit = star.post("a hit")
    many = f"FROM users WHERE id BETWEEN {fans} AND {fans + FANS - 1}"
    with mysql.session() as cursor:
        cursor.execute("SET cte_max_recursion_depth = 10000")
        cursor.execute(
            "INSERT INTO posts (author_id, body) WITH RECURSIVE number (n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 300)"
            " SELECT %s, CONCAT('post #tag', n) FROM number",
            (star.id,),
        )
        cursor.execute(
            "INSERT INTO likes (post_id, user_id) SELECT id, %s FROM posts WHERE author_id = %s AND id <> %s",
            (other.id, star.id, hit),
        )
        cursor.execute(
            "INSERT INTO comments (post_id, author_id, body)"
            " SELECT id, %s, 'c' FROM posts WHERE author_id = %s AND id <> %s",
            (other.id, star.id, hit),
        )
        cursor.execute(f"INSERT INTO likes (post_id, user_id) SELECT %s, id {many}", (hit,))
        cursor.execute(f"INSERT INTO follows (follower_id, followee_id) SELECT id, %s {many}", (star.id,))
    for person, post in ((star, other.post()), (other, hit)):
        assert person.send("PUT", f"/post/{post}/like").status_code == 204
    return star


@pytest.fixture
def one_transaction_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MORE_SECONDS", 0.0)


def executed(mysql: MySql) -> GtidSet:
    return GtidSet.parse(mysql.value("SELECT @@global.gtid_executed"))


def transactions_since(mysql: MySql, before: GtidSet) -> Iterator[Transaction]:
    with admin_connection(mysql.stack) as connection:
        now = GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))
    received = Received()
    stream = MySqlSource(mysql.stack.mysql.admin_url, 9_999).stream(before, None)
    stream.start(received)
    try:
        while not before >= now:
            transaction = received.next()
            before = before.with_gtid(transaction.gtid)
            yield transaction
    finally:
        stream.close()


def rows_left(mysql: MySql, person: Person) -> int:
    tables = [("users", "id", person.id), ("posts", "author_id", person.id)]
    tables += [(table, column, person.id) for table, column, _ in OF_USER]
    tables += [(table, "subject", person.subject) for table in ("idempotency_keys", "user_deletions")]
    tables += [
        (f"{table} JOIN posts ON posts.id = post_id", "posts.author_id", person.id) for table in OF_POST
    ]
    return sum(
        int(mysql.value(f"SELECT COUNT(*) FROM {table} WHERE {column} = %s", value))
        for table, column, value in tables
    )


def test_a_small_account_goes_as_a_whole_in_one_transaction(writer: Writer, mysql: MySql) -> None:
    jane, joe = writer.person(), writer.person()
    mine, kept = jane.post(), joe.post()
    for person, post in ((jane, kept), (joe, mine), (joe, kept)):
        assert person.send("PUT", f"/post/{post}/like").status_code == 204
        assert person.send("POST", f"/post/{post}/comment", {"body": "Hi"}).status_code == 201
    for person, other in ((jane, joe), (joe, jane)):
        assert person.send("PUT", f"/user/{other.id}/follow").status_code == 204
    jane.send("POST", "/post", {"body": "kept for a day"}, headers={"Idempotency-Key": "k"})
    before = executed(mysql)
    assert jane.send("DELETE", "/user/me").status_code == 204
    (transaction,) = transactions_since(mysql, before)
    assert len(transaction.changes) == 9  # with both posts
    assert rows_left(mysql, jane) == 0
    for table in ("likes", "comments"):
        assert mysql.rows(f"SELECT post_id FROM {table} WHERE post_id IN (%s, %s)", mine, kept) == (
            (int(kept),),
        )


def test_a_large_account_goes_in_transactions_that_a_batch_holds(star: Person, mysql: MySql) -> None:
    before = executed(mysql)
    assert star.send("DELETE", "/user/me").status_code == 204
    transactions = list(transactions_since(mysql, before))
    assert rows_left(mysql, star) == 0
    assert len(transactions) > 3
    assert all(len(each.changes) < MAX_ROWS and each.partial is None for each in transactions)
    assert transactions[0].changes[0].table == "users"
    assert sum(len(each.changes) for each in transactions) == 1 + 1 + 2 * FANS + 301 + 601


def test_a_post_that_fits_in_a_transaction_goes_with_all_its_rows(star: Person, mysql: MySql) -> None:
    before = executed(mysql)
    star.send("DELETE", "/user/me")
    gone: dict[int, set[int]] = defaultdict(set)
    for at, transaction in enumerate(transactions_since(mysql, before)):
        for change in transaction.changes:
            row = change.before or {}
            if change.table in OF_POST:
                gone[row["post_id"]].add(at)
            elif change.table == "posts":
                gone[row["id"]].add(at)
    split = [post for post, at in gone.items() if len(at) > 1]
    assert len(gone) == 302  # and the post of another that the star liked
    assert len(split) == 1, split
    assert len(gone[split[0]]) == 2


@pytest.mark.usefixtures("one_transaction_at_a_time")
def test_meanwhile_the_subject_gets_409_and_repeating_goes_on(
    star: Person, writer: Writer, mysql: MySql
) -> None:
    first = star.send("DELETE", "/user/me")
    assert (first.status_code, first.headers["retry-after"], first.content) == (202, "1", b"")
    assert "consistency-token" in first.headers
    post = mysql.value("SELECT id FROM posts WHERE author_id = %s LIMIT 1", star.id)
    for method, path, body in (
        ("PUT", "/user/me", {"handle": new_handle(), "display_name": "Again"}),
        ("PATCH", "/user/me", {"bio": "x"}),
        ("POST", "/post", {"body": "x"}),
        ("PATCH", f"/post/{post}", {"body": "x"}),
        ("PUT", f"/post/{post}/like", None),
        ("PUT", "/user/1/follow", None),
    ):
        answer = star.send(method, path, body)
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/being-deleted")
    assert writer.person().send("PUT", f"/user/{star.id}/follow").status_code == 404
    left = rows_left(mysql, star)
    while star.send("DELETE", "/user/me").status_code == 202:
        assert rows_left(mysql, star) < left
        left = rows_left(mysql, star)
    assert rows_left(mysql, star) == 0
    assert star.send("DELETE", "/user/me").status_code == 204
    again = star.send("PUT", "/user/me", {"handle": new_handle(), "display_name": "Again"})
    assert again.status_code == 201 and again.json()["id"] != star.id


@pytest.mark.usefixtures("one_transaction_at_a_time")
def test_a_writer_that_starts_finishes_a_deletion_nobody_repeats(star: Person, mysql: MySql) -> None:
    assert star.send("DELETE", "/user/me").status_code == 202
    with serving(mysql.url):
        wait_until(lambda: rows_left(mysql, star) == 0, "the deletion to be finished")


def test_deleting_a_profile_that_is_not_there_is_fine(writer: Writer, mysql: MySql) -> None:
    assert writer.stranger().send("DELETE", "/user/me").status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/user/me", {"bio": "late"}),
        ("POST", "/post", {"body": "late"}),
        ("POST", "/post/{post}/comment", {"body": "late"}),
        ("PUT", "/post/{post}/like", None),
        ("PUT", "/user/{user}/follow", None),
    ],
    ids=str,
)
def test_a_command_that_a_deletion_overtakes_gets_409_and_leaves_nothing(
    writer: Writer, mysql: MySql, method: str, path: str, body: object
) -> None:
    jane, joe = writer.person(), writer.person()
    path = path.format(post=joe.post(), user=joe.id)
    with ThreadPoolExecutor(1) as threads:
        with mysql.session(autocommit=False) as deleting:
            deleting.execute("SET foreign_key_checks = 0")
            deleting.execute("DELETE FROM users WHERE id = %s", (jane.id,))
            late = threads.submit(partial(jane.send, method, path, body))
            mysql.wait_for_lock_waits(1)
            deleting.execute("COMMIT")
        assert (late.result().status_code, late.result().json()["type"]) == (409, "/problems/unknown-user")
    assert rows_left(mysql, jane) == 0


def test_every_table_that_refers_to_users_or_posts_is_deleted_from(mysql: MySql) -> None:
    found = mysql.rows(
        "SELECT table_name, column_name, referenced_table_name FROM information_schema.key_column_usage"
        " WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL"
    )
    known = {(table, column, "users") for table, column, _ in OF_USER} | {("posts", "author_id", "users")}
    gone_before = {("mentions", "comment_id", "comments")}  # as its author's, or as the post's
    gone_before |= {(table, "post_author_id", "posts") for table in ("likes", "comments")}
    assert {*found} == known | {(table, "post_id", "posts") for table in OF_POST} | gone_before
