"""Migrations are applied once and in order, by the first process; applied files never change."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.stack import Stack
from tests.writer.mysql import MySql
from tests.writer.people import at_once
from writer.__main__ import main
from writer.database import readiness
from writer.errors import MigrationFailed
from writer.migrate import migrate, migrations
from writer.schema import MIGRATIONS, SCHEMA, TABLES

NAMES = [each.name for each in migrations() if not each.finishing]
FINISHING = [each.name for each in migrations() if each.finishing]


@pytest.fixture
def mysql(stack: Stack) -> MySql:
    """A server with an empty schema."""
    return MySql(stack)


@pytest.fixture
def url(mysql: MySql) -> str:
    return mysql.stack.environment()["TIDEMARK_MIGRATOR_MYSQL_URL"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the product's migrations."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


def tables(mysql: MySql) -> set[str]:
    return {name for (name,) in mysql.rows("SHOW TABLES")}


def test_an_empty_schema_is_filled_and_a_second_run_changes_nothing(mysql: MySql, url: str) -> None:
    assert "users" in readiness(mysql.url)
    assert migrate(url) == NAMES
    assert readiness(mysql.url) == "ok"
    assert migrate(url) == []
    assert tables(mysql) == {*TABLES, "idempotency_keys", "user_deletions", "schema_migrations"}


@pytest.mark.parametrize(
    ("applied", "lacks"), [(1, "user_deletions"), (2, "mentions"), (5, "post_author_id")]
)
def test_a_writer_is_not_ready_before_its_latest_migration(
    mysql: MySql, url: str, folder: Path, applied: int, lacks: str
) -> None:
    for name in NAMES[applied:]:
        (folder / name).unlink()
    assert migrate(url, folder) == NAMES[:applied]
    assert lacks in readiness(mysql.url)
    assert migrate(url) == NAMES[applied:]
    assert readiness(mysql.url) == "ok"


def test_a_new_file_is_applied_to_an_older_schema(mysql: MySql, url: str, folder: Path) -> None:
    migrate(url, folder)
    sql = "CREATE TABLE bookmarks (id INT PRIMARY KEY); -- 100 %s; fine\nINSERT INTO bookmarks VALUES (1);\n"
    (folder / "0090_bookmarks.sql").write_text(sql)
    assert migrate(url, folder) == ["0090_bookmarks.sql"]
    assert mysql.rows("SELECT id FROM bookmarks") == ((1,),)


def test_two_at_once_apply_everything_once(url: str) -> None:
    results = at_once(*(lambda: migrate(url) for _ in range(3)))
    assert sorted(results) == [[], [], NAMES]


def test_an_applied_file_that_was_changed_is_refused_by_name(mysql: MySql, url: str, folder: Path) -> None:
    migrate(url, folder)
    (folder / NAMES[0]).write_text((folder / NAMES[0]).read_text() + "-- harmless?\n")
    (folder / "0090_new.sql").write_text("CREATE TABLE new_one (id INT PRIMARY KEY);")
    with pytest.raises(MigrationFailed, match=rf"{NAMES[0]} is not what was applied"):
        migrate(url, folder)
    assert "new_one" not in tables(mysql)


def test_a_file_that_fails_is_named_and_not_recorded(mysql: MySql, url: str, folder: Path) -> None:
    (folder / "0090_bad.sql").write_text(
        "CREATE TABLE half (id INT PRIMARY KEY);\nCREATE TABLE half (id INT);\n"
    )
    with pytest.raises(MigrationFailed, match=r"0090_bad.sql: .*'half' already exists.*by hand"):
        migrate(url, folder)
    assert mysql.rows("SELECT name FROM schema_migrations ORDER BY version") == tuple(
        (name,) for name in NAMES
    )
    mysql.execute("DROP TABLE half")
    (folder / "0090_bad.sql").write_text("CREATE TABLE half (id INT PRIMARY KEY);\n")
    assert migrate(url, folder) == ["0090_bad.sql"]


def test_a_migration_gives_way_to_a_long_transaction(mysql: MySql, url: str, folder: Path) -> None:
    migrate(url, folder)
    (folder / "0090_alter.sql").write_text("ALTER TABLE users ADD COLUMN age INT NULL;")
    with (
        mysql.locked("SELECT COUNT(*) FROM users"),
        pytest.raises(MigrationFailed, match=r"0090_alter.sql: .*timeout"),
    ):
        migrate(url, folder, patience_seconds=1)
    with ThreadPoolExecutor() as threads:
        with mysql.locked("SELECT COUNT(*) FROM users"):
            migrating = threads.submit(migrate, url, folder)
            time.sleep(2)
        assert migrating.result() == ["0090_alter.sql"]


def test_a_file_that_older_writers_cannot_live_with_waits_for_its_word(mysql: MySql, url: str) -> None:
    nullable = "SELECT is_nullable FROM information_schema.columns WHERE column_name = 'post_author_id'"
    assert migrate(url) == NAMES
    assert mysql.rows(nullable) == (("YES",), ("YES",))
    assert migrate(url, finish=True) == FINISHING
    assert mysql.rows(nullable) == (("NO",), ("NO",))
    assert migrate(url, finish=True) == []


@pytest.mark.parametrize("name", ["9_short.sql", "0001_twice.sql", "later.sql"])
def test_a_file_without_a_number_of_its_own_is_refused(url: str, folder: Path, name: str) -> None:
    (folder / name).write_text("DO 0;")
    with pytest.raises(MigrationFailed, match=r"rename it"):
        migrate(url, folder)


def test_the_binlogs_tables_and_columns_are_those_of_the_write_contract(mysql: MySql, url: str) -> None:
    migrate(url)
    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
    for table in TABLES.values():
        found = mysql.rows(f"{columns} ORDER BY ordinal_position", SCHEMA, table.name)
        keys = mysql.rows(f"{columns} AND column_key = 'PRI' ORDER BY ordinal_position", SCHEMA, table.name)
        assert tuple(name for (name,) in found) == table.columns
        assert tuple(name for (name,) in keys) == table.primary_key


def test_no_foreign_key_cascades(mysql: MySql, url: str) -> None:
    migrate(url)
    rules = mysql.rows(
        "SELECT DISTINCT delete_rule, update_rule FROM information_schema.referential_constraints"
        " WHERE constraint_schema = %s",
        SCHEMA,
    )
    assert {rule for row in rules for rule in row} <= {"RESTRICT", "NO ACTION"}


def test_the_command_says_what_it_did(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIDEMARK_MIGRATOR_MYSQL_URL", url)
    assert main(["migrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"applied": NAMES}
    assert main(["migrate"]) == 0
    assert "up to date" in capsys.readouterr().out


def test_the_command_says_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TIDEMARK_MIGRATOR_MYSQL_URL", raising=False)
    assert main(["migrate"]) == 2
    assert "TIDEMARK_MIGRATOR_MYSQL_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("TIDEMARK_MIGRATOR_MYSQL_URL", "mysql://u:p@127.0.0.1:1/tidemark")
    assert main(["migrate"]) == 1
    assert "MySQL cannot be reached: " in capsys.readouterr().err
