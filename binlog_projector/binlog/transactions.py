"""From binlog events to transactions. An unknown event stops the reader; nothing is skipped.

MySQL's source documents events (mysql::binlog::event): 19 bytes of header, the body, four bytes of checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from binlog_projector.binlog import events
from binlog_projector.binlog.events import BODY, CHECKSUM, DEFINITION, ROWS_BODY
from binlog_projector.binlog.packets import Event, Packets
from binlog_projector.binlog.parts import Parts, extent
from binlog_projector.binlog.payload import unpacked
from binlog_projector.binlog.row_decoder import DELETE, INSERT, UPDATE, Images, RowDecoder
from binlog_projector.binlog.sql_tokens import NEWEST, version_of
from binlog_projector.binlog.statement_events import Statement
from binlog_projector.binlog.statements import Passes, Watched, no_swap
from binlog_projector.binlog.swaps import demand_harmless
from binlog_projector.binlog.table_map import schema_and_table
from binlog_projector.domain.changes import BinlogPosition, RowChange, Transaction
from binlog_projector.errors import CorruptEvent, UnprojectableRow, UnsupportedEvent
from reader.read_model.control import Partial
from tidemark.gtid import Gtid
from writer.schema import Table


class TransactionReader:
    """Assembles transactions of `tables` in `schema`, large ones in parts, without the rows in `applied`.

    `anchored`: the first transaction is the anchor. Its changes were applied, or are in the snapshot, so they
    are not decoded: the anchor is delivered without changes as soon as its GTID is read.
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
        passes: Passes = no_swap,
    ) -> None:
        """`folds_case`: the source's `lower_case_table_names` is not 0."""
        self.packets = packets
        self.watched = Watched(schema, tables, folds_case, passes=passes)
        self.version = NEWEST
        self.gtid: Gtid | None = None
        self.original_us = self.immediate_us = 0
        self.begun = self.xa = False
        self.anchored = anchored  # until the anchor begins
        self.inside_anchor = False
        self.changes: list[RowChange] = []
        self.parts = Parts(tables, applied)
        self.finished: list[Transaction] = []
        self.file, self.offset, self.size = "", 0, 0
        self.decoders: dict[bytes, RowDecoder | None] = {}  # by definition; None if the table is not watched
        self.mapped: dict[bytes, RowDecoder | None] = {}  # by table id, within a transaction
        self.failed: Exception | None = None
        self.payload = b""
        self.pieces = self._pieces()
        self.handlers: dict[int, Callable[[bytes], None]] = {
            events.GTID: self._gtid,
            events.QUERY: self._query,
            events.TABLE_MAP: self._table_map,
            events.WRITE_ROWS: partial(self._rows, INSERT),
            events.UPDATE_ROWS: partial(self._rows, UPDATE),
            events.DELETE_ROWS: partial(self._rows, DELETE),
            events.EXECUTE_LOAD: lambda event: self._query(events.query_of_load(event)),
            events.XID: self._end,
            events.XA_PREPARE: self._prepare,
            events.ROTATE: self._rotate,
            events.FORMAT_DESCRIPTION: self._format,
            **{kind: partial(self._other_rows, kind) for kind in events.OTHER_ROWS},
            **dict.fromkeys((*events.HARMLESS, *events.FOR_A_STATEMENT), self._ignore),
        }

    def __iter__(self) -> Iterator[Transaction | None]:
        """Transactions; None after a piece in which none ended, such as a heartbeat."""
        while True:
            yield from self.read() or (None,)

    def read(self) -> list[Transaction]:
        """The transactions that end in the next piece of the stream; none at a heartbeat.

        UnsupportedEvent, UnprojectableRow, CorruptEvent and the errors of `Packets.read` are raised after all
        transactions before them were returned.
        """
        if self.failed is not None:
            raise self.failed
        self.finished, handlers = [], self.handlers
        try:
            piece = next(self.pieces)
            for kind, offset, event in self._judged(piece) if self.anchored or self.inside_anchor else piece:
                handle = handlers.get(kind)
                if handle is None:
                    if kind != events.PAYLOAD:
                        raise UnsupportedEvent(events.unsupported(kind))
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
        """Pieces to read one by one: the stream up to a payload, the payload's own pieces, then the rest."""
        while True:
            piece = self.packets.read()
            yield piece
            while self.payload:
                payload, self.payload = self.payload, b""
                yield from unpacked(payload)
                yield piece

    def _judged(self, piece: Iterable[Event]) -> Iterator[Event]:
        """Events without the content of the anchor, which ends at the next transaction."""
        for kind, offset, event in piece:
            self.inside_anchor = self.inside_anchor and kind not in events.BEGINNINGS
            if not self.inside_anchor or kind in events.OF_FILES:
                yield kind, offset, event

    def _gtid(self, event: bytes) -> None:
        """Begin a transaction. A GTID right after a GTID: the first transaction was empty."""
        if self.gtid is not None:
            if self.begun:
                raise UnsupportedEvent("a transaction began inside another one; run `rebuild`")
            self._end(event)
        source, number, self.original_us, self.immediate_us = events.gtid_fields(event)
        self.gtid = Gtid(events.source_id(source), number)
        if self.anchored:
            self._end(event)
            self.anchored, self.inside_anchor = False, True

    def _query(self, event: bytes) -> None:
        schema, status, text = events.query_fields(event)
        if text == b"BEGIN":
            self.begun = True
        elif text.startswith(b"XA "):
            self._xa(text.split()[1])
        else:
            self._statement(Statement.of(text, schema, status, self.version))

    def _statement(self, statement: Statement) -> None:
        demand_harmless(statement, self.watched, self.gtid)
        if statement.keyword == "COMMIT" or not self.begun:
            self._end(b"")

    def _xa(self, verb: bytes) -> None:
        """START and END enclose the work; COMMIT and ROLLBACK come later, with their own GTID."""
        if verb == b"START":
            self.begun = self.xa = True
        elif not self.begun:
            self._end(b"")

    def _prepare(self, event: bytes) -> None:
        self.xa = True
        self._end(event)

    def _table_map(self, event: bytes) -> None:
        """A table's id can change, so the decoder is chosen by the definition behind the id."""
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
            at = BODY + ROWS_BODY.size - 2 + extra  # `extra` includes its own two bytes
            changes = decoder.changes(images, event, at, len(event) + CHECKSUM)
            self.changes += changes
            self.size += len(event)
            if self.parts.are_too_many(changes, len(self.changes), self.size):
                self._hand_on(whole=False)

    def _mapped(self, table_id: bytes) -> RowDecoder | None:
        try:
            return self.mapped[table_id]
        except KeyError:
            raise UnsupportedEvent("rows came without the definition of their table; run `rebuild`") from None

    def _other_rows(self, kind: int, event: bytes) -> None:
        """Raises UnsupportedEvent for a watched table: the format is not decoded."""
        decoder = self._mapped(event[BODY:DEFINITION])
        if decoder is not None:
            raise UnsupportedEvent(f"table {decoder.table}: {events.unsupported(kind)}")

    def _rotate(self, event: bytes) -> None:
        self.file, self.offset = events.next_file(event)

    def _format(self, event: bytes) -> None:
        """Begin a file, and note the version of the server that wrote it."""
        if not events.has_checksums(event):
            raise CorruptEvent(
                "the file was written without checksums; set binlog_checksum=CRC32, then run `rebuild`"
            )
        self.version = version_of(events.server_version(event))

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
                "an XA transaction, which may still be rolled back, changed the table "
                f"{self.changes[0].table}; do not use XA there, then run `rebuild`"
            )
        changes, before, partial = self.parts.next(self.gtid, self.original_us, self.changes, whole=whole)
        if whole or changes:
            at, rows = BinlogPosition(self.file, self.offset), tuple(changes)
            self.finished.append(
                Transaction(
                    self.gtid, self.original_us, self.immediate_us, rows, at, self.size, before, partial
                )
            )
        self.changes, self.size = [], 0

    def _located(self, error: Exception) -> Exception:
        if not isinstance(error, UnsupportedEvent | UnprojectableRow | CorruptEvent):
            return error
        where = f"in transaction {self.gtid or '(none)'} at {self.file}:{self.offset}"
        return error.reworded(f"{error} ({where}; {extent(self.parts.rows_of(self.gtid))})")
