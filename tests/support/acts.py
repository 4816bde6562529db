"""Acts of people and scripts on the write side: commands over HTTP and SQL statements, with colliding ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pymysql

from binlog_projector.mysql.connections import Connection
from tests.support.harness import run_sql
from tests.support.services import Services

IDS, SUBJECTS = 12, 6
SPELLINGS = (
    *("#हिन्दी", "#สวัสดี,", "(#தமிழ்)", "#caf\u00e9", "#Cafe\u0301!", "\uff03日本語。"),
    *("#کتاب\u200cها", "#\u05e9\u05c1\u05dc\u05d5\u05dd #x"),  # noqa: RUF001 - they are Arabic letters
)
FIRST_IDS = (1, 2**31 - 2, 2**53 - 2, 2**63 - 1000)  # around what 32 bits, a double, and 64 bits hold
Act = Callable[[Services, Connection, int, int, int, int], None]  # `first` id, then three numbers from 0

WITHOUT_CHECKS: set[Act] = set()


def http(method: str, path: str, body: Callable[[int, int, int], object] = lambda a, b, c: None) -> Act:
    """A command of subject `a` with ids `b` and `c`. Any answer but a failure of the service is right."""

    def act(services: Services, connection: Connection, first: int, a: int, b: int, c: int) -> None:
        answer = services.write(f"s{a % SUBJECTS}", method, path.format(b=first + b), body(a, b, c))
        assert answer.status_code < 500, answer.text

    return act


def sql(*statements: str) -> Act:
    """Statements of one transaction; a single one runs in autocommit. A constraint may refuse them."""

    def act(services: Services, connection: Connection, first: int, a: int, b: int, c: int) -> None:
        ids = {"a": first + a, "b": first + b, "c": first + c}
        try:
            run_sql(connection, *(statement.format(**ids, s=f"s{a}", h=f"hh{a}") for statement in statements))
        except (pymysql.err.IntegrityError, pymysql.err.OperationalError):
            run_sql(connection, "ROLLBACK")

    return act


def sql_without_checks(*statements: str) -> Act:
    """Like `sql`, with foreign keys off: parents go and come back, children stay. One of WITHOUT_CHECKS."""
    inner = sql(*statements)

    def act(services: Services, connection: Connection, first: int, a: int, b: int, c: int) -> None:
        run_sql(connection, "SET foreign_key_checks = 0")
        inner(services, connection, first, a, b, c)
        run_sql(connection, "SET foreign_key_checks = 1")

    WITHOUT_CHECKS.add(act)
    return act


def begin_at(connection: Connection, first: int) -> None:
    """Deletes all rows. New ones get ids from `first` on."""
    for table in ("mentions", "notification_reads", "likes", "follows", "comments", "posts", "users"):
        run_sql(connection, f"DELETE FROM {table}")
    for table in ("mentions", "comments", "posts", "users"):
        run_sql(connection, f"ALTER TABLE {table} AUTO_INCREMENT = {first}")


NEW_POST = "INSERT INTO posts (author_id, body) VALUES ({a}, 'sql #t{b}')"
LIKE = "INSERT IGNORE INTO likes (post_id, user_id) VALUES ({b}, {a})"
COMMENT = "INSERT INTO comments (post_id, author_id, body) VALUES ({b}, {a}, 'c{c}')"
TELL = (
    "INSERT IGNORE INTO likes (post_id, user_id, post_author_id)"
    " SELECT id, {a}, author_id FROM posts WHERE id IN ({b}, {c})"
)
COME = http(
    "PUT",
    "/user/me",
    lambda a, b, c: {"handle": f"Hh{b}", "display_name": f"N{c}", "bio": f"é😀{' ' * (b % 3)}"},
)
ACTS: tuple[Act, ...] = (
    *(COME, COME),  # as often as they leave
    http("PATCH", "/user/me", lambda a, b, c: {"handle": f"Hh{b}"} if c % 2 else {"display_name": f"P{c}"}),
    http("DELETE", "/user/me"),
    http("POST", "/post", lambda a, b, c: {"body": f"post {c} #tag{b % 3}"}),
    http("POST", "/post", lambda a, b, c: {"body": f"another {c} #tag{b % 3} #x"}),
    http(
        "POST",
        "/post",
        lambda a, b, c: {"body": f"{SPELLINGS[b % len(SPELLINGS)]} {SPELLINGS[c % len(SPELLINGS)]}"},
    ),
    http("PATCH", "/post/{b}", lambda a, b, c: {"body": f"edited {c}"}),
    http("DELETE", "/post/{b}"),
    http("POST", "/post/{b}/comment", lambda a, b, c: {"body": f"comment {c}"}),
    http("PATCH", "/comment/{b}", lambda a, b, c: {"body": f"edited comment {c}"}),
    http("DELETE", "/comment/{b}"),
    http("POST", "/post", lambda a, b, c: {"body": f"@hh{b} and (@HH{c})"}),
    http("PATCH", "/post/{b}", lambda a, b, c: {"body": f"@hh{c} not @hh{b}0"}),
    http("POST", "/post/{b}/comment", lambda a, b, c: {"body": f"@hh{c}, @hh{a}"}),
    http("PATCH", "/comment/{b}", lambda a, b, c: {"body": f"@hh{a}"}),
    http(
        "PUT",
        "/user/me/notifications/read",
        lambda a, b, c: {"until": (datetime.now(UTC) - timedelta(seconds=c)).isoformat()},
    ),
    http("PUT", "/post/{b}/like"),
    http("DELETE", "/post/{b}/like"),
    http("PUT", "/user/{b}/follow"),
    http("DELETE", "/user/{b}/follow"),
    sql("BEGIN", NEW_POST, LIKE, "ROLLBACK"),
    sql("BEGIN", NEW_POST, "SAVEPOINT s", LIKE, "ROLLBACK TO s", COMMENT, "COMMIT"),
    sql("INSERT IGNORE INTO likes (post_id, user_id) VALUES ({b}, {a}), ({b}, {c}), ({c}, {a})"),
    sql(TELL),
    sql(
        "UPDATE likes SET post_author_id = (SELECT author_id FROM posts WHERE posts.id = likes.post_id)"
        " WHERE user_id = {a}"
    ),
    sql("UPDATE posts SET body = CONCAT('many ', id) WHERE id % 3 = {a} % 3"),
    sql("DELETE FROM likes WHERE user_id = {a}"),
    sql("INSERT INTO likes (post_id, user_id) VALUES ({b}, {a}) ON DUPLICATE KEY UPDATE created_at = NOW(6)"),
    sql(
        "INSERT INTO users (subject, handle, display_name) VALUES ('{s}', '{h}', 'U')"
        " ON DUPLICATE KEY UPDATE display_name = 'U{c}'"
    ),
    sql_without_checks(
        "REPLACE INTO users (id, subject, handle, display_name) VALUES ({b}, '{s}', '{h}', 'R')"
    ),
    sql_without_checks("REPLACE INTO posts (id, author_id, body) VALUES ({b}, {a}, 'replaced')"),
    sql_without_checks("UPDATE posts SET id = {c} + 100 WHERE id = {b}"),
    sql_without_checks("UPDATE users SET id = {c} WHERE id = {b}"),
    sql("UPDATE comments SET post_id = {b} WHERE id = {c}"),
    sql("UPDATE comments SET author_id = {a} WHERE id = {c}"),
    sql("UPDATE IGNORE mentions SET user_id = {b}, created_at = NOW(6) WHERE user_id = {a}"),
    sql_without_checks("UPDATE comments SET post_author_id = {a} WHERE id = {c}"),
    sql_without_checks(
        "INSERT INTO mentions (user_id, author_id, post_id, comment_id) VALUES ({a}, {b}, {c}, {b})"
    ),
    sql_without_checks("REPLACE INTO notification_reads (user_id, until) VALUES ({a}, NOW(6))"),
    sql("DELETE FROM mentions WHERE author_id = {a}"),
    sql("UPDATE users SET handle = UPPER(handle) WHERE id = {b}"),
    sql("UPDATE users SET handle = CONCAT('\N{LATIN SMALL LETTER O WITH DIAERESIS}', handle) WHERE id = {b}"),
    sql("UPDATE IGNORE follows SET followee_id = {b} WHERE follower_id = {a}"),
    sql_without_checks("DELETE FROM posts WHERE id = {b}"),
    sql_without_checks(LIKE),
    sql_without_checks("BEGIN", "DELETE FROM posts WHERE id = {b}", LIKE, "COMMIT"),
    sql_without_checks("INSERT IGNORE INTO posts (id, author_id, body) VALUES ({b}, {a}, 'again #back')"),
)
