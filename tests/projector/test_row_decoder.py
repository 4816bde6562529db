"""Every value out of the binlog is the one that a SELECT gives; mysql-replication agrees but for its listed faults."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from binlog_projector.changes import Row
from binlog_projector.column_types import CHARACTER_SETS, DATA_TYPES, UTF8_COLLATIONS
from binlog_projector.errors import UnsupportedEvent
from binlog_projector.source import Connection
from ops.stack import Stack
from tests.harness import admin_connection, rows, run_sql
from tests.projector.reading import Images, executed, library_images, our_images
from writer.schema import Table

WHOLE = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ASCII = st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=12)
DATES = st.dates().map(str) | st.sampled_from(["0000-00-00", "2024-00-10", "2024-02-00", "0000-02-03", "9999-12-31"])
CLOCKS = st.times().map(str)
MOMENTS = st.tuples(DATES, CLOCKS).map(" ".join)
SINCE_1970 = st.datetimes(datetime(1970, 1, 1, 0, 0, 1), datetime(2038, 1, 19, 3, 14, 7)).map(str) | st.just(
    "0000-00-00 00:00:00"
)
SPANS = st.tuples(st.sampled_from(["", "-"]), st.integers(0, 838), CLOCKS).map(lambda t: f"{t[0]}{t[1]:02d}{t[2][2:]}")
PROJECTED: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in WHOLE.items()},
    **{f"{name} UNSIGNED": st.integers(0, 2**bits - 1) for name, bits in WHOLE.items()},
    "DECIMAL(10,2)": st.decimals(-99_999_999, 99_999_999, places=2),
    "DECIMAL(65,30)": st.decimals(-(10**34), 10**34, places=30),
    "DECIMAL(20,0)": st.integers(-(10**20) + 1, 10**20 - 1),
    "DECIMAL(9,9)": st.decimals("-0.999999999", "0.999999999", places=9),
    "FLOAT": st.floats(-(2.0**99), 2.0**99, width=32),
    "DOUBLE": st.floats(allow_nan=False, allow_infinity=False),
    "YEAR": st.integers(1901, 2155) | st.just(0),
    "BIT(9)": st.integers(0, 511),
    "DATE": DATES,
    **{f"TIME({digits})": SPANS for digits in (0, 1, 3, 6)},
    **{f"DATETIME({digits})": MOMENTS for digits in (0, 2, 4, 5, 6)},
    **{f"TIMESTAMP({digits})": SINCE_1970 for digits in (0, 3, 6)},
    **{f"{name} CHARACTER SET utf8mb4": TEXT for name in ("CHAR(20)", "CHAR(200)", "VARCHAR(40)", "VARCHAR(90)")},
    **{name: TEXT for name in ("TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT")},
    "VARCHAR(20) CHARACTER SET ascii": ASCII,
    "CHAR(20) CHARACTER SET utf8mb3": ASCII,
    "BINARY(6)": st.binary(max_size=6),
    "VARBINARY(300)": st.binary(max_size=40),
    **{name: st.binary(max_size=40) for name in ("TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB")},
    "ENUM('','red','grün') CHARACTER SET utf8mb4": st.sampled_from(["red", "grün", ""]),
}
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


def create_wide(connection: Connection, null: str) -> None:
    """A column that is skipped stands before every fifth one that is decoded."""
    skipped = iter(SKIPPED)
    columns = ["id BIGINT UNSIGNED PRIMARY KEY"]
    for number, type in enumerate(PROJECTED):
        if number % 5 == 0 and (extra := next(skipped, None)):
            columns.append(f"s{number} {extra}")
        columns.append(f"c{number} {type} {null}")
    run_sql(connection, f"CREATE TABLE wide ({', '.join(columns)}, INDEX ((c0 + 1)))")
    run_sql(connection, "SET sql_mode = ''")


def selected(connection: Connection) -> list[Row]:
    found = rows(connection, f"SELECT {', '.join(WIDE.columns)} FROM wide ORDER BY id")
    return [dict(zip(WIDE.columns, row, strict=True)) for row in found]


def insert(connection: Connection, values: list[tuple[Any, ...]]) -> None:
    """In one statement; `executemany` makes one only if all that it inserts are parameters."""
    names = ", ".join(WIDE.columns)
    others = {f"s{number}": value for number, value in zip(range(0, len(PROJECTED), 5), SKIPPED.values(), strict=False)}
    row = f"({', '.join(['%s'] * len(WIDE.columns))}, {', '.join(others.values())})"
    statement = f"INSERT INTO wide ({names}, {', '.join(others)}) VALUES {', '.join([row] * len(values))}"
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for id, each in enumerate(values, 1) for value in (id, *each)])


def assert_known_fault(type: str, ours: Any, theirs: Any) -> None:
    """The library may differ only where its faults are listed below."""
    match type.partition("(")[0].split()[0]:
        case "FLOAT":
            assert float(f"{theirs:.6g}") == ours
        case "BIT":
            assert int(theirs, 2) == int.from_bytes(ours, "big")
        case "BINARY":
            assert (theirs or b"").ljust(6, b"\0") == ours
        case "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB":
            assert (ours, theirs) == (b"", "")
        case "YEAR":
            assert (ours, theirs) == (0, 1900)
        case "DATE" | "DATETIME":
            assert isinstance(ours, str) and theirs is None
        case "TIMESTAMP":
            assert ours.startswith("0000-00-00 00:00:00") and theirs == datetime(1970, 1, 1)
        case "TIME":
            assert ours < timedelta() and ours.microseconds
        case _:
            raise AssertionError(f"{type}: {ours!r} is not {theirs!r}")


def assert_library_agrees(ours: list[Images], theirs: list[Images]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for our_row, their_row in zip(mine, other, strict=True):
            assert (our_row is None) == (their_row is None)
            for name, value in (our_row or {}).items():
                if their_row and their_row[name] != value:
                    assert_known_fault(TYPE_OF[name], value, their_row[name])


@pytest.mark.parametrize("null", ["NULL", "NOT NULL"])
def test_every_value_is_the_one_that_select_gives(stack: Stack, null: str) -> None:
    """Several rows per event; updates turn the rows round, so that both images hold different values."""
    values = st.tuples(*(st.none() | each if null == "NULL" else each for each in PROJECTED.values()))
    with admin_connection(stack) as connection:
        create_wide(connection, null)

        @settings(max_examples=12, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(st.lists(values, min_size=2, max_size=6))
        def check(batch: list[tuple[Any, ...]]) -> None:
            start = executed(connection)
            insert(connection, batch)
            inserted = selected(connection)
            run_sql(connection, f"UPDATE wide SET id = {len(batch) + 1} - id + 1000 ORDER BY id")
            moved = selected(connection)
            run_sql(connection, "DELETE FROM wide ORDER BY id")
            ours = our_images(stack, start, WIDE, 3)
            updates = [(row, {**row, "id": len(batch) + 1 - row["id"] + 1000}) for row in inserted]
            assert ours == [*((None, row) for row in inserted), *updates, *((row, None) for row in moved)]
            assert_library_agrees(ours, library_images(stack, start, WIDE))

        check()


@pytest.mark.parametrize(
    ("type", "written", "mysql", "library"),
    [
        ("DATE", "'0000-00-00'", "0000-00-00", None),
        ("DATE", "'2024-02-00'", "2024-02-00", None),
        ("DATETIME(2)", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00.00", None),
        ("DATETIME", "'2024-00-10 01:02:03'", "2024-00-10 01:02:03", None),
        ("TIMESTAMP(3)", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00.000", datetime(1970, 1, 1)),
        ("TIME(3)", "'-00:00:01.25'", -timedelta(seconds=1.25), -timedelta(seconds=1.75)),
        ("YEAR", "'0000'", 0, 1900),
        ("FLOAT", "1.1", 1.1, 1.100000023841858),
        ("BIT(9)", "b'100000001'", b"\x01\x01", "100000001"),
        ("BINARY(4)", "x'41000000'", b"A\0\0\0", b"A"),
        ("VARBINARY(4)", "x''", b"", ""),
        ("BINARY(4)", "x'00000000'", b"\0\0\0\0", ""),
    ],
)
def test_known_faults_of_the_library(stack: Stack, type: str, written: str, mysql: Any, library: Any) -> None:
    table = Table("narrow", ("id", "c"), ("id",))
    with admin_connection(stack) as connection:
        run_sql(connection, "SET sql_mode = ''", f"CREATE TABLE narrow (id INT PRIMARY KEY, c {type} NULL)")
        start = executed(connection)
        run_sql(connection, f"INSERT INTO narrow VALUES (1, {written})")
        assert rows(connection, "SELECT c FROM narrow") == [(mysql,)]
    assert our_images(stack, start, table, 1) == [(None, {"id": 1, "c": mysql})]
    assert library_images(stack, start, table) == [(None, {"id": 1, "c": library})]


def test_every_type_that_is_decoded_is_compared() -> None:
    compared = {name.partition("(")[0].split()[0].lower() for name in PROJECTED}
    assert compared == DATA_TYPES


@pytest.mark.parametrize("type", [*(name for name in SKIPPED if "GENERATED" not in name), "GEOMETRY", "VECTOR(2)"])
def test_other_types_are_refused_by_name_where_they_are_projected(stack: Stack, type: str) -> None:
    table = Table("narrow", ("id", "c"), ("id",))
    with admin_connection(stack) as connection:
        run_sql(connection, f"CREATE TABLE narrow (id INT PRIMARY KEY, c {type} NULL)")
        start = executed(connection)
        run_sql(connection, "INSERT INTO narrow (id) VALUES (1)")
    with pytest.raises(UnsupportedEvent, match=r"table narrow: column c (is of type|has collation)"):
        our_images(stack, start, table, 1)


def test_a_vector_is_skipped_although_the_library_does_not_know_it(stack: Stack) -> None:
    """It has a collation, so it counts where those of text columns are told."""
    table = Table("narrow", ("id", "c"), ("id",))
    with admin_connection(stack) as connection:
        columns = "id INT PRIMARY KEY, v VECTOR(2), l CHAR(4) CHARACTER SET latin1, c CHAR(4) CHARACTER SET utf8mb4"
        run_sql(connection, f"CREATE TABLE narrow ({columns})")
        start = executed(connection)
        run_sql(connection, "INSERT INTO narrow VALUES (1, STRING_TO_VECTOR('[1, 2]'), 'é', '😀')")
    assert our_images(stack, start, table, 1) == [(None, {"id": 1, "c": "😀"})]


def test_collations_are_known_by_their_character_set(stack: Stack) -> None:
    """Every collation of this server, so that a new version with more of them is noticed."""
    with admin_connection(stack) as connection:
        known = dict(rows(connection, "SELECT id, character_set_name FROM information_schema.collations"))
    assert {id for id, name in known.items() if name in CHARACTER_SETS} <= UTF8_COLLATIONS
    assert not {id for id, name in known.items() if name not in CHARACTER_SETS} & UTF8_COLLATIONS


def test_more_columns_than_fit_into_one_byte(stack: Stack) -> None:
    names = tuple(f"c{number}" for number in range(300))
    table = Table("many", names, ("c0",))
    with admin_connection(stack) as connection:
        columns = ", ".join(f"{name} INT UNSIGNED" for name in names)
        run_sql(connection, f"CREATE TABLE many ({columns}, PRIMARY KEY (c0))")
        start = executed(connection)
        run_sql(connection, f"INSERT INTO many VALUES ({', '.join(str(2**32 - 1 - n) for n in range(300))})")
        run_sql(connection, "UPDATE many SET c299 = NULL")
    row = {name: 2**32 - 1 - number for number, name in enumerate(names)}
    assert our_images(stack, start, table, 2) == [(None, row), (row, {**row, "c299": None})]


def test_names_are_values_and_never_source_text(stack: Stack) -> None:
    """A column whose name would be code, if it were pasted into the generated function."""
    evil = "x': __import__('os').abort(), 'y"
    table = Table("narrow", ("id", evil), ("id",))
    with admin_connection(stack) as connection:
        run_sql(connection, f"CREATE TABLE narrow (id INT PRIMARY KEY, `{evil}` DATE)")
        start = executed(connection)
        run_sql(connection, "INSERT INTO narrow VALUES (1, '2026-01-02')")
    assert our_images(stack, start, table, 1) == [(None, {"id": 1, evil: date(2026, 1, 2)})]
