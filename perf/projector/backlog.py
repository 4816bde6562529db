"""Rows that wait in a binlog, and our reader right before them; imports no more than what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pymysql

from binlog_projector.binlog.packets import Packets, connect_reader
from binlog_projector.binlog.transactions import TransactionReader
from binlog_projector.mysql.connections import connection_settings, query_value
from tidemark.gtid import GtidSet
from writer.schema import SCHEMA, TABLES

SERVER_ID, UUID = 7332, "5d1c1f0e-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Backlog:
    """So many rows are in the binlog behind `start`."""

    url: str
    start: GtidSet
    rows: int

    def count(self) -> int:
        """The rows that the projector's reader finds, as its source thread runs it."""
        reader, rows = self.reader(), 0
        while rows < self.rows:
            rows += sum(len(transaction.changes) for transaction in reader.read())
        reader.close()
        return rows

    def reader(self) -> TransactionReader:
        dump = partial(
            connect_reader, pymysql.connect, connection_settings(self.url), SERVER_ID, UUID, self.start
        )
        return TransactionReader(Packets(dump), SCHEMA, TABLES)


def executed(url: str) -> GtidSet:
    with pymysql.connect(**connection_settings(url)) as connection:
        return GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))
