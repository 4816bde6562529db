"""What the source says happened: transactions of row changes.

These values cannot refer back to themselves, so Python's garbage collector need not look at them (`gc=False`); looking
at the many thousands that wait took a tenth of the time of reading them.
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
    """Where an event ends in the source's binlog: for people and messages only, GTIDs are what counts."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """Everything one GTID changed in watched tables, in order; DDL and filtered transactions have no changes.

    One with too many changes for a batch comes in parts, behind `rows_before` that came before; all but the last one
    have `partial`, which is how far they go.

    `original_commit_us` is when its first server committed it (microseconds since 1970, MySQL's clock): with the GTID
    it identifies the transaction. `immediate_commit_us` is when the tailed server did.
    """

    gtid: Gtid
    original_commit_us: int
    immediate_commit_us: int
    changes: tuple[RowChange, ...]
    position: BinlogPosition
    size: int = 0  # bytes of the binlog
    rows_before: int = 0
    partial: Partial | None = None
