"""Transactions of row changes, as the binlog reports them.

These values form no reference cycles, so Python's garbage collector need not look at them (`gc=False`).
Looking at the thousands that wait took a tenth of the time of reading them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from reader.read_model.control import Partial
from tidemark.gtid import Gtid

Row = Mapping[str, Any]  # column -> value as PyMySQL gives it


class RowChange(msgspec.Struct, frozen=True, gc=False):
    """An insert (no `before`), a delete (no `after`) or an update of one row."""

    table: str
    before: Row | None
    after: Row | None


class BinlogPosition(msgspec.Struct, frozen=True, gc=False):
    """The end of an event in MySQL's binlog. It is only for messages: GTIDs are the position."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """The changes of one GTID in watched tables, in order. DDL and filtered transactions have no changes.

    A transaction with too many changes for a batch comes in parts. `rows_before`: rows of its earlier parts.
    `partial`: its progress after this part, None in the last one.

    `original_commit_us`: commit on its first server (microseconds since 1970, MySQL's clock). With the GTID
    this identifies the transaction. `immediate_commit_us`: commit on the server that we read.
    """

    gtid: Gtid
    original_commit_us: int
    immediate_commit_us: int
    changes: tuple[RowChange, ...]
    position: BinlogPosition
    size: int = 0  # bytes of the binlog
    rows_before: int = 0
    partial: Partial | None = None
