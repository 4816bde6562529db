"""A decoder, generated for each table definition, from the bytes of a rows event to dicts of used columns.

A row image is a bitmap of NULLs, followed by the columns. The generated function reads them in one pass:
neighbours of fixed size that cannot be NULL are unpacked together, and unused columns are skipped. Example,
for `(id BIGINT NOT NULL, note VARCHAR(500), at DATETIME NOT NULL)`:

    def image(event, at):
        nulls = int.from_bytes(event[at:at + 1], 'little')
        at += 1
        c0, = unpack0(event, at)
        at += 8
        if nulls & 2: c1 = None
        else:
            start = at + 2
            at = start + u16(event, at)[0]
            c1 = convert1(event[start:at])
        c2, = unpack2(event, at)
        at += 5
        c2 = convert2(c2)
        return {name0: c0, name1: c1, name2: c2}, at

Names of tables and columns never become source text: they are values, which the source refers to by number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from binlog_projector.binlog.column_types import decoded_layout_of, layout_of
from binlog_projector.binlog.layouts import Counted, Fixed
from binlog_projector.binlog.table_map import Column, columns_of
from binlog_projector.domain.changes import Row, RowChange
from binlog_projector.errors import UnprojectableRow, UnsupportedEvent
from writer.schema import Table

Image = Callable[[bytes, int], tuple[Row, int]]  # (event, start of a row) -> (row, its end)
Images = tuple[bool, bool]  # whether there are images of before and of after
INSERT, DELETE, UPDATE = (False, True), (True, False), (True, True)
LENGTHS = {1: "event[at]", 2: "u16(event, at)[0]", 3: "u24(event, at)", 4: "u32(event, at)[0]"}
READERS: dict[str, Callable[[bytes, int], Any]] = {
    "u16": struct.Struct("<H").unpack_from,
    "u24": lambda event, at: int.from_bytes(event[at : at + 3], "little"),
    "u32": struct.Struct("<I").unpack_from,
}


class RowDecoder:
    """Decodes rows of a watched table in one of its definitions."""

    def __init__(self, table: Table, definition: bytes) -> None:
        """Raises UnsupportedEvent if a column in use is missing, or has a type that is not decoded."""
        self.table = table.name
        try:
            columns = columns_of(definition)
            self.image = generate(columns, frozenset(table.columns))
        except UnsupportedEvent as error:
            raise UnsupportedEvent(f"table {self.table}: {error}") from error
        self.definition = {column.name: column for column in columns}
        self.columns = len(columns)
        self.count_size = 1 if self.columns < 251 else 3
        self.bitmap_size = (self.columns + 7) // 8
        self.complete: set[bytes] = set()  # bitmaps that were found to have all columns

    def changes(self, images: Images, event: bytes, at: int, end: int) -> list[RowChange]:
        """All rows of an event: `event` from `at`, which is the number of columns, to `end`.

        Raises UnsupportedEvent, UnprojectableRow.
        """
        image, found = self.image, []
        has_before, has_after = images
        rows_at = at + self.count_size + self.bitmap_size * (has_before + has_after)
        if event[at + self.count_size : rows_at] not in self.complete:
            self._demand_complete(event[at + self.count_size : rows_at])
        at = rows_at
        try:
            while at < end:
                before = after = None
                if has_before:
                    before, at = image(event, at)
                if has_after:
                    after, at = image(event, at)
                found.append(RowChange(self.table, before, after))
        except (ValueError, LookupError, struct.error) as error:
            raise UnprojectableRow(f"a row of table {self.table} cannot be decoded: {error!r}") from error
        if at != end:
            raise UnprojectableRow(f"rows of table {self.table} end {at - end} bytes behind their event")
        return found

    def _demand_complete(self, bitmaps: bytes) -> None:
        """Raises UnsupportedEvent for a partial row image, which a session can set: gaps look like NULL."""
        for at in range(0, len(bitmaps), self.bitmap_size):
            present = int.from_bytes(bitmaps[at : at + self.bitmap_size], "little")
            if (present & (1 << self.columns) - 1).bit_count() < self.columns:
                raise UnsupportedEvent(
                    f"table {self.table} was logged with a partial row image; set binlog_row_image=FULL for "
                    "every session, then run `rebuild`"
                )
        self.complete.add(bitmaps)


def generate(columns: Sequence[Column], wanted: frozenset[str]) -> Image:
    """A function that reads the row image in `event` at `at`, and returns the row and its end."""
    missing = wanted - {column.name for column in columns}
    if missing:
        raise UnsupportedEvent(
            f"its projected column {', '.join(sorted(missing))} is gone; run a projector that does not use "
            "it, or bring it back and run `rebuild`"
        )
    source = Source(columns, wanted)
    exec("\n".join(source.lines()), source.names)
    image: Image = source.names["image"]
    return image


class Source:
    """The lines of the generated function, and the values they refer to; columns are identified by index."""

    def __init__(self, columns: Sequence[Column], wanted: frozenset[str]) -> None:
        self.count = len(columns)
        self.used = {index for index, column in enumerate(columns) if column.name in wanted}
        self.nullable = {index for index, column in enumerate(columns) if column.nullable}
        layouts = [
            decoded_layout_of(column) if index in self.used else layout_of(column)
            for index, column in enumerate(columns)
        ]
        self.fixed = {index: layout for index, layout in enumerate(layouts) if isinstance(layout, Fixed)}
        self.counted = {index: layout for index, layout in enumerate(layouts) if isinstance(layout, Counted)}
        self.converted = {index for index in self.used if layouts[index].convert}
        self.names: dict[str, Any] = {
            **READERS,
            **{f"name{index}": columns[index].name for index in self.used},
            **{f"convert{index}": layouts[index].convert for index in self.converted},
        }

    def lines(self) -> list[str]:
        bitmap = (self.count + 7) // 8
        runs = [list(run) for _, run in groupby(range(self.count), self._run_of)]
        items = ", ".join(f"name{index}: c{index}" for index in sorted(self.used))
        return [
            "def image(event, at):",
            *([f" nulls = int.from_bytes(event[at:at + {bitmap}], 'little')"] if self.nullable else []),
            f" at += {bitmap}",
            *(f" {line}" for run in runs for line in self._run(run)),
            f" return {{{items}}}, at",
        ]

    def _run_of(self, index: int) -> int:
        """Neighbours with the same number are read together; -1: fixed size and never NULL."""
        return -1 if index in self.fixed and index not in self.nullable else index

    def _run(self, run: list[int]) -> list[str]:
        first = run[0]
        lines = self._unpacked(run) if first in self.fixed else self._sliced(first)
        if first not in self.nullable:
            return lines
        return [f"if nulls & {1 << first}: c{first} = None", "else:", *(f" {line}" for line in lines)]

    def _unpacked(self, run: list[int]) -> list[str]:
        """Read columns of fixed size in one step; unused ones are padding."""
        codes = [
            self.fixed[index].code if index in self.used else f"{self.fixed[index].size}x" for index in run
        ]
        unpack = f"unpack{run[0]}"
        self.names[unpack] = struct.Struct(f"<{''.join(codes)}").unpack_from
        values = "".join(f"c{index}, " for index in run if index in self.used)
        return [
            *([f"{values}= {unpack}(event, at)"] if values else []),
            f"at += {sum(self.fixed[index].size for index in run)}",
            *(f"c{index} = convert{index}(c{index})" for index in run if index in self.converted),
        ]

    def _sliced(self, index: int) -> list[str]:
        """Read or skip a column whose bytes follow their length."""
        prefix = self.counted[index].prefix
        if index not in self.used:
            return [f"at += {prefix} + {LENGTHS[prefix]}"]
        value = f"convert{index}(event[start:at])" if index in self.converted else "event[start:at]"
        return [f"start = at + {prefix}", f"at = start + {LENGTHS[prefix]}", f"c{index} = {value}"]
