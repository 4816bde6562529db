"""One MySQL server: its connections, its clock, and its stream of transactions."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import pymysql

from binlog_projector.binlog.packets import Packets, connect_reader
from binlog_projector.binlog.statements import Passes, no_swap
from binlog_projector.binlog.transactions import TransactionReader
from binlog_projector.domain.changes import Transaction
from binlog_projector.errors import PositionLost, SourceDemoted, SourceUnavailable, TableSwapped
from binlog_projector.mysql.connections import (
    Connection,
    connection_settings,
    query_row,
    query_value,
    unavailable,
)
from binlog_projector.mysql.history import check_history
from reader.read_model.control import Anchor, Partial
from tidemark.gtid import GtidSet
from writer.schema import SCHEMA, TABLES

IDENTITY = uuid.UUID("6f2b7b53-51f1-4f58-8a0f-3a3a3f7e5d10")


@dataclass(frozen=True)
class Clock:
    """A time of MySQL's clock, and all transactions committed until then."""

    now: datetime
    executed: GtidSet


class MySqlSource:
    """The server whose binlog is read. Raises SourceUnavailable if it does not answer.

    `must_be_writable`: there are several servers; a read-only one is a replica that may be behind its source.
    """

    def __init__(self, url: str, server_id: int, *, must_be_writable: bool = False) -> None:
        self.settings = connection_settings(url)
        self.address = f"{self.settings['host']}:{self.settings['port']}"
        self.must_be_writable = must_be_writable
        self.server_id = server_id
        self.uuid = str(uuid.uuid5(IDENTITY, str(server_id)))

    def connect(self, **options: Any) -> Connection:
        with unavailable("cannot connect to MySQL"):
            return pymysql.connect(**{**self.settings, **options})

    @contextlib.contextmanager
    def session(self, **options: Any) -> Iterator[Connection]:
        connection = self.connect(**options)
        with unavailable("MySQL closed the connection"), contextlib.closing(connection):
            yield connection

    def demand_writable(self) -> None:
        """Raises SourceDemoted."""
        with self.session() as connection:
            self.clock(connection)

    def stream(
        self,
        applied: GtidSet,
        anchor: Anchor | None,
        partials: Sequence[Partial] = (),
        passes: Passes = no_swap,
    ) -> Stream:
        """Connect and verify that the source continues the history of `applied`; reading begins with `start`.

        The source is asked again for the anchor, the last applied transaction. The first delivered one must
        have the anchor's GTID and commit time; its changes are ignored. A partly applied transaction comes
        without its applied rows. A swap of a watched table that does not pass `passes` ends the stream with
        TableSwapped. Raises PositionLost for another anchor, and for purged transactions.
        """
        with self.session() as connection:
            purged = check_history(connection, applied, partials)
            folds_case = bool(query_value(connection, "SELECT @@global.lower_case_table_names"))
        if anchor is not None and anchor.gtid in purged:
            anchor = None
        asked = applied.without_gtid(anchor.gtid) if anchor else applied
        stream = Stream(
            self, asked, partials, folds_case=folds_case, anchored=anchor is not None, passes=passes
        )
        try:
            stream.verify(anchor)
        except BaseException:
            stream.close()
            raise
        return stream

    def demand_history(self, applied: GtidSet, partials: Iterable[Partial]) -> None:
        """Raises SourceBehind and PositionLost if the server cannot continue from there."""
        with self.session() as connection:
            check_history(connection, applied, partials)

    def clock(self, connection: Connection) -> Clock:
        """One statement reads the time before the set, so the set has all that was committed until that time.

        Raises SourceDemoted for a replica: its set may lack transactions of its source.
        """
        with unavailable("MySQL does not tell its clock"):
            now, executed, read_only = query_row(
                connection, "SELECT NOW(6), @@global.gtid_executed, @@global.read_only"
            )
        if read_only and self.must_be_writable:
            raise SourceDemoted("the server is read-only: a replica, until it is promoted")
        return Clock(now.replace(tzinfo=UTC), GtidSet.parse(executed))


class Receiver(Protocol):
    """The taker of a stream's transactions; called in the stream's thread."""

    def add(self, transaction: Transaction) -> None:
        """Take the next transaction; returns when there is room for another one."""

    def fail(self, error: Exception) -> None:
        """The stream has ended with `error`."""


class Stream:
    """A thread that reads transactions from the binlog and delivers them."""

    def __init__(
        self,
        source: MySqlSource,
        applied: GtidSet,
        partials: Iterable[Partial],
        *,
        folds_case: bool,
        anchored: bool,
        passes: Passes,
    ) -> None:
        self.source = source
        dump = partial(
            connect_reader, pymysql.connect, source.settings, source.server_id, source.uuid, applied
        )
        self.reader = TransactionReader(
            Packets(dump), SCHEMA, TABLES, partials, folds_case=folds_case, anchored=anchored, passes=passes
        )
        self.transactions = iter(self.reader)
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.pending: Transaction | None = None
        self.swapped: TableSwapped | None = None
        self.anchor: Anchor | None = None
        self.listening = False
        self.heard = 0.0

    def verify(self, anchor: Anchor | None) -> None:
        """Read until a transaction or, without an anchor, a heartbeat. Raises PositionLost."""
        if anchor is None:
            try:
                self.pending = self._next()
            except TableSwapped as error:
                self.swapped = error
            return
        first = self._next()
        while first is None:
            first = self._next()
        found = Anchor(first.gtid, first.original_commit_us)
        if found.gtid != anchor.gtid or anchor.original_commit_us not in (0, found.original_commit_us):
            raise PositionLost(
                f"the source has another history: it delivers {found.gtid} of {found.original_commit_us} us "
                f"where {anchor.gtid} of {anchor.original_commit_us} us was applied last; "
                "point the projector at the right server, or run `python -m binlog_projector rebuild`"
            )
        self.anchor = found

    def start(self, receiver: Receiver) -> None:
        """Deliver until `close`, or until the stream breaks."""
        self.thread = threading.Thread(target=self._read, args=(receiver,), name="source", daemon=True)
        self.thread.start()

    def silent_seconds(self) -> float:
        """The time for which the thread has waited for MySQL and received nothing, not even a heartbeat."""
        return time.monotonic() - self.heard if self.listening else 0.0

    def close(self) -> None:
        """Stop. The thread closes its connection at the next heartbeat: close() waits for a blocked read."""
        self.stopping.set()
        if self.thread is None or not self.thread.is_alive():
            self.reader.close()

    def _read(self, receiver: Receiver) -> None:
        try:
            if (transaction := self._verified()) is not None:
                receiver.add(transaction)
            for transaction in self._transactions():
                if self.stopping.is_set():
                    return
                if transaction is not None:
                    receiver.add(transaction)
        except Exception as error:  # noqa: BLE001 - the receiver raises it
            receiver.fail(error)
        finally:
            self.listening = False
            self.reader.close()

    def read(self) -> Transaction | None:
        """The next transaction, or None at a heartbeat. For a stream that was not started."""
        return self._verified() or self._next()

    def _verified(self) -> Transaction | None:
        """The transaction that `verify` has read, once. Raises the TableSwapped that it met."""
        if self.swapped is not None:
            raise self.swapped
        pending, self.pending = self.pending, None
        return pending

    def _next(self) -> Transaction | None:
        """The next transaction, or None at a heartbeat."""
        return next(self._transactions())

    def _transactions(self) -> Iterator[Transaction | None]:
        """Transactions, and None at heartbeats, for ever."""
        with unavailable("the binlog stream broke"):
            self.heard, self.listening = time.monotonic(), True
            for transaction in self.transactions:
                self.listening = False
                yield transaction
                self.heard, self.listening = time.monotonic(), True
        raise SourceUnavailable(
            "the source ended the binlog stream (it shuts down, or another reader has our id)"
        )
