"""`python -m tests.projector.recording` records the edges of every type: packets and SELECT's values.

The recordings stand beside this file: later versions must read the packets of this version of MySQL, too.
Values are text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pymysql.protocol import MysqlPacket
from pymysqlreplication.event import FormatDescriptionEvent
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import DeleteRowsEvent, TableMapEvent, UpdateRowsEvent, WriteRowsEvent

from binlog_projector.domain.changes import Row
from ops.stack import Stack
from tests.projector.reading import Images, executed, images_of, record, split
from tests.projector.wide_table import AT_THE_EDGES, PROJECTED, WIDE, create, write
from tests.support.harness import admin_connection

FOLDER = Path(__file__).with_name("recorded")
RECORDED = ("NULL", "NOT NULL")
EVENTS = frozenset({FormatDescriptionEvent, TableMapEvent, WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent})


def recorded(null: str) -> tuple[bytes, dict[str, list[Any]]]:
    """The packets, and the rows as text: those inserted, and those after the update."""
    packets, values = _files(null)
    return packets.read_bytes(), json.loads(values.read_text())


def edges(null: str) -> list[tuple[Any, ...]]:
    return [*AT_THE_EDGES, *([(None,) * len(PROJECTED)] if null == "NULL" else [])]


def as_text(row: Row | None) -> dict[str, str | None] | None:
    return (
        None if row is None else {name: None if value is None else str(value) for name, value in row.items()}
    )


def library_images_of(sent: bytes) -> Iterator[Images]:
    """The images of recorded packets by mysql-replication: its own reader's loop, without a server."""
    tables: dict[int, Any] = {}
    lengths = None
    connection = SimpleNamespace(charset="utf8mb4", _get_dbms=lambda: "mysql")
    for each in split(sent):
        packet = MysqlPacket(each[4:], "utf8")
        options = (None, None, None, None, False, False, False, True, False, False, lengths)
        event = BinLogPacketWrapper(packet, tables, connection, (9, 7, 0), True, EVENTS, *options).event
        if isinstance(event, FormatDescriptionEvent):
            lengths = event.post_header_len
        elif isinstance(event, TableMapEvent):
            tables[event.table_id] = event.get_table()
        elif event is not None:
            yield from images_of(event, WIDE.columns)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for null in RECORDED:
        with Stack() as stack, admin_connection(stack) as connection:
            create(connection, null)
            start = executed(connection)
            inserted, moved = write(connection, edges(null))
            packets, values = _files(null)
            packets.write_bytes(record(stack, start, 3, {WIDE.name: WIDE}))
            found = {"inserted": [*map(as_text, inserted)], "moved": [*map(as_text, moved)]}
            values.write_text(json.dumps(found, ensure_ascii=False, indent=0) + "\n")


def _files(null: str) -> tuple[Path, Path]:
    name = null.lower().replace(" ", "_")
    return FOLDER / f"{name}.packets", FOLDER / f"{name}.json"


if __name__ == "__main__":
    main()
