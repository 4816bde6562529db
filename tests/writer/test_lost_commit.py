"""A connection lost during COMMIT: repeatable commands are repeated; others have an unknown outcome."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.proxy import Proxy
from tests.writer.mysql import MySql
from tests.writer.people import Writer, serving
from writer import metrics


@pytest.fixture(scope="module")
def proxy(mysql: MySql) -> Iterator[Proxy]:
    with Proxy(mysql.stack.mysql.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def writer(mysql: MySql, proxy: Proxy) -> Iterator[Writer]:
    """The writer with the proxy between it and MySQL."""
    with serving(mysql.url.replace(f":{mysql.stack.mysql.port}/", f":{proxy.port}/")) as writer:
        yield writer


@pytest.fixture(autouse=True)
def all_was_broken_as_told(proxy: Proxy) -> Iterator[None]:
    """Assert that the COMMIT of each test was broken."""
    yield
    assert proxy.break_commit is None


def retries() -> float:
    labels = {"reason": "commit_unknown"}
    return metrics.REGISTRY.get_sample_value("tidemark_writer_retries_total", labels) or 0


BOTH = pytest.mark.parametrize("when", ["before", "after"])


@BOTH
def test_a_put_is_repeated(writer: Writer, mysql: MySql, proxy: Proxy, when: str) -> None:
    jane, before = writer.person(), retries()
    post = jane.post()
    proxy.break_commit = when
    assert jane.send("PUT", f"/post/{post}/like").status_code == 204
    assert mysql.value("SELECT COUNT(*) FROM likes WHERE post_id = %s", post) == 1
    assert retries() == before + 1


@BOTH
def test_a_profile_is_repeated(writer: Writer, mysql: MySql, proxy: Proxy, when: str) -> None:
    jane = writer.stranger()
    proxy.break_commit = when
    answer = jane.send("PUT", "/user/me", {"handle": f"broken_{when}", "display_name": "J"})
    assert answer.status_code in (200, 201)
    assert mysql.value("SELECT COUNT(*) FROM users WHERE subject = %s", jane.subject) == 1


@BOTH
def test_a_patch_and_a_delete_are_repeated(writer: Writer, mysql: MySql, proxy: Proxy, when: str) -> None:
    jane, before = writer.person(), retries()
    post = jane.post()
    proxy.break_commit = when
    assert jane.send("PATCH", f"/post/{post}", {"body": "Bye"}).json()["body"] == "Bye"
    proxy.break_commit = when
    assert jane.send("DELETE", f"/post/{post}").status_code == 204
    assert mysql.value("SELECT COUNT(*) FROM posts WHERE id = %s", post) == 0
    assert retries() == before + 2


@BOTH
def test_a_post_with_a_key_is_repeated_and_written_once(
    writer: Writer, mysql: MySql, proxy: Proxy, when: str
) -> None:
    jane, before = writer.person(), retries()
    proxy.break_commit = when
    answers = [jane.send("POST", "/post", {"body": "x"}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    ids = mysql.rows("SELECT CAST(id AS CHAR) FROM posts WHERE author_id = %s", jane.id)
    assert ids == ((answers[0].json()["id"],),) == ((answers[1].json()["id"],),)
    assert retries() == before + 1


@BOTH
def test_a_keyless_post_is_not_repeated_and_its_outcome_called_unknown(
    writer: Writer, mysql: MySql, proxy: Proxy, when: str
) -> None:
    jane, before = writer.person(), retries()
    proxy.break_commit = when
    answer = jane.send("POST", "/post", {"body": "x"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/outcome-unknown")
    assert "retry-after" not in answer.headers
    written = mysql.value("SELECT COUNT(*) FROM posts WHERE author_id = %s", jane.id)
    assert written == {"before": 0, "after": 1}[when]
    assert retries() == before
    assert jane.send("POST", "/post", {"body": "y"}).status_code == 201
