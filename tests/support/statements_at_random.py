"""Random statements on the tables of the write side: harmless ones, and ones that change rows without row
events.

A template is words with a space between them. `@likes` is a table of `tidemark`, `%likes` one of the same
name in another schema, `#bio` a column or key (`=bio`: in exactly this case), `$` any literal, `&` any
number; `?TABLE` is optional. Drawn anew for each statement: white space and comments between words, the case
of keywords, the quotes and schemas of names, the session's settings and its character set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

SCHEMA, ELSEWHERE = "tidemark", "elsewhere"
STRICT, LOOSE = "STRICT_TRANS_TABLES", ""
CHARACTER_SETS = ("utf8mb4", "utf8mb4", "utf8mb4", "utf8mb3", "latin1", "gbk", "cp932")

SETUP = (  # besides the tables of the write side
    "ALTER TABLE users ADD spare INT, ADD INDEX spare_index (spare)",
    "ALTER TABLE posts ADD spare INT, ADD INDEX spare_index (spare)",
    "ALTER TABLE likes ADD spare INT, ADD INDEX spare_index (spare)",
    "CREATE TABLE other (id INT PRIMARY KEY, likes INT, body VARCHAR(20))",
    "CREATE TABLE `posts-2024` (id INT PRIMARY KEY)",
    "CREATE TABLE `my posts` (id INT PRIMARY KEY)",
    "CREATE TABLE Likes (id INT PRIMARY KEY)",
    "CREATE TABLE likes_new LIKE likes",
)
SETUP_ELSEWHERE = (
    "CREATE TABLE elsewhere.likes (id INT PRIMARY KEY)",
    "CREATE TABLE elsewhere.plain (id INT PRIMARY KEY, body VARCHAR(20))",
    "CREATE TABLE elsewhere.armed (id INT PRIMARY KEY)",
    "CREATE TRIGGER elsewhere.armed_t AFTER INSERT ON elsewhere.armed FOR EACH ROW"
    " UPDATE tidemark.users SET bio = 'by'",
    "CREATE VIEW elsewhere.seen AS SELECT id, bio FROM tidemark.users",
)

HARMLESS = (
    "ALTER TABLE @users ADD ?COLUMN #x1 INT",
    "ALTER TABLE @users ADD ?COLUMN #x1 VARCHAR(20) DEFAULT $ FIRST",
    "ALTER TABLE @posts ADD ?COLUMN #x1 VARCHAR(20) NOT NULL DEFAULT $ COMMENT $ AFTER #body",
    "ALTER TABLE @users ADD ?COLUMN ( #x1 INT , #x2 VARCHAR(20) DEFAULT $ )",
    "ALTER TABLE @users ADD #größe INT , ADD #posts$1 INT",
    "ALTER TABLE @posts ADD INDEX #x1 ( #body ( 20 ) ) , ALGORITHM = INPLACE",
    "ALTER TABLE @likes ADD UNIQUE KEY #x1 ( #user_id , #post_id )",
    "ALTER TABLE @users ADD CONSTRAINT #x1 CHECK ( #bio <> 'TRUNCATE likes' )",
    "ALTER TABLE @posts ADD CONSTRAINT #x1"
    " FOREIGN KEY ( #author_id ) REFERENCES @users ( #id ) ON DELETE RESTRICT",
    "ALTER TABLE @users ADD FULLTEXT INDEX #x1 ( #bio )",
    "CREATE INDEX #x1 ON @posts ( #created_at )",
    "CREATE UNIQUE INDEX #x1 ON @users ( #handle , #id ) COMMENT $",
    "DROP INDEX #spare_index ON @posts",
    "ALTER TABLE @posts DROP ?COLUMN #spare",
    "ALTER TABLE @posts DROP INDEX #spare_index , ADD #x1 INT",
    "ALTER TABLE @likes RENAME INDEX #spare_index TO #posts",
    "ALTER TABLE @users RENAME COLUMN #spare TO #likes",
    "ALTER TABLE @users CHANGE ?COLUMN #spare #posts BIGINT",
    "ALTER TABLE @users MODIFY ?COLUMN #spare VARCHAR(20) COMMENT $",
    "ALTER TABLE @users ALTER ?COLUMN #bio SET DEFAULT $",
    "ALTER TABLE @users ALTER #bio DROP DEFAULT",
    "ALTER TABLE @users ALTER INDEX #spare_index INVISIBLE",
    "ALTER TABLE @likes ENGINE = InnoDB",
    "ALTER TABLE @likes ENGINE InnoDB ROW_FORMAT = DYNAMIC",
    "ALTER TABLE @users FORCE , ALGORITHM = COPY , LOCK = SHARED",
    "ALTER TABLE @users COMMENT = $ AUTO_INCREMENT = 1000",
    "ALTER TABLE @posts DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin",
    "ALTER TABLE @users CONVERT TO CHARACTER SET utf8mb4",
    "ALTER TABLE @users MODIFY ?COLUMN =bio VARCHAR(600) CHARACTER SET utf8mb4 NOT NULL",
    "ALTER TABLE @users MODIFY ?COLUMN =bio VARCHAR(600) COLLATE utf8mb4_bin NOT NULL DEFAULT $",
    "ALTER TABLE @users CHANGE ?COLUMN =display_name =display_name"
    " MEDIUMTEXT CHARSET utf8mb4 NOT NULL COMMENT $ FIRST",
    "ALTER TABLE @posts MODIFY =body TEXT CHARACTER SET utf8mb4 NULL",
    "ALTER TABLE @posts MODIFY =created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
    "ANALYZE TABLE @users",
    "OPTIMIZE TABLE @likes",
    "FLUSH TABLES @likes",
    "CREATE VIEW @x1 AS SELECT * FROM @likes",
    "CREATE TRIGGER @x1 BEFORE UPDATE ON @users FOR EACH ROW SET NEW . bio = CONCAT( NEW . bio , '!' )",
    "CREATE TRIGGER @x1 AFTER DELETE ON @likes FOR EACH ROW UPDATE @users SET #bio = 'one like less'",
    "CREATE PROCEDURE @x1 ( ) TRUNCATE likes",
    "CREATE TABLE @x1 LIKE @likes",
    "CREATE TABLE @x1 AS SELECT * FROM @likes",
    "CREATE TABLE @x1 ( #id INT PRIMARY KEY , #likes INT , #posts VARCHAR(20) DEFAULT $ )",
    "CREATE TABLE IF NOT EXISTS @likes ( #x1 INT )",
    "CREATE TABLE @x1 ( #id INT PRIMARY KEY , #u BIGINT UNSIGNED ,"
    " FOREIGN KEY ( #u ) REFERENCES @users ( #id ) )",
    "TRUNCATE ?TABLE @other",
    "TRUNCATE ?TABLE @posts-2024",
    "DROP TABLE @my_posts",
    "DROP TABLE IF EXISTS @other , @posts-2024 , @gone",
    "RENAME TABLE @other TO @likes2 , @likes2 TO @x1",
    "ALTER TABLE @other DROP ?COLUMN #likes",
    "ALTER TABLE @other RENAME ?TO @x1",
    "ALTER TABLE @other RENAME COLUMN #likes TO #posts , COMMENT $",
    "ALTER TABLE @other MODIFY #body CHAR(1)",
    "TRUNCATE ?TABLE @Likes",
    "TRUNCATE ?TABLE %likes",
    "DROP TABLE %likes",
    "ALTER TABLE %likes RENAME TO %posts",
    "RENAME TABLE %likes TO %users , %plain TO %likes",
    "DELETE FROM @likes",
    "UPDATE @users SET #bio = $",
)
HARMLESS_AS_STATEMENT = (
    "INSERT INTO %plain ( #id , #body ) VALUES ( & , $ )",
    "DELETE FROM %plain",
    "UPDATE %plain SET #body = $",
    "REPLACE INTO %plain ( #id , #body ) VALUES ( 1 , $ )",
)
HARMFUL = (
    "TRUNCATE ?TABLE @likes",
    "TRUNCATE ?TABLE @follows",
    "DROP TABLE @likes",
    "DROP TABLE IF EXISTS @other , @likes",
    "RENAME TABLE @likes TO @x1",
    "RENAME TABLE @likes TO @x1 , @likes_new TO @likes",
    "RENAME TABLE @likes TO %x1",
    "ALTER TABLE @likes RENAME TO @x1",
    "ALTER TABLE @likes RENAME %x1",
    "ALTER TABLE @users DROP ?COLUMN #bio",
    "ALTER TABLE @users ADD #x1 INT , DROP ?COLUMN #bio , FORCE",
    "ALTER TABLE @users DROP ?COLUMN #bio , ADD ?COLUMN #bio VARCHAR(500) NOT NULL DEFAULT $",
    "ALTER TABLE @users RENAME COLUMN #bio TO #x1",
    "ALTER TABLE @users RENAME COLUMN #bio TO #x1 , RENAME COLUMN #display_name TO #bio",
    "ALTER TABLE @users CHANGE ?COLUMN #bio #x1 VARCHAR(500) NOT NULL",
    "ALTER TABLE @users MODIFY ?COLUMN #bio CHAR(200) CHARACTER SET utf8mb4 NOT NULL",
    "ALTER TABLE @users MODIFY ?COLUMN #created_at DATETIME NOT NULL",
    "ALTER TABLE @users MODIFY ?COLUMN #bio BLOB NOT NULL",
    "ALTER TABLE @posts MODIFY #body VARCHAR(2000) GENERATED ALWAYS AS ( 'x' ) STORED",
    "ALTER TABLE @likes ENGINE = BLACKHOLE",
    "ALTER TABLE @posts ADD CONSTRAINT #x1"
    " FOREIGN KEY ( #author_id ) REFERENCES @users ( #id ) ON DELETE CASCADE",
    "ALTER TABLE @posts DROP FOREIGN KEY #posts_author_fk ,"
    " ADD FOREIGN KEY ( #author_id ) REFERENCES @users ( #id ) ON UPDATE RESTRICT ON DELETE CASCADE",
    "ALTER TABLE @follows DROP PRIMARY KEY , ADD PRIMARY KEY ( #followee_id , #follower_id )",
)
HARMFUL_IF_LOOSE = (
    "ALTER TABLE @users MODIFY #bio VARCHAR(2) NOT NULL",
    "ALTER TABLE @users MODIFY #bio VARCHAR(500) CHARACTER SET latin1 NOT NULL",
    "ALTER TABLE @users CHANGE #bio #bio VARCHAR(500) CHARACTER SET ascii NOT NULL DEFAULT $",
    "ALTER TABLE @users CONVERT TO CHARACTER SET latin1",
    "ALTER TABLE @posts MODIFY #body TINYTEXT CHARACTER SET latin1 NOT NULL",
)
HARMFUL_AS_STATEMENT = (
    "DELETE FROM @likes",
    "UPDATE @users SET #bio = $",
    "UPDATE %seen SET #bio = $",
    "INSERT INTO %armed VALUES ( & )",
    "DELETE @likes FROM @likes , %plain",
    "WITH q AS ( SELECT 1 ) UPDATE @users SET #bio = 'w'",
)
HARMLESS_WORK = (  # sequences that leave the tables of the write side as before
    ("ALTER TABLE @users ADD ?COLUMN #x1 INT FIRST", "ALTER TABLE @users DROP ?COLUMN #x1"),
    (
        "ALTER TABLE @posts ADD ?COLUMN #x1 TEXT , ADD #x2 INT AFTER #body",
        "ALTER TABLE @posts DROP #x1 , DROP #x2",
    ),
    ("CREATE INDEX #x1 ON @posts ( #created_at )", "DROP INDEX #x1 ON @posts"),
    ("ALTER TABLE @users ADD INDEX #x1 ( #bio ( 20 ) )", "ALTER TABLE @users DROP INDEX #x1"),
    ("ALTER TABLE @likes FORCE , ALGORITHM = COPY",),
    ("ALTER TABLE @comments ENGINE = InnoDB",),
    ("ANALYZE TABLE @users , @posts",),
    ("OPTIMIZE TABLE @follows",),
    ("CREATE VIEW @x1 AS SELECT * FROM @posts", "DROP VIEW @x1"),
    ("CREATE TABLE @x1 LIKE @likes", "RENAME TABLE @x1 TO @x2", "DROP TABLE @x2"),
    ("CREATE TABLE @x1 AS SELECT * FROM @users", "TRUNCATE ?TABLE @x1", "DROP TABLE IF EXISTS @x1"),
    (
        "CREATE TABLE @x1 ( #likes INT , #posts INT )",
        "ALTER TABLE @x1 DROP #likes , COMMENT $",
        "DROP TABLE @x1",
    ),
)
HARMFUL_WORK = (
    ("TRUNCATE ?TABLE @likes",),
    ("TRUNCATE ?TABLE @follows",),
    ("ALTER TABLE @users DROP ?COLUMN #bio , ADD ?COLUMN =bio VARCHAR(500) NOT NULL DEFAULT ''",),
    (
        "ALTER TABLE @users MODIFY =bio VARCHAR(2) NOT NULL DEFAULT ''",
        "ALTER TABLE @users MODIFY =bio VARCHAR(500) NOT NULL DEFAULT ''",
    ),
    (
        "ALTER TABLE @posts MODIFY ?COLUMN =body VARCHAR(2000) CHARACTER SET latin1 NOT NULL",
        "ALTER TABLE @posts MODIFY ?COLUMN =body VARCHAR(2000) NOT NULL",
    ),
)

GAPS = (
    *(
        " ",
        "  ",
        "\n",
        "\t",
        "\r\n",
        "\f",
        "/**/",
        " /* c */ ",
        "/* TRUNCATE likes; ' */",
        '/*"*/',
        "/*`*/",
        "/*\n*/",
    ),
    *(
        "-- x\n",
        "-- ' likes\n",
        "--\t`\n",
        "# '\n",
        "#\n",
        "/*! */",
        "/*!50003 */",
        "/* x -- */",
        "/***/",
        "/*/ */",
    ),
    *("/*!999999 TRUNCATE likes */", "/*!999999 /* likes */ ` */", "/* /*! */", " /*!80000 -- x\n*/ "),
)


@dataclass(frozen=True)
class Sample:
    """A statement, its session's settings, and whether every row change has a row event."""

    session: tuple[str, ...]
    statement: bytes
    harmless: bool


def harmless(random: Random) -> Sample:
    if random.random() < 0.1:
        return _sample(random, HARMLESS_AS_STATEMENT, harmless=True, format="STATEMENT")
    return _sample(random, HARMLESS, harmless=True)


def harmful(random: Random) -> Sample:
    """A harmful statement at random. Some fail, and some change no row of the present ones."""
    kind = random.random()
    if kind < 0.2:
        return _sample(random, HARMFUL_IF_LOOSE, harmless=False, strictness=LOOSE)
    if kind < 0.35:
        return _sample(random, HARMFUL_AS_STATEMENT, harmless=False, format="STATEMENT")
    return _sample(random, HARMFUL, harmless=False)


def disguised(random: Random, template: str, *, harmless: bool, strictness: str = STRICT) -> Sample:
    """A template written out as one of its many texts."""
    return _sample(random, (template,), harmless=harmless, strictness=strictness)


def work(random: Random, *, harmless: bool) -> list[Sample]:
    """Statements for a running system, to execute in order in one session.

    After harmful ones the projector stops and needs a rebuild. The tables stay usable.
    """
    modes, charset = _modes(random), random.choice(CHARACTER_SETS)
    writing = Writing(random, modes, charset, SCHEMA)
    templates = random.choice(HARMLESS_WORK if harmless else HARMFUL_WORK)
    session = _session(SCHEMA, [*modes, *([] if not harmless else [STRICT])], charset, "ROW")
    return [Sample(session, writing.text(template), harmless) for template in templates]


def at_random(random: Random) -> Iterator[Sample]:
    while True:
        yield harmless(random) if random.random() < 0.6 else harmful(random)


def _sample(
    random: Random,
    templates: Sequence[str],
    *,
    harmless: bool,
    strictness: str | None = None,
    format: str = "ROW",
) -> Sample:
    strictness = random.choice((STRICT, STRICT, LOOSE)) if strictness is None else strictness
    modes, charset = _modes(random), random.choice(CHARACTER_SETS)
    default = random.choice((SCHEMA, SCHEMA, SCHEMA, ELSEWHERE))
    writing = Writing(random, modes, charset, default)
    session = _session(default, [*filter(None, [strictness]), *modes], charset, format)
    return Sample(session, writing.text(random.choice(templates)), harmless)


def _modes(random: Random) -> list[str]:
    return [mode for mode in ("ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "IGNORE_SPACE") if random.random() < 0.3]


def _session(default: str, modes: Sequence[str], charset: str, format: str) -> tuple[str, ...]:
    return (
        f"USE {default}",
        f"SET sql_mode = '{','.join(modes)}', character_set_client = {charset}",
        f"SET binlog_format = {format}",
    )


class Writing:
    """Writes out templates for one session."""

    def __init__(self, random: Random, modes: Sequence[str], charset: str, default: str) -> None:
        self.random = random
        self.ansi = "ANSI_QUOTES" in modes
        self.escapes = "NO_BACKSLASH_ESCAPES" not in modes
        self.charset = charset
        self.default = default
        self.noise = random.choice((0.0, 0.3, 0.8))
        self.new = f"new_{random.randrange(10**9)}_"

    def text(self, template: str) -> bytes:
        begin = self._gap() if self.random.random() < 0.3 else b""
        words = [
            self._word(word) for word in template.split(" ") if word[0] != "?" or self.random.random() < 0.5
        ]
        text = begin + b"".join(part for word in words for part in (word, self._gap()))
        return text + (b";" if self.random.random() < 0.1 else b"")

    def _gap(self) -> bytes:
        if self.charset == "latin1" and self.random.random() < 0.1:
            return b"\xa0"
        return (self.random.choice(GAPS) if self.random.random() < self.noise else " ").encode()

    def _word(self, word: str) -> bytes:
        if word[0] == "?":
            word = word[1:]
        if word == "&":
            return b"%d" % self.random.randrange(10**9)
        if word[0] == "=" and len(word) > 1:
            return self._name(word[1:])
        if word == "$":
            return self._literal()
        if word[0] == "#":
            return self._name(self._any_case(word[1:]))
        if word[0] in "@%":
            return self._table(
                SCHEMA if word[0] == "@" else ELSEWHERE, word[1:].replace("my_posts", "my posts")
            )
        written = self._any_case(word) if word.isupper() and word.isalpha() else word
        if word.isalpha() and self.random.random() < self.noise / 8:
            return f"/*!{self.random.choice(('', '50003', '80000', '90000'))} {written} */".encode()
        return written.encode()

    def _any_case(self, word: str) -> str:
        return self.random.choice((word, word, word.lower(), word.upper(), word.title()))

    def _table(self, schema: str, name: str) -> bytes:
        if schema == self.default and self.random.random() < 0.6:
            return self._name(name)
        dot = b"." if self.random.random() < 0.7 else self._gap() + b"." + self._gap()
        return self._name(schema) + dot + self._name(name)

    def _name(self, name: str) -> bytes:
        """`x1` and `x2` become unused names."""
        name = re.sub("^[xX](?=[12]$)", self.new, name)
        quotes = ["`", *(['"'] if self.ansi else [])]
        if name.replace("_", "a").isascii() and name.replace("_", "a").replace("$", "a").isalnum():
            quotes.append("")
        if self.charset in ("gbk", "cp932"):
            name = name.replace("ö", "o").replace("ß", "s").replace("Ö", "o")
        quote = self.random.choice(quotes)
        return f"{quote}{name}{quote}".encode("latin1" if self.charset == "latin1" else "utf-8")

    def _literal(self) -> bytes:
        """A literal short enough for every column of the templates."""
        quote = "'" if self.ansi or self.random.random() < 0.6 else '"'
        inside = [b"", b"likes", b"#", b"-- x", b"/*", b"*/", b"`", b"DROP bio, ", quote.encode() * 2, b";"]
        inside += [b"\\" + quote.encode(), b"\\\\", b"\\n"] if self.escapes else [b"\\", b"x\\"]
        if self.charset in ("gbk", "cp932"):
            inside.append(b"\x95\x5c")
        return quote.encode() + self.random.choice(inside) + quote.encode()
