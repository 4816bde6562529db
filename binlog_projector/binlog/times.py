"""Dates and times in a row image, as PyMySQL's SELECT gives them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from binlog_projector.binlog.layouts import Convert, Fixed, Layout
from binlog_projector.binlog.table_map import Column


def date_layout(column: Column) -> Layout:
    def convert(raw: bytes) -> date | str:
        packed = int.from_bytes(raw, "little")
        year, month, day = packed >> 9, packed >> 5 & 15, packed & 31
        try:
            return date(year, month, day)
        except ValueError:
            return f"{year:04d}-{month:02d}-{day:02d}"

    return Fixed("3s", convert)


def _fraction(digits: int) -> tuple[int, int]:
    """The size of the fraction of a second in bytes, and its unit in microseconds."""
    size = (digits + 1) // 2
    return size, 10 ** (6 - 2 * size)


def datetime_layout(column: Column) -> Layout:
    digits = column.metadata[0]
    return Fixed(f"{5 + _fraction(digits)[0]}s", _datetime_of(digits))


@lru_cache
def _datetime_of(digits: int) -> Convert:
    """The sign, 17 bits of year * 13 + month, 5 of day, 5 of hour, 6 of minute, 6 of second, the fraction."""
    size, unit = _fraction(digits)
    shift, mask = 8 * size, (1 << 8 * size) - 1

    @lru_cache(maxsize=8)  # most times of a row, and of all rows of a statement, are equal
    def convert(raw: bytes) -> datetime | str:
        packed = int.from_bytes(raw, "big")
        whole = packed >> shift
        year, month = divmod(whole >> 22 & 0x1FFFF, 13)
        fields = (
            year,
            month,
            whole >> 17 & 31,
            whole >> 12 & 31,
            whole >> 6 & 63,
            whole & 63,
            (packed & mask) * unit,
        )
        try:
            return datetime(*fields)
        except ValueError:
            return _datetime_text(fields, digits)

    return convert


def timestamp_layout(column: Column) -> Layout:
    size, unit = _fraction(column.metadata[0])
    zero = _datetime_text((0,) * 7, column.metadata[0])

    def convert(raw: bytes) -> datetime | str:
        seconds, fraction = int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:], "big")
        if not seconds:
            return zero
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction * unit, tzinfo=None)

    return Fixed(f"{4 + size}s", convert)


def _datetime_text(fields: tuple[int, ...], digits: int) -> str:
    """The text that a SELECT gives for a time outside Python's datetime, such as the month 0."""
    text = "{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}.{:06d}".format(*fields)
    return text[: 20 + digits] if digits else text[:19]


def time_layout(column: Column) -> Layout:
    """A signed number with an offset: 10 bits of hour, 6 of minute, 6 of second, then the fraction."""
    size, unit = _fraction(column.metadata[0])
    offset, shift, mask = 0x800000 << 8 * size, 8 * size, (1 << 8 * size) - 1

    def convert(raw: bytes) -> timedelta:
        packed = int.from_bytes(raw, "big") - offset
        whole, fraction = abs(packed) >> shift, abs(packed) & mask
        time = timedelta(
            hours=whole >> 12 & 0x3FF,
            minutes=whole >> 6 & 63,
            seconds=whole & 63,
            microseconds=fraction * unit,
        )
        return -time if packed < 0 else time

    return Fixed(f"{3 + size}s", convert)
