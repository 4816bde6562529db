"""What the source says happened: whole transactions of row changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemark.gtid import Gtid

Row = Mapping[str, Any]  # column -> value as PyMySQL gives it


@dataclass(frozen=True)
class RowChange:
    """An insert (no `before`), a delete (no `after`) or an update of one row."""

    table: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True)
class Position:
    """Where an event ends in the source's binlog: for people and messages only, GTIDs are what counts."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


@dataclass(frozen=True)
class Transaction:
    """Everything one GTID changed in watched tables, in order; DDL and filtered transactions have no changes.

    `original_commit_us` is when its first server committed it (microseconds since 1970, MySQL's clock): with the GTID
    it identifies the transaction. `immediate_commit_us` is when the tailed server did.
    """

    gtid: Gtid
    original_commit_us: int
    immediate_commit_us: int
    changes: tuple[RowChange, ...]
    position: Position


@dataclass(frozen=True)
class Anchor:
    """The last applied transaction; a source that delivers another one under its GTID has another history."""

    gtid: Gtid
    original_commit_us: int
