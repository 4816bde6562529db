"""The statement of a QUERY event, with the settings of its session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from binlog_projector.binlog.sql_tokens import (
    NEWEST,
    UTF8MB4,
    Dialect,
    Token,
    tokens,
)

SIZES = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1}
SQL_MODE, CHARACTER_SET, ACCESSED_SCHEMAS, TOO_MANY = 1, 4, 12, 254
COUNTED = {5: 1, 6: 1, 11: 2}  # by code: the number of texts, each behind its length


@dataclass(frozen=True)
class Statement:
    """The statement of a QUERY event, with the settings of its session."""

    text: bytes
    schema: str = ""
    sql_mode: int = 0
    collation: int = UTF8MB4
    version: int = NEWEST  # of the server that parsed the statement
    accessed: frozenset[str] = frozenset()  # schemas of used tables, also by views, triggers and functions

    @classmethod
    def of(cls, text: bytes, schema: bytes, status: bytes, version: int) -> Statement:
        """`status`: the event's status variables, read up to the first unknown one."""
        found, at = {}, 0
        while at < len(status):
            code, begin = status[at], at + 1
            at = _end_of(code, status, begin)
            found[code] = status[begin:at]
        accessed = [name.decode() for name in found.get(ACCESSED_SCHEMAS, b"")[1:-1].split(b"\0")]
        collation = int.from_bytes(found[CHARACTER_SET][:2], "little") if CHARACTER_SET in found else UTF8MB4
        sql_mode = int.from_bytes(found.get(SQL_MODE, b""), "little")
        return cls(text, schema.decode(), sql_mode, collation, version, frozenset(accessed) - {""})

    @cached_property
    def keyword(self) -> str:
        """The first word in upper case, or the first mark. Raises Unreadable."""
        first = next(self.tokens(), None)
        return first.text.upper() if first else ""

    def tokens(self) -> Iterator[Token]:
        """Raises Unreadable."""
        return tokens(self.text, Dialect(self.sql_mode, self.collation, self.version))

    def __str__(self) -> str:
        return repr(self.text.decode(errors="backslashreplace")[:200])


def _end_of(code: int, status: bytes, at: int) -> int:
    """The end of a status variable's value; an unknown variable takes all the rest."""
    if code in SIZES:
        return at + SIZES[code]
    if code == ACCESSED_SCHEMAS:
        count = 0 if status[at] == TOO_MANY else status[at]
        at += 1
        for _ in range(count):
            at = status.index(b"\0", at) + 1
        return at
    for _ in range(COUNTED.get(code, 0)):
        at += 1 + status[at]
    return at if code in COUNTED else len(status)
