"""A table with a column of each decoded type and columns to skip, and values at random and at the edges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from binlog_projector.domain.changes import Row
from binlog_projector.mysql.connections import Connection
from tests.support.harness import rows, run_sql
from writer.schema import Table

WHOLE = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
LABELS = [f"label {number}" for number in range(300)]  # their number takes two bytes
MANY = f"ENUM({', '.join(repr(label) for label in LABELS)})"
TEXTS, BLOBS = ("TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"), ("TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
THREE_BYTES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", max_codepoint=0xFFFF), max_size=20
)
ASCII = st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=12)
DATES = st.dates().map(str) | st.sampled_from(
    ["0000-00-00", "2024-00-10", "2024-02-00", "0000-02-03", "9999-12-31"]
)
CLOCKS = st.times().map(str)
MOMENTS = st.tuples(DATES, CLOCKS).map(" ".join)
SINCE_1970 = st.datetimes(datetime(1970, 1, 1, 0, 0, 1), datetime(2038, 1, 19, 3, 14, 7)).map(str) | st.just(
    "0000-00-00 00:00:00"
)
SPANS = st.tuples(st.sampled_from(["", "-"]), st.integers(0, 838), CLOCKS).map(
    lambda t: f"{t[0]}{t[1]:02d}{t[2][2:]}"
)
PROJECTED: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in WHOLE.items()},
    **{f"{name} UNSIGNED": st.integers(0, 2**bits - 1) for name, bits in WHOLE.items()},
    "DECIMAL(10,2)": st.decimals(-99_999_999, 99_999_999, places=2),
    "DECIMAL(10,2) UNSIGNED": st.decimals(0, 99_999_999, places=2),
    "DECIMAL(65,30)": st.decimals(-(10**34), 10**34, places=30),
    "DECIMAL(20,0)": st.integers(-(10**20) + 1, 10**20 - 1),
    "DECIMAL(9,9)": st.decimals("-0.999999999", "0.999999999", places=9),
    "FLOAT": st.floats(-(2.0**99), 2.0**99, width=32),
    "DOUBLE": st.floats(allow_nan=False, allow_infinity=False),
    "DOUBLE UNSIGNED": st.floats(0, allow_infinity=False),
    "YEAR": st.integers(1901, 2155) | st.just(0),
    **{f"BIT({bits})": st.integers(0, 2**bits - 1) for bits in (1, 9, 64)},
    "DATE": DATES,
    **{f"TIME({digits})": SPANS for digits in range(7)},
    **{f"DATETIME({digits})": MOMENTS for digits in range(7)},
    **{f"TIMESTAMP({digits})": SINCE_1970 for digits in range(7)},
    **{
        f"{name} CHARACTER SET utf8mb4": TEXT
        for name in ("CHAR(20)", "CHAR(200)", "VARCHAR(40)", "VARCHAR(90)")
    },
    **dict.fromkeys(TEXTS, TEXT),
    "VARCHAR(20) CHARACTER SET ascii": ASCII,
    "CHAR(20) CHARACTER SET utf8mb3": THREE_BYTES,
    "BINARY(6)": st.binary(max_size=6),
    "VARBINARY(300)": st.binary(max_size=40),
    **dict.fromkeys(BLOBS, st.binary(max_size=40)),
    "ENUM('','red','grün') CHARACTER SET utf8mb4": st.sampled_from(["red", "grün", ""]),
    MANY: st.sampled_from(LABELS),
}
ZERO, WORDS, BYTES = "0000-00-00 00:00:00", ("", "é😀漢", "😀" * 20), (b"", b"\0\xff\0", b"\xff" * 6)
EDGES: dict[str, Sequence[Any]] = {
    **{name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0) for name, bits in WHOLE.items()},
    **{f"{name} UNSIGNED": (0, 2**bits - 1, 2 ** (bits - 1)) for name, bits in WHOLE.items()},
    "DECIMAL(10,2)": ("-99999999.99", "99999999.99", "-0.01"),
    "DECIMAL(10,2) UNSIGNED": ("0", "99999999.99", "0.01"),
    "DECIMAL(65,30)": (f"-{'9' * 35}.{'9' * 30}", f"{'9' * 35}.{'9' * 30}", f"-0.{'0' * 29}1"),
    "DECIMAL(20,0)": ("-" + "9" * 20, "9" * 20, "0"),
    "DECIMAL(9,9)": ("-0.999999999", "0.999999999", "0"),
    "FLOAT": (-3.4028235e38, 3.4028235e38, 1.1754944e-38),
    "DOUBLE": (-1.7976931348623157e308, 1.7976931348623157e308, 2.2250738585072014e-308),
    "DOUBLE UNSIGNED": (0, 1.7976931348623157e308, 0.1),
    "YEAR": (1901, 2155, 0),
    **{f"BIT({bits})": (0, 2**bits - 1, 1) for bits in (1, 9, 64)},
    "DATE": ("0000-00-00", "9999-12-31", "2024-02-00"),
    **{
        f"TIME({digits})": ("-838:59:59", "838:59:59", f"-00:00:00.{'0' * digits}"[:-1] + "1")
        for digits in range(7)
    },
    **{f"DATETIME({n})": (ZERO, f"9999-12-31 23:59:59.{'9' * n}", "2024-00-10 01:02:03") for n in range(7)},
    **{f"TIMESTAMP({n})": (ZERO, f"2038-01-19 03:14:07.{'4' * n}", "1970-01-01 00:00:01") for n in range(7)},
    **{f"{name} CHARACTER SET utf8mb4": WORDS for name in ("CHAR(20)", "VARCHAR(40)")},
    **{f"{name} CHARACTER SET utf8mb4": ("", "é😀漢", "😀" * 90) for name in ("CHAR(200)", "VARCHAR(90)")},
    **dict.fromkeys(TEXTS, WORDS),
    "VARCHAR(20) CHARACTER SET ascii": ("", "\x01\x7f'\"\\", "x" * 20),
    "CHAR(20) CHARACTER SET utf8mb3": ("", "é漢\uffff", "漢" * 20),
    "BINARY(6)": BYTES,
    "VARBINARY(300)": (b"", b"\0\xff\0", b"\xff" * 300),
    **dict.fromkeys(BLOBS, BYTES),
    "ENUM('','red','grün') CHARACTER SET utf8mb4": ("", "red", "grün"),
    MANY: (LABELS[0], LABELS[-1], LABELS[255]),
}
AT_THE_EDGES = list(zip(*(EDGES[type] for type in PROJECTED), strict=True))
SKIPPED = {
    "JSON": """'{"a": [1, 2.5, "x"]}'""",
    "SET('a','b')": "'a,b'",
    "POINT": "ST_GeomFromText('POINT(1 2)')",
    "VARCHAR(20) CHARACTER SET latin1": "'é'",
    "INT GENERATED ALWAYS AS (7) STORED": "DEFAULT",
    "INT GENERATED ALWAYS AS (8) VIRTUAL": "DEFAULT",
}
WIDE = Table("wide", ("id", *(f"c{number}" for number in range(len(PROJECTED)))), ("id",))
TYPE_OF = dict(zip(WIDE.columns[1:], PROJECTED, strict=True))


def create(connection: Connection, null: str) -> None:
    """Creates the table. A column to skip stands before every fifth decoded one."""
    skipped = iter(SKIPPED)
    columns = ["id BIGINT UNSIGNED PRIMARY KEY"]
    for number, type in enumerate(PROJECTED):
        if number % 5 == 0 and (extra := next(skipped, None)):
            columns.append(f"s{number} {extra}")
        columns.append(f"c{number} {type} {null}")
    run_sql(connection, f"CREATE TABLE wide ({', '.join(columns)}, INDEX ((c0 + 1)))")
    run_sql(connection, "SET sql_mode = ''")


def write(connection: Connection, values: Sequence[Sequence[Any]]) -> tuple[list[Row], list[Row]]:
    """Inserts, updates and deletes rows in one event each. Returns SELECT's rows before and after the update.

    The update reverses the ids, so that both images of a row differ and values change places.
    """
    _insert(connection, values)
    inserted = _selected(connection)
    run_sql(connection, f"UPDATE wide SET id = {len(values) + 1} - id + 1000 ORDER BY id")
    moved = _selected(connection)
    run_sql(connection, "DELETE FROM wide ORDER BY id")
    return inserted, moved


def _insert(connection: Connection, values: Sequence[Sequence[Any]]) -> None:
    """Inserts in one statement. `executemany` does so only if every value is a parameter."""
    names = ", ".join(WIDE.columns)
    others = {
        f"s{number}": value
        for number, value in zip(range(0, len(PROJECTED), 5), SKIPPED.values(), strict=False)
    }
    row = f"({', '.join(['%s'] * len(WIDE.columns))}, {', '.join(others.values())})"
    statement = f"INSERT INTO wide ({names}, {', '.join(others)}) VALUES {', '.join([row] * len(values))}"
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for id, each in enumerate(values, 1) for value in (id, *each)])


def _selected(connection: Connection) -> list[Row]:
    found = rows(connection, f"SELECT {', '.join(WIDE.columns)} FROM wide ORDER BY id")
    return [dict(zip(WIDE.columns, row, strict=True)) for row in found]
