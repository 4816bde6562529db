"""Our tokens of a statement are MySQL's. STATEMENT_DIGEST_TEXT, by MySQL's own lexer, is the judge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pymysql
import pytest

from binlog_projector.binlog.sql_tokens import (
    ANSI_QUOTES,
    MARK,
    NAME,
    NO_BACKSLASH_ESCAPES,
    TEXT,
    Dialect,
    Token,
    Unreadable,
    tokens,
    version_of,
)
from binlog_projector.mysql.connections import Connection, query_value
from ops.stack import Stack
from tests.support.harness import admin_connection, run_sql
from tests.support.statements_at_random import HARMFUL, HARMLESS, Writing

MODES = {"ANSI_QUOTES": ANSI_QUOTES, "NO_BACKSLASH_ESCAPES": NO_BACKSLASH_ESCAPES}
COLLATIONS = {
    "utf8mb4": 255,
    "utf8mb3": 33,
    "latin1": 8,
    "gbk": 28,
    "big5": 1,
    "cp932": 95,
    "gb18030": 248,
    "koi8r": 7,
}
PIECES = (
    *(
        b"'",
        b'"',
        b"`",
        b"''",
        b'""',
        b"``",
        b"\\",
        b"\\'",
        b'\\"',
        b"/*",
        b"*/",
        b"/*!",
        b"/*!50003",
        b"/*!90000 ",
    ),
    *(
        b"/*!999999",
        b"--",
        b"-- ",
        b"--\t",
        b"--\x01",
        b"#",
        b"\n",
        b" ",
        b"\t",
        b"\f",
        b"\v",
        b"\r",
        b"*",
        b"/",
        b"-",
    ),
    *(
        b"$",
        b"_",
        b"/**/",
        b"/*/",
        b"\x95",
        b"\x5c",
        b"\xa0",
        b"\xe9",
        b"\x81",
        b"\xc3\xa9",
        b"\x00",
        b"(",
        b")",
        b",",
    ),
    *(
        b"'a'",
        b'"a"',
        b"`c`",
        b"/* ' */",
        b"# '\n",
        b", FORCE",
        b", `a` ",
        b"@y",
        b";",
        b"/*!80000 , FORCE */",
        b"/*+ */",
    ),
    *(
        b"'\x81'",
        b"'\x81\x5c'",
        b"`\x81\x60`",
        b"'\\\x81'",
        b"'\\\x95\x5c'",
        b"'\x81\x30\x81\x30'",
        b"COMMENT 'a'",
    ),
)


@pytest.fixture(scope="module")
def connection(shared_stack: Stack) -> Iterator[Connection]:
    with admin_connection(shared_stack) as connection:
        yield connection


def fuzz(connection: Connection, seed: int, texts: int) -> None:
    """For each text that MySQL accepts, our tokens written out must be the same statement to MySQL."""
    random, taken, unreadable = Random(seed), 0, 0
    version = version_of(query_value(connection, "SELECT VERSION()").encode())
    for _ in range(texts):
        charset = random.choice(list(COLLATIONS))
        modes = [mode for mode in MODES if random.random() < 0.5]
        run_sql(connection, f"SET sql_mode = '{','.join(modes)}'")
        text = bytearray(
            Writing(random, modes, charset, "tidemark").text(random.choice([*HARMFUL, *HARMLESS]))
        )
        for _ in range(random.randrange(4)):
            at = random.randrange(len(text) + 1)
            text[at:at] = random.choice(PIECES)
        digest = digest_of(connection, bytes(text), charset)
        if not digest:
            continue
        taken += 1
        dialect = Dialect(sum(MODES[mode] for mode in modes), COLLATIONS[charset], version)
        try:
            found = list(tokens(bytes(text), dialect))
        except Unreadable:
            unreadable += 1
            continue
        if any(
            token.kind == NAME and set(token.text) & {"`", "\ufffd"} and not token.text.isascii()
            for token in found
        ):
            continue  # MySQL halves quotes byte by byte, even in a character, and hides unknown characters
        plain = "".join(map(written, found))
        run_sql(connection, "SET sql_mode = ''")
        plain = plain.replace(". ", ".")  # directly after a dot even a reserved word is a name
        assert digest_of(connection, plain.encode(), "utf8mb4") == digest, (
            seed,
            charset,
            modes,
            bytes(text),
            plain,
        )
    print(f"seed {seed}: {taken} of {texts} texts taken by MySQL, {unreadable} of those left unread")
    assert unreadable < taken / 20


def digest_of(connection: Connection, text: bytes, charset: str) -> str:
    """The statement as MySQL's lexer and parser see it, without comments and values. Empty for an error."""
    try:
        digest = query_value(connection, f"SELECT STATEMENT_DIGEST_TEXT(_{charset} 0x{text.hex()})")
    except pymysql.MySQLError:
        return ""
    digest = re.sub(r"/\*\+.*?\*/ ?", "", str(digest))  # MySQL keeps hints
    plain = digest.replace("`", "").upper().replace("SYSTEM_USER", "USER")  # a keyword may be shown as a name
    return re.sub(r"[^\x20-\x7e]+", "?", plain)  # Python and MySQL differ in some rare characters


def written(token: Token) -> str:
    if token.kind == TEXT:
        return " 'x'"
    if token.kind == NAME:
        return f" `{token.text.replace('`', '``')}`"
    return token.text if token.kind == MARK and token.text in ".>@" else f" {token.text}"


def test_texts_at_random_have_the_tokens_that_mysql_sees(connection: Connection) -> None:
    fuzz(connection, 1, 2_000)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_texts_at_random_have_the_tokens_that_mysql_sees(connection: Connection, seed: int) -> None:
    fuzz(connection, seed, 20_000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"TRUNCATE 'likes", "byte 9"),
        (b"TRUNCATE likes /* x", "byte 15"),
        (b"/*!50003 TRUNCATE likes", "byte"),
        (b"TRUNCATE /*!099999 likes */", "begins with 0"),
        (b"CREATE FUNCTION f() RETURNS INT LANGUAGE x AS $$ TRUNCATE likes $$", "begins with"),
        (b"TRUNCATE \xe9likes", "character set"),
    ],
)
def test_what_is_no_certain_token_is_unreadable(text: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        list(tokens(text, Dialect()))
