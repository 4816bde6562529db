"""Runs Tidemark's own processes against a stack, and waits for them with a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pymysql

from binlog_projector.mysql.connections import Connection, connection_settings, query_value
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from reader.read_model.cached_values import Watermark
from tests.support.caches import caches
from tests.support.oracle import actual_documents, assert_cache_is_true, expected_documents
from tests.support.secrecy import leaks
from tidemark.gtid import GtidSet
from writer.migrate import migrations
from writer.schema import statements

T = TypeVar("T")
ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], T | None], what: str, seconds: float = 20) -> T:
    """The first truthy value of `condition`. Fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


@contextlib.contextmanager
def admin_connection(stack: Stack) -> Iterator[Connection]:
    """An autocommitting connection as MySQL's administrator, in the schema."""
    settings = {**connection_settings(stack.mysql.admin_url), "database": "tidemark"}
    with contextlib.closing(pymysql.connect(**settings)) as connection:
        yield connection


def run_sql(connection: Connection, *statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def create_tables(connection: Connection) -> None:
    """As `migrate` does without `--finish`."""
    for migration in migrations():
        if not migration.finishing:
            run_sql(connection, *statements(migration.sql))


class Process:
    """One Tidemark process. A failure shows its log, which must not hold secrets."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.expected_status = 0
        self.tells_everybody = "ops.run" in arguments  # prints a token for its user
        self.log = Path(tempfile.mkstemp(prefix="tidemark-", suffix=".log")[1])
        with self.log.open("w") as output:
            self.popen = subprocess.Popen(
                [sys.executable, *arguments], env=self.environment, cwd=ROOT, stdout=output, stderr=output
            )

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=30)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(timeout=30)

    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def tail(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-25:])

    def assert_no_secrets_in_log(self) -> None:
        assert self.tells_everybody or not (found := leaks(self.log.read_text(), self.environment)), found


@contextlib.contextmanager
def process(environment: Mapping[str, str], *arguments: str) -> Iterator[Process]:
    """A process that must run until the block's end, or be stopped in it, and must end with status 0."""
    started = Process(arguments, environment)
    try:
        yield started
        if started.popen.poll() is None:
            assert started.stop() == 0, started.tail()
        assert started.popen.poll() in (started.expected_status, -signal.SIGKILL), started.tail()
        started.assert_no_secrets_in_log()
    except BaseException:
        print(started.tail(), file=sys.stderr)
        raise
    finally:
        started.kill()
        started.log.unlink(missing_ok=True)


@contextlib.contextmanager
def projector(
    environment: Mapping[str, str], *launcher: str, options: Sequence[str] = ()
) -> Iterator[Process]:
    """A projector, on a free admin port unless the environment names one."""
    env = {"TIDEMARK_PROJECTOR_ADMIN_BIND": f"127.0.0.1:{free_port()}", **environment}
    with process(env, "-m", *(launcher or ("binlog_projector",)), "run", *options) as started:
        yield started


def watermark(stack: Stack) -> Watermark | None:
    """Of a cluster, that of the shard which is furthest behind. None if a shard has none."""
    with caches(stack) as shards:
        raw = [client.get(shard.watermark_key) for shard, client in shards]
    marks = [Watermark.decode(each) for each in raw if isinstance(each, bytes)]
    return min(marks, key=lambda mark: (mark.build, mark.seq)) if marks and len(marks) == len(raw) else None


def wait_until_caught_up(stack: Stack, connection: Connection, seconds: float = 30) -> None:
    """Waits until the watermark contains all of MySQL's present commits."""
    executed = GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))

    def caught_up() -> bool:
        mark = watermark(stack)
        return mark is not None and GtidSet.parse(mark.gtid_set) >= executed

    wait_until(caught_up, f"the watermark to contain {executed}", seconds)


def assert_everything_is_equal(stack: Stack, connection: Connection) -> int:
    """MongoDB and every cache entry equal MySQL. Returns the number of entries."""
    expected = expected_documents(connection)
    assert actual_documents(stack) == expected
    return assert_cache_is_true(stack, expected)


def projector_environment(stack: Stack) -> dict[str, str]:
    return {**os.environ, **stack.environment()}


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def purge_binlog(connection: Connection) -> None:
    """All that is committed is gone from the binlog."""
    run_sql(connection, "FLUSH BINARY LOGS")
    newest = rows(connection, "SHOW BINARY LOGS")[-1][0]
    run_sql(connection, f"PURGE BINARY LOGS TO '{newest}'")
