"""The checks of MySQL for `check` and every start: settings that would lose changes, with their remedies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from binlog_projector.binlog.column_types import is_decoded
from binlog_projector.domain.projections import COUNTERS
from binlog_projector.errors import SourceMisconfigured
from binlog_projector.findings import Finding
from binlog_projector.mysql.connections import Connection, execute, query_rows, query_value
from binlog_projector.mysql.source import MySqlSource
from tidemark.gtid import GtidSet
from tidemark.ids import MAX_ID
from writer.schema import SCHEMA, TABLES


@dataclass(frozen=True)
class Variable:
    """A system variable and its required value; `may_be_missing`: newer servers lack the variable."""

    name: str
    expected: str
    remedy: str
    may_be_missing: bool = False


VARIABLES = (
    Variable("log_bin", "ON", "start mysqld with --log-bin"),
    Variable("binlog_format", "ROW", "SET PERSIST binlog_format = ROW", may_be_missing=True),
    Variable("binlog_row_image", "FULL", "SET PERSIST binlog_row_image = FULL"),
    Variable("binlog_row_metadata", "FULL", "SET PERSIST binlog_row_metadata = FULL"),
    Variable("binlog_row_value_options", "", "SET PERSIST binlog_row_value_options = ''"),
    Variable("binlog_checksum", "CRC32", "SET PERSIST binlog_checksum = CRC32"),
    Variable(
        "gtid_mode",
        "ON",
        "SET PERSIST gtid_mode = ON  -- one step at a time: OFF_PERMISSIVE, ON_PERMISSIVE, ON",
    ),
    Variable("enforce_gtid_consistency", "ON", "SET PERSIST enforce_gtid_consistency = ON"),
    Variable("binlog_order_commits", "ON", "SET PERSIST binlog_order_commits = ON"),
    Variable("log_replica_updates", "ON", "start mysqld with --log-replica-updates"),
)
RETENTION = "binlog_expire_logs_seconds"
NEAR_THE_LIMIT = MAX_ID // 100 * 99
GRANTS = ("REPLICATION SLAVE", "REPLICATION CLIENT", "SELECT", "LOCK TABLES")
log = structlog.get_logger()


def check_source(source: MySqlSource, retention_hours: int) -> list[Finding]:
    """All findings, also the good ones. Raises SourceUnavailable."""
    with source.session() as connection:
        return [
            *(_variable(connection, variable) for variable in VARIABLES),
            _retention(connection, retention_hours),
            _grants(connection),
            _server_id(connection, source),
            _tagged_gtids(connection),
            *(_table(connection, name) for name in TABLES),
            _cascades(connection),
            _counted_columns(connection),
            _auto_increment(connection),
        ]


def retention_seconds(checks: list[Finding]) -> float:
    """The time for which the source keeps its binlog; 0: for ever."""
    return next(float(check.found) for check in checks if check.name == RETENTION)


def demand(checks: list[Finding]) -> None:
    """Log all failed checks. Raises SourceMisconfigured with those that stop a projector."""
    failed = [check for check in checks if not check.ok]
    for check in failed:
        log.warning("check failed", check=str(check))
    if any(check.stops for check in failed):
        raise SourceMisconfigured("; ".join(str(check) for check in failed if check.stops))


def _variable(connection: Connection, variable: Variable) -> Finding:
    rows = query_rows(connection, "SHOW GLOBAL VARIABLES WHERE Variable_name = %s", (variable.name,))
    found = str(rows[0][1]) if rows else "(not there)"
    ok = found == variable.expected or (not rows and variable.may_be_missing)
    return Finding(variable.name, ok, found, variable.expected or "(empty)", variable.remedy)


def _retention(connection: Connection, hours: int) -> Finding:
    seconds = int(query_value(connection, "SELECT @@global.binlog_expire_logs_seconds"))
    purging = query_rows(
        connection, "SHOW GLOBAL VARIABLES WHERE Variable_name = 'binlog_expire_logs_auto_purge'"
    )
    kept_for_ever = seconds == 0 or (bool(purging) and purging[0][1] == "OFF")
    return Finding(
        RETENTION,
        kept_for_ever or seconds >= hours * 3600,
        "0" if kept_for_ever else str(seconds),
        f"at least {hours * 3600} (the longest outage to survive)",
        f"SET PERSIST binlog_expire_logs_seconds = {max(hours, 1) * 3600}  -- or lower "
        "TIDEMARK_MIN_BINLOG_RETENTION_HOURS",
    )


def _grants(connection: Connection) -> Finding:
    lines = [str(row[0]).replace("`", "") for row in query_rows(connection, "SHOW GRANTS")]
    usable = [line for line in lines if " ON *.* " in line or f" ON {SCHEMA}.* " in line]
    missing = [grant for grant in GRANTS if not any(_grants_it(line, grant) for line in usable)]
    name, _, host = query_value(connection, "SELECT CURRENT_USER()").rpartition("@")
    account = f"'{name}'@'{host}'"
    return Finding(
        "grants",
        not missing,
        f"missing {', '.join(missing)}" if missing else "all",
        ", ".join(GRANTS),
        f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account}; "
        f"GRANT SELECT, LOCK TABLES ON {SCHEMA}.* TO {account}",
    )


def _grants_it(line: str, grant: str) -> bool:
    granted = line.removeprefix("GRANT ").split(" ON ")[0].split(", ")
    return grant in granted or "ALL PRIVILEGES" in granted


def _server_id(connection: Connection, source: MySqlSource) -> Finding:
    own = int(query_value(connection, "SELECT @@global.server_id"))
    others = [
        str(row[4]) for row in query_rows(connection, "SHOW REPLICAS") if int(row[0]) == source.server_id
    ]
    taken = own == source.server_id or any(other.lower() != source.uuid for other in others)
    return Finding(
        "server_id",
        not taken,
        f"{source.server_id} is taken" if taken else str(source.server_id),
        "an id that no other server or replica has",
        "set TIDEMARK_PROJECTOR_SERVER_ID to a free number",
    )


def _tagged_gtids(connection: Connection) -> Finding:
    sources = list(GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed")))
    tagged = ", ".join(source for source in sources if ":" in source)
    remedy = "tagged GTIDs cannot be followed yet: do not set gtid_next to AUTOMATIC:tag"
    return Finding("tagged GTIDs", not tagged, tagged or "none", "none", remedy)


def _table(connection: Connection, name: str) -> Finding:
    table = TABLES[name]
    columns = query_rows(
        connection,
        "SELECT column_name, column_key, data_type, character_set_name FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (SCHEMA, name),
    )
    engines = query_rows(
        connection,
        "SELECT engine FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
        (SCHEMA, name),
    )
    names = {column for column, *_ in columns}
    keys = {column for column, key, *_ in columns if key == "PRI"}
    wrong = [f"column {column} missing" for column in table.columns if column not in names]
    wrong += [
        f"column {column} is {type}{f' in {charset}' if charset else ''}, which is not decoded"
        for column, _, type, charset in columns
        if column in table.columns and not is_decoded(type, charset)
    ]
    wrong += [] if keys == set(table.primary_key) else [f"primary key is ({', '.join(sorted(keys))})"]
    wrong += [f"engine is {engine}" for (engine,) in engines if engine != "InnoDB"]
    found = ("; ".join(wrong) if wrong else "as declared") if columns else "missing"
    expected = f"columns {', '.join(table.columns)}, primary key ({', '.join(table.primary_key)})"
    return Finding(
        f"table {SCHEMA}.{name}", found == "as declared", found, expected, "run `python -m writer migrate`"
    )


def _cascades(connection: Connection) -> Finding:
    rows: list[tuple[Any, ...]] = query_rows(
        connection,
        "SELECT table_name, constraint_name FROM information_schema.referential_constraints"
        " WHERE constraint_schema = %s AND (delete_rule NOT IN ('RESTRICT', 'NO ACTION')"
        " OR update_rule NOT IN ('RESTRICT', 'NO ACTION'))",
        (SCHEMA,),
    )
    found = ", ".join(f"{table}.{constraint}" for table, constraint in rows if table in TABLES)
    return Finding(
        "foreign keys",
        not found,
        found or "RESTRICT",
        "RESTRICT on watched tables",
        "cascades are not in the binlog before MySQL 9.6: make these RESTRICT and delete children yourself",
    )


def _counted_columns(connection: Connection) -> Finding:
    indexed = query_rows(
        connection,
        "SELECT table_name, column_name FROM information_schema.statistics"
        " WHERE table_schema = %s AND seq_in_index = 1",
        (SCHEMA,),
    )
    lacking = [(one.table, one.by) for one in COUNTERS if (one.table, one.by) not in indexed]
    found = ", ".join(f"{table}.{column}" for table, column in lacking)
    indexes = "; ".join(f"CREATE INDEX {column} ON {SCHEMA}.{table} ({column})" for table, column in lacking)
    return Finding(
        "counted columns",
        not found,
        f"no index begins with {found}" if found else "indexed",
        "an index that begins with each column that a counter counts by",
        f"{indexes}  -- a snapshot counts for each row, and would read the whole table each time",
    )


def _auto_increment(connection: Connection) -> Finding:
    """This does not stop a projector: all rows may be right, and the writer commits no larger id."""
    # Without this, the statistics may be a day old.
    execute(connection, "SET SESSION information_schema_stats_expiry = 0")
    following = query_rows(
        connection,
        "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = %s",
        (SCHEMA,),
    )
    found = ", ".join(
        f"{table}: {id}" for table, id in following if table in TABLES and (id or 0) > NEAR_THE_LIMIT
    )
    return Finding(
        "auto_increment",
        not found,
        found or "far from the limit",
        f"at most {NEAR_THE_LIMIT}: ids end at {MAX_ID}",
        "find out who inserted so large an id, give that row another one or delete it, then "
        "ALTER TABLE ... AUTO_INCREMENT = 1 (MySQL goes on behind the largest id that is left)",
        stops=False,
    )
