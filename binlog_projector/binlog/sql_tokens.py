"""Cuts a statement into tokens as MySQL's lexer does: comments are white space, unless MySQL executes them.

Quotes, escapes and the characters of an unquoted word depend on the session of the statement. The rules are
those of `lex_one_token` in MySQL's source (sql/sql_lex.cc).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from binlog_projector.binlog.column_types import UTF8_COLLATIONS

WORD, NAME, TEXT, MARK, VARIABLE = "word", "name", "text", "mark", "variable"
ANSI_QUOTES, NO_BACKSLASH_ESCAPES = 1 << 2, 1 << 20  # in sql_mode
UTF8MB4, NEWEST = 255, 999_999
LATIN1_COLLATIONS = frozenset({5, 8, 15, 31, 47, 48, 49, 94})
MULTIBYTE = {  # character sets whose later bytes may look like a quote or a backslash, and their characters
    **dict.fromkeys((1, 84), ("big5", rb"[\xa1-\xf9][\x40-\x7e\xa1-\xfe]")),
    **dict.fromkeys((28, 87), ("gbk", rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")),
    **dict.fromkeys((13, 88, 95, 96), ("cp932", rb"[\x81-\x9f\xe0-\xfc][\x40-\x7e\x80-\xfc]")),  # and sjis
    **dict.fromkeys(
        (248, 249, 250), ("gb18030", rb"[\x81-\xfe](?:[\x40-\x7e\x80-\xfe]|[0-9][\x81-\xfe][0-9])")
    ),
}
ENCODINGS = {
    **dict.fromkeys(UTF8_COLLATIONS, "utf-8"),
    **dict.fromkeys(LATIN1_COLLATIONS, "cp1252"),
    **{collation: encoding for collation, (encoding, _) in MULTIBYTE.items()},
}
# The rest of a comment. Comments inside have no comments themselves.
COMMENT = re.compile(rb"(?>/\*.*?\*/|(?!\*/).)*+\*/", re.DOTALL)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def folded(name: str) -> str:
    """A name in lower case as MySQL folds it: letter by letter, the Turkish dotted I to a plain i."""
    return name.replace("\u0130", "i").lower()


def version_of(text: bytes) -> int:
    """A server's version as in `/*!90704 ... */`; NEWEST for an unknown form."""
    found = re.match(rb"([0-9]+)\.([0-9]+)\.([0-9]+)", text)
    if not found:
        return NEWEST
    major, minor, patch = map(int, found.groups())
    return major * 10_000 + minor * 100 + patch


class Unreadable(Exception):
    """The statement cannot be cut into tokens with certainty."""


class Token(NamedTuple):
    """`text` has no quotes; a quoted name is never a keyword."""

    kind: str
    text: str

    @property
    def keyword(self) -> str:
        return self.text.upper() if self.kind == WORD else ""


END, SEMICOLON = Token("end", ""), Token(MARK, ";")


@dataclass(frozen=True)
class Dialect:
    """The session of the statement, and the version of the server that parsed it (90704 is 9.7.4)."""

    sql_mode: int = 0
    collation: int = UTF8MB4
    version: int = NEWEST


def tokens(sql: bytes, dialect: Dialect) -> Iterator[Token]:
    """All tokens of the statement. Raises Unreadable."""
    collation = dialect.collation
    pattern = _pattern(dialect.sql_mode & (ANSI_QUOTES | NO_BACKSLASH_ESCAPES), collation)
    encoding = ENCODINGS.get(collation, "ascii")
    at, executed = 0, False
    while match := pattern.match(sql, at):
        at, kind = match.end(), match.lastgroup
        if kind == "version":
            if _is_executed(match["version"], dialect.version):
                executed = True
            else:
                at = _end_of_comment(sql, at)
        elif kind == "end":
            if not executed:
                yield Token(MARK, "*")
                at -= 1  # the slash may begin a comment: SELECT */* x */FROM t
            executed = False
        elif kind == WORD:
            yield Token(WORD, _word(match[0], encoding))
        elif kind in (NAME, TEXT):
            yield Token(kind, _unquoted(match[0].decode(encoding, "replace")))
        elif kind:
            yield Token(kind, match[0].decode("ascii", "replace"))
    if at < len(sql) or executed:
        raise Unreadable(f"byte {at} and what follows")


def _is_executed(version: bytes, server: int) -> bool:
    if version.startswith(b"0"):
        raise Unreadable("a version that begins with 0")
    return not version or int(version) <= server


def _end_of_comment(sql: bytes, at: int) -> int:
    found = COMMENT.match(sql, at)
    if not found:
        raise Unreadable("a comment without an end")
    return found.end()


def _word(raw: bytes, encoding: str) -> str:
    if raw.startswith(b"$"):
        raise Unreadable("a word that begins with $: from MySQL 9 on it may be a quote")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("a word that is not in its character set") from None


def _unquoted(quoted: str) -> str:
    return quoted[1:-1].replace(quoted[0] * 2, quoted[0])


@lru_cache(maxsize=64)
def _pattern(sql_mode: int, collation: int) -> re.Pattern[bytes]:
    """White space and comments match without a group; an unexpected character does not match."""
    space, letters = rb"", rb""
    if collation in LATIN1_COLLATIONS:
        space, letters = rb"\xa0", rb"\x80-\x9f\xa1-\xff"
    elif collation in UTF8_COLLATIONS:
        letters = rb"\x80-\xff"
    _, wide = MULTIBYTE.get(collation, ("", rb"(?!)"))
    escape = rb"(?!)" if sql_mode & NO_BACKSLASH_ESCAPES else rb"\\."

    def quoted(quote: bytes, inside: bytes) -> bytes:
        return rb"%b(?>%b|%b|%b%b|[^%b])*+%b" % (quote, wide, inside, quote, quote, quote, quote)

    single, double, back = quoted(b"'", escape), quoted(b'"', escape), quoted(b"`", rb"(?!)")
    if sql_mode & ANSI_QUOTES:
        text, name = single, rb"%b|%b" % (back, quoted(b'"', rb"(?!)"))
    else:
        text, name = rb"%b|%b" % (single, double), back
    word = rb"[0-9A-Za-z_$%b]++" % letters
    return re.compile(
        rb"[ \t\n\v\f\r%b]++|\#[^\n\0]*+|--(?=[\x01-\x20\x7f%b]|\Z)[^\n\0]*+" % (space, space)
        + rb"|/\*!(?P<version>[0-9]{6}|[0-9]{5}|)|/\*.*?\*/|(?P<end>\*/)"
        + rb"|(?P<text>%b)|(?P<name>%b)|(?P<word>%b)" % (text, name, word)
        + rb"|(?P<variable>@@?(?:%b|%b|[0-9A-Za-z_.$]*+))|(?P<mark>[!%%&()*+,\-.:;<=>?\[\\\]^{|}~]|/(?!\*))"
        % (text, name),
        re.DOTALL,
    )


class NotUnderstood(Exception):
    """The statement has another form than the expected one."""


class Reading:
    """The tokens of a statement from left to right."""

    def __init__(self, found: Sequence[Token]) -> None:
        last = len(found) - (bool(found) and found[-1] == SEMICOLON)
        self.rest = [*found[:last], END]
        self.at = 0

    def peek(self) -> Token:
        return self.rest[self.at]

    def next(self) -> Token:
        """Raises NotUnderstood at the end."""
        token = self.peek()
        if token is END:
            raise NotUnderstood
        self.at += 1
        return token

    def ended(self) -> bool:
        return self.peek() is END

    def has(self, *keywords: str) -> bool:
        """Whether these keywords come next; if so, skip them."""
        ahead = self.rest[self.at : self.at + len(keywords)]
        if tuple(token.keyword for token in ahead) != keywords:
            return False
        self.at += len(keywords)
        return True

    def one_of(self, keywords: Collection[str]) -> str:
        """Skip and return the next keyword if it is one of these, else return ""."""
        found = self.peek().keyword
        if found not in keywords:
            return ""
        self.at += 1
        return found

    def mark(self, mark: str) -> bool:
        if self.peek() != (MARK, mark):
            return False
        self.at += 1
        return True

    def demand(self, found: object) -> None:
        if not found:
            raise NotUnderstood

    def name(self) -> str:
        token = self.next()
        self.demand(token.kind in (WORD, NAME))
        return token.text

    def table(self) -> tuple[str | None, str]:
        """A table, with its schema if that is named."""
        first = self.name()
        return (first, self.name()) if self.mark(".") else (None, first)

    def value(self) -> Token:
        """An option's value, with or without `=` before it."""
        self.mark("=")
        return self.next()

    def item(self) -> list[Token]:
        """All tokens up to the next comma outside parentheses, or to the end."""
        begin, depth = self.at, 0
        while not self.ended() and (depth or self.peek() != (MARK, ",")):
            token = self.next()
            depth += (token == (MARK, "(")) - (token == (MARK, ")"))
            self.demand(depth >= 0)
        self.demand(depth == 0)
        return self.rest[begin : self.at]
