"""Migrations: each numbered file of writer/migrations is applied once, and never changed afterwards.

Files named `NNNN_name.finish.sql` wait until no writer of an older release runs. An UPDATE with a LIMIT is
repeated, each time in a transaction of its own, until it changes nothing. A statement that waits for a lock
makes writers wait behind it, so it gives up after a second, lets them pass, and tries again.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from writer.database import Session, migration_session
from writer.errors import Contended, MigrationFailed, StatementRefused
from writer.schema import MIGRATIONS, statements

FILE = re.compile(r"([0-9]{4})_([a-z0-9_]+)(\.finish)?\.sql")
CHUNK = re.compile(r"UPDATE .* LIMIT [0-9]+", re.DOTALL)
LOCK_SECONDS = 60
PATIENCE_SECONDS = 120.0  # of a statement that others keep from its locks
PAUSE_SECONDS = 1.0
HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INT UNSIGNED NOT NULL PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    checksum CHAR(64) NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_0900_ai_ci
"""


@dataclass(frozen=True)
class Migration:
    """One numbered file. `finishing`: a writer of an older release could not write afterwards."""

    version: int
    name: str
    sql: str
    finishing: bool

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All files of `folder`, by number. Raises MigrationFailed for a malformed name and a doubled number."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        named = FILE.fullmatch(path.name)
        if named is None or int(named[1]) in found:
            raise MigrationFailed(
                f"{path.name}: migrations are named NNNN_name.sql, each number once; rename it"
            )
        found[int(named[1])] = Migration(int(named[1]), path.name, path.read_text(), bool(named[3]))
    return list(found.values())


def migrate(
    url: str,
    folder: Path = MIGRATIONS,
    *,
    finish: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[str]:
    """Apply the new files and return their names. Two runs at once are safe: one waits for the other.

    Finishing files wait for `finish`. Raises MigrationFailed and DatabaseUnavailable.
    """
    known = migrations(folder)
    with migration_session(url) as db:
        _lock(db)
        db.execute(HISTORY)
        applied = {version: (name, checksum) for version, name, checksum in _history(db)}
        _refuse_changed(known, applied)
        pending = [
            migration
            for migration in known
            if migration.version not in applied and (finish or not migration.finishing)
        ]
        db.execute("SET SESSION lock_wait_timeout = 1")
        for migration in pending:
            _apply(db, migration, patience_seconds)
    return [migration.name for migration in pending]


def _lock(db: Session) -> None:
    """Take a lock that ends with the session."""
    ((got_it,),) = db.rows("SELECT GET_LOCK(CONCAT(DATABASE(), '.schema_migrations'), %s)", LOCK_SECONDS)
    if not got_it:
        raise MigrationFailed(
            f"another migration has been running for {LOCK_SECONDS} s; wait for it, then try again"
        )


def _history(db: Session) -> list[tuple[int, str, str]]:
    return [
        (row[0], row[1], row[2]) for row in db.rows("SELECT version, name, checksum FROM schema_migrations")
    ]


def _refuse_changed(known: list[Migration], applied: dict[int, tuple[str, str]]) -> None:
    for migration in known:
        name, checksum = applied.get(migration.version, (migration.name, migration.checksum))
        if checksum != migration.checksum:
            raise MigrationFailed(
                f"{migration.name} is not what was applied as {name}: "
                "restore it and put the change into a new file"
            )


def _apply(db: Session, migration: Migration, patience_seconds: float) -> None:
    try:
        for statement in statements(migration.sql):
            while _run(db, statement, time.monotonic() + patience_seconds):
                pass
    except (Contended, StatementRefused) as error:
        raise MigrationFailed(
            f"{migration.name}: {error.__cause__}. MySQL does not roll table changes back: "
            "the file's earlier statements are in force; undo them by hand before trying again"
        ) from error
    db.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
        migration.version,
        migration.name,
        migration.checksum,
    )


def _run(db: Session, statement: str, deadline: float) -> bool:
    """Run a statement once others leave it its locks. Return whether it must run again: there is more."""
    while True:
        try:
            if CHUNK.fullmatch(statement):
                return db.execute(statement) > 0
            db.script(statement)
            return False
        except Contended as error:
            if time.monotonic() >= deadline:
                raise
            if error.reason != "deadlock":
                time.sleep(PAUSE_SECONDS)
