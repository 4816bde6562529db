"""The stream's transactions, and the faults that stop it, each made on a real MySQL."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator

import pymysql
import pytest

from binlog_projector.domain.changes import Transaction
from binlog_projector.errors import PositionLost, SourceBehind, Stop
from binlog_projector.mysql.connections import Connection, query_value
from binlog_projector.mysql.consistent_snapshot import consistent_snapshot
from binlog_projector.mysql.source import MySqlSource
from ops.stack import Stack
from reader.read_model.control import Anchor
from tests.projector.reading import executed, our_images
from tests.support.harness import admin_connection, create_tables, purge_binlog, rows, run_sql
from tests.support.received import Received
from tidemark.gtid import EMPTY, Gtid, GtidSet
from writer.schema import USERS, Table

USER = "INSERT INTO users (subject, handle, display_name) VALUES ('{0}', '{0}', 'N')"


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    with admin_connection(stack) as connection:
        create_tables(connection)
        run_sql(connection, USER.format("first"))
        yield connection


@pytest.fixture
def source(stack: Stack) -> MySqlSource:
    return MySqlSource(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], 7331)


def test_without_an_authority_in_its_url_there_is_no_tls(connection: Connection, source: MySqlSource) -> None:
    with source.session() as plain:
        assert rows(plain, "SHOW SESSION STATUS LIKE 'Ssl_cipher'") == [("Ssl_cipher", "")]


@contextlib.contextmanager
def streaming(
    source: MySqlSource, applied: GtidSet, anchor: Anchor | None = None
) -> Iterator[Callable[[], Transaction]]:
    received = Received()
    with contextlib.closing(source.stream(applied, anchor)) as stream:
        stream.start(received)
        yield received.next


def test_a_transaction_comes_whole_with_both_images_and_its_times(
    connection: Connection, source: MySqlSource
) -> None:
    before = executed(connection)
    with streaming(source, before) as next_transaction:
        run_sql(
            connection,
            "BEGIN",
            USER.format("second"),
            "UPDATE users SET bio = 'é😀' WHERE handle = 'first'",
            "COMMIT",
        )
        found = next_transaction()
    assert found.gtid not in before and found.gtid in executed(connection)
    assert (
        abs(found.original_commit_us - query_value(connection, "SELECT UNIX_TIMESTAMP(NOW(6)) * 1000000"))
        < 60_000_000
    )
    insert, update = found.changes
    assert (insert.before, insert.after and insert.after["handle"]) == (None, "second")
    assert (update.before and update.before["bio"], update.after and update.after["bio"]) == ("", "é😀")


def test_rolled_back_work_is_never_seen(connection: Connection, source: MySqlSource) -> None:
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(connection, "BEGIN", USER.format("never"), "ROLLBACK")
        run_sql(
            connection,
            "BEGIN",
            USER.format("kept"),
            "SAVEPOINT s",
            USER.format("not"),
            "ROLLBACK TO s",
            "COMMIT",
        )
        assert [change.after and change.after["handle"] for change in next_transaction().changes] == ["kept"]


def test_other_tables_and_harmless_ddl_only_move_the_position(
    connection: Connection, source: MySqlSource
) -> None:
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(connection, "CREATE TABLE other (id INT PRIMARY KEY)", "INSERT INTO other VALUES (1)")
        run_sql(connection, "ALTER TABLE users ADD COLUMN extra INT", USER.format("after"))
        found = [next_transaction() for _ in range(4)]
    assert [len(transaction.changes) for transaction in found] == [0, 0, 0, 1]
    assert found[-1].changes[0].after and found[-1].changes[0].after["handle"] == "after"


def test_xa_transactions_on_other_tables_only_move_the_position(
    connection: Connection, source: MySqlSource
) -> None:
    run_sql(connection, "CREATE TABLE other (id INT PRIMARY KEY)")
    with streaming(source, executed(connection)) as next_transaction:
        for packed, first in (("OFF", 0), ("ON", 10)):
            work = [f"INSERT INTO other VALUES ({first + number})" for number in range(4)]
            run_sql(
                connection,
                f"SET binlog_transaction_compression = {packed}",
                *in_xa(work[0]),
                "XA PREPARE 'x'",
            )
            run_sql(connection, "XA COMMIT 'x'", *in_xa(work[1]), "XA PREPARE 'x'", "XA ROLLBACK 'x'")
            run_sql(
                connection, *in_xa(work[2]), "XA COMMIT 'x' ONE PHASE", *in_xa(work[3]), "XA ROLLBACK 'x'"
            )
        run_sql(connection, USER.format("after"))
        found = [next_transaction() for _ in range(11)]
    assert [len(transaction.changes) for transaction in found] == [0] * 10 + [1]


def test_a_table_made_with_its_rows_only_moves_the_position(
    connection: Connection, source: MySqlSource
) -> None:
    """One transaction: BEGIN, CREATE TABLE ... START TRANSACTION, the rows."""
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(connection, "CREATE TABLE other AS SELECT * FROM users", USER.format("after"))
        assert [len(next_transaction().changes) for _ in range(2)] == [0, 1]


def test_compressed_transactions_are_projected_like_others(
    connection: Connection, source: MySqlSource
) -> None:
    run_sql(connection, "CREATE TABLE other (id INT PRIMARY KEY, body LONGTEXT)", PACKED)
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(
            connection, "BEGIN", USER.format("second"), "INSERT INTO other VALUES (1, REPEAT('x', 3000000))"
        )
        run_sql(
            connection, "UPDATE users SET bio = 'é😀'", "COMMIT", "DELETE FROM users", "DELETE FROM other"
        )
        found = [next_transaction() for _ in range(3)]
    handles = [(change.before or change.after or {})["handle"] for change in found[0].changes]
    assert handles == ["second", "first", "second"] and [len(each.changes) for each in found] == [3, 2, 0]


def test_columns_may_come_in_any_place_and_of_any_type(connection: Connection, source: MySqlSource) -> None:
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(connection, "UPDATE users SET bio = 'shows what the column is'")
        run_sql(
            connection,
            "ALTER TABLE users ADD COLUMN a JSON FIRST, ADD COLUMN b POINT AFTER handle, ADD INDEX i (id)",
        )
        run_sql(
            connection, "ALTER TABLE users ADD COLUMN c VARCHAR(9) CHARACTER SET latin1 DEFAULT 'é' AFTER id"
        )
        run_sql(connection, "ALTER TABLE users MODIFY bio TEXT NOT NULL, DROP COLUMN a, RENAME INDEX i TO k")
        run_sql(connection, "UPDATE users SET bio = 'é😀'")
        found = [next_transaction() for _ in range(5)][-1]
    (update,) = found.changes
    assert update.after is not None and update.after.keys() == set(USERS.columns)
    assert (update.after["handle"], update.after["bio"]) == ("first", "é😀")


PARTIAL_JSON = [
    """ALTER TABLE users ADD COLUMN j JSON DEFAULT ('{"a": 1, "b": "long enough to be worth it"}')""",
    "SET binlog_row_value_options = PARTIAL_JSON",
    "UPDATE users SET j = JSON_SET(j, '$.a', 2)",
]
PACKED = "SET binlog_transaction_compression = ON"
WITH_VALUES = "INSERT INTO users (subject, handle, display_name) VALUES (@n, RAND(), 'N')"
RIGHT = (
    "SET gtid_next = AUTOMATIC",
    "SET GLOBAL binlog_row_metadata = FULL",
    "SET GLOBAL binlog_checksum = CRC32",
)


def in_xa(*statements: str) -> tuple[str, ...]:
    return "XA START 'x'", *statements, "XA END 'x'"


STOPPING = [
    (["TRUNCATE TABLE follows"], "the watched table follows was changed as a whole"),
    (["RENAME TABLE follows TO follows_old"], "the watched table follows was changed as a whole"),
    (["DROP TABLE follows"], "the watched table follows was changed as a whole"),
    (["SET binlog_format = STATEMENT", "DELETE FROM likes"], "logged as a statement"),
    (["SET binlog_row_image = MINIMAL", "UPDATE users SET bio = 'x'"], "partial row image"),
    (["SET GLOBAL binlog_row_metadata = MINIMAL", USER.format("bare")], "without column names"),
    (["SET GLOBAL binlog_checksum = NONE", USER.format("unchecked")], "without checksums"),
    (PARTIAL_JSON, "table users: .*PARTIAL_UPDATE_ROWS.*binlog_row_value_options"),
    (["SET binlog_format = STATEMENT", "SET @n = 'n'", WITH_VALUES], "INSERT was logged as a statement"),
    (["SET gtid_next = 'AUTOMATIC:blue'", USER.format("tagged")], "GTID_TAGGED_LOG"),
    (
        [*in_xa(USER.format("xa")), "XA PREPARE 'x'", "XA COMMIT 'x'"],
        "an XA transaction.* changed the table users",
    ),
    ([*in_xa(USER.format("xa")), "XA COMMIT 'x' ONE PHASE"], "an XA transaction.* changed the table users"),
    ([PACKED, *in_xa(USER.format("xa")), "XA PREPARE 'x'", "XA ROLLBACK 'x'"], "an XA transaction.* changed"),
    ([PACKED, "SET binlog_row_image = MINIMAL", "UPDATE users SET bio = 'x'"], "partial row image"),
    (["ALTER TABLE users DROP COLUMN bio"], "users.bio was dropped"),
    (["ALTER TABLE users RENAME COLUMN bio TO biography"], "users.bio was dropped or renamed"),
    (["ALTER TABLE users MODIFY created_at DATETIME NOT NULL"], "users.created_at was made DATETIME"),
]


@pytest.mark.parametrize(("statements", "reason"), STOPPING)
def test_what_cannot_be_projected_truthfully_stops(
    stack: Stack, connection: Connection, source: MySqlSource, statements: list[str], reason: str
) -> None:
    """The message has GTID, place, reason and remedy, and is the same from the same position."""
    start = executed(connection)
    with admin_connection(stack) as other:
        try:
            run_sql(other, USER.format("before"), *statements)
        finally:
            run_sql(other, *RIGHT)
    messages = []
    for _ in range(2):
        with streaming(source, start) as next_transaction:
            assert len(next_transaction().changes) == 1
            with pytest.raises(Stop, match=reason) as caught:
                while True:
                    next_transaction()
        messages.append(str(caught.value))
    assert re.search(
        r"`rebuild`.*\(in transaction \S+ at binlog\.\d+:\d+; nothing of it was applied\)$", messages[0]
    )
    assert messages[0] == messages[1]


def test_a_projector_without_the_dropped_column_goes_on_from_there(
    stack: Stack, connection: Connection
) -> None:
    """The remedy of the message: a release that no longer projects the column."""
    start = executed(connection)
    run_sql(connection, "ALTER TABLE users DROP COLUMN bio", USER.format("second"))
    table = Table("users", ("id", "handle"), ("id",))
    assert our_images(stack, start, table, 2) == [(None, {"id": 2, "handle": "second"})]


def test_the_anchor_is_delivered_again_and_not_projected_twice(
    connection: Connection, source: MySqlSource
) -> None:
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(connection, USER.format("second"))
        last = next_transaction()
    anchor = Anchor(last.gtid, last.original_commit_us)
    with streaming(source, executed(connection), anchor) as next_transaction:
        run_sql(connection, USER.format("third"))
        found = next_transaction()
    assert found.changes[0].after and found.changes[0].after["handle"] == "third"


@pytest.mark.parametrize(
    "statements",
    [statements for statements, reason in STOPPING if "checksums" not in reason and "TAGGED" not in reason],
)
def test_an_anchor_that_would_stop_is_only_verified(
    stack: Stack, connection: Connection, source: MySqlSource, statements: list[str]
) -> None:
    """Its changes are in the snapshot. The next transaction is judged again."""
    with admin_connection(stack) as other:
        try:
            run_sql(other, *statements)
        finally:
            run_sql(other, *RIGHT)
    everything = executed(connection)
    anchor = Anchor(everything.last_of(query_value(connection, "SELECT @@server_uuid")) or Gtid("", 0), 0)
    with streaming(source, everything, anchor) as next_transaction:
        run_sql(connection, "CREATE TABLE other (id INT PRIMARY KEY)", "TRUNCATE TABLE likes")
        assert next_transaction().gtid not in everything
        with pytest.raises(Stop, match="the watched table likes was changed as a whole"):
            next_transaction()
    with pytest.raises(PositionLost, match="another history"):
        source.stream(everything, Anchor(anchor.gtid, 1))


def test_another_transaction_under_the_anchors_gtid_is_a_forked_history(
    connection: Connection, source: MySqlSource
) -> None:
    """Trace 5. A restored volume uses GTIDs again for other rows, and both subset checks pass."""
    everything = executed(connection)
    last = everything.last_of(query_value(connection, "SELECT @@server_uuid"))
    assert last is not None
    with pytest.raises(PositionLost, match="another history"):
        source.stream(everything, Anchor(last, 1))


def test_an_errant_transaction_is_noticed_before_anything_is_applied(
    connection: Connection, source: MySqlSource
) -> None:
    """Trace 5. A transaction that was never applied comes before the last applied one."""
    with streaming(source, executed(connection)) as next_transaction:
        run_sql(connection, USER.format("errant"), USER.format("last"))
        errant, last = next_transaction(), next_transaction()
    applied = executed(connection).without_gtid(errant.gtid)
    with pytest.raises(PositionLost, match="another history"):
        source.stream(applied, Anchor(last.gtid, last.original_commit_us))


def test_a_source_without_our_transactions_is_behind(connection: Connection, source: MySqlSource) -> None:
    ours = Gtid("aaaaaaaa-0000-0000-0000-000000000001", 5)
    with pytest.raises(SourceBehind, match="lacks aaaaaaaa-0000-0000-0000-000000000001:5"):
        source.stream(executed(connection).with_gtid(ours), None)


def test_a_purged_binlog_is_a_lost_position(connection: Connection, source: MySqlSource) -> None:
    purge_binlog(connection)
    with pytest.raises(PositionLost, match=r"purged .* rebuild"):
        source.stream(EMPTY, None)


def test_numbers_with_gaps_and_out_of_order_are_normal(
    stack: Stack, connection: Connection, source: MySqlSource
) -> None:
    """Trace 20. After an explicit GTID far ahead, AUTOMATIC fills the gap."""
    uuid = query_value(connection, "SELECT @@server_uuid")
    ahead = (executed(connection).last_of(uuid) or Gtid(uuid, 0)).number + 1000
    with streaming(source, executed(connection)) as next_transaction, admin_connection(stack) as other:
        run_sql(other, f"SET gtid_next = '{uuid}:{ahead}'", USER.format("ahead"), "SET gtid_next = AUTOMATIC")
        run_sql(other, USER.format("behind"))
        found = [next_transaction(), next_transaction()]
    assert [
        transaction.changes[0].after and transaction.changes[0].after["handle"] for transaction in found
    ] == [
        "ahead",
        "behind",
    ]
    assert found[1].gtid.number < found[0].gtid.number == ahead


def test_a_snapshot_holds_exactly_its_gtid_set(
    stack: Stack, connection: Connection, source: MySqlSource
) -> None:
    """Trace 4. Rows become visible before their GTID does; a lock closes the gap."""
    start, done = executed(connection), threading.Event()

    def write() -> None:
        with admin_connection(stack) as writer:
            for number in itertools.count():
                if done.is_set():
                    return
                run_sql(writer, USER.format(f"u{number}"))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(30):
            with consistent_snapshot(source, 3) as snapshot:
                users = {query_value(one, "SELECT COUNT(*) FROM users") for one in snapshot.connections}
            assert users == {1 + size(snapshot.executed - start)}, (
                "every connection sees the set, and nothing else"
            )
    finally:
        done.set()
        thread.join()


def size(gtids: GtidSet) -> int:
    return sum(last - first + 1 for spans in gtids.intervals.values() for first, last in spans)


def test_an_idle_writer_transaction_only_delays_the_snapshot(
    stack: Stack, connection: Connection, source: MySqlSource
) -> None:
    """Trace 4. The lock waits for open transactions, gives up quickly and tries again, so writers go on."""
    with admin_connection(stack) as idle:
        run_sql(idle, "BEGIN", USER.format("open"))
        timer = threading.Timer(2.5, lambda: run_sql(idle, "COMMIT"))
        timer.start()
        with consistent_snapshot(source) as snapshot:
            users = rows(snapshot.connection, "SELECT handle FROM users ORDER BY id")
        timer.join()
    assert users == [("first",), ("open",)]


def test_a_prepared_xa_transaction_holds_off_the_snapshot(
    stack: Stack, connection: Connection, source: MySqlSource
) -> None:
    """Else a copy would lack its rows: XA COMMIT comes later, without them. Its locks outlive even MySQL."""
    with admin_connection(stack) as client:
        run_sql(client, *in_xa(USER.format("prepared")), "XA PREPARE 'x'")
    stack.mysql.kill()
    stack.mysql.start()
    with (
        admin_connection(stack) as other,
        pytest.raises(pymysql.err.OperationalError, match="Lock wait timeout"),
    ):
        run_sql(other, "SET lock_wait_timeout = 1", "LOCK TABLES users READ")
    with admin_connection(stack) as other:
        timer = threading.Timer(1, lambda: run_sql(other, "XA COMMIT 'x'"))
        timer.start()
        with consistent_snapshot(source) as snapshot:
            users = rows(snapshot.connection, "SELECT handle FROM users ORDER BY id")
        timer.join()
    assert users == [("first",), ("prepared",)]


def test_a_stream_left_unread_during_a_long_copy_is_not_lost(
    connection: Connection, source: MySqlSource
) -> None:
    """Trace 21. More than sockets can buffer waits, for longer than the server's own timeout of 1 s."""
    run_sql(connection, "CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY, body LONGTEXT)")
    run_sql(connection, "SET GLOBAL net_write_timeout = 1")
    try:
        stream = source.stream(executed(connection), None)
        with contextlib.closing(stream):
            run_sql(
                connection,
                *["INSERT INTO other (body) VALUES (REPEAT('x', 4000000))"] * 16,
                USER.format("last"),
            )
            time.sleep(3)  # the copy: passing time is the fault, so there is no event to wait for
            received = Received()
            stream.start(received)
            found = [received.next() for _ in range(17)]
    finally:
        run_sql(connection, "SET GLOBAL net_write_timeout = DEFAULT")
    assert found[-1].changes[0].after and found[-1].changes[0].after["handle"] == "last"
