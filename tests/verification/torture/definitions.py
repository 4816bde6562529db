"""DDL as tools and people write it: harmless statements, and ones that change rows without row events."""

from __future__ import annotations

import contextlib
import random
import re
import time
from dataclasses import dataclass
from functools import partial

import pymysql

from binlog_projector.domain.changes import Row
from binlog_projector.mysql.connections import Connection
from tests.support.harness import Process, admin_connection, run_sql, wait_until
from tests.verification.torture.effects import Effect
from tests.verification.torture.system import PROJECTORS, System

STOPPED_SECONDS, REBUILT_SECONDS = 100.0, 200.0
GAPS = (
    " ",
    "  ",
    "\n",
    "\t",
    "/**/",
    " /* likes */ ",
    " -- users\n",
    " # posts\n",
    "/*!80000 */",
    " /*! */ ",
)
NAME = re.compile(r"<([^>]+)>")


@dataclass(frozen=True)
class Harmful:
    """`statement` has the effect. Statements `before` and `after` have none, but may stop a projector."""

    effect: Effect
    statement: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def gone(row: Row) -> None:
    return None


def without_bio(row: Row) -> Row:
    return {**row, "bio": ""}


def stripped_bio(row: Row) -> Row:
    return {**row, "bio": row["bio"].rstrip(" ")}


BIO = "bio VARCHAR(500) NOT NULL DEFAULT ''"
HARMFUL = (
    *(Harmful(Effect(name, gone), f"TRUNCATE <{name}>") for name in ("likes", "follows", "comments")),
    Harmful(Effect("follows", gone), "TRUNCATE TABLE <follows>"),
    *(
        Harmful(
            Effect(name, gone),
            f"RENAME TABLE <{name}> TO <_{name}_del> , <_{name}_gho> TO <{name}>",
            (f"DROP TABLE IF EXISTS _{name}_del, _{name}_gho", f"CREATE TABLE _{name}_gho LIKE {name}"),
            (f"DROP TABLE _{name}_del",),
        )
        for name in ("likes", "follows")
    ),
    Harmful(Effect("users", without_bio), f"ALTER TABLE <users> DROP COLUMN bio , ADD COLUMN {BIO}"),
    Harmful(Effect("users", without_bio), f"ALTER TABLE <users> DROP bio , ADD {BIO}"),
    Harmful(
        Effect("users", stripped_bio),
        "ALTER TABLE <users> MODIFY bio CHAR(200) NOT NULL DEFAULT ''",
        after=(f"ALTER TABLE users MODIFY {BIO}",),
    ),
)
HARMLESS = (  # in pairs: the second one undoes the first; {n} is a new number each time
    ("ALTER TABLE <posts> ADD COLUMN extra{n} INT", "ALTER TABLE <posts> DROP COLUMN extra{n}"),
    ("ALTER TABLE <users> ADD extra{n} VARCHAR(9) FIRST", "ALTER TABLE <users> DROP extra{n}"),
    ("CREATE INDEX more{n} ON <likes> (created_at)", "DROP INDEX more{n} ON <likes>"),
    ("ALTER TABLE <comments> ADD KEY more{n} (body(9))", "ALTER TABLE <comments> DROP KEY more{n}"),
    ("ANALYZE TABLE <users>", "OPTIMIZE TABLE <follows>"),
    ("ALTER TABLE <likes> COMMENT = 'TRUNCATE likes'", "ALTER TABLE <likes> COMMENT = ''"),
    ("CREATE TABLE <likes-{n}> LIKE <likes>", "DROP TABLE <likes-{n}>"),
    ("CREATE TABLE <my posts {n}> (id INT)", "TRUNCATE TABLE <my posts {n}>", "DROP TABLE <my posts {n}>"),
    ("CREATE VIEW view{n} AS SELECT * FROM <posts>", "DROP VIEW view{n}"),
    ("CREATE SCHEMA other{n}", "CREATE TABLE other{n} . likes (id INT)", "DROP SCHEMA other{n}"),
)


def define(system: System, chance: random.Random) -> str:
    """Executes harmless statements one after the other. No projector stops for them."""
    number = str(next(system.numbers))
    statements = [disguised(text.replace("{n}", number), chance) for text in chance.choice(HARMLESS)]
    with admin_connection(system.stack) as connection:
        run_sql(connection, "SET lock_wait_timeout = 5", *statements)
    return statements[0]


def sweep(system: System, chance: random.Random) -> str:
    """A statement changes rows without row events. Every projector stops for it; `rebuild` is the remedy."""
    harmful = chance.choice(HARMFUL)
    statement = disguised(harmful.statement, chance)
    unchanged = Effect(harmful.effect.table, lambda row: row)
    system.effects |= {**dict.fromkeys(harmful.after, unchanged), statement: harmful.effect}
    with admin_connection(system.stack) as connection:
        run_sql(connection, "SET lock_wait_timeout = 20, foreign_key_checks = 0", *harmful.before, statement)
        for text in harmful.after:
            wait_until(partial(_is_done, connection, text), text, STOPPED_SECONDS)
    for projecting in system.projectors:
        wait_until(partial(_has_ended, projecting), f"a stop for {statement!r}", STOPPED_SECONDS)
        assert projecting.popen.returncode == 1 and "rebuild" in projecting.tail(), projecting.tail()
    _rebuild(system)
    for at in range(PROJECTORS):
        system.projectors[at].log.unlink()
        system.start_projector(at)
    return statement


def _is_done(connection: Connection, statement: str) -> bool:
    with contextlib.suppress(pymysql.err.OperationalError):  # another session holds a lock
        run_sql(connection, statement)
        return True
    return False


def _has_ended(projecting: Process) -> bool:
    return projecting.popen.poll() is not None


def _rebuild(system: System) -> None:
    deadline, settings = time.monotonic() + REBUILT_SECONDS, {"TIDEMARK_FORMER_BUILD_MINUTES": "0"}
    while True:
        rebuilding = Process(("-m", "binlog_projector", "rebuild"), {**system.environment, **settings})
        status = rebuilding.popen.wait(timeout=REBUILT_SECONDS)
        assert status == 0 or time.monotonic() < deadline, rebuilding.tail()
        rebuilding.log.unlink()
        if status == 0:
            return


def disguised(statement: str, chance: random.Random) -> str:
    """The same statement with other white space, comments, case and table names."""
    quoted = NAME.sub(lambda found: _named(found[1], chance), statement)
    return "".join(
        chance.choice(GAPS)
        if piece == " "
        else (piece.lower() if piece.isupper() and chance.random() < 0.3 else piece)
        for piece in re.split(r"( )(?=(?:[^`']|`[^`]*`|'[^']*')*$)", quoted)
    )


def _named(table: str, chance: random.Random) -> str:
    if not table.isidentifier():
        return f"`{table}`"
    return chance.choice(
        (table, f"`{table}`", f"tidemark.{table}", f"`tidemark`.`{table}`", f"tidemark . `{table}`")
    )
