"""From binlog events to whole transactions; anything that is not understood stops, nothing is skipped.

The layout of events is in MySQL's source documentation ("Binary log event"); ours begins where mysql-replication ends.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from pymysqlreplication import BinLogStreamReader, binlogstream
from pymysqlreplication import event as events
from pymysqlreplication import row_event as rows
from pymysqlreplication.constants.BINLOG import QUERY_EVENT
from pymysqlreplication.packet import BinLogPacketWrapper

from binlog_projector.changes import Position, RowChange, Transaction
from binlog_projector.errors import UnprojectableRow, UnsupportedEvent
from binlog_projector.row_decoder import row_images
from tidemark.gtid import Gtid, GtidSet

# The library would reconnect by itself and replay from the set it was given first; a lost stream must be an error.
binlogstream.MYSQL_EXPECTED_ERROR_CODES = []


class StatementEvent(events.BinLogEvent):  # type: ignore[misc]  # the library is untyped
    """A QUERY event without its status variables: the library gives up at the first one that it does not know."""

    def __init__(self, packet: Any, size: int, table_map: Any, connection: Any, **options: Any) -> None:
        super().__init__(packet, size, table_map, connection, **options)
        schema_length, status_length = struct.unpack("<8xB2xH", packet.read(13))
        packet.advance(status_length)
        self.schema = packet.read(schema_length).decode()
        packet.advance(1)
        self.query = packet.read(size - 13 - status_length - schema_length - 1).decode(errors="backslashreplace")


BinLogPacketWrapper._BinLogPacketWrapper__event_map[QUERY_EVENT] = StatementEvent

HEARTBEAT_SECONDS = 1
ROWS_EVENTS = (rows.WriteRowsEvent, rows.UpdateRowsEvent, rows.DeleteRowsEvent, rows.PartialUpdateRowsEvent)
READ_EVENTS = [
    *ROWS_EVENTS,
    events.GtidEvent,
    StatementEvent,
    events.XidEvent,
    events.HeartbeatLogEvent,
    events.XAPrepareEvent,
    events.IntvarEvent,
    events.RandEvent,
    events.UserVarEvent,
    events.BeginLoadQueryEvent,
    events.ExecuteLoadQueryEvent,
    events.NotImplementedEvent,
]
HEARTBEAT_V2 = 41
EVENT_NAMES = {26: "INCIDENT", 34: "ANONYMOUS_GTID", 40: "TRANSACTION_PAYLOAD", 42: "GTID_TAGGED_LOG"}
EVENT_REMEDIES = {
    26: "events were lost on the source; run `python -m binlog_projector rebuild`",
    34: "set gtid_mode=ON",
    40: "set binlog_transaction_compression=OFF for every session",
    42: "do not use tagged GTIDs",
}
VERSIONED = re.compile(r"/\*!\d*(.*?)\*/", re.DOTALL)
COMMENT = re.compile(r"\A(?:\s+|/\*.*?\*/|--[^\n]*(?:\n|\Z)|#[^\n]*(?:\n|\Z))*", re.DOTALL)
STATEMENT_DML = {"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH"}
DESTRUCTIVE = re.compile(r"\A(TRUNCATE(\s+TABLE)?|DROP\s+TABLE(\s+IF\s+EXISTS)?|RENAME\s+TABLES?)\s", re.IGNORECASE)
DESTRUCTIVE_ALTER = re.compile(
    r"\sRENAME\s+(TO\s|AS\s|=|(?!COLUMN|INDEX|KEY)[\w`])|\s(TRUNCATE|DROP|EXCHANGE|REORGANIZE)\s+PARTITION|\sTABLESPACE",
    re.IGNORECASE,
)
DROP_SCHEMA = re.compile(r"\ADROP\s+(DATABASE|SCHEMA)\s", re.IGNORECASE)
IDENTIFIER = re.compile(r"`?(\w+)`?(?:\s*\.\s*`?(\w+)`?)?")


def open_reader(
    connect: Callable[..., Any], connection: dict[str, Any], server_id: int, uuid: str, gtid_set: GtidSet
) -> BinLogStreamReader:
    """A reader of everything the source has that is not in `gtid_set`; it connects at the first read."""
    return BinLogStreamReader(
        connection_settings=connection,
        pymysql_wrapper=connect,
        server_id=server_id,
        slave_uuid=uuid,
        report_slave={"hostname": "tidemark", "username": "", "password": "", "port": 0},
        auto_position=str(gtid_set) or "00000000-0000-0000-0000-000000000001:1",
        blocking=True,
        only_events=READ_EVENTS,
        filter_non_implemented_events=False,
        slave_heartbeat=HEARTBEAT_SECONDS,
        enable_logging=False,
    )


class TransactionReader:
    """Assembles whole transactions from a reader's events. Raises UnsupportedEvent, UnprojectableRow."""

    def __init__(self, reader: BinLogStreamReader, schema: str, tables: frozenset[str]) -> None:
        self.reader = reader
        self.schema = schema
        self.tables = tables
        self.gtid: Gtid | None = None
        self.commit_us = (0, 0)
        self.begun = False
        self.changes: list[RowChange] = []

    def __iter__(self) -> Iterator[Transaction | None]:
        """Transactions as they come; None at heartbeats; ends when the server ends the stream."""
        while (event := self.reader.fetchone()) is not None:
            try:
                transaction = self._feed(event)
            except (UnsupportedEvent, UnprojectableRow) as error:
                where = f"in transaction {self.gtid or '(none)'} at {self._position()}"
                raise type(error)(f"{error} ({where}; nothing of it was applied)") from error
            if transaction is not None or isinstance(event, events.HeartbeatLogEvent):
                yield transaction

    def _feed(self, event: Any) -> Transaction | None:
        match event:
            case events.HeartbeatLogEvent():
                return None
            case events.GtidEvent():
                return self._begin(event)
            case events.XidEvent():
                return self._end()
            case StatementEvent():
                return self._statement(event)
            case _ if isinstance(event, ROWS_EVENTS):
                self._rows(event)
                return None
            case events.NotImplementedEvent() if event.event_type == HEARTBEAT_V2:
                return None
        raise UnsupportedEvent(self._unsupported(event))

    def _begin(self, event: Any) -> Transaction | None:
        """A GTID right after a GTID: the first one was an empty transaction."""
        empty = self._end() if self.gtid is not None and not self.begun else None
        if self.gtid is not None:
            raise UnsupportedEvent("a transaction began inside another one")
        self.gtid = Gtid.parse(event.gtid)
        self.commit_us = _commit_timestamps(event)
        return empty

    def _end(self) -> Transaction:
        if self.gtid is None:
            raise UnsupportedEvent("a transaction has no GTID; set gtid_mode=ON")
        transaction = Transaction(self.gtid, *self.commit_us, tuple(self.changes), self._position())
        self.gtid, self.begun, self.changes = None, False, []
        return transaction

    def _rows(self, event: Any) -> None:
        if self.gtid is None or not self.begun:
            raise UnsupportedEvent("rows came outside a transaction")
        if event.schema == self.schema and event.table in self.tables:
            self.changes.extend(RowChange(event.table, before, after) for before, after in row_images(event))

    def _statement(self, event: Any) -> Transaction | None:
        text = COMMENT.sub("", VERSIONED.sub(r"\1", event.query))
        keyword = text.split(None, 1)[0].upper().rstrip(";") if text.strip() else ""
        if keyword == "BEGIN":
            self.begun = True
            return None
        if keyword == "COMMIT":
            return self._end()
        if keyword in STATEMENT_DML or keyword in {"XA", "ROLLBACK"}:
            raise UnsupportedEvent(f"{keyword} was logged as a statement; set binlog_format=ROW for every session")
        if hit := destroyed_table(text, event.schema, self.schema, self.tables):
            raise UnsupportedEvent(f"{hit}, which the binlog does not show as rows; then run `rebuild`: {text[:200]!r}")
        return None if self.begun else self._end()

    def _unsupported(self, event: Any) -> str:
        name = EVENT_NAMES.get(event.event_type, type(event).__name__)
        remedy = EVENT_REMEDIES.get(event.event_type, "it cannot be projected truthfully")
        return f"event of type {event.event_type} ({name}): {remedy}"

    def _position(self) -> Position:
        return Position(str(self.reader.log_file), int(self.reader.log_pos or 0))


def destroyed_table(statement: str, default_schema: str, schema: str, tables: frozenset[str]) -> str | None:
    """Which watched table a DDL statement truncates, drops or renames, in words; None if it is harmless."""
    if dropped := DROP_SCHEMA.match(statement):
        names = {name for name, _ in _identifiers(statement[dropped.end() :])}
        return f"the schema {schema} was dropped" if schema in names else None
    destructive = DESTRUCTIVE.match(statement)
    altered = re.match(r"\AALTER\s+TABLE\s", statement, re.IGNORECASE)
    if altered and DESTRUCTIVE_ALTER.search(statement):
        named = _identifiers(statement[altered.end() :])[:1]
    elif destructive:
        named = _identifiers(statement[destructive.end() :])
    else:
        return None
    hits = [second or first for first, second in named if _is_watched(first, second, default_schema, schema, tables)]
    return f"the watched table {hits[0]} was changed as a whole" if hits else None


def _identifiers(text: str) -> list[tuple[str, str]]:
    return [(first, second) for first, second in IDENTIFIER.findall(text)]


def _is_watched(first: str, second: str, default_schema: str, schema: str, tables: frozenset[str]) -> bool:
    return (first == schema and second in tables) if second else (default_schema == schema and first in tables)


def _commit_timestamps(event: Any) -> tuple[int, int]:
    """(original, immediate) commit time in microseconds: behind `sequence_number`, where the library stops reading.

    Seven bytes each; the highest bit of the first says that the second follows, else both are equal.
    """
    if event.lt_type != 2:
        raise UnsupportedEvent("a GTID event has no commit timestamps; MySQL 8.0 or newer is needed")
    immediate = _seven_bytes(event)
    if immediate & (1 << 55):
        return _seven_bytes(event), immediate & ~(1 << 55)
    return immediate, immediate


def _seven_bytes(event: Any) -> int:
    return int(struct.unpack("<Q", event.packet.read(7) + b"\0")[0])
