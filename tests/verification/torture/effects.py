"""The effects of statements on rows without row events, found in MySQL's own reading of its binlog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from binlog_projector.domain.changes import Row
from binlog_projector.mysql.connections import Connection
from tests.support.harness import rows
from tidemark.gtid import Gtid


@dataclass(frozen=True)
class Effect:
    """A statement's effect on each row of a table: another row, or None for a deleted one."""

    table: str
    becomes: Callable[[Row], Row | None]


def effects_in(connection: Connection, effects: Mapping[str, Effect]) -> dict[Gtid, Effect]:
    """The transactions that are statements with an effect, in order, by MySQL's own reading of its binlog."""
    found: dict[Gtid, Effect] = {}
    for file, *_ in rows(connection, "SHOW BINARY LOGS"):
        gtid = None
        for _, _, kind, _, _, info in rows(connection, f"SHOW BINLOG EVENTS IN '{file}'"):
            if kind == "Gtid":
                source, _, number = info.split("'")[1].partition(":")
                gtid = Gtid(source, int(number))
            elif kind == "Query" and gtid is not None:
                for statement, effect in effects.items():
                    if statement in info:
                        found[gtid] = effect
    return found
