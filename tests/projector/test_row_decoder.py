"""Every value from the binlog is SELECT's value; mysql-replication agrees except for its listed faults."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from binlog_projector.binlog import row_decoder
from binlog_projector.binlog.column_types import CHARACTER_SETS, DATA_TYPES, UTF8_COLLATIONS
from binlog_projector.binlog.events import BODY, DEFINITION, TABLE_MAP
from binlog_projector.binlog.table_map import DATETIME2, LONGLONG, VARCHAR, Column
from binlog_projector.errors import UnsupportedEvent
from ops.stack import Stack
from tests.projector.reading import Images, executed, library_images, our_images, record, replay, split
from tests.projector.recording import RECORDED, as_text, edges, library_images_of, recorded
from tests.projector.wide_table import PROJECTED, SKIPPED, TYPE_OF, WIDE, create, write
from tests.support.harness import admin_connection, rows, run_sql
from writer.schema import Table


def assert_known_fault(type: str, ours: Any, theirs: Any) -> None:
    """The library may differ only by the faults listed below."""
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


def all_images(inserted: list[Any], moved: list[Any]) -> list[tuple[Any, Any]]:
    """The images of the inserts, of the update that reversed the ids, and of the deletes."""
    return [
        *((None, row) for row in inserted),
        *zip(inserted, reversed(moved), strict=True),
        *((row, None) for row in moved),
    ]


def assert_library_agrees(ours: list[Images], theirs: list[Images]) -> None:
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        for our_row, their_row in zip(mine, other, strict=True):
            assert (our_row is None) == (their_row is None)
            for name, value in (our_row or {}).items():
                if their_row and their_row[name] != value:
                    assert_known_fault(TYPE_OF[name], value, their_row[name])


@pytest.mark.parametrize("null", RECORDED)
def test_every_value_is_the_one_that_select_gives(stack: Stack, null: str) -> None:
    """At the edges and at random; several rows per event; updates whose two images hold different values."""
    values = st.tuples(*(st.none() | each if null == "NULL" else each for each in PROJECTED.values()))
    with admin_connection(stack) as connection:
        create(connection, null)

        @settings(
            max_examples=12, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
        )
        @given(st.lists(values, min_size=2, max_size=6))
        @example(edges(null))
        def check(batch: list[tuple[Any, ...]]) -> None:
            start = executed(connection)
            inserted, moved = write(connection, batch)
            ours = our_images(stack, start, WIDE, 3)
            assert ours == all_images(inserted, moved)
            assert_library_agrees(ours, library_images(stack, start, WIDE))

        check()


@pytest.mark.parametrize("null", RECORDED)
def test_recorded_events_are_read_as_they_were_written(null: str) -> None:
    """Packets of MySQL 9.7 and its SELECT's values, both from files, without a server."""
    sent, selected = recorded(null)
    reader = replay(sent, tables={WIDE.name: WIDE})
    ours = [(each.before, each.after) for transaction in reader.read() for each in transaction.changes]
    assert [(as_text(before), as_text(after)) for before, after in ours] == all_images(
        selected["inserted"], selected["moved"]
    )
    assert_library_agrees(ours, list(library_images_of(sent)))


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


@pytest.mark.parametrize(
    "type", [*(name for name in SKIPPED if "GENERATED" not in name), "GEOMETRY", "VECTOR(2)"]
)
def test_other_types_are_refused_by_name_where_they_are_projected(stack: Stack, type: str) -> None:
    table = Table("narrow", ("id", "c"), ("id",))
    with admin_connection(stack) as connection:
        run_sql(connection, f"CREATE TABLE narrow (id INT PRIMARY KEY, c {type} NULL)")
        start = executed(connection)
        run_sql(connection, "INSERT INTO narrow (id) VALUES (1)")
    with pytest.raises(UnsupportedEvent, match=r"table narrow: column c (is of type|has collation)"):
        our_images(stack, start, table, 1)


def test_a_vector_is_skipped_although_the_library_does_not_know_it(stack: Stack) -> None:
    """A vector has a collation, so it counts in the list of text columns' collations."""
    table = Table("narrow", ("id", "c"), ("id",))
    with admin_connection(stack) as connection:
        columns = (
            "id INT PRIMARY KEY, v VECTOR(2), l CHAR(4) CHARACTER SET latin1, c CHAR(4) CHARACTER SET utf8mb4"
        )
        run_sql(connection, f"CREATE TABLE narrow ({columns})")
        start = executed(connection)
        run_sql(connection, "INSERT INTO narrow VALUES (1, STRING_TO_VECTOR('[1, 2]'), 'é', '😀')")
    assert our_images(stack, start, table, 1) == [(None, {"id": 1, "c": "😀"})]


def test_collations_are_known_by_their_character_set(stack: Stack) -> None:
    """Every collation of this server: the test notices new ones of a later version."""
    with admin_connection(stack) as connection:
        known = dict(rows(connection, "SELECT id, character_set_name FROM information_schema.collations"))
    assert {id for id, name in known.items() if name in CHARACTER_SETS} <= UTF8_COLLATIONS
    assert not {id for id, name in known.items() if name not in CHARACTER_SETS} & UTF8_COLLATIONS


def test_more_columns_than_fit_into_one_byte(stack: Stack) -> None:
    """300 columns: their number takes three bytes, the bitmaps of present and of NULL columns 38 each."""
    names = tuple(f"c{number}" for number in range(300))
    table = Table("many", names, ("c0",))
    with admin_connection(stack) as connection:
        columns = ", ".join(f"{name} INT UNSIGNED" for name in names)
        run_sql(connection, f"CREATE TABLE many ({columns}, PRIMARY KEY (c0))")
        start = executed(connection)
        run_sql(connection, f"INSERT INTO many VALUES ({', '.join(str(2**32 - 1 - n) for n in range(300))})")
        run_sql(connection, f"UPDATE many SET {', '.join(f'{name} = NULL' for name in names[1::3])}")
    row = {name: 2**32 - 1 - number for number, name in enumerate(names)}
    assert our_images(stack, start, table, 2) == [(None, row), (row, {**row, **dict.fromkeys(names[1::3])})]


@pytest.mark.parametrize(
    "evil", ["x': __import__('os').abort(), 'y", 'a"\n import os\n os.abort()', "\\', {c0}, 列"]
)
def test_names_are_values_and_never_source_text(stack: Stack, evil: str) -> None:
    """Names of tables and columns that would be code if the generated function contained them."""
    table = Table(evil, ("id", evil), ("id",))
    with admin_connection(stack) as connection:
        run_sql(connection, f"CREATE TABLE `{evil}` (id INT PRIMARY KEY, `{evil}` DATE, `{evil}2` JSON)")
        start = executed(connection)
        run_sql(connection, f"INSERT INTO `{evil}` VALUES (1, '2026-01-02', '{{}}')")
    assert our_images(stack, start, table, 1) == [(None, {"id": 1, evil: date(2026, 1, 2)})]


def test_a_decoder_is_made_once_for_each_definition(stack: Stack) -> None:
    """The table's id does not matter. A changed table is read by its new definition at once."""
    table = Table("narrow", ("id", "c"), ("id",))
    with admin_connection(stack) as connection:
        run_sql(connection, "CREATE TABLE narrow (id INT PRIMARY KEY, c INT)")
        start = executed(connection)
        run_sql(
            connection, "INSERT INTO narrow VALUES (1, 1)", "FLUSH TABLES", "INSERT INTO narrow VALUES (2, 2)"
        )
        run_sql(
            connection,
            "ALTER TABLE narrow MODIFY c BIGINT FIRST",
            "INSERT INTO narrow VALUES (3000000000, 3)",
        )
    sent = record(stack, start, 5, {"narrow": table})  # with FLUSH and ALTER
    reader = replay(sent, tables={"narrow": table})
    found = [change.after for each in reader.read() for change in each.changes]
    assert found == [{"id": 1, "c": 1}, {"id": 2, "c": 2}, {"id": 3, "c": 3_000_000_000}]
    ids = {each[5 + BODY : 5 + DEFINITION] for each in split(sent) if each[9] == TABLE_MAP}
    assert (len(ids), len(reader.decoders)) == (3, 2)


def test_the_function_that_the_module_shows_is_the_generated_one() -> None:
    columns = [
        Column("id", LONGLONG, b"", nullable=False, unsigned=False, collation=0, labels=()),
        Column(
            "note",
            VARCHAR,
            (2000).to_bytes(2, "little"),
            nullable=True,
            unsigned=False,
            collation=255,
            labels=(),
        ),
        Column("at", DATETIME2, b"\0", nullable=False, unsigned=False, collation=0, labels=()),
    ]
    source = "\n".join(row_decoder.Source(columns, frozenset({"id", "note", "at"})).lines())
    shown = row_decoder.__doc__ or ""
    assert source.split() == shown[shown.index("def image") : shown.index("Names of tables")].split()
