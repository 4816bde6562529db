"""Reads the binlog with our decoder and with mysql-replication; makes and changes raw packets."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

import pymysql
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from binlog_projector.binlog.packets import Packets, connect_reader
from binlog_projector.binlog.transactions import TransactionReader
from binlog_projector.domain.changes import Row, Transaction
from binlog_projector.mysql.connections import Connection, connection_settings, query_value
from ops.stack import Stack
from tidemark.gtid import GtidSet
from writer.schema import SCHEMA, TABLES, Table

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Images = tuple[Row | None, Row | None]  # before, after
UUID = "5d1c1f0e-0000-4000-8000-000000000002"


def executed(connection: Connection) -> GtidSet:
    return GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))


def projector_url(stack: Stack) -> str:
    return stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]


def dump(url: str, start: GtidSet) -> Callable[[], Any]:
    settings = connection_settings(url)
    return lambda: connect_reader(pymysql.connect, {**settings, "read_timeout": 10}, 7441, UUID, start)


def our_images(stack: Stack, start: GtidSet, table: Table, transactions: int) -> list[Images]:
    """The row images of `table` in the next `transactions`."""
    reader = TransactionReader(Packets(dump(projector_url(stack), start)), SCHEMA, {table.name: table})
    found: list[Transaction] = []
    while len(found) < transactions:
        found += reader.read()
    reader.close()
    assert len(found) == transactions
    return [(change.before, change.after) for transaction in found for change in transaction.changes]


def library_images(stack: Stack, start: GtidSet, table: Table) -> list[Images]:
    """The row images of `table` behind `start`, by mysql-replication."""
    stream = BinLogStreamReader(
        connection_settings=connection_settings(projector_url(stack)),
        server_id=7442,
        auto_position=str(start),
        only_events=[WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent],
        only_tables=[table.name],
        enable_logging=False,
    )
    try:
        return [images for event in stream for images in images_of(event, table.columns)]
    finally:
        stream.close()


def images_of(event: Any, columns: Sequence[str]) -> Iterator[Images]:
    for row in event.rows:
        before = row["values"] if isinstance(event, DeleteRowsEvent) else row.get("before_values")
        after = row["values"] if isinstance(event, WriteRowsEvent) else row.get("after_values")
        yield _only(before, columns), _only(after, columns)


def _only(row: Mapping[str, Any] | None, columns: Sequence[str]) -> Row | None:
    return row and {name: row[name] for name in columns}


class Raw:
    """A connection whose `read1` gives the given bytes in pieces of at most `piece` bytes."""

    open = False

    def __init__(self, sent: bytes, piece: int = 1 << 18) -> None:
        self.sent = io.BytesIO(sent)
        self.piece = piece
        self._rfile = self

    def read1(self, size: int) -> bytes:
        return self.sent.read(min(size, self.piece))


class Recorder:
    """A connection that keeps every byte read from it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._rfile = self
        self.recorded = b""

    @property
    def open(self) -> bool:
        return bool(self.connection.open)

    def read1(self, size: int) -> bytes:
        piece: bytes = self.connection._rfile.read1(size)
        self.recorded += piece
        return piece

    def close(self) -> None:
        self.connection.close()


def record(stack: Stack, start: GtidSet, transactions: int, tables: Mapping[str, Table] = TABLES) -> bytes:
    """The packets up to the end of the next `transactions`."""
    recorder = Recorder(dump(projector_url(stack), start)())
    reader = TransactionReader(Packets(lambda: recorder), SCHEMA, tables)
    found = 0
    while found < transactions:
        found += len(reader.read())
    reader.close()
    return recorder.recorded


def replay(sent: bytes, piece: int = 1 << 18, tables: Mapping[str, Table] = TABLES) -> TransactionReader:
    return TransactionReader(Packets(lambda: Raw(sent, piece)), SCHEMA, tables)


def split(sent: bytes) -> list[bytes]:
    """The packets, each with its head."""
    packets, at = [], 0
    while at < len(sent):
        end = at + 4 + int.from_bytes(sent[at : at + 3], "little")
        packets.append(sent[at:end])
        at = end
    return packets


def event(kind: int, body: bytes, end: int = 0) -> bytes:
    """An event in its packet, with the right checksum."""
    header = struct.pack("<IBIIIH", 1, kind, 1, 19 + len(body) + 4, end, 0)
    return packet(b"\0" + checked(header + body))


def compressed(packets: Sequence[bytes], level: int = 3) -> bytes:
    """The events of a transaction compressed into one, each without its checksum of four bytes."""
    events = [each[5:-4] for each in packets]
    return payload(b"".join(each[:9] + struct.pack("<I", len(each)) + each[13:] for each in events), level)


def payload(plain: bytes, level: int = 3) -> bytes:
    sizes = b"\x03\x09\xfe" + struct.pack("<Q", len(plain))
    return event(40, b"\x02\x01\x00" + sizes + b"\0" + zstd.compress(plain, level))


def checked(content: bytes) -> bytes:
    return content + crc32(content).to_bytes(4, "little")


def packet(payload: bytes) -> bytes:
    """The payload in one packet, or in several if it is too long."""
    sent = b""
    while len(payload) >= 0xFFFFFF:
        sent, payload = sent + b"\xff\xff\xff\0" + payload[:0xFFFFFF], payload[0xFFFFFF:]
    return sent + len(payload).to_bytes(3, "little") + b"\0" + payload
