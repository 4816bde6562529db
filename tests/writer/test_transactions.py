"""Transactions against a real MySQL: every interruption, and the retries that follow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from tests.support.harness import wait_until
from tests.writer.mysql import MySql
from tests.writer.people import Writer, at_once, serving
from writer import metrics
from writer.database import Database, Session, readiness
from writer.errors import Contended, DatabaseUnavailable, Duplicate, MissingRow, StatementRefused

T = TypeVar("T")


def with_database(mysql: MySql, use: Callable[[Database], Awaitable[T]], pool_size: int = 2) -> T:
    async def session() -> T:
        database = Database(mysql.url, pool_size)
        try:
            return await use(database)
        finally:
            database.close()

    return asyncio.run(session())


def run(mysql: MySql, work: Callable[[Session], T]) -> T:
    return with_database(mysql, lambda database: database.run(work, repeatable=False)).result


def retries(reason: str) -> float:
    return metrics.REGISTRY.get_sample_value("tidemark_writer_retries_total", {"reason": reason}) or 0


def test_whatever_the_server_says_transactions_are_strict_utc_and_read_committed(
    mysql: MySql,
) -> None:
    mysql.execute("SET GLOBAL time_zone = '+05:00', GLOBAL sql_mode = ''")
    try:
        settings = "SELECT @@time_zone, @@transaction_isolation, @@character_set_connection, @@sql_mode"
        ((time_zone, isolation, charset, mode),) = run(mysql, lambda db: db.rows(settings))
    finally:
        mysql.execute("SET GLOBAL time_zone = '+00:00', GLOBAL sql_mode = DEFAULT")
    assert (time_zone, isolation, charset) == ("+00:00", "READ-COMMITTED", "utf8mb4")
    assert "STRICT_ALL_TABLES" in mode


def test_work_that_fails_leaves_nothing_behind(mysql: MySql) -> None:
    def work(db: Session) -> None:
        db.execute("INSERT INTO users (subject, handle, display_name) VALUES ('fails', 'fails', 'x')")
        raise KeyError("on purpose")

    async def fail_then_commit(database: Database) -> None:
        with pytest.raises(KeyError, match="on purpose"):
            await database.run(work, repeatable=True)
        await database.run(lambda db: db.execute("DO 0"), repeatable=True)

    with_database(mysql, fail_then_commit, pool_size=1)
    assert mysql.value("SELECT COUNT(*) FROM users WHERE subject = 'fails'") == 0


def test_subjects_that_differ_only_in_trailing_spaces_are_two(mysql: MySql) -> None:
    insert = "INSERT INTO users (subject, handle, display_name) VALUES (%s, %s, 'x')"
    run(
        mysql, lambda db: db.execute(insert, "padded", "padded_1") + db.execute(insert, "padded ", "padded_2")
    )


def test_the_drivers_errors_become_ours(mysql: MySql) -> None:
    insert = "INSERT INTO users (subject, handle, display_name) VALUES (%s, %s, 'x')"
    run(mysql, lambda db: db.execute(insert, "twice for key 'users.users_handle'", "twice"))
    with pytest.raises(Duplicate) as duplicate:
        run(mysql, lambda db: db.execute(insert, "twice for key 'users.users_handle'", "other"))
    assert duplicate.value.key == "users.users_subject"
    with pytest.raises(MissingRow, match="no such user"):
        run(mysql, lambda db: db.execute("INSERT INTO posts (author_id, body) VALUES (999999, 'x')"))
    with pytest.raises(StatementRefused, match=r"MySQL answered 1146: .*nothing"):
        run(mysql, lambda db: db.rows("SELECT * FROM nothing"))
    with pytest.raises(StatementRefused, match="too long"):
        run(mysql, lambda db: db.execute(insert, "long", "x" * 31))


def test_the_victim_of_a_deadlock_runs_again(mysql: MySql) -> None:
    people = [writer_row(mysql, f"deadlock_{number}") for number in (1, 2)]
    both_locked_one = threading.Barrier(2)
    met: list[int] = []

    def lock_both(first: int, second: int) -> Callable[[Session], None]:
        def work(db: Session) -> None:
            db.execute("UPDATE users SET bio = CONCAT(bio, 'x') WHERE id = %s", first)
            if len(met) < 2:
                met.append(first)
                both_locked_one.wait(timeout=5)
            db.execute("UPDATE users SET bio = CONCAT(bio, 'x') WHERE id = %s", second)

        return work

    async def both(database: Database) -> None:
        await asyncio.gather(
            database.run(lock_both(*people), repeatable=False),
            database.run(lock_both(*people[::-1]), repeatable=False),
        )

    before = retries("deadlock")
    with_database(mysql, both)
    assert retries("deadlock") == before + 1
    assert mysql.rows("SELECT bio FROM users WHERE id IN (%s, %s)", *people) == (("xx",), ("xx",))


def test_a_lock_wait_timeout_is_waited_for_again(mysql: MySql) -> None:
    person = writer_row(mysql, "locked")
    attempts: list[float] = []
    release = threading.Event()

    def work(db: Session) -> None:
        if attempts:
            release.set()
        attempts.append(1)
        db.execute("SET SESSION innodb_lock_wait_timeout = 1")
        db.execute("UPDATE users SET bio = CONCAT(bio, 'x') WHERE id = %s", person)

    def hold() -> None:
        with mysql.locked("SELECT 1 FROM users WHERE id = %s FOR UPDATE", person):
            holding.set()
            assert release.wait(timeout=10)

    holding = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(timeout=10)
    before = retries("lock_wait_timeout")
    run(mysql, work)
    holder.join()
    assert retries("lock_wait_timeout") == before + 1
    assert mysql.value("SELECT bio FROM users WHERE id = %s", person) == "x"


def test_contention_without_end_is_given_up_and_nothing_is_left(mysql: MySql) -> None:
    person = writer_row(mysql, "contended")

    def work(db: Session) -> None:
        db.execute("UPDATE users SET bio = 'x' WHERE id = %s", person)
        raise Contended("deadlock")

    before = retries("deadlock")
    with pytest.raises(Contended) as contended:
        run(mysql, work)
    assert (contended.value.status, contended.value.headers["Retry-After"]) == (503, "1")
    assert retries("deadlock") == before + 5
    assert mysql.value("SELECT bio FROM users WHERE id = %s", person) == ""


def test_a_connection_killed_before_commit_costs_only_another_attempt(mysql: MySql) -> None:
    person = writer_row(mysql, "killed")
    attempts: list[int] = []

    def work(db: Session) -> None:
        db.execute("UPDATE users SET bio = CONCAT(bio, 'x') WHERE id = %s", person)
        if not attempts:
            ((connection_id,),) = db.rows("SELECT CONNECTION_ID()")
            mysql.execute(f"KILL {connection_id}")
        attempts.append(1)
        db.execute("UPDATE users SET bio = CONCAT(bio, 'x') WHERE id = %s", person)

    before = retries("connection_lost")
    run(mysql, work)
    assert retries("connection_lost") == before + 1
    assert mysql.value("SELECT bio FROM users WHERE id = %s", person) == "xx"


def test_a_statement_interrupted_by_an_operator_runs_again(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    post = jane.post()
    before = retries("connection_lost")
    with ThreadPoolExecutor() as threads:
        with mysql.locked("SELECT 1 FROM posts WHERE id = %s FOR UPDATE", post):
            slow = threads.submit(jane.send, "PUT", f"/post/{post}/like")
            mysql.wait_for_lock_waits(1)
            mysql.kill_waiting_statement()
            wait_until(lambda: retries("connection_lost") == before + 1, "the second attempt")
        assert slow.result(timeout=10).status_code == 204


def test_connections_that_died_while_idle_are_replaced_without_anybody_noticing(mysql: MySql) -> None:
    with serving(mysql.url, pool_size=4) as writer:
        jane = writer.person()
        post = jane.post()
        likes = [lambda: jane.send("PUT", f"/post/{post}/like") for _ in range(8)]
        at_once(*likes)
        assert mysql.kill_writers() > 0
        before = retries("connection_lost")
        assert {answer.status_code for answer in at_once(*likes)} == {204}
        assert retries("connection_lost") == before


def test_a_busy_pool_makes_requests_wait_and_then_refuses_them(mysql: MySql) -> None:
    with serving(mysql.url, pool_size=1) as writer, ThreadPoolExecutor() as threads:
        jane, joe = writer.person(), writer.person()
        post = jane.post()
        with mysql.locked("SELECT 1 FROM posts WHERE id = %s FOR UPDATE", post):
            slow = threads.submit(jane.send, "PUT", f"/post/{post}/like")
            mysql.wait_for_lock_waits(1)
            refused = joe.send("PUT", f"/post/{post}/like")
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
        assert refused.headers["retry-after"] == "1"
        assert slow.result(timeout=10).status_code == 204
        assert joe.send("PUT", f"/post/{post}/like").status_code == 204


def test_mysql_that_cannot_be_reached_is_a_problem_that_passes(mysql: MySql) -> None:
    unreachable = mysql.url.replace(f":{mysql.stack.mysql.port}/", ":1/")
    with pytest.raises(DatabaseUnavailable) as unavailable:
        asyncio.run(Database(unreachable, 1).run(lambda db: db.execute("DO 0"), repeatable=False))
    assert (unavailable.value.status, unavailable.value.headers["Retry-After"]) == (503, "1")
    assert "Can't connect" in readiness(unreachable)
    assert readiness(mysql.url) == "ok"


def writer_row(mysql: MySql, name: str) -> Any:
    """A user by that name; returns its id."""
    mysql.execute("INSERT INTO users (subject, handle, display_name) VALUES (%s, %s, 'x')", name, name)
    return mysql.value("SELECT id FROM users WHERE subject = %s", name)


def test_every_result_of_a_command_is_counted(writer: Writer) -> None:
    def counted(result: str) -> float:
        labels = {"command": "write_post", "result": result}
        return metrics.REGISTRY.get_sample_value("tidemark_writer_commands_total", labels) or 0

    results = ("done", "replayed", "unknown-user", "invalid")
    before = [counted(result) for result in results]
    jane, key = writer.person(), {"Idempotency-Key": "k"}
    for who, body in ((jane, "x"), (jane, "x"), (writer.stranger(), "x"), (jane, "")):
        who.send("POST", "/post", {"body": body}, headers=key)
    assert [counted(result) - 1 for result in results] == before
