"""What a statement in the binlog means for watched tables: nothing, or a change that no row event shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from binlog_projector.column_types import TEXT_TYPES
from writer.schema import Table

VERSIONED = re.compile(r"/\*!\d*(.*?)\*/", re.DOTALL)
NOISE = re.compile(  # string literals and comments
    r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|/\*.*?\*/|--\s[^\n]*|\#[^\n]*""", re.DOTALL
)
NAME = r"`?(\w+)`?"
IDENTIFIER = re.compile(rf"{NAME}(?:\s*\.\s*{NAME})?")
STATEMENT_DML = {"INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH"}
DROP_SCHEMA = re.compile(r"\ADROP\s+(?:DATABASE|SCHEMA)\s", re.IGNORECASE)
DESTRUCTIVE = re.compile(r"\A(TRUNCATE(\s+TABLE)?|DROP\s+TABLE(\s+IF\s+EXISTS)?|RENAME\s+TABLES?)\s", re.IGNORECASE)
ALTER = re.compile(r"\AALTER\s+TABLE\s", re.IGNORECASE)
DESTRUCTIVE_ALTER = re.compile(
    r"\sRENAME\s+(TO\s|AS\s|=|(?!COLUMN|INDEX|KEY)[\w`])|\s(TRUNCATE|DROP|EXCHANGE|REORGANIZE)\s+PARTITION|\sTABLESPACE"
    r"|\bDROP\s+PRIMARY\b",
    re.IGNORECASE,
)
CASCADE = re.compile(r"\bON\s+(?:DELETE|UPDATE)\s+(?:CASCADE|SET)\b", re.IGNORECASE)
GONE = re.compile(rf"\b(?:DROP|RENAME)\s+(?:COLUMN\s+)?{NAME}", re.IGNORECASE)
CHANGED = re.compile(rf"\bCHANGE\s+(?:COLUMN\s+)?{NAME}\s+{NAME}\s+(\w+)", re.IGNORECASE)
MODIFIED = re.compile(rf"\bMODIFY\s+(?:COLUMN\s+)?({NAME})\s+(\w+)", re.IGNORECASE)


def simplified(query: str) -> str:
    """The statement without literals and comments; what only newer versions execute is part of it."""
    return NOISE.sub("''", VERSIONED.sub(r"\1", query)).strip("'; \t\r\n")


def keyword_of(statement: str) -> str:
    return statement.split(None, 1)[0].upper() if statement else ""


def hidden_change(statement: str, default_schema: str, schema: str, tables: Mapping[str, Table]) -> str | None:
    """What a simplified statement does to watched tables without row events, and the remedy; None if it is harmless."""
    keyword = keyword_of(statement)
    if keyword in STATEMENT_DML:
        return f"{keyword} was logged as a statement; set binlog_format=ROW for every session, then run `rebuild`"
    if keyword == "XA":
        return "an XA transaction, which may still be rolled back; do not use XA here, then run `rebuild`"
    if keyword == "ROLLBACK":
        return "a rolled back transaction that other engines kept a part of; use only InnoDB, then run `rebuild`"
    return next(_changes_of_definition(statement, default_schema, schema, tables), None)


def _changes_of_definition(
    statement: str, default_schema: str, schema: str, tables: Mapping[str, Table]
) -> Iterator[str]:
    def watched(text: str, count: int | None = None) -> Iterator[Table]:
        for first, second in IDENTIFIER.findall(text)[:count]:
            name = second or first
            if name in tables and (first if second else default_schema) == schema:
                yield tables[name]

    if dropped := DROP_SCHEMA.match(statement):
        if schema in (name for name, _ in IDENTIFIER.findall(statement[dropped.end() :])):
            yield f"the schema {schema} was dropped; bring it back, then run `rebuild`"
    elif destructive := DESTRUCTIVE.match(statement):
        for table in watched(statement[destructive.end() :]):
            yield _as_a_whole(table)
    elif altered := ALTER.match(statement):
        for table in watched(statement[altered.end() :], 1):
            yield from _alterations(statement[altered.end() :], table)


def _alterations(text: str, table: Table) -> Iterator[str]:
    if DESTRUCTIVE_ALTER.search(text):
        yield _as_a_whole(table)
    if CASCADE.search(text):
        yield (
            f"{table.name} got a cascading foreign key, whose deletes are not in the binlog before MySQL 9.6; "
            "make it RESTRICT, then run `rebuild`"
        )
    for name in (*GONE.findall(text), *(old for old, new, _ in CHANGED.findall(text) if old != new)):
        if name in table.columns:
            yield (
                f"the projected column {table.name}.{name} was dropped or renamed; bring it back, or run a projector "
                "that does not use it, then run `rebuild`"
            )
    retyped = ((new, type) for _, new, type in (*CHANGED.findall(text), *MODIFIED.findall(text)))
    for name, type in retyped:
        if name in table.columns and type.lower() not in TEXT_TYPES:
            yield (
                f"the projected column {table.name}.{name} was made {type.upper()}, and MySQL may have changed its "
                "values, which the binlog does not show; run `rebuild`"
            )


def _as_a_whole(table: Table) -> str:
    return (
        f"the watched table {table.name} was changed as a whole, which the binlog does not show as rows; "
        "bring it back if it is gone, then run `rebuild`"
    )
