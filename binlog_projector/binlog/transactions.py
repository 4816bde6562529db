"""From binlog events to transactions; anything that is not understood stops, nothing is skipped.

The layout of events is documented in MySQL's source (mysql::binlog::event): an event is 19 bytes of header, its body,
and four bytes of checksum.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from binlog_projector.binlog.packets import Event, Packets
from binlog_projector.binlog.parts import Parts, are_too_many, extent
from binlog_projector.binlog.payload import unpacked
from binlog_projector.binlog.row_decoder import DELETE, INSERT, UPDATE, Images, RowDecoder
from binlog_projector.binlog.sql_tokens import NEWEST, version_of
from binlog_projector.binlog.statements import Statement, Watched, hidden_change
from binlog_projector.binlog.table_map import schema_and_table
from binlog_projector.domain.changes import Position, RowChange, Transaction
from binlog_projector.errors import CorruptEvent, UnprojectableRow, UnsupportedEvent
from reader.read_model.control import Partial
from tidemark.gtid import Gtid
from writer.schema import Table

QUERY, ROTATE, XID, TABLE_MAP, WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS, GTID = 2, 4, 16, 19, 30, 31, 32, 33
STOP, FORMAT_DESCRIPTION, HEARTBEAT, IGNORABLE, ROWS_QUERY, PREVIOUS_GTIDS, HEARTBEAT_2 = 3, 15, 27, 28, 29, 35, 41
ANONYMOUS_GTID, TAGGED_GTID = 34, 42
BEGINNINGS, OF_FILES = (GTID, ANONYMOUS_GTID, TAGGED_GTID), (ROTATE, FORMAT_DESCRIPTION)
HARMLESS = (STOP, HEARTBEAT, IGNORABLE, ROWS_QUERY, PREVIOUS_GTIDS, HEARTBEAT_2)
INTVAR, RAND, USER_VAR, APPEND_BLOCK, BEGIN_LOAD, EXECUTE_LOAD, XA_PREPARE, PAYLOAD = 5, 13, 14, 9, 17, 18, 38, 40
FOR_A_STATEMENT = (INTVAR, RAND, USER_VAR, APPEND_BLOCK, BEGIN_LOAD)  # that follows them, and is judged
OTHER_ROWS = {23: "WRITE_ROWS_V1", 24: "UPDATE_ROWS_V1", 25: "DELETE_ROWS_V1", 39: "PARTIAL_UPDATE_ROWS"}
EVENT_NAMES = {**OTHER_ROWS, 26: "INCIDENT", 34: "ANONYMOUS_GTID", 42: "GTID_TAGGED_LOG"}
REMEDIES = {
    26: "events were lost on the source; look into its error log",
    34: "set gtid_mode=ON",
    39: "set binlog_row_value_options='' for every session",
    42: "do not use tagged GTIDs",
}
BODY, DEFINITION, CHECKSUM = 19, 25, -4  # a definition is what stands behind the table id
CRC32 = 1  # among the kinds of checksum
GTID_BODY = struct.Struct("<x16sQB16xQ")  # UUID, number, whether times follow, commit time in the lower seven bytes
VERSION = slice(2, 52)  # in the body of a FORMAT_DESCRIPTION
QUERY_BODY = struct.Struct("<8xB2xH")  # lengths of the schema and of the status variables
LOAD_SIZE = 13  # behind those: which file, and where in the statement its name stands
ROWS_BODY = struct.Struct("<6s2xH")  # table id, length of what follows before the number of columns
HAS_TIMES = 2
NEWER = "it cannot be projected truthfully; look whether a newer projector knows it"
SEVEN_BYTES, ORIGINAL_FOLLOWS = (1 << 55) - 1, 1 << 55


class TransactionReader:
    """Assembles transactions of `tables` in `schema`, those that are too large in parts, without what was `applied`.

    `anchored`: the first transaction is the anchor. It is delivered without its changes as soon as its GTID is read:
    they were applied, or are in the snapshot, and nobody has to understand them again.
    """

    def __init__(
        self,
        packets: Packets,
        schema: str,
        tables: Mapping[str, Table],
        applied: Iterable[Partial] = (),
        *,
        folds_case: bool = False,
        anchored: bool = False,
    ) -> None:
        """`folds_case`: whether the source's `lower_case_table_names` is not 0."""
        self.packets = packets
        self.watched = Watched(schema, tables, folds_case)
        self.version = NEWEST
        self.gtid: Gtid | None = None
        self.original_us = self.immediate_us = 0
        self.begun = self.xa = False
        self.anchored = anchored  # until the anchor begins
        self.inside_anchor = False
        self.changes: list[RowChange] = []
        self.size = 0
        self.parts = Parts(tables, applied)
        self.finished: list[Transaction] = []
        self.file, self.offset = "", 0
        self.sources: dict[bytes, str] = {}  # UUIDs as text
        self.decoders: dict[bytes, RowDecoder | None] = {}  # by definition; None if the table is not watched
        self.mapped: dict[bytes, RowDecoder | None] = {}  # by table id, within a transaction
        self.failed: Exception | None = None
        self.payload = b""
        self.pieces = self._pieces()
        self.handlers: dict[int, Callable[[bytes], None]] = {
            GTID: self._gtid,
            QUERY: self._query,
            TABLE_MAP: self._table_map,
            WRITE_ROWS: partial(self._rows, INSERT),
            UPDATE_ROWS: partial(self._rows, UPDATE),
            DELETE_ROWS: partial(self._rows, DELETE),
            EXECUTE_LOAD: self._load,
            XID: self._end,
            XA_PREPARE: self._prepare,
            ROTATE: self._rotate,
            FORMAT_DESCRIPTION: self._format,
            **{kind: partial(self._other_rows, kind) for kind in OTHER_ROWS},
            **dict.fromkeys((*HARMLESS, *FOR_A_STATEMENT), self._ignore),
        }

    def __iter__(self) -> Iterator[Transaction | None]:
        """Transactions one by one; None when there was nothing but a heartbeat, or only a part of one."""
        while True:
            yield from self.read() or (None,)

    def read(self) -> list[Transaction]:
        """The transactions that end in the next piece of the stream: none at a heartbeat.

        What stops it (UnsupportedEvent, UnprojectableRow, CorruptEvent, what `Packets.read` raises) is raised after all
        transactions before it were returned.
        """
        if self.failed is not None:
            raise self.failed
        self.finished, handlers = [], self.handlers
        try:
            events = next(self.pieces)
            for kind, offset, event in self._judged(events) if self.anchored or self.inside_anchor else events:
                handle = handlers.get(kind)
                if handle is None:
                    if kind != PAYLOAD:
                        raise UnsupportedEvent(self._unsupported(kind))
                    self.offset, self.payload = offset, event
                    break
                self.offset = offset or self.offset
                handle(event)
        except Exception as error:
            self.failed = self._located(error)
            if not self.finished:
                raise self.failed from error
        return self.finished

    def close(self) -> None:
        self.packets.close()

    def _pieces(self) -> Iterator[Iterator[Event]]:
        """What is read at once: a piece of the stream up to a payload, that one's own pieces, then what is left."""
        while True:
            events = self.packets.read()
            yield events
            while self.payload:
                payload, self.payload = self.payload, b""
                yield from unpacked(payload)
                yield events

    def _judged(self, events: Iterable[Event]) -> Iterator[Event]:
        """Events without the content of the anchor, which ends where the next transaction begins."""
        for kind, offset, event in events:
            self.inside_anchor = self.inside_anchor and kind not in BEGINNINGS
            if not self.inside_anchor or kind in OF_FILES:
                yield kind, offset, event

    def _gtid(self, event: bytes) -> None:
        """A GTID right after a GTID: the first one was an empty transaction."""
        if self.gtid is not None:
            if self.begun:
                raise UnsupportedEvent("a transaction began inside another one; run `rebuild`")
            self._end(event)
        source, number, times, immediate = GTID_BODY.unpack_from(event, BODY)
        if times != HAS_TIMES:
            raise UnsupportedEvent("a GTID event has no commit timestamps; MySQL 8.0 or newer is needed")
        self.immediate_us = self.original_us = immediate & SEVEN_BYTES
        if immediate & ORIGINAL_FOLLOWS:
            self.original_us = int.from_bytes(event[BODY + GTID_BODY.size - 1 :][:7], "little") & SEVEN_BYTES
        self.gtid = Gtid(self.sources.get(source) or self._source(source), number)
        if self.anchored:
            self._end(event)
            self.anchored, self.inside_anchor = False, True

    def _source(self, raw: bytes) -> str:
        return self.sources.setdefault(raw, str(uuid.UUID(bytes=raw)))

    def _query(self, event: bytes) -> None:
        schema_length, status_length = QUERY_BODY.unpack_from(event, BODY)
        schema_at = BODY + QUERY_BODY.size + status_length
        text = event[schema_at + schema_length + 1 : CHECKSUM]
        if text == b"BEGIN":
            self.begun = True
            return
        if text.startswith(b"XA "):
            self._xa(text.split()[1])
            return
        schema, status = event[schema_at : schema_at + schema_length], event[BODY + QUERY_BODY.size : schema_at]
        self._statement(Statement.of(text, schema, status, self.version))

    def _load(self, event: bytes) -> None:
        at = BODY + QUERY_BODY.size
        self._query(event[:at] + event[at + LOAD_SIZE :])

    def _statement(self, statement: Statement) -> None:
        if reason := hidden_change(statement, self.watched):
            raise UnsupportedEvent(f"{reason}: {statement}")
        if statement.keyword == "COMMIT" or not self.begun:
            self._end(b"")

    def _xa(self, verb: bytes) -> None:
        """START and END are around the work; COMMIT and ROLLBACK come later and have a GTID of their own."""
        if verb == b"START":
            self.begun = self.xa = True
        elif not self.begun:
            self._end(b"")

    def _prepare(self, event: bytes) -> None:
        self.xa = True
        self._end(event)

    def _table_map(self, event: bytes) -> None:
        """Ids of one and the same table change now and then; the definition behind the id is what a decoder is for."""
        table_id, definition = event[BODY:DEFINITION], event[DEFINITION:CHECKSUM]
        try:
            decoder = self.decoders[definition]
        except KeyError:
            decoder = self.decoders[definition] = self._decoder(definition)
        self.mapped[table_id] = decoder
        if decoder is not None:
            self.watched.columns[decoder.table] = decoder.definition

    def _decoder(self, definition: bytes) -> RowDecoder | None:
        watched = self.watched.table(*schema_and_table(definition))
        return RowDecoder(watched, definition) if watched else None

    def _rows(self, images: Images, event: bytes) -> None:
        if not self.begun:
            raise UnsupportedEvent("rows came outside a transaction; run `rebuild`")
        table_id, extra = ROWS_BODY.unpack_from(event, BODY)
        decoder = self._mapped(table_id)
        if decoder is not None:
            at = BODY + ROWS_BODY.size - 2 + extra  # `extra` counts its own two bytes too
            self.changes += decoder.changes(images, event, at, len(event) + CHECKSUM)
            self.size += len(event)
            if are_too_many(len(self.changes), self.size):
                self._hand_on(whole=False)

    def _mapped(self, table_id: bytes) -> RowDecoder | None:
        try:
            return self.mapped[table_id]
        except KeyError:
            raise UnsupportedEvent("rows came without the definition of their table; run `rebuild`") from None

    def _other_rows(self, kind: int, event: bytes) -> None:
        """Formats that are not decoded, in tables that may not be watched."""
        decoder = self._mapped(event[BODY:DEFINITION])
        if decoder is not None:
            raise UnsupportedEvent(f"table {decoder.table}: {self._unsupported(kind)}")

    def _rotate(self, event: bytes) -> None:
        self.offset = int.from_bytes(event[BODY : BODY + 8], "little")
        self.file = event[BODY + 8 : CHECKSUM].decode()

    def _format(self, event: bytes) -> None:
        """The last byte of its body says how the events of this file are checked; a server of `version` wrote it."""
        if event[CHECKSUM - 1] != CRC32:
            raise CorruptEvent("the file was written without checksums; set binlog_checksum=CRC32, then run `rebuild`")
        self.version = version_of(event[BODY + VERSION.start : BODY + VERSION.stop])

    def _ignore(self, event: bytes) -> None:
        pass

    def _end(self, event: bytes) -> None:
        self._hand_on(whole=True)
        self.gtid, self.begun, self.xa = None, False, False
        self.mapped.clear()

    def _hand_on(self, *, whole: bool) -> None:
        if self.gtid is None:
            raise UnsupportedEvent("a transaction has no GTID; set gtid_mode=ON, then run `rebuild`")
        if self.xa and self.changes:
            raise UnsupportedEvent(
                f"an XA transaction, which may still be rolled back, changed the table {self.changes[0].table}; "
                "do not use XA there, then run `rebuild`"
            )
        changes, before, partial = self.parts.next(self.gtid, self.original_us, self.changes, whole=whole)
        if whole or changes:
            at, rows = Position(self.file, self.offset), tuple(changes)
            self.finished.append(
                Transaction(self.gtid, self.original_us, self.immediate_us, rows, at, self.size, before, partial)
            )
        self.changes, self.size = [], 0

    def _unsupported(self, kind: int) -> str:
        name = EVENT_NAMES.get(kind, "unknown")
        return f"event of type {kind} ({name}): {REMEDIES.get(kind, NEWER)}, then run `rebuild`"

    def _located(self, error: Exception) -> Exception:
        if not isinstance(error, UnsupportedEvent | UnprojectableRow | CorruptEvent):
            return error
        where = f"in transaction {self.gtid or '(none)'} at {self.file}:{self.offset}"
        return type(error)(f"{error} ({where}; {extent(self.parts.rows_of(self.gtid))})")
