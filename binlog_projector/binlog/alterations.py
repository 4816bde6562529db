"""What an ALTER TABLE does to the values of a watched table: nothing, if each of its items is of a form listed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from binlog_projector.binlog.column_types import CHARACTER_BYTES, char_bytes
from binlog_projector.binlog.sql_tokens import MARK, WORD, NotUnderstood, Reading, Token, folded, words
from binlog_projector.binlog.table_map import (
    BLOB,
    DATETIME2,
    INT24,
    LONG,
    LONGLONG,
    SHORT,
    STRING,
    TIME2,
    TIMESTAMP2,
    TINY,
    VARCHAR,
    Column,
)
from writer.schema import Table

NO_AUTO_VALUE_ON_ZERO, STRICT = 1 << 19, 1 << 21 | 1 << 22  # in sql_mode
KEYS = ("INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "CONSTRAINT", "CHECK", "FOREIGN")
OPTIONS = words(  # each with one value
    "ALGORITHM LOCK COMMENT AUTO_INCREMENT ROW_FORMAT KEY_BLOCK_SIZE STATS_PERSISTENT STATS_AUTO_RECALC"
    " STATS_SAMPLE_PAGES AVG_ROW_LENGTH MAX_ROWS MIN_ROWS CHECKSUM PACK_KEYS DELAY_KEY_WRITE COMPRESSION ENCRYPTION"
    " AUTOEXTEND_SIZE ENGINE_ATTRIBUTE SECONDARY_ENGINE_ATTRIBUTE"
)
INTEGERS = {"TINYINT": TINY, "SMALLINT": SHORT, "MEDIUMINT": INT24, "INT": LONG, "INTEGER": LONG, "BIGINT": LONGLONG}
INTEGER_SIZES = [TINY, SHORT, INT24, LONG, LONGLONG]
TIMES = {"DATETIME": DATETIME2, "TIMESTAMP": TIMESTAMP2, "TIME": TIME2}
TEXT_LENGTH_BYTES = {"TINYTEXT": 1, "TEXT": 2, "MEDIUMTEXT": 3, "LONGTEXT": 4}
SAFE_CHARACTER_SET = "utf8mb4"  # it has every character that a projected column can hold


def alterations(reading: Reading, table: Table, known: Mapping[str, Column], sql_mode: int) -> Iterator[str]:
    """What the items of an ALTER TABLE may change behind the rows' back. Raises NotUnderstood.

    `known` are the columns before, as far as they are known.
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
            f"{table.name} got a cascading foreign key, whose deletes are not in the binlog before MySQL 9.6; "
            "make it RESTRICT, then run `rebuild`"
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
        """One item. The form of options lets them stand behind one another without commas."""
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
            if not (_character_set(reading) == SAFE_CHARACTER_SET and _collation(reading) in ("", SAFE_CHARACTER_SET)):
                yield (
                    f"all text of the watched table {self.table.name} was converted to a character set that may lack "
                    "some of it; run `rebuild`"
                )
        elif not self._is_option():
            yield as_a_whole(self.table)
            raise NotUnderstood

    def _rest(self) -> Iterator[str]:
        """The definition of a column or key that may be any: to the next comma."""
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
                f"the projected column {self.table.name}.{name} was dropped or renamed; bring it back, or run a "
                "projector that does not use it, then run `rebuild`"
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
                f"the projected column {self.table.name}.{column} was made {type}{before}, and MySQL may have changed "
                "its values, which the binlog does not show; run `rebuild`"
            )

    def _is_option(self) -> bool:
        """Read one option of the table that changes no value."""
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
        reading.has("DEFAULT")  # what new columns get: the columns that are there keep theirs
        return bool(_character_set(reading) or _collation(reading))


def _character_set(reading: Reading) -> str:
    """The one that is named here, if one is."""
    if reading.has("CHARACTER", "SET") or reading.has("CHAR", "SET") or reading.has("CHARSET"):
        return reading.value().text.lower()
    return ""


def _collation(reading: Reading) -> str:
    """The character set of the collation that is named here, if one is."""
    return reading.value().text.lower().partition("_")[0] if reading.has("COLLATE") else ""


class Definition:
    """A column's new definition, of which only known forms are read. Raises NotUnderstood."""

    def __init__(self, reading: Reading, sql_mode: int) -> None:
        self.reading = reading
        self.type = reading.next().keyword
        self.length = self._number() if reading.mark("(") else None
        self.unsigned = self.not_null = self.numbers_itself = False
        self.character_sets: set[str] = set()
        self.is_strict = bool(sql_mode & STRICT)
        self.keeps_zeros = bool(sql_mode & NO_AUTO_VALUE_ON_ZERO)
        while not (reading.ended() or reading.peek() == (MARK, ",")):
            self._attribute()

    def keeps_values_of(self, old: Column | None) -> bool:
        """Whether no value that `old` can hold becomes another one."""
        if old is None or (old.nullable and self.not_null) or (self.numbers_itself and not self.keeps_zeros):
            return False
        if old.collation in CHARACTER_BYTES:
            return self._keeps_characters() and self._holds_text_of(old)
        if self.type in INTEGERS and old.type in INTEGER_SIZES:
            sizes = INTEGER_SIZES.index(INTEGERS[self.type]), INTEGER_SIZES.index(old.type)
            return self.unsigned == old.unsigned and sizes[0] >= sizes[1]
        if old.type == TIMESTAMP2 and old.nullable:  # explicit_defaults_for_timestamp decides what it becomes
            return False
        return TIMES.get(self.type) == old.type and (self.length or 0) >= old.metadata[0]

    def _keeps_characters(self) -> bool:
        """Without a character set the column gets the table's. In strict mode a character it lacks is an error."""
        return self.character_sets <= {SAFE_CHARACTER_SET} and bool(self.character_sets or self.is_strict)

    def _holds_text_of(self, old: Column) -> bool:
        """Spaces at the end are cut off without an error where they do not fit, and in a CHAR always."""
        if old.type == BLOB:
            return self.length is None and TEXT_LENGTH_BYTES.get(self.type, 0) >= old.metadata[0]
        if old.type == STRING:
            return self.type == "CHAR" and (self.length or 1) >= char_bytes(old) // CHARACTER_BYTES[old.collation]
        size = int.from_bytes(old.metadata, "little")
        if old.type == VARCHAR and self.type == "VARCHAR":
            return (self.length or 0) >= size // CHARACTER_BYTES[old.collation]
        return old.type == VARCHAR and self.length is None and size < 1 << 8 * TEXT_LENGTH_BYTES.get(self.type, 0)

    def _number(self) -> int:
        number = self.reading.next().text
        self.reading.demand(number.isascii() and number.isdigit() and self.reading.mark(")"))
        return int(number)

    def _attribute(self) -> None:
        reading = self.reading
        if reading.has("NOT", "NULL"):
            self.not_null = True
        elif reading.has("UNSIGNED"):
            self.unsigned = True
        elif reading.has("AUTO_INCREMENT"):
            self.numbers_itself = True
        elif found := _character_set(reading) or _collation(reading):
            self.character_sets.add(found)
        elif reading.has("DEFAULT") or reading.has("ON", "UPDATE"):
            self._expression()
        elif reading.one_of(("COMMENT", "AFTER", "COLUMN_FORMAT", "STORAGE")):
            reading.next()
        elif reading.has("UNIQUE"):
            reading.has("KEY")
        else:
            reading.demand(reading.one_of(("NULL", "FIRST", "VISIBLE", "INVISIBLE")))

    def _expression(self) -> None:
        """A literal, with or without its sign and character set, a call, or anything in parentheses."""
        reading = self.reading
        _ = reading.mark("-") or reading.mark("+")
        if reading.peek() != (MARK, "("):
            word = reading.next()
            if word.kind == WORD and (word.text.startswith("_") or word.keyword in ("N", "X", "B")):
                reading.next()
            if reading.mark("."):
                reading.next()
        if reading.mark("("):
            depth = 1
            while depth:
                token = reading.next()
                depth += (token == (MARK, "(")) - (token == (MARK, ")"))
