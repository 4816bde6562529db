"""Raw events in, whole transactions out. An unknown event stops the reader; no later event is lost."""

from __future__ import annotations

import contextlib
import random
import re
import struct
import time
from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binlog_projector.binlog.events import FOR_A_STATEMENT, HARMLESS, OTHER_ROWS
from binlog_projector.binlog.transactions import TransactionReader
from binlog_projector.domain.changes import Transaction
from binlog_projector.errors import CorruptEvent, ProjectorError, SourceUnavailable, UnsupportedEvent
from ops.stack import Stack
from tests.conftest import empty_stores
from tests.projector.reading import (
    checked,
    compressed,
    event,
    executed,
    packet,
    payload,
    record,
    replay,
    split,
)
from tests.support.harness import admin_connection, create_tables, run_sql

GTID, QUERY, XID, TABLE_MAP, WRITE_ROWS, EXECUTE_LOAD = 33, 2, 16, 19, 30, 18
USER = "INSERT INTO users (subject, handle, display_name) VALUES ('{0}', '{0}', 'é😀')"
Packets = list[bytes]


@pytest.fixture(scope="module")
def sent(shared_stack: Stack) -> bytes:
    """A server's packets for five transactions: insert, update of two rows, insert of two, delete, DDL."""
    empty_stores(shared_stack)
    with admin_connection(shared_stack) as connection:
        create_tables(connection)
        start = executed(connection)
        run_sql(connection, USER.format("one"))
        run_sql(
            connection,
            f"{USER.format('two')}, ('three', 'three', '')",
            "UPDATE users SET bio = 'b' WHERE id < 3",
        )
        run_sql(connection, "DELETE FROM users WHERE id = 3", "CREATE TABLE other (id INT)")
    return record(shared_stack, start, 5)


def kinds(packets: Packets) -> list[int]:
    return [each[9] for each in packets]


def before(packets: Packets, kind: int, nth: int = 1) -> int:
    """The index of the `nth` event of a kind."""
    return [index for index, each in enumerate(kinds(packets)) if each == kind][nth - 1]


def drain(reader: TransactionReader) -> Iterator[Transaction]:
    """All transactions up to the recording's end."""
    while True:
        try:
            yield from reader.read()
        except SourceUnavailable:
            return


def stopped(packets: Packets) -> tuple[int, ProjectorError]:
    """The number of transactions before the stop, and the error."""
    reader, found = replay(b"".join(packets)), 0
    try:
        while True:
            found += len(reader.read())
    except ProjectorError as error:
        return found, error


def test_pieces_may_end_anywhere(sent: bytes) -> None:
    whole = list(drain(replay(sent)))
    assert [len(transaction.changes) for transaction in whole] == [1, 2, 2, 1, 0]

    @settings(max_examples=30, suppress_health_check=list(HealthCheck))
    @given(st.integers(1, 400))
    def check(piece: int) -> None:
        assert list(drain(replay(sent, piece))) == whole

    check()


def test_an_event_of_many_megabytes_comes_in_several_packets(sent: bytes) -> None:
    packets = split(sent)
    long = event(29, b"x" * (2 * 0xFFFFFF - 25))  # ROWS_QUERY, so long that its last packet is empty
    at = before(packets, XID)
    assert list(drain(replay(b"".join([*packets[:at], long, *packets[at:]])))) == list(drain(replay(sent)))


def test_an_event_of_many_megabytes_is_put_together_once(sent: bytes) -> None:
    """Compressed or not. When each piece was joined to all before, 64 MB took more than ten seconds."""
    packets, body = split(sent), random.Random(1).randbytes(64 << 20)
    at = before(packets, XID)
    plain = struct.pack("<IBIIIH", 1, 29, 1, 19 + len(body), 0, 0) + body
    for packed in (event(29, body), payload(plain)):
        began = time.process_time()
        assert len(list(drain(replay(b"".join([*packets[:at], packed, *packets[at:]]))))) == 5
        assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (26, "INCIDENT.*events were lost"),
        (34, "ANONYMOUS_GTID.*gtid_mode=ON"),
        (38, "an XA transaction.*changed the table users; do not use XA"),
        (40, "compressed, and not by zstd.*binlog_transaction_compression=OFF"),
        (42, "GTID_TAGGED_LOG.*do not use tagged GTIDs"),
        (43, "unknown.*newer projector"),
        (255, "unknown.*newer projector"),
    ],
)
def test_an_unknown_event_stops_with_its_place_and_remedy(sent: bytes, kind: int, reason: str) -> None:
    packets = split(sent)
    at = before(packets, XID, 2)
    found, error = stopped([*packets[:at], event(kind, b"\0" * 40), *packets[at:]])
    assert found == 1 and isinstance(error, UnsupportedEvent)
    assert re.search(
        rf"{reason}.*\(in transaction [0-9a-f-]+:\d+ at binlog\.\d+:\d+; nothing of it was app", str(error)
    )


def test_every_type_of_event_is_handled_refused_or_harmless(sent: bytes) -> None:
    """An event between two transactions changes nothing or stops. Only listed types are dropped."""
    packets = split(sent)
    at = before(packets, GTID, 2)
    handled = {2, 4, 15, *OTHER_ROWS, GTID, XID, TABLE_MAP, WRITE_ROWS, 31, 32}
    for kind in set(range(1, 60)) - {*handled, *HARMLESS, *FOR_A_STATEMENT}:
        found, error = stopped([*packets[:at], event(kind, b"\0" * 40), *packets[at:]])
        assert (found, type(error)) == (1, UnsupportedEvent), kind
    for kind in (*HARMLESS, *FOR_A_STATEMENT):
        assert list(drain(replay(b"".join([*packets[:at], event(kind, b"\0" * 40), *packets[at:]])))) == list(
            drain(replay(sent))
        )


def test_a_heartbeat_returns_at_once_with_nothing(sent: bytes) -> None:
    reader = replay(b"".join([*split(sent)[:2], event(27, b"binlog.000001"), event(41, b"\0" * 8)]))
    assert reader.read() == []


@pytest.mark.parametrize("kind", OTHER_ROWS)
def test_other_formats_of_rows_matter_only_for_watched_tables(sent: bytes, kind: int) -> None:
    packets = split(sent)
    at = before(packets, WRITE_ROWS)
    body = packets[at][5 + 19 : -4]
    found, error = stopped([*packets[:at], event(kind, body), *packets[at + 1 :]])
    assert (found, type(error)) == (0, UnsupportedEvent) and "table users" in str(error)
    other = [each.replace(b"\x05users", b"\x05usurs") for each in packets]
    other = [each[:5] + checked(each[5:-4]) if each[9] == TABLE_MAP else each for each in other]
    elsewhere = list(drain(replay(b"".join([*other[:at], event(kind, body), *other[at + 1 :]]))))
    assert [transaction.changes for transaction in elsewhere] == [()] * 5


def test_a_wrong_checksum_stops_and_a_right_one_goes_on(sent: bytes) -> None:
    packets = split(sent)
    at = before(packets, WRITE_ROWS, 2)
    damaged = packets[at][:-20] + bytes([packets[at][-20] ^ 1]) + packets[at][-19:]
    found, error = stopped([*packets[:at], damaged, *packets[at + 1 :]])
    assert (found, type(error)) == (1, CorruptEvent)
    assert "CRC32" in str(error) and "mysqlbinlog" in str(error) and "in transaction" in str(error)
    again = before(packets, GTID, 2)
    assert len(list(drain(replay(b"".join([*packets[:2], *packets[again:]]))))) == 4


@settings(max_examples=200)
@given(st.data())
def test_no_flipped_bit_gets_through(sent: bytes, data: st.DataObject) -> None:
    """Flips any bit of any event: in header, body or checksum."""
    packets = split(sent)
    nth = data.draw(st.integers(0, len(packets) - 1))
    bit = data.draw(st.integers(5 * 8, len(packets[nth]) * 8 - 1))
    flipped = bytearray(packets[nth])
    flipped[bit // 8] ^= 1 << bit % 8
    _, error = stopped([*packets[:nth], bytes(flipped), *packets[nth + 1 :]])
    assert isinstance(error, CorruptEvent)


def test_rows_without_their_definition_stop(sent: bytes) -> None:
    """The library drops them silently: a read that begins inside a transaction would lose rows."""
    packets = split(sent)
    at = before(packets, TABLE_MAP)
    found, error = stopped([*packets[:at], *packets[at + 1 :]])
    assert (found, type(error)) == (0, UnsupportedEvent) and "definition" in str(error)


def test_a_definition_does_not_outlive_its_transaction(sent: bytes) -> None:
    """Table ids begin anew after a restart, and another server has other ones."""
    packets = split(sent)
    at = before(packets, TABLE_MAP, 2)
    found, error = stopped([*packets[:at], *packets[at + 1 :]])
    assert (found, type(error)) == (1, UnsupportedEvent) and "definition" in str(error)


def test_a_transaction_that_does_not_end_stops_when_the_next_begins(sent: bytes) -> None:
    packets = split(sent)
    at = before(packets, XID)
    found, error = stopped([*packets[:at], *packets[at + 1 :]])
    assert (found, type(error)) == (0, UnsupportedEvent) and "inside another" in str(error)


def test_a_transaction_without_gtid_stops(sent: bytes) -> None:
    packets = split(sent)
    at = before(packets, GTID)
    found, error = stopped([*packets[:at], *packets[at + 1 :]])
    assert (found, type(error)) == (0, UnsupportedEvent) and "gtid_mode=ON" in str(error)


def test_an_empty_transaction_still_counts(sent: bytes) -> None:
    packets = split(sent)
    at = before(packets, GTID)
    second = before(packets, GTID, 2)
    found = list(drain(replay(b"".join([*packets[: at + 1], *packets[second:]]))))
    assert [len(transaction.changes) for transaction in found] == [0, 2, 2, 1, 0]


def test_both_commit_times_are_read_when_they_differ(sent: bytes) -> None:
    """A replica writes its own commit time, and then that of the server of the first commit."""
    packets = split(sent)
    at = before(packets, GTID)
    body = packets[at][5 + 19 : -4]
    times = struct.pack("<Q", 7_000_000 | 1 << 55)[:7] + struct.pack("<Q", 5_000_000)[:7]
    first = next(
        drain(
            replay(b"".join([*packets[:at], event(GTID, body[:42] + times + body[49:]), *packets[at + 1 :]]))
        )
    )
    assert (first.original_commit_us, first.immediate_commit_us) == (5_000_000, 7_000_000)


def test_the_servers_last_error_is_raised_after_what_it_sent(sent: bytes) -> None:
    reader = replay(sent + packet(b"\xfe\0\0\2\0"))
    assert len(reader.read()) == 5
    with pytest.raises(SourceUnavailable, match="ended the binlog stream"):
        reader.read()
    reader = replay(sent + packet(b"\xff" + struct.pack("<H", 1236) + b"#HY000purged"))
    assert len(reader.read()) == 5
    with pytest.raises(Exception, match="purged") as caught:
        reader.read()
    assert caught.value.args[0] == 1236


def with_compressed(packets: Packets, nth: int, level: int = 3) -> bytes:
    """The packets, with the events of the `nth` transaction from its GTID to its XID compressed into one."""
    first, last = before(packets, GTID, nth) + 1, before(packets, XID, nth) + 1
    return b"".join([*packets[:first], compressed(packets[first:last], level), *packets[last:]])


def apart_from_place(transactions: Iterable[Transaction]) -> list[Transaction]:
    return [msgspec.structs.replace(each, position=None) for each in transactions]


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 4), st.integers(-5, 22), st.integers(1, 400))
def test_a_compressed_transaction_says_what_it_would_say_otherwise(
    sent: bytes, nth: int, level: int, piece: int
) -> None:
    found = drain(replay(with_compressed(split(sent), nth, level), piece))
    assert apart_from_place(found) == apart_from_place(drain(replay(sent)))


def test_a_compressed_transaction_of_any_size_is_read_in_small_pieces(sent: bytes) -> None:
    packets = split(sent)
    at = before(packets, WRITE_ROWS, 2)
    huge = [*packets[:at], *[packets[at]] * 50_000, *packets[at + 1 :]]
    small = with_compressed(huge, 2)
    assert len(small) < 20_000, "all of it is in one piece of the stream"
    reader, sizes = replay(small), [0]
    with contextlib.suppress(SourceUnavailable):
        while True:
            sizes.append(sum(len(transaction.changes) for transaction in reader.read()))
    assert sum(sizes) == 100_000 + 4 and max(sizes) < 10_000


@pytest.mark.parametrize(("damage", "whole"), [("cut", 1), ("flipped", 1), ("half an event", 1), ("more", 2)])
def test_a_payload_that_is_not_whole_stops(sent: bytes, damage: str, whole: int) -> None:
    packets = split(sent)
    first, last = before(packets, GTID, 2) + 1, before(packets, XID, 2) + 1
    body = compressed(packets[first:last])[5 + 19 : -4]
    bodies = {
        "cut": body[:-9],
        "more": body + b"x",
        "flipped": body[:20] + bytes([body[20] ^ 255]) + body[21:],
        "half an event": payload(packets[first][5:-4])[5 + 19 : -4],
    }
    found, error = stopped([*packets[:first], event(40, bodies[damage]), *packets[last:]])
    assert (found, type(error)) == (whole, UnsupportedEvent) and "a compressed transaction" in str(error)


def test_a_load_is_judged_by_its_statement(sent: bytes) -> None:
    packets = split(sent)
    at = before(packets, XID)
    for statement, stops in (
        (b"LOAD DATA INFILE 'x' INTO TABLE users (handle)", True),
        (b"SAVEPOINT s", False),
    ):
        fixed = struct.pack("<8xB2xH13x", len(b"tidemark"), 0)
        load = event(EXECUTE_LOAD, fixed + b"tidemark\0" + statement)
        found, error = stopped([*packets[:at], load, *packets[at:]])
        assert (found, "LOAD" in str(error)) == ((0, True) if stops else (5, False))
