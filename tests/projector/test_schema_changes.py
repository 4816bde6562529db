"""Schema changes on a real MySQL: docs/operations.md says which go through, and which stop the projector."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.ops.test_prometheus import stories
from tests.projector.judging import Bench, Judged, bench

pytestmark = pytest.mark.server

STRICT = ("USE tidemark", "SET sql_mode = DEFAULT")
WAYS = ("INSTANT", "INPLACE", "COPY")
THROUGH, AFTER_A_ROW = "goes through", "goes through after a row"
COMPARED, AS_A_WHOLE = "is compared", "the watched table posts was changed as a whole"
WRITES = (
    "INSERT INTO users (subject, handle, display_name, bio) VALUES ('d', 'd', 'D', '')",
    "UPDATE users SET bio = 'new' WHERE id = 2",
    "INSERT INTO posts (author_id, body) VALUES (3, 'three')",
    "UPDATE posts SET body = '漢' WHERE id = 1",
    "INSERT INTO follows (follower_id, followee_id) VALUES (3, 1)",
    "DELETE FROM follows WHERE follower_id = 2",
)
KEY = "follower_id, followee_id"
OLD = "_follows_new.follower_id <=> OLD.follower_id AND _follows_new.followee_id <=> OLD.followee_id"
HANDLER = "DECLARE CONTINUE HANDLER FOR 1146 begin end;"
REPLACE = (
    f"REPLACE INTO `tidemark`.`_follows_new` ({KEY}, created_at)"
    " VALUES (NEW.follower_id, NEW.followee_id, NEW.created_at);"
)
TRIGGER = (
    "CREATE TRIGGER `pt_osc_tidemark_follows_{}` AFTER {} ON `tidemark`.`follows` FOR EACH ROW BEGIN {} END"
)
SWAPS = {  # the binlog has no LOCK TABLES
    "gh-ost": (
        "drop /* gh-ost */ table if exists `tidemark`.`_follows_gho`",
        "drop /* gh-ost */ table if exists `tidemark`.`_follows_ghc`",
        "create /* gh-ost */ table `tidemark`.`_follows_ghc` (id bigint unsigned auto_increment,"
        " last_update timestamp not null DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,"
        " hint varchar(64) charset ascii not null, value varchar(4096) charset ascii not null,"
        " primary key(id), unique key hint_uidx(hint)) auto_increment=256",
        "create /* gh-ost */ table `tidemark`.`_follows_gho` like `tidemark`.`follows`",
        "alter /* gh-ost */ table `tidemark`.`_follows_gho` ADD COLUMN note VARCHAR(9)",
        "insert /* gh-ost */ into `tidemark`.`_follows_ghc` (id, hint, value)"
        " values (NULLIF(2, 0), 'state', 'GhostTableMigrated')",
        f"insert /* gh-ost `tidemark`.`follows` */ ignore into `tidemark`.`_follows_gho` ({KEY}, created_at)"
        f" (select {KEY}, created_at from `tidemark`.`follows` force index (`PRIMARY`) lock in share mode)",
        f"replace /* gh-ost `tidemark`.`_follows_gho` */ into `tidemark`.`_follows_gho` ({KEY}, created_at)"
        " values (1, 2, '2020-01-01')",
        "create /* gh-ost */ table `tidemark`.`_follows_del` (id int auto_increment primary key)"
        " engine=InnoDB comment='ghost-cut-over-sentry'",
        "drop /* gh-ost */ table if exists `tidemark`.`_follows_del`",
        "rename /* gh-ost */ table `tidemark`.`follows` to `tidemark`.`_follows_del`,"
        " `tidemark`.`_follows_gho` to `tidemark`.`follows`",
    ),
    "pt-online-schema-change": (
        "CREATE TABLE `tidemark`.`_follows_new` (`follower_id` bigint unsigned NOT NULL,"
        " `followee_id` bigint unsigned NOT NULL,"
        " `created_at` datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),"
        " PRIMARY KEY (`follower_id`,`followee_id`), KEY `follows_followee` (`followee_id`),"
        " CONSTRAINT `_follows_followee_fk` FOREIGN KEY (`followee_id`) REFERENCES `users` (`id`),"
        " CONSTRAINT `_follows_follower_fk` FOREIGN KEY (`follower_id`) REFERENCES `users` (`id`)"
        ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci",
        "ALTER TABLE `tidemark`.`_follows_new` ADD COLUMN note VARCHAR(9)",
        TRIGGER.format(
            "del", "DELETE", f"{HANDLER} DELETE IGNORE FROM `tidemark`.`_follows_new` WHERE {OLD};"
        ),
        TRIGGER.format(
            "upd",
            "UPDATE",
            f"{HANDLER} DELETE IGNORE FROM `tidemark`.`_follows_new` WHERE"
            " !(OLD.follower_id <=> NEW.follower_id AND OLD.followee_id <=> NEW.followee_id)"
            f" AND {OLD}; {REPLACE}",
        ),
        TRIGGER.format("ins", "INSERT", f"{HANDLER} {REPLACE}"),
        f"INSERT LOW_PRIORITY IGNORE INTO `tidemark`.`_follows_new` ({KEY}, created_at)"
        f" SELECT {KEY}, created_at FROM `tidemark`.`follows` LOCK IN SHARE MODE"
        " /*pt-online-schema-change 4242 copy table*/",
        "ANALYZE TABLE `tidemark`.`_follows_new` /* pt-online-schema-change */",
        "RENAME TABLE `tidemark`.`follows` TO `tidemark`.`_follows_old`,"
        " `tidemark`.`_follows_new` TO `tidemark`.`follows`",
    ),
}


@pytest.fixture(scope="module")
def judge() -> Iterator[Bench]:
    with bench() as found:
        yield found


def promises() -> Iterator[ParameterSet]:
    """The rows of the page: statements, the ways in which MySQL does the last one, and the outcome."""
    for line in stories()["which-schema-changes-go-through"].splitlines():
        if line.startswith("| ") and "TABLE" in line:
            _, statements, ways, outcome = (cell.strip() for cell in line.strip("|").split("|"))
            found = re.findall(r"`([^`]+)`", statements)
            yield pytest.param(found, ways, outcome.replace("`", ""), id=found[-1])


def done_by(way: str, statement: str) -> str:
    verb, table = statement.split()[0], statement.split()[2]
    assert (verb == "ALTER") or not way
    return statement.replace(table, f"{table} ALGORITHM = {way},", 1) if way else statement


@pytest.mark.parametrize(("statements", "ways", "outcome"), [*promises()])
def test_a_schema_change_ends_as_the_page_says(
    judge: Bench, statements: list[str], ways: str, outcome: str
) -> None:
    """A COPY meets a projector that has seen no row since it started, unless the page asks for a row."""
    *given, change = statements
    judge.reset(*given)
    possible = []
    for way in WAYS if ways else ("",):
        if way == "COPY" and outcome == THROUGH:
            judge.restart()
        judged = judge.judge(STRICT, done_by(way, change), afterwards=False)
        if way and judged.error:
            assert "is not supported" in judged.error
            continue
        possible.append(way)
        if outcome in (THROUGH, AFTER_A_ROW):
            assert judged == Judged()
            assert judge.judge(STRICT, *WRITES, afterwards=False) == Judged()
        else:
            assert not judged.error and "`rebuild`" in judged.stopped
            reason = AS_A_WHOLE if outcome == COMPARED else outcome.removeprefix("stops: ")
            assert judged.stopped.startswith(reason)
        judge.reset(*given)
    assert ", ".join(possible) == ways
    if outcome == AFTER_A_ROW:
        judge.restart()
        assert "no row has shown yet" in judge.judge(STRICT, change, afterwards=False).stopped


@pytest.mark.parametrize("tool", SWAPS)
def test_a_tool_goes_unnoticed_until_it_swaps_the_table(judge: Bench, tool: str) -> None:
    judge.reset()
    *before, swap = SWAPS[tool]
    for day, statement in enumerate(before):
        write = f"UPDATE follows SET created_at = '2020-01-01' + INTERVAL {day} DAY WHERE follower_id = 1"
        assert judge.judge(STRICT, statement, write, afterwards=False) == Judged(), statement
    judged = judge.judge(STRICT, swap, afterwards=False)
    assert not judged.error
    assert judged.stopped.startswith("the watched table follows was changed as a whole")
