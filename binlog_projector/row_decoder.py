"""Row images of one rows event, by mysql-replication's own decoder, refused unless they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent, UpdateRowsEvent, WriteRowsEvent

from binlog_projector.changes import Row
from binlog_projector.errors import UnprojectableRow, UnsupportedEvent

Images = tuple[Row | None, Row | None]  # before, after


def row_images(event: RowsEvent) -> Iterator[Images]:
    """Each row's image before and after. Raises UnsupportedEvent, UnprojectableRow."""
    _refuse_partial_images(event)
    try:
        rows = event.rows
    except (UnicodeDecodeError, ValueError, LookupError) as error:
        raise UnprojectableRow(f"a row of table {event.table} cannot be decoded: {error!r}") from error
    if isinstance(event, WriteRowsEvent):
        yield from ((None, row["values"]) for row in rows)
    elif isinstance(event, DeleteRowsEvent):
        yield from ((row["values"], None) for row in rows)
    elif type(event) is UpdateRowsEvent:
        yield from ((row["before_values"], row["after_values"]) for row in rows)
    else:
        raise UnsupportedEvent(
            f"table {event.table} has partial JSON updates; set binlog_row_value_options='' for every session"
        )


def _refuse_partial_images(event: Any) -> None:
    """binlog_row_image can be changed per session, and a column that was left out would look like NULL."""
    names = [column.name for column in event.columns]
    if None in names or any(name.startswith("UNKNOWN_COL") for name in names):
        raise UnsupportedEvent(f"table {event.table} was logged without column names; set binlog_row_metadata=FULL")
    for attribute in ("columns_present_bitmap", "columns_present_bitmap2"):
        bitmap = getattr(event, attribute, None)
        if bitmap is not None and int.from_bytes(bitmap, "little").bit_count() < event.number_of_columns:
            raise UnsupportedEvent(
                f"table {event.table} was logged with a partial row image; set binlog_row_image=FULL for every session"
            )
