"""Judges a statement in the binlog: it is harmless to watched tables, or may change rows without row events.

A statement that names a watched table passes only if its form is known to change no row there. Any other form
stops the projector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from binlog_projector.binlog.alterations import alterations, as_a_whole, cascades
from binlog_projector.binlog.definitions import STRICT
from binlog_projector.binlog.sql_tokens import (
    END,
    NAME,
    WORD,
    NotUnderstood,
    Reading,
    Token,
    Unreadable,
    folded,
    words,
)
from binlog_projector.binlog.statement_events import Statement
from binlog_projector.binlog.table_map import Column
from tidemark.gtid import Gtid
from writer.schema import Table, own_alterations

OWN_ALTERATIONS = own_alterations()  # a release goes on past its own, whatever it knows of the columns
ROWS_AS_STATEMENT = words("INSERT UPDATE DELETE REPLACE LOAD CALL WITH SELECT DO VALUES TABLE (")
HARMLESS = words(  # with any names in them
    "GRANT REVOKE ANALYZE OPTIMIZE CHECK CHECKSUM FLUSH LOCK UNLOCK SET USE SAVEPOINT RELEASE BEGIN START"
    " COMMIT INSTALL UNINSTALL"
)
OBJECTS = words(  # without rows, behind CREATE, ALTER and DROP; some words come before VIEW or TRIGGER
    "VIEW TRIGGER PROCEDURE FUNCTION AGGREGATE EVENT USER ROLE SERVER TABLESPACE UNDO LOGFILE RESOURCE"
    " INSTANCE LIBRARY JSON OR ALGORITHM DEFINER SQL"
)
INDEXES = frozenset({"INDEX", "UNIQUE", "FULLTEXT", "SPATIAL"})
Passes = Callable[[str, Gtid], bool]  # whether the swap of a table in a transaction may pass
FILLED = frozenset({"SELECT", "VALUES", "TABLE", "WITH", "LIKE"})  # a new table made from other tables


def no_swap(table: str, gtid: Gtid) -> bool:
    return False


@dataclass
class Watched:
    """The watched tables, and how their server compares names."""

    schema: str
    tables: Mapping[str, Table]
    folds_case: bool = False  # lower_case_table_names is not 0
    columns: dict[str, Mapping[str, Column]] = field(default_factory=dict)  # table -> as last rows showed
    passes: Passes = no_swap

    def table(self, schema: str, name: str) -> Table | None:
        return self.tables.get(self._same_case(name)) if self.is_schema(schema) else None

    def is_schema(self, name: str) -> bool:
        return self._same_case(name) == self.schema

    def may_be_in(self, text: bytes) -> bool:
        """Whether the statement may contain the name of a watched table or of their schema."""
        lower = text.lower()
        return (self.folds_case and not text.isascii()) or any(
            name.lower().encode() in lower for name in (self.schema, *self.tables)
        )

    def _same_case(self, name: str) -> str:
        return folded(name) if self.folds_case else name


def hidden_change(statement: Statement, watched: Watched) -> str | None:
    """The change that a statement may make without row events, and the remedy; None if it is harmless."""
    try:
        keyword = statement.keyword
        if keyword in ROWS_AS_STATEMENT:
            return _as_statement(statement, watched)
        if keyword == "XA":
            return "an XA transaction, which may still be rolled back; do not use XA here, then run `rebuild`"
        if keyword == "ROLLBACK":
            return (
                "a rolled back transaction that other engines kept a part of; "
                "use only InnoDB, then run `rebuild`"
            )
        if keyword in HARMLESS or not watched.may_be_in(statement.text):
            return None
        if statement.text in OWN_ALTERATIONS and statement.sql_mode & STRICT:
            return None
        found = list(statement.tokens())
    except Unreadable as error:
        return (
            f"a statement that cannot be read with certainty ({error}); "
            "look at what it did, then run `rebuild`"
        )
    judge = Judge(found, statement, watched)
    try:
        return next(judge.changes(), None)
    except NotUnderstood:
        return next(judge.mentions(), None)


def _as_statement(statement: Statement, watched: Watched) -> str | None:
    """A statement can reach unnamed tables by views, triggers and functions, so MySQL lists their schemas."""
    if statement.accessed and not any(map(watched.is_schema, statement.accessed)):
        return None
    return (
        f"{statement.keyword} was logged as a statement, and used tables of {watched.schema}, or too many to "
        "tell; set binlog_format=ROW for every session, then run `rebuild`"
    )


class Judge:
    """One statement that changes definitions."""

    def __init__(self, found: list[Token], statement: Statement, watched: Watched) -> None:
        self.found = found
        self.reading = Reading(found)
        self.statement = statement
        self.watched = watched

    def mentions(self) -> Iterator[str]:
        """Yields each mention of a watched table, unless another schema qualifies the name."""
        found = [END, END, *self.found]
        for schema, dot, token in zip(found, found[1:], found[2:], strict=False):
            if token.kind in (WORD, NAME):
                is_qualified = dot.text == "." and schema.kind in (WORD, NAME)
                table = self.watched.table(schema.text if is_qualified else self.statement.schema, token.text)
                if table:
                    yield (
                        f"the watched table {table.name} is named by a statement of a form that is not known "
                        "to be harmless; look at what it did, then run `rebuild`"
                    )

    def changes(self) -> Iterator[str]:
        """Yields each hidden change of the statement. Raises NotUnderstood for an unknown form."""
        reading = self.reading
        if reading.has("TRUNCATE"):
            reading.has("TABLE")
            yield from self._as_a_whole(self._table())
            reading.demand(reading.ended())
        elif reading.one_of(("RENAME",)):
            yield from self._renamed()
        elif reading.has("DROP"):
            yield from self._dropped()
        elif reading.has("CREATE"):
            yield from self._created()
        elif reading.has("ALTER"):
            yield from self._altered()
        else:
            raise NotUnderstood

    def _renamed(self) -> Iterator[str]:
        reading = self.reading
        if reading.has("USER"):
            return
        reading.demand(reading.one_of(("TABLE", "TABLES")))
        while True:
            yield from self._as_a_whole(self._table())
            reading.demand(reading.has("TO"))
            yield from self._as_a_whole(self._table())
            if not reading.mark(","):
                break
        reading.demand(reading.ended())

    def _dropped(self) -> Iterator[str]:
        reading = self.reading
        if reading.has("TEMPORARY") or reading.one_of(OBJECTS) or reading.has("SPATIAL", "REFERENCE"):
            return
        if reading.has("INDEX"):
            name = reading.name()
            reading.demand(reading.has("ON"))
            if folded(name) == "primary":
                yield from self._as_a_whole(self._table())
        elif reading.one_of(("DATABASE", "SCHEMA")):
            reading.has("IF", "EXISTS")
            if self.watched.is_schema(reading.name()):
                yield f"the schema {self.watched.schema} was dropped; bring it back, then run `rebuild`"
            reading.demand(reading.ended())
        else:
            reading.demand(reading.one_of(("TABLE", "TABLES")))
            reading.has("IF", "EXISTS")
            yield from self._as_a_whole(self._table())
            while reading.mark(","):
                yield from self._as_a_whole(self._table())
            reading.one_of(("RESTRICT", "CASCADE"))
            reading.demand(reading.ended())

    def _created(self) -> Iterator[str]:
        """A created watched table is empty, and its rows will come as row events."""
        reading = self.reading
        if reading.one_of(OBJECTS | INDEXES | {"DATABASE", "SCHEMA", "TEMPORARY"}):
            return
        reading.demand(reading.has("TABLE"))
        reading.has("IF", "NOT", "EXISTS")
        table = self._table()
        if table:
            rest = reading.rest[reading.at :]
            yield from cascades(table, rest)
            engines = {after.text.lower() for word, after in _settings(rest) if word.keyword == "ENGINE"}
            reading.demand(engines <= {"innodb"} and not {token.keyword for token in rest} & FILLED)

    def _altered(self) -> Iterator[str]:
        reading = self.reading
        if reading.one_of(OBJECTS | {"DATABASE", "SCHEMA"}):
            return
        reading.demand(reading.has("TABLE"))
        table = self._table()
        if table:
            known = self.watched.columns.get(table.name, {})
            yield from alterations(reading, table, known, self.statement.sql_mode)
        while not reading.ended():
            if reading.has("RENAME") and reading.peek().keyword not in ("COLUMN", "INDEX", "KEY"):
                _ = reading.mark("=") or reading.one_of(("TO", "AS"))
                yield from self._as_a_whole(self._table())
            elif reading.has("WITH", "TABLE"):
                yield from self._as_a_whole(self._table())
            elif not reading.ended():
                reading.next()

    def _table(self) -> Table | None:
        """The table that comes next, if it is watched."""
        schema, name = self.reading.table()
        return self.watched.table(self.statement.schema if schema is None else schema, name)

    def _as_a_whole(self, table: Table | None) -> Iterator[str]:
        if table:
            yield as_a_whole(table)


def _settings(found: list[Token]) -> Iterator[tuple[Token, Token]]:
    """Each token and the next one, or the one behind `=`."""
    plain = [token for token in found if token.text != "="]
    return pairwise(plain)
