"""Parts: a transaction that is too large for one batch is handed on in parts, each row once.

After a reconnection, the source or another one delivers the transaction from its beginning. The rows come in
the same order, because every table has a primary key. So applied rows are counted off, and the CRC32 of their
keys proves that they are the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from zlib import crc32

from binlog_projector.domain.changes import RowChange
from binlog_projector.domain.projections import most_hashtags
from binlog_projector.errors import PositionLost
from reader.read_model.control import Partial
from tidemark.gtid import Gtid
from writer.schema import Table

MAX_ROWS = 4_000  # in one MongoDB transaction
MAX_BYTES = 4 * 1024 * 1024  # of binlog in one batch
MAX_HASHTAGS = 10_000  # each may be a key of 520 bytes in the journal entry, and MongoDB takes at most 16 MB


class Parts:
    """The received part of the current transaction, and the parts that were applied before a restart."""

    def __init__(self, tables: Mapping[str, Table], applied: Iterable[Partial]) -> None:
        self.keys = {name: itemgetter(*table.primary_key) for name, table in tables.items()}
        self.applied = {partial.gtid: partial for partial in applied}
        self.come: Partial | None = None
        self.hashtags = 0  # at most so many are in the received part

    def are_too_many(self, more: Iterable[RowChange], rows: int, size: int) -> bool:
        """Whether the received part, which has grown by `more`, must be handed on."""
        self.hashtags += sum(map(most_hashtags, more))
        return rows > MAX_ROWS or size > MAX_BYTES or self.hashtags > MAX_HASHTAGS

    def rows_of(self, gtid: Gtid | None) -> int:
        """The number of rows of the current transaction that were applied or handed on."""
        known = [partial.rows for partial in (self.come, self.applied.get(gtid) if gtid else None) if partial]
        return max(known, default=0)

    def next(
        self, gtid: Gtid, original_commit_us: int, rows: Sequence[RowChange], *, whole: bool
    ) -> tuple[Sequence[RowChange], int, Partial | None]:
        """The rows that were not applied yet, the number of rows before them, and the new partial.

        The partial is None if the transaction is `whole` now. Raises PositionLost if the source delivers
        other rows than the applied ones.
        """
        self.hashtags = 0
        if whole and self.come is None and not self.applied:
            return rows, 0, None
        applied = self.applied.get(gtid)
        come = self.come or Partial(gtid, original_commit_us, 0, 0)
        known = max(0, applied.rows - come.rows) if applied else 0
        if applied and known:
            come = self._with(come, rows[:known])
            _demand_same(come, applied, whole=whole)
        self.come = None if whole else self._with(come, rows[known:])
        if whole:
            self.applied.pop(gtid, None)
        return rows[known:], come.rows, self.come

    def _with(self, come: Partial, rows: Sequence[RowChange]) -> Partial:
        crc = come.crc
        for row in rows:
            key = self.keys[row.table]
            crc = crc32(
                f"{row.table}{row.before and key(row.before)}{row.after and key(row.after)};".encode(), crc
            )
        return Partial(come.gtid, come.original_commit_us, come.rows + len(rows), crc)


def extent(rows: int) -> str:
    """The applied part of a transaction that cannot be applied, in words."""
    return f"its first {rows} rows were applied" if rows else "nothing of it was applied"


def _demand_same(come: Partial, applied: Partial, *, whole: bool) -> None:
    if come.rows < applied.rows and not whole:
        return
    if come != applied:
        raise PositionLost(
            f"of transaction {applied.gtid} the first {applied.rows} rows were applied, and the source "
            "delivers others under this GTID: it has another history; point the projector at the right "
            "server, or run `python -m binlog_projector rebuild`"
        )
