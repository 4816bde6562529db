"""A table's definition in a TABLE_MAP event: names and types of the columns in the row images that follow.

The definition is the part of the event behind the table id. MySQL's source documents the layout
(mysql::binlog::event::Table_map_event).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from binlog_projector.errors import UnsupportedEvent

T = TypeVar("T")

NAMES_AT = 2  # behind the flags
TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24 = 1, 2, 3, 4, 5, 8, 9
DATE, YEAR, VARCHAR, BIT, TIMESTAMP2, DATETIME2, TIME2, VECTOR = 10, 13, 15, 16, 17, 18, 19, 242
JSON, NEWDECIMAL, ENUM, SET, BLOB, VAR_STRING, STRING, GEOMETRY = 245, 246, 247, 248, 252, 253, 254, 255
METADATA_SIZES = {
    **dict.fromkeys((TINY, SHORT, LONG, LONGLONG, INT24, DATE, YEAR), 0),
    **dict.fromkeys((FLOAT, DOUBLE, BLOB, JSON, GEOMETRY, VECTOR, TIMESTAMP2, DATETIME2, TIME2), 1),
    **dict.fromkeys((VARCHAR, VAR_STRING, STRING, NEWDECIMAL, BIT), 2),
}
HAVE_SIGN = (TINY, SHORT, INT24, LONG, LONGLONG, NEWDECIMAL, FLOAT, DOUBLE)
HAVE_COLLATION = (STRING, VAR_STRING, VARCHAR, BLOB, VECTOR)  # a VECTOR is a BLOB to MySQL
SIGNEDNESS, DEFAULT_CHARSET, COLUMN_CHARSET, COLUMN_NAME, ENUM_LABELS = 1, 2, 3, 4, 6
ENUM_DEFAULT_CHARSET, ENUM_COLUMN_CHARSET = 10, 11


@dataclass(frozen=True)
class Column:
    """`metadata`: the bytes that belong to the type. `collation`: 0 if there is none."""

    name: str
    type: int
    metadata: bytes
    nullable: bool
    unsigned: bool
    collation: int
    labels: tuple[bytes, ...]  # of an ENUM


class Cursor:
    """Reads the fields of an event in order."""

    def __init__(self, fields: bytes, at: int = 0) -> None:
        self.fields = fields
        self.at = at

    def take(self, size: int) -> bytes:
        self.at += size
        return self.fields[self.at - size : self.at]

    def number(self) -> int:
        """A length-encoded integer."""
        first = self.take(1)[0]
        return first if first < 251 else int.from_bytes(self.take({252: 2, 253: 3, 254: 8}[first]), "little")

    def text(self) -> bytes:
        return self.take(self.number())

    def until_end(self) -> Iterator[Cursor]:
        while self.at < len(self.fields):
            yield self


def schema_and_table(definition: bytes) -> tuple[str, str]:
    cursor = Cursor(definition, NAMES_AT)
    schema = cursor.text().decode()
    cursor.take(1)
    return schema, cursor.text().decode()


def columns_of(definition: bytes) -> list[Column]:
    """The columns in the order of the row images. Raises UnsupportedEvent."""
    cursor = Cursor(definition, NAMES_AT)
    for _ in ("schema", "table"):
        cursor.text()
        cursor.take(1)
    codes = cursor.take(cursor.number())
    metadata = _metadata(codes, Cursor(cursor.text()))
    nullable = cursor.take((len(codes) + 7) // 8)
    optional = {field.number(): field.text() for field in cursor.until_end()}
    if COLUMN_NAME not in optional:
        raise UnsupportedEvent(
            "it was logged without column names; set binlog_row_metadata=FULL, then run `rebuild`"
        )
    names = [field.text().decode() for field in Cursor(optional[COLUMN_NAME]).until_end()]
    types = [_real_type(code, own) for code, own in zip(codes, metadata, strict=True)]
    unsigned = _spread(types, HAVE_SIGN, _flags(optional.get(SIGNEDNESS, b"")))
    collations = {
        **_spread(types, HAVE_COLLATION, _collations(optional, DEFAULT_CHARSET, COLUMN_CHARSET)),
        **_spread(types, (ENUM, SET), _collations(optional, ENUM_DEFAULT_CHARSET, ENUM_COLUMN_CHARSET)),
    }
    labels = _spread(types, (ENUM,), _labels(optional.get(ENUM_LABELS, b"")))
    return [
        Column(
            name=name,
            type=types[index],
            metadata=metadata[index],
            nullable=bool(nullable[index // 8] >> index % 8 & 1),
            unsigned=unsigned.get(index, False),
            collation=collations.get(index, 0),
            labels=labels.get(index, ()),
        )
        for index, name in enumerate(names)
    ]


def _metadata(codes: bytes, cursor: Cursor) -> list[bytes]:
    unknown = set(codes) - METADATA_SIZES.keys()
    if unknown:
        raise UnsupportedEvent(f"it has a column of the unknown type {min(unknown)}: update the projector")
    return [cursor.take(METADATA_SIZES[code]) for code in codes]


def _real_type(code: int, metadata: bytes) -> int:
    """ENUM and SET are logged as STRING, with the type in the metadata; a long CHAR has length bits there."""
    return metadata[0] if code == STRING and metadata[0] in (ENUM, SET) else code


def _spread(types: list[int], wanted: tuple[int, ...], value: Callable[[int], T]) -> dict[int, T]:
    """Optional metadata counts only the columns that can have it; returns the values by a column's index."""
    indexes = [index for index, type in enumerate(types) if type in wanted]
    return {index: value(place) for place, index in enumerate(indexes)}


def _flags(bits: bytes) -> Callable[[int], bool]:
    return lambda place: bool(bits[place // 8] << place % 8 & 0x80)


def _collations(optional: dict[int, bytes], default: int, each: int) -> Callable[[int], int]:
    """A default with pairs of (place, collation) for the exceptions, or one collation per column."""
    if default in optional:
        common, *exceptions = _numbers(optional[default])
        others = dict(zip(exceptions[::2], exceptions[1::2], strict=True))
        return lambda place: others.get(place, common)
    return _numbers(optional.get(each, b"")).__getitem__


def _labels(field: bytes) -> Callable[[int], tuple[bytes, ...]]:
    found = [tuple(cursor.text() for _ in range(cursor.number())) for cursor in Cursor(field).until_end()]
    return found.__getitem__


def _numbers(field: bytes) -> list[int]:
    return [cursor.number() for cursor in Cursor(field).until_end()]
