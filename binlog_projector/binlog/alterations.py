"""Judges an ALTER TABLE of a watched table: no value changes if each item has a form that is listed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from binlog_projector.binlog.definitions import (
    SAFE_CHARACTER_SET,
    Definition,
    character_set,
    collation_charset,
)
from binlog_projector.binlog.sql_tokens import MARK, NotUnderstood, Reading, Token, folded, words
from binlog_projector.binlog.table_map import Column
from writer.schema import Table

KEYS = ("INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "CONSTRAINT", "CHECK", "FOREIGN")
OPTIONS = words(  # each with one value
    "ALGORITHM LOCK COMMENT AUTO_INCREMENT ROW_FORMAT KEY_BLOCK_SIZE STATS_PERSISTENT STATS_AUTO_RECALC"
    " STATS_SAMPLE_PAGES AVG_ROW_LENGTH MAX_ROWS MIN_ROWS CHECKSUM PACK_KEYS DELAY_KEY_WRITE COMPRESSION"
    " ENCRYPTION AUTOEXTEND_SIZE ENGINE_ATTRIBUTE SECONDARY_ENGINE_ATTRIBUTE"
)


def alterations(reading: Reading, table: Table, known: Mapping[str, Column], sql_mode: int) -> Iterator[str]:
    """Yields each change that an ALTER TABLE may make without row events. Raises NotUnderstood.

    `known` has the columns before the statement, as far as rows have shown them.
    """
    altering = Altering(reading, table, known, sql_mode)
    while not reading.ended():
        yield from altering.item()
        reading.mark(",")


def as_a_whole(table: Table) -> str:
    return (
        f"the watched table {table.name} was changed as a whole, which the binlog does not show as rows; "
        "bring it back if it is gone, then run `rebuild`"
    )


def cascades(table: Table, found: Sequence[Token]) -> Iterator[str]:
    words = [token.keyword for token in found]
    if any(
        words[at - 1] == "ON" and words[at] in ("DELETE", "UPDATE") and words[at + 1] in ("CASCADE", "SET")
        for at in range(1, len(words) - 1)
    ):
        yield (
            f"{table.name} got a cascading foreign key, whose deletes are not in the binlog before "
            "MySQL 9.6; make it RESTRICT, then run `rebuild`"
        )


class Altering:
    """The items of one ALTER TABLE."""

    def __init__(self, reading: Reading, table: Table, known: Mapping[str, Column], sql_mode: int) -> None:
        self.reading = reading
        self.table = table
        self.projected = {folded(column): column for column in table.columns}
        self.known = known
        self.sql_mode = sql_mode

    def item(self) -> Iterator[str]:
        """One item. Options need no commas between them."""
        reading = self.reading
        if reading.one_of(("ADD",)):
            yield from self._add()
        elif reading.one_of(("DROP",)):
            yield from self._drop()
        elif reading.one_of(("RENAME",)):
            yield from self._rename()
        elif reading.one_of(("MODIFY",)):
            reading.has("COLUMN")
            yield from self._redefined(reading.name())
        elif reading.one_of(("CHANGE",)):
            reading.has("COLUMN")
            yield from self._changed(reading.name(), reading.name())
        elif reading.has("ALTER"):
            yield from self._rest()
        elif reading.has("CONVERT", "TO"):
            if not (
                character_set(reading) == SAFE_CHARACTER_SET
                and collation_charset(reading) in ("", SAFE_CHARACTER_SET)
            ):
                yield (
                    f"all text of the watched table {self.table.name} was converted to a character set that "
                    "may lack some of it; run `rebuild`"
                )
        elif not self._is_option():
            yield as_a_whole(self.table)
            raise NotUnderstood

    def _rest(self) -> Iterator[str]:
        """Read any definition of a column or key, up to the next comma."""
        found = self.reading.item()
        yield from cascades(self.table, found)
        if {token.keyword for token in found} & {"PRIMARY", "PARTITION"}:
            yield as_a_whole(self.table)

    def _add(self) -> Iterator[str]:
        reading = self.reading
        at = reading.at
        if reading.has("COLUMN") or reading.peek().keyword not in (*KEYS, "PRIMARY", "PARTITION"):
            for name in self._added():
                if folded(name) in self.projected:
                    yield f"the projected column {self.table.name}.{name} was added anew; run `rebuild`"
        reading.at = at
        yield from self._rest()

    def _added(self) -> Iterator[str]:
        """The names of the new columns: one, or several in parentheses."""
        if self.reading.peek() != (MARK, "("):
            yield self.reading.name()
            return
        inside = Reading(self.reading.item()[1:-1])
        while not inside.ended():
            if inside.peek().keyword not in (*KEYS, "PRIMARY"):
                yield inside.name()
            inside.item()
            inside.mark(",")

    def _drop(self) -> Iterator[str]:
        reading = self.reading
        if reading.one_of(("INDEX", "KEY", "CHECK", "CONSTRAINT")):
            if reading.name().upper() == "PRIMARY":
                yield as_a_whole(self.table)
        elif reading.has("FOREIGN", "KEY"):
            reading.name()
        elif reading.peek().keyword in ("PRIMARY", "PARTITION"):
            yield as_a_whole(self.table)
        else:
            reading.has("COLUMN")
            yield from self._gone(reading.name())
            reading.one_of(("RESTRICT", "CASCADE"))

    def _rename(self) -> Iterator[str]:
        reading = self.reading
        if reading.has("COLUMN"):
            names = [reading.name()]
            reading.demand(reading.has("TO"))
            for name in (*names, reading.name()):
                yield from self._gone(name)
        elif reading.one_of(("INDEX", "KEY")):
            reading.item()
        else:
            yield as_a_whole(self.table)

    def _gone(self, name: str) -> Iterator[str]:
        if folded(name) in self.projected:
            yield (
                f"the projected column {self.table.name}.{name} was dropped or renamed; bring it back, "
                "or run a projector that does not use it, then run `rebuild`"
            )

    def _changed(self, old: str, new: str) -> Iterator[str]:
        if old != new:
            yield from self._gone(old)
            yield from self._gone(new)
        yield from self._redefined(new)

    def _redefined(self, name: str) -> Iterator[str]:
        column = self.projected.get(folded(name))
        if column is None:
            yield from self._rest()
            return
        if column != name:
            yield from self._gone(column)
        at, type = self.reading.at, self.reading.peek().text.upper()
        try:
            keeps = Definition(self.reading, self.sql_mode).keeps_values_of(self.known.get(column))
        except NotUnderstood:
            keeps = False
        self.reading.at = at
        yield from self._rest()
        if not keeps:
            before = "" if column in self.known else " (no row has shown yet what it was before)"
            yield (
                f"the projected column {self.table.name}.{column} was made {type}{before}, and MySQL may "
                "have changed its values, which the binlog does not show; run `rebuild`"
            )

    def _is_option(self) -> bool:
        """Read one option of the table, if it is one that changes no value."""
        reading = self.reading
        if reading.one_of(OPTIONS):
            reading.value()
            return True
        if reading.has("ENGINE"):
            return reading.value().text.lower() == "innodb"
        if reading.has("FORCE") or reading.has("ENABLE", "KEYS") or reading.has("DISABLE", "KEYS"):
            return True
        if reading.has("WITH", "VALIDATION") or reading.has("WITHOUT", "VALIDATION"):
            return True
        reading.has("DEFAULT")  # for new columns: existing columns keep theirs
        return bool(character_set(reading) or collation_charset(reading))
