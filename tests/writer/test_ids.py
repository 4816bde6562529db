"""Ids end at MongoDB's largest integer, although MySQL has larger ones."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.writer.mysql import MySql
from tests.writer.people import Writer

LAST = 2**63 - 1


@pytest.fixture
def at_the_end(mysql: MySql) -> Iterator[None]:
    """The next new row gets the last id, the rows after it larger ones."""
    try:
        for table in ("users", "posts", "comments"):
            mysql.execute(f"ALTER TABLE {table} AUTO_INCREMENT = {LAST}")
        yield
    finally:
        for table in ("comments", "posts", "users"):
            mysql.execute(f"DELETE FROM {table} WHERE id >= {LAST}")
            mysql.execute(f"ALTER TABLE {table} AUTO_INCREMENT = 1")


def assert_exhausted(answer: httpx2.Response) -> None:
    """The problem names its cause and asks for no retry."""
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/ids-exhausted")
    assert "retry-after" not in answer.headers


@pytest.mark.usefixtures("at_the_end")
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "the same"}])
def test_the_last_id_is_given_and_none_beyond_it(
    writer: Writer, mysql: MySql, headers: dict[str, str]
) -> None:
    jane = writer.person()
    assert jane.id == str(LAST)
    assert jane.post() == str(LAST)
    comment = f"/post/{LAST}/comment"
    assert jane.send("POST", comment, {"body": "Hi"}).json()["id"] == str(LAST)
    for path in ("/post", comment):
        for _ in range(2):
            assert_exhausted(jane.send("POST", path, {"body": "one more"}, headers=headers))
    joe = writer.stranger()
    assert_exhausted(joe.send("PUT", "/user/me", {"handle": "joe", "display_name": "Joe"}))
    for table in ("users", "posts", "comments"):
        assert mysql.value(f"SELECT MAX(id) FROM {table}") == LAST


def test_where_mysql_has_no_id_left_the_answer_is_the_same(
    writer: Writer, mysql: MySql, at_the_end: None
) -> None:
    jane = writer.person()
    mysql.execute(f"ALTER TABLE posts AUTO_INCREMENT = {2**64 - 1}")
    assert_exhausted(jane.send("POST", "/post", {"body": "one more"}))
    assert_exhausted(jane.send("POST", "/post", {"body": "one more"}))
