"""Whether a server's history continues an applied position."""

from __future__ import annotations

from collections.abc import Iterable

from binlog_projector.errors import PositionLost, SourceBehind
from binlog_projector.mysql.connections import Connection, query_row
from reader.read_model.control import Partial, with_begun
from tidemark.gtid import GtidSet


def check_history(connection: Connection, applied: GtidSet, partials: Iterable[Partial]) -> GtidSet:
    """The purged GTID set. Raises SourceBehind and PositionLost."""
    executed, purged = map(
        GtidSet.parse, query_row(connection, "SELECT @@global.gtid_executed, @@global.gtid_purged")
    )
    demand_history(executed, purged, applied, partials)
    return purged


def demand_history(executed: GtidSet, purged: GtidSet, applied: GtidSet, partials: Iterable[Partial]) -> None:
    """Raises SourceBehind if a source of these two sets lacks applied transactions.

    Raises PositionLost if it has purged transactions that were not applied.
    """
    begun = with_begun(applied, partials)
    if not executed >= begun:
        raise SourceBehind(f"the source lacks {begun - executed}, which was applied")
    if not applied >= purged:
        raise PositionLost(
            f"the source has purged {purged - applied}, which was not applied; "
            "run `python -m binlog_projector rebuild` (readers are served meanwhile)"
        )
