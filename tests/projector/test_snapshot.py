"""The first copy of all tables, complete in spite of any changes to the rows meanwhile."""

from __future__ import annotations

import os
import pty
import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import chain

import pytest
import structlog.testing

from binlog_projector.domain.projections import COUNTERS
from binlog_projector.errors import SourceUnavailable, ToldToStop, UnprojectableRow
from binlog_projector.mysql import table_rows
from binlog_projector.mysql.connections import Connection, query_value
from binlog_projector.mysql.consistent_snapshot import consistent_snapshot
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.snapshot.copying import CHUNK_ROWS, Copying
from binlog_projector.snapshot.progress import Progress
from binlog_projector.snapshot.snapshot import take_snapshot
from binlog_projector.stores import mongodb
from binlog_projector.stores.control_store import ControlStore
from ops.stack import Stack
from ops.stack.servers.ports import free_port
from tests.support.harness import (
    ROOT,
    admin_connection,
    create_tables,
    projector_environment,
    rows,
    run_sql,
    wait_until,
)
from tests.support.oracle import documents_of_build, expected_documents
from tests.support.proxy import Proxy
from tests.support.traffic import seed_rows, write_traffic
from writer.schema import LIKES, POSTS, TABLES

MANY = 8 * CHUNK_ROWS


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
        write_traffic(connection, random.Random(1), 100)
        yield connection


@pytest.fixture
def source(stack: Stack) -> MySqlSource:
    return MySqlSource(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], 7331)


@pytest.fixture
def control(stack: Stack) -> Iterator[ControlStore]:
    with mongodb.connect(stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        yield ControlStore(client, journal_hours=24)


def make_orphans(connection: Connection) -> None:
    """Makes counted ids without a row: some under two counters, some that had a row before."""
    run_sql(
        connection,
        "SET foreign_key_checks = 0",
        "INSERT INTO likes (post_id, user_id) VALUES (998, 1), (999, 1), (999, 2)",
        "INSERT INTO comments (post_id, author_id, body) VALUES (999, 3, 'c'), (1000, 998, 'c')",
        "INSERT INTO follows (follower_id, followee_id) VALUES (998, 999), (1, 998)",
        "DELETE FROM users WHERE id = 2",
        "SET foreign_key_checks = 1",
    )


def test_a_snapshot_leaves_the_documents_that_the_stream_would_have_left(
    stack: Stack, connection: Connection, source: MySqlSource, control: ControlStore
) -> None:
    make_orphans(connection)
    documents, stream = take_snapshot(source, control, epoch=1)
    stream.close()
    expected = expected_documents(connection)
    assert expected["posts"][999] == {"_id": 999, "like_count": 2, "comment_count": 1}
    assert documents_of_build(stack, documents.build) == expected


@pytest.mark.parametrize(
    "last",
    [
        ("TRUNCATE likes",),
        ("SET GLOBAL binlog_checksum = NONE", "DELETE FROM likes", "SET GLOBAL binlog_checksum = CRC32"),
    ],
)
def test_a_snapshot_does_not_judge_the_last_transaction_that_it_contains(
    stack: Stack, connection: Connection, source: MySqlSource, control: ControlStore, last: tuple[str, ...]
) -> None:
    """Nor does a projector that goes on from there, while no other commit follows."""
    run_sql(connection, *last)
    documents, stream = take_snapshot(source, control, epoch=1)
    stream.close()
    assert documents_of_build(stack, documents.build) == expected_documents(connection)
    position = control.open_build(documents.build, 1).position
    source.stream(position.gtid_set, position.anchor, position.partials).close()


def test_rows_that_change_during_the_copy_are_copied_as_they_were(
    stack: Stack, connection: Connection, source: MySqlSource, control: ControlStore
) -> None:
    expected, documents = expected_documents(connection), control.create_build(1)
    with consistent_snapshot(source, len(TABLES)) as snapshot:
        write_traffic(connection, random.Random(2), 100)
        make_orphans(connection)
        Copying(snapshot, documents, Progress(0)).run()
    assert documents_of_build(stack, documents.build) == expected != expected_documents(connection)


def test_chunks_hold_every_row_and_every_orphan_once_and_in_order(connection: Connection) -> None:
    make_orphans(connection)
    likes = rows(connection, f"SELECT {', '.join(LIKES.columns)} FROM likes ORDER BY post_id, user_id")
    counters = [counter for counter in COUNTERS if counter.collection == "posts"]
    for size in (1, 7, len(likes), 1000):
        chunks = list(table_rows.rows(connection, LIKES, (), size))
        assert list(chain(*chunks)) == likes
        assert {len(chunk) for chunk in chunks[:-1]} <= {size}
        orphans = chain(*table_rows.orphans(connection, POSTS, counters, size))
        assert list(orphans) == [(998, 1, 0), (999, 2, 1), (1000, 0, 1)]


def test_a_counted_id_too_large_for_mongodb_names_its_row(
    connection: Connection, source: MySqlSource, control: ControlStore
) -> None:
    run_sql(
        connection,
        "SET foreign_key_checks = 0",
        f"INSERT INTO comments (post_id, author_id, body) VALUES ({2**63}, 1, 'c')",
        "SET foreign_key_checks = 1",
    )
    for _ in range(3):  # the copy of the posts may find it first
        with pytest.raises(UnprojectableRow, match=r"of table comments .*: post_id is 9223372036854775808"):
            take_snapshot(source, control, epoch=1)


def test_an_uncopyable_row_stops_all_tables_and_a_retry_is_complete(
    stack: Stack, connection: Connection, source: MySqlSource, control: ControlStore
) -> None:
    run_sql(
        connection,
        f"SET cte_max_recursion_depth = {MANY}, sql_mode = ''",
        "INSERT INTO posts (author_id, body) WITH RECURSIVE n AS "
        f"(SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) SELECT 1, 'p' FROM n",
        "REPLACE INTO likes (post_id, user_id, created_at) VALUES (1, 1, '0000-00-00')",
    )
    documents, progress = control.create_build(1), Progress(0)
    with (
        pytest.raises(UnprojectableRow, match="'post_id': 1, 'user_id': 1} of table likes"),
        consistent_snapshot(source, len(TABLES)) as snapshot,
    ):
        Copying(snapshot, documents, progress).run()
    assert progress.rows < MANY, "the rest was not copied"
    wait_until(lambda: sessions(connection) == 0, "MySQL to be left alone")
    run_sql(connection, "DELETE FROM likes WHERE post_id = 1 AND user_id = 1")
    documents, stream = take_snapshot(source, control, epoch=1)
    stream.close()
    assert documents_of_build(stack, documents.build) == expected_documents(connection)


def test_a_copy_that_is_told_to_stop_leaves_nothing_behind(
    connection: Connection, source: MySqlSource, control: ControlStore
) -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(ToldToStop, match="before the copy was complete"):
        take_snapshot(source, control, 1, stopping)
    assert control.unfinished() == []
    wait_until(lambda: sessions(connection) == 0, "MySQL to be left alone")


def test_a_connection_that_is_lost_during_the_copy_voids_it(
    connection: Connection, source: MySqlSource, control: ControlStore
) -> None:
    documents = control.create_build(1)
    with pytest.raises(SourceUnavailable), consistent_snapshot(source, len(TABLES)) as snapshot:
        run_sql(connection, f"KILL {query_value(snapshot.connections[3], 'SELECT CONNECTION_ID()')}")
        Copying(snapshot, documents, Progress(0)).run()
    wait_until(lambda: sessions(connection) == 0, "the other sessions to end")


def test_a_network_silent_during_the_copy_is_noticed_within_fifteen_seconds(
    stack: Stack, connection: Connection, source: MySqlSource
) -> None:
    """No peer closes the connection, and a statement of some minutes is as silent as a dead network."""
    with Proxy(stack.mysql.port) as address:
        url = stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"].replace(
            f":{stack.mysql.port}/", f":{address.port}/"
        )
        with (
            pytest.raises(SourceUnavailable),
            consistent_snapshot(MySqlSource(url, 7331), len(TABLES)) as snapshot,
            address.silent(),
        ):
            begun = time.monotonic()
            query_value(snapshot.connections[1], "SELECT SLEEP(60)")
        assert time.monotonic() - begun < 15


def test_on_a_terminal_a_bar_says_how_far_the_copy_is(stack: Stack, connection: Connection) -> None:
    copied = sum(len(rows(connection, f"SELECT 1 FROM {table}")) for table in TABLES)
    run_sql(connection, f"ANALYZE TABLE {', '.join(TABLES)}")
    shown, terminal = pty.openpty()
    bind = f"127.0.0.1:{free_port()}"
    environment = {
        **projector_environment(stack),
        "TIDEMARK_PROJECTOR_ADMIN_BIND": bind,
        "TERM": "xterm",
        "COLUMNS": "90",
    }
    command = [sys.executable, "-m", "binlog_projector", "run"]
    with (
        os.fdopen(shown, "rb", buffering=0) as screen,
        subprocess.Popen(command, env=environment, cwd=ROOT, stderr=terminal) as projector,
    ):
        text = ""
        try:
            while "streaming" not in text:
                assert select.select([screen], [], [], 30)[0], text
                text += screen.read(1000).decode()
        finally:
            os.close(terminal)
            projector.terminate()
    assert f"{copied} of about {copied} rows" in text


def test_the_log_tells_the_progress_of_the_copy_every_second() -> None:
    seconds = iter([0.0, 0.5, 2.0, 2.0, 2.0, 2.5])
    with structlog.testing.capture_logs() as lines, Progress(100, lambda: next(seconds)) as progress:
        for rows in (10, 10, 5):
            progress.copied(rows)
    assert lines == [{"event": "snapshot", "log_level": "info", "rows": 20, "percent": 20, "seconds_left": 8}]


def sessions(connection: Connection) -> int:
    """The number of the projector's sessions."""
    return len(rows(connection, "SELECT 1 FROM information_schema.PROCESSLIST WHERE USER LIKE '%projector%'"))
