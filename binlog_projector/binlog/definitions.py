"""A column's new definition in an ALTER TABLE, and whether it keeps all values."""

from __future__ import annotations

from binlog_projector.binlog.column_types import CHARACTER_BYTES, char_bytes
from binlog_projector.binlog.sql_tokens import MARK, WORD, Reading
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

NO_AUTO_VALUE_ON_ZERO, STRICT = 1 << 19, 1 << 21 | 1 << 22  # in sql_mode
SAFE_CHARACTER_SET = "utf8mb4"  # it has every character that a projected column can hold
INTEGERS = {
    "TINYINT": TINY,
    "SMALLINT": SHORT,
    "MEDIUMINT": INT24,
    "INT": LONG,
    "INTEGER": LONG,
    "BIGINT": LONGLONG,
}
INTEGER_SIZES = [TINY, SHORT, INT24, LONG, LONGLONG]
TIMES = {"DATETIME": DATETIME2, "TIMESTAMP": TIMESTAMP2, "TIME": TIME2}
TEXT_LENGTH_BYTES = {"TINYTEXT": 1, "TEXT": 2, "MEDIUMTEXT": 3, "LONGTEXT": 4}


def character_set(reading: Reading) -> str:
    """The character set that comes next, if one does."""
    if reading.has("CHARACTER", "SET") or reading.has("CHAR", "SET") or reading.has("CHARSET"):
        return reading.value().text.lower()
    return ""


def collation_charset(reading: Reading) -> str:
    """The character set of the collation that comes next, if one does."""
    return reading.value().text.lower().partition("_")[0] if reading.has("COLLATE") else ""


class Definition:
    """A column's new definition. Raises NotUnderstood for an unknown form."""

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
        """Whether all values that `old` can have stay the same."""
        if old is None or (old.nullable and self.not_null) or (self.numbers_itself and not self.keeps_zeros):
            return False
        if old.collation in CHARACTER_BYTES:
            return self._keeps_characters() and self._holds_text_of(old)
        if self.type in INTEGERS and old.type in INTEGER_SIZES:
            sizes = INTEGER_SIZES.index(INTEGERS[self.type]), INTEGER_SIZES.index(old.type)
            return self.unsigned == old.unsigned and sizes[0] >= sizes[1]
        if old.type == TIMESTAMP2 and old.nullable:  # the result depends on explicit_defaults_for_timestamp
            return False
        return TIMES.get(self.type) == old.type and (self.length or 0) >= old.metadata[0]

    def _keeps_characters(self) -> bool:
        """Without a character set, the column gets the table's; strict mode refuses characters it lacks."""
        return self.character_sets <= {SAFE_CHARACTER_SET} and bool(self.character_sets or self.is_strict)

    def _holds_text_of(self, old: Column) -> bool:
        """Whether all text fits. MySQL silently cuts final spaces that do not fit, and all in a CHAR."""
        if old.type == BLOB:
            return self.length is None and TEXT_LENGTH_BYTES.get(self.type, 0) >= old.metadata[0]
        if old.type == STRING:
            return (
                self.type == "CHAR"
                and (self.length or 1) >= char_bytes(old) // CHARACTER_BYTES[old.collation]
            )
        size = int.from_bytes(old.metadata, "little")
        if old.type == VARCHAR and self.type == "VARCHAR":
            return (self.length or 0) >= size // CHARACTER_BYTES[old.collation]
        return (
            old.type == VARCHAR
            and self.length is None
            and size < 1 << 8 * TEXT_LENGTH_BYTES.get(self.type, 0)
        )

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
        elif found := character_set(reading) or collation_charset(reading):
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
