"""Statements on a real MySQL: exactly those that change rows without a row event stop the projector."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from binlog_projector.errors import UnsupportedEvent
from binlog_projector.mysql.source import MySqlSource
from ops.stack import MySqlServer
from tests.projector.judging import Bench, bench
from tests.projector.reading import executed
from tests.support.harness import create_tables, rows, run_sql
from tests.support.received import Received
from tests.support.statements_at_random import at_random, work
from tests.verification.faults.mysql_pair import admin_of
from writer.migrate import migrations
from writer.schema import statements

pytestmark = pytest.mark.server

USER = "INSERT INTO USERS (subject, handle, display_name) VALUES ('a', 'a', 'a')"
RIGHT = ("USE tidemark", "SET sql_mode = DEFAULT, character_set_client = utf8mb4, binlog_format = ROW")


@pytest.fixture(scope="module")
def judge() -> Iterator[Bench]:
    with bench() as found:
        yield found


ADD_BIO = "ALTER TABLE users ADD COLUMN bio VARCHAR(500) NOT NULL DEFAULT ''"
ANSI, LOOSE = "SET sql_mode = 'ANSI_QUOTES'", "SET sql_mode = ''"
STATEMENTS = "SET binlog_format = STATEMENT"
LATIN1 = "SET character_set_client = latin1"
FINISH = [one for each in migrations() if each.finishing for one in statements(each.sql)]
CASCADE = "FOREIGN KEY (author_id) REFERENCES users (id) ON DELETE CASCADE"


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (
            [
                "CREATE TABLE _likes_gho LIKE likes",
                "rename /* gh-ost */ table `tidemark`.`likes` to `tidemark`.`_likes_del`, "
                "`tidemark`.`_likes_gho` to `tidemark`.`likes`",
            ],
            "likes was changed as a whole",
        ),
        (["TRUNCATE/**/likes"], "likes was changed as a whole"),
        (["ALTER /* c */ TABLE users DROP COLUMN bio", ADD_BIO], "users.bio was dropped"),
        (["ALTER TABLE users DROP/**/COLUMN bio", ADD_BIO], "users.bio was dropped"),
        ([ANSI, 'TRUNCATE "likes"'], "likes was changed as a whole"),
        ([ANSI, 'ALTER TABLE "users" DROP COLUMN "bio"', ADD_BIO], "users.bio was dropped"),
        (["ALTER TABLE users DROP COLUMN BIO", ADD_BIO], "users.BIO was dropped"),
        (["ALTER TABLE users DROP COLUMN `b\u0130o`", ADD_BIO], "users.b\u0130o was dropped"),
        ([LATIN1, b"TRUNCATE\xa0likes"], "likes was changed as a whole"),
        (
            ["SET character_set_client = gbk", b"/*\x95*/TRUNCATE likes # '\x95\\"],
            "likes was changed as a whole",
        ),
        (["TRUNCATE `likes`--\n"], "likes was changed as a whole"),
        (["TRUNCATE /*!999999 other */ /*!50003 tidemark */ . likes"], "likes was changed as a whole"),
        (["USE elsewhere", "TRUNCATE tidemark /* */ . likes"], "likes was changed as a whole"),
        (["ALTER TABLE users MODIFY bio CHAR(200) NOT NULL"], "users.bio was made CHAR"),
        ([LOOSE, "ALTER TABLE users MODIFY bio VARCHAR(2) NOT NULL"], "users.bio was made VARCHAR"),
        (
            [
                LOOSE,
                "ALTER TABLE users MODIFY bio VARCHAR(500) CHARACTER SET latin1 NOT NULL",
                "ALTER TABLE users MODIFY bio VARCHAR(500) CHARACTER SET utf8mb4 NOT NULL",
            ],
            "users.bio was made VARCHAR",
        ),
        (
            [
                LOOSE,
                "ALTER TABLE users CONVERT TO CHARACTER SET latin1",
                "ALTER TABLE users CONVERT TO CHARACTER SET utf8mb4",
            ],
            "all text of the watched table users was converted",
        ),
        (
            [
                LOOSE,
                "ALTER TABLE users DEFAULT CHARACTER SET latin1",
                "ALTER TABLE users MODIFY bio VARCHAR(500) NOT NULL",
                "ALTER TABLE users CONVERT TO CHARACTER SET utf8mb4",
            ],
            "users.bio was made VARCHAR",
        ),
        (
            [
                "ALTER TABLE users MODIFY bio VARCHAR(500) NULL",
                "UPDATE users SET bio = NULL",
                LOOSE,
                "ALTER TABLE users MODIFY bio VARCHAR(500) NOT NULL",
            ],
            "users.bio was made VARCHAR",
        ),
        (["ALTER TABLE posts MODIFY body VARCHAR(2000) AS ('x') STORED"], "posts.body was made VARCHAR"),
        (
            [
                "ALTER TABLE likes DROP FOREIGN KEY likes_post_fk, DROP FOREIGN KEY likes_user_fk,"
                " DROP FOREIGN KEY likes_post_author_fk",
                "ALTER TABLE likes ENGINE = BLACKHOLE",
            ],
            "likes was changed as a whole",
        ),
        (["ALTER TABLE posts DROP FOREIGN KEY posts_author_fk, ADD " + CASCADE], "cascading foreign key"),
        ([STATEMENTS, "DELETE FROM likes"], "DELETE was logged as a statement"),
        (["USE elsewhere", STATEMENTS, "INSERT INTO armed VALUES (1)"], "INSERT was logged as a statement"),
        (["USE elsewhere", STATEMENTS, "UPDATE seen SET bio = 'x'"], "UPDATE was logged as a statement"),
    ],
)
def test_what_no_row_event_shows_stops(judge: Bench, statements: list[str | bytes], reason: str) -> None:
    judge.reset()
    judged = judge.judge(RIGHT, *statements)
    assert not judged.error
    assert reason in judged.stopped and "`rebuild`" in judged.stopped


@pytest.mark.parametrize(
    "statements",
    [
        ["TRUNCATE TABLE `posts-2024`"],
        ["DROP TABLE `my posts`"],
        ["CREATE TABLE `posts archive` (id INT PRIMARY KEY)", "DROP TABLE `posts archive`"],
        ["TRUNCATE Likes"],
        ["USE elsewhere", "TRUNCATE likes", "RENAME TABLE likes TO posts", "DROP TABLE posts"],
        [LATIN1, b"TRUNCATE `posts-2024`\xa0"],
        ["ALTER TABLE other DROP COLUMN likes, COMMENT 'it''s likes'"],
        ["ALTER TABLE users MODIFY bio VARCHAR(600) NOT NULL", "ALTER TABLE users MODIFY bio TEXT NOT NULL"],
        [LOOSE, "ALTER TABLE users MODIFY bio VARCHAR(500) CHARACTER SET utf8mb4 NOT NULL DEFAULT 'x'"],
        ["ALTER TABLE users CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"],
        ["CREATE TABLE copy AS SELECT * FROM likes", "CREATE TABLE twin LIKE likes"],
        ["CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW SET NEW.bio = 'by trigger'"],
        ["USE elsewhere", STATEMENTS, "INSERT INTO plain VALUES (1, 'x')", "UPDATE plain SET body = 'y'"],
        ["USE elsewhere", STATEMENTS, "SET @v = 'x'", "INSERT INTO plain VALUES (1, @v), (2, RAND())"],
        FINISH,
    ],
)
def test_what_changes_no_watched_row_passes(judge: Bench, statements: list[str | bytes]) -> None:
    judge.reset()
    judged = judge.judge(RIGHT, *statements)
    assert (judged.error, judged.stopped, judged.differences) == ("", "", [])


def test_names_differing_in_case_are_one_where_the_server_says_so(tmp_path: Path) -> None:
    """With `lower_case_table_names=1` even a Turkish I with a dot is an i."""
    folds = "--lower-case-table-names=1"
    server = MySqlServer(tmp_path / "mysql", options=(folds,))
    server.prepare()
    shutil.rmtree(server.data)
    without_accounts = [option for option in server.command() if not option.startswith("--init-file")]
    subprocess.run([*without_accounts, "--initialize-insecure"], check=True, capture_output=True)
    server.start()
    try:
        with admin_of(server) as connection:
            run_sql(connection, "CREATE DATABASE tidemark", "USE tidemark")
            create_tables(connection)
            run_sql(connection, "CREATE TABLE L\u0130KES2 LIKE LIKES")
            for harmful in ("TRUNCATE LIKES", "TRUNCATE TideMark.l\u0130kes"):
                source, received = MySqlSource(server.admin_url + "tidemark", 7331), Received()
                with contextlib.closing(source.stream(executed(connection), None)) as stream:
                    stream.start(received)
                    run_sql(connection, "TRUNCATE Likes2", USER)
                    assert [len(received.next().changes) for _ in range(2)] == [0, 1]
                    run_sql(connection, harmful, "DELETE FROM users")
                    with pytest.raises(UnsupportedEvent, match="likes was changed as a whole"):
                        received.next()
    finally:
        server.kill()


def differ(judge: Bench, seed: int, statements: int) -> Counter[str]:
    """Executes `statements` accepted statements. Fails at the first one that hides a change."""
    random, found = Random(seed), Counter[str]()
    samples = at_random(random)
    while found["statements"] < statements:
        judge.reset()
        for sample in islice(samples, 8):
            judged = judge.sample(sample, afterwards=random.random() < 0.5)
            assert not judged.differences, (seed, sample, judged)
            if judged.error and not judged.stopped:
                found["refused by MySQL"] += 1
                continue
            found["statements"] += 1
            found["stopped"] += bool(judged.stopped)
            found["harmless"] += sample.harmless
            if judged.stopped:
                if sample.harmless:
                    found["harmless stopped"] += 1
                    print(sample, judged.stopped)
                break
    print(f"seed {seed}, silent divergences 0:", dict(found))
    return found


def test_statements_at_random_stop_or_leave_the_read_model_equal(judge: Bench) -> None:
    found = differ(judge, seed=1, statements=80)
    assert found["harmless stopped"] <= found["harmless"] / 100


@pytest.mark.parametrize("harmless", [True, False])
def test_work_for_a_running_system_is_what_it_says(judge: Bench, harmless: bool) -> None:
    """Harmful work stops the projector, harmless work does not, and both leave usable tables."""
    random = Random(1)
    for _ in range(8):
        judge.reset()
        session, statements = work_of(random, harmless=harmless)
        judged = judge.judge(session, *statements)
        assert (bool(judged.stopped), judged.error, judged.differences) == (not harmless, "", []), (
            statements,
            judged,
        )
        assert not list(rows(judge.connection, "SELECT bio FROM tidemark.users WHERE bio IS NULL"))


def work_of(random: Random, *, harmless: bool) -> tuple[tuple[str, ...], list[bytes]]:
    samples = work(random, harmless=harmless)
    return samples[0].session, [sample.statement for sample in samples]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_thousands_of_statements_stop_or_leave_the_read_model_equal(judge: Bench, seed: int) -> None:
    found = differ(judge, seed, statements=600)
    assert found["harmless stopped"] <= found["harmless"] / 100
