"""The format of each column type in a row image, and the conversion to the value of PyMySQL's SELECT.

The formats are MySQL's `Field_*::pack` and `my_*_from_binary`. A SELECT is the reference: a row from the
snapshot and the same row from the binlog must be equal.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from binlog_projector.binlog.layouts import Counted, Fixed, Layout
from binlog_projector.binlog.table_map import (
    BIT,
    BLOB,
    DATE,
    DATETIME2,
    DOUBLE,
    ENUM,
    FLOAT,
    GEOMETRY,
    INT24,
    JSON,
    LONG,
    LONGLONG,
    NEWDECIMAL,
    SET,
    SHORT,
    STRING,
    TIME2,
    TIMESTAMP2,
    TINY,
    VAR_STRING,
    VARCHAR,
    VECTOR,
    YEAR,
    Column,
)
from binlog_projector.binlog.times import (
    date_layout,
    datetime_layout,
    time_layout,
    timestamp_layout,
)
from binlog_projector.errors import UnsupportedEvent

NAMES = {JSON: "JSON", GEOMETRY: "GEOMETRY", VECTOR: "VECTOR", SET: "SET"}  # skipped, never decoded
BINARY_COLLATION = 63
CHARACTER_BYTES = {  # of the longest character, by collation: ascii, utf8mb3, utf8mb4
    **dict.fromkeys((11, 65), 1),
    **dict.fromkeys((33, 76, 83, *range(192, 216), 223), 3),
    **dict.fromkeys((45, 46, *range(224, 248), *range(255, 324)), 4),
}
UTF8_COLLATIONS = frozenset(CHARACTER_BYTES)
TEXT_TYPES = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
BINARY_TYPES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit"})
NUMBER_TYPES = frozenset(
    {"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "year"}
)
TIME_TYPES = frozenset({"date", "time", "datetime", "timestamp"})
DATA_TYPES = TEXT_TYPES | BINARY_TYPES | NUMBER_TYPES | TIME_TYPES | {"enum"}  # of information_schema
CHARACTER_SETS = frozenset({"utf8mb4", "utf8mb3", "ascii"})
DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)  # by the number of decimal digits


def is_decoded(data_type: str, character_set: str | None) -> bool:
    """Whether values of a column can be used, by its fields in information_schema."""
    return data_type.lower() in DATA_TYPES and (character_set or "ascii") in CHARACTER_SETS


def layout_of(column: Column) -> Layout:
    """The layout to read or skip the column."""
    return LAYOUTS[column.type](column)


def decoded_layout_of(column: Column) -> Layout:
    """The layout of a column in use. Raises UnsupportedEvent if its values cannot be decoded."""
    if column.type in NAMES:
        raise UnsupportedEvent(f"column {column.name} is of type {NAMES[column.type]}, which is not decoded")
    if column.collation not in UTF8_COLLATIONS | {0, BINARY_COLLATION}:
        known = ", ".join(sorted(CHARACTER_SETS))
        raise UnsupportedEvent(
            f"column {column.name} has collation {column.collation}, which is none of {known}"
        )
    return layout_of(column)


def _integer(signed: str) -> Callable[[Column], Layout]:
    return lambda column: Fixed(signed.upper() if column.unsigned else signed)


def _int24(column: Column) -> Layout:
    signed = not column.unsigned
    return Fixed("3s", lambda raw: int.from_bytes(raw, "little", signed=signed))


def _decimal(column: Column) -> Layout:
    """Digits in big-endian groups of nine, shorter ones first and last; positive numbers have the top bit."""
    precision, scale = column.metadata
    whole, odd_whole = divmod(precision - scale, 9)
    fraction, odd_fraction = divmod(scale, 9)
    groups = [odd_whole] + [9] * (whole + fraction) + [odd_fraction]
    sizes = [DIGIT_BYTES[digits] for digits in groups]

    def convert(raw: bytes) -> Decimal:
        negative = not raw[0] & 0x80
        value = int.from_bytes(raw, "big") ^ 0x80 << 8 * (len(raw) - 1)
        packed = (value ^ (1 << 8 * len(raw)) - 1 if negative else value).to_bytes(len(raw), "big")
        digits, at = "", 0
        for count, size in zip(groups, sizes, strict=True):
            digits += f"{int.from_bytes(packed[at : at + size], 'big'):0{count}d}" if count else ""
            at += size
        return Decimal(f"{'-' if negative else ''}{digits}E-{scale}")

    return Fixed(f"{sum(sizes)}s", convert)


def _text(prefix: int, collation: int) -> Layout:
    return Counted(prefix, None if collation == BINARY_COLLATION else bytes.decode)


def char_bytes(column: Column) -> int:
    """The length of a CHAR or BINARY: up to ten bits, two of them hidden, inverted, in the type."""
    high, low = column.metadata
    return (high << 4 & 0x300 ^ 0x300) + low


def _string(column: Column) -> Layout:
    size = char_bytes(column)
    if column.collation == BINARY_COLLATION:
        return Counted(1, lambda raw: raw.ljust(size, b"\0"))
    return _text(1 if size < 256 else 2, column.collation)


def _varchar(column: Column) -> Layout:
    return _text(1 if int.from_bytes(column.metadata, "little") < 256 else 2, column.collation)


def _blob(column: Column) -> Layout:
    return _text(column.metadata[0], column.collation)


def _opaque(column: Column) -> Layout:
    return Counted(column.metadata[0])


def _set(column: Column) -> Layout:
    return Fixed(f"{column.metadata[1]}s")


def _enum(column: Column) -> Layout:
    labels = ["", *(label.decode() for label in column.labels)]
    return Fixed("B" if column.metadata[1] == 1 else "H", labels.__getitem__)


def _bit(column: Column) -> Layout:
    bits, whole_bytes = column.metadata
    return Fixed(f"{whole_bytes + (bits > 0)}s")


def _float(column: Column) -> Layout:
    """MySQL shows six digits of a FLOAT."""
    return Fixed("f", lambda value: float(f"{value:.6g}"))


LAYOUTS: dict[int, Callable[[Column], Layout]] = {
    TINY: _integer("b"),
    SHORT: _integer("h"),
    INT24: _int24,
    LONG: _integer("i"),
    LONGLONG: _integer("q"),
    FLOAT: _float,
    DOUBLE: lambda column: Fixed("d"),
    NEWDECIMAL: _decimal,
    YEAR: lambda column: Fixed("B", lambda value: value and value + 1900),
    DATE: date_layout,
    TIME2: time_layout,
    DATETIME2: datetime_layout,
    TIMESTAMP2: timestamp_layout,
    BIT: _bit,
    ENUM: _enum,
    SET: _set,
    STRING: _string,
    VARCHAR: _varchar,
    VAR_STRING: _varchar,
    BLOB: _blob,
    JSON: _opaque,
    GEOMETRY: _opaque,
    VECTOR: _opaque,
}
