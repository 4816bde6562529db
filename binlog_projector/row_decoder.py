"""A decoder generated for each table definition: from the raw bytes of a rows event to dicts of the columns in use.

A row image is a bitmap of NULLs and then the columns one behind the other. The generated function reads them in one
pass: columns of fixed size that cannot be NULL are unpacked together, columns that nobody uses are skipped. For
`likes (post_id, user_id, created_at)` it is

    def image(data, at):
        at += 1
        c0, c1, c2, = unpack0(data, at)
        at += 24
        c2 = convert2(c2)
        return {name0: c0, name1: c1, name2: c2}, at

Names of tables and columns never become source text: they are values to which the source refers by number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from binlog_projector.changes import Row, RowChange
from binlog_projector.column_types import Counted, Fixed, decoded_layout_of, layout_of
from binlog_projector.errors import UnprojectableRow, UnsupportedEvent
from binlog_projector.table_map import Column, columns_of
from writer.schema import Table

Image = Callable[[bytes, int], tuple[Row, int]]  # the row that begins at, and where it ends
Images = tuple[bool, bool]
INSERT, DELETE, UPDATE = (False, True), (True, False), (True, True)  # whether there are images of before and of after
LENGTHS = {1: "data[at]", 2: "u16(data, at)[0]", 3: "u24(data, at)", 4: "u32(data, at)[0]"}
READERS: dict[str, Callable[[bytes, int], Any]] = {
    "u16": struct.Struct("<H").unpack_from,
    "u24": lambda data, at: int.from_bytes(data[at : at + 3], "little"),
    "u32": struct.Struct("<I").unpack_from,
}


class RowDecoder:
    """The rows of one watched table in one of its definitions."""

    def __init__(self, table: Table, definition: bytes) -> None:
        """Raises UnsupportedEvent if a column in use is not there, or is of a type that is not decoded."""
        self.table = table.name
        try:
            columns = columns_of(definition)
            self.image = generate(columns, frozenset(table.columns))
        except UnsupportedEvent as error:
            raise UnsupportedEvent(f"table {self.table}: {error}") from error
        self.columns = len(columns)
        self.count_size = 1 if self.columns < 251 else 3
        self.bitmap_size = (self.columns + 7) // 8
        self.complete: set[bytes] = set()  # bitmaps of present columns that have all of them

    def changes(self, images: Images, data: bytes, at: int, end: int) -> list[RowChange]:
        """All rows of an event: `data` from `at`, where the number of columns stands, to `end`.

        Raises UnsupportedEvent, UnprojectableRow.
        """
        image, found = self.image, []
        has_before, has_after = images
        rows_at = at + self.count_size + self.bitmap_size * (has_before + has_after)
        if data[at + self.count_size : rows_at] not in self.complete:
            self._demand_complete(data[at + self.count_size : rows_at])
        at = rows_at
        try:
            while at < end:
                before = after = None
                if has_before:
                    before, at = image(data, at)
                if has_after:
                    after, at = image(data, at)
                found.append(RowChange(self.table, before, after))
        except (ValueError, LookupError, struct.error) as error:
            raise UnprojectableRow(f"a row of table {self.table} cannot be decoded: {error!r}") from error
        if at != end:
            raise UnprojectableRow(f"rows of table {self.table} end {at - end} bytes behind their event")
        return found

    def _demand_complete(self, bitmaps: bytes) -> None:
        """binlog_row_image can be changed per session, and a column that was left out would look like NULL."""
        for at in range(0, len(bitmaps), self.bitmap_size):
            present = int.from_bytes(bitmaps[at : at + self.bitmap_size], "little")
            if (present & (1 << self.columns) - 1).bit_count() < self.columns:
                raise UnsupportedEvent(
                    f"table {self.table} was logged with a partial row image; set binlog_row_image=FULL for every "
                    "session, then run `rebuild`"
                )
        self.complete.add(bitmaps)


def generate(columns: Sequence[Column], wanted: frozenset[str]) -> Image:
    """A function that returns the row image of `data` that begins at `at`, and where it ends."""
    missing = wanted - {column.name for column in columns}
    if missing:
        raise UnsupportedEvent(
            f"its projected column {', '.join(sorted(missing))} is gone; run a projector that does not use it, or "
            "bring it back and run `rebuild`"
        )
    source = _Source(columns, wanted)
    exec("\n".join(source.lines()), source.names)
    image: Image = source.names["image"]
    return image


class _Source:
    """The lines of the generated function, and the values that they name."""

    def __init__(self, columns: Sequence[Column], wanted: frozenset[str]) -> None:
        self.columns = columns
        self.used = [column.name in wanted for column in columns]
        self.layouts = [
            (decoded_layout_of if used else layout_of)(column) for column, used in zip(columns, self.used, strict=True)
        ]
        self.names: dict[str, Any] = dict(READERS)
        for index, layout in enumerate(self.layouts):
            self.names |= {f"name{index}": columns[index].name, f"convert{index}": layout.convert}

    def lines(self) -> list[str]:
        bitmap = (len(self.columns) + 7) // 8
        runs = [list(run) for _, run in groupby(range(len(self.columns)), self._run_of)]
        items = ", ".join(f"name{index}: c{index}" for index, used in enumerate(self.used) if used)
        return [
            "def image(data, at):",
            *([f" nulls = int.from_bytes(data[at:at + {bitmap}], 'little')"] if self._nullable() else []),
            f" at += {bitmap}",
            *(f" {line}" for run in runs for line in self._run(run)),
            f" return {{{items}}}, at",
        ]

    def _nullable(self) -> bool:
        return any(column.nullable for column in self.columns)

    def _run_of(self, index: int) -> int:
        """Neighbours with the same number are read together: -1 is any of fixed size that cannot be NULL."""
        return -1 if isinstance(self.layouts[index], Fixed) and not self.columns[index].nullable else index

    def _run(self, run: list[int]) -> list[str]:
        lines = self._counted(run[0]) if isinstance(self.layouts[run[0]], Counted) else self._fixed(run)
        if not self.columns[run[0]].nullable:
            return lines
        return [f"if nulls & {1 << run[0]}: c{run[0]} = None", "else:", *(f" {line}" for line in lines)]

    def _fixed(self, run: list[int]) -> list[str]:
        codes = {index: layout.code for index in run if isinstance(layout := self.layouts[index], Fixed)}
        sizes = {index: struct.calcsize(f"<{code}") for index, code in codes.items()}
        used = [index for index in run if self.used[index]]
        whole = struct.Struct("<" + "".join(codes[i] if self.used[i] else f"{sizes[i]}x" for i in run))
        self.names[f"unpack{run[0]}"] = whole.unpack_from
        return [
            *([f"{', '.join(f'c{index}' for index in used)}, = unpack{run[0]}(data, at)"] if used else []),
            f"at += {whole.size}",
            *(f"c{index} = convert{index}(c{index})" for index in used if self.layouts[index].convert),
        ]

    def _counted(self, index: int) -> list[str]:
        layout = self.layouts[index]
        assert isinstance(layout, Counted)
        length = LENGTHS[layout.prefix]
        if not self.used[index]:
            return [f"at += {layout.prefix} + {length}"]
        value = f"convert{index}(data[start:at])" if layout.convert else "data[start:at]"
        return [f"start = at + {layout.prefix}", f"at = start + {length}", f"c{index} = {value}"]
