"""`check` against a MySQL with each setting wrong in turn names that setting and exits non-zero."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
import redis
import structlog.testing

from binlog_projector.__main__ import main
from binlog_projector.findings import Finding
from binlog_projector.mysql.checks import VARIABLES, check_source, demand
from binlog_projector.mysql.connections import Connection, connection_settings
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.stores import mongodb
from binlog_projector.stores.cache_checks import BUFFERS, check_cache
from ops.stack import Stack
from ops.stack.shell import CLIENTS
from reader.read_model.cached_values import TIDE_CHANNEL
from tests.support.harness import ROOT, admin_connection, create_tables, projector_environment, run_sql

WRONG = {
    "binlog_format": "SET GLOBAL binlog_format = 'MIXED'",
    "binlog_row_image": "SET GLOBAL binlog_row_image = 'MINIMAL'",
    "binlog_row_metadata": "SET GLOBAL binlog_row_metadata = 'MINIMAL'",
    "binlog_row_value_options": "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'",
    "binlog_checksum": "SET GLOBAL binlog_checksum = 'NONE'",
    "gtid_mode": "SET GLOBAL gtid_mode = 'ON_PERMISSIVE'",
    "binlog_order_commits": "SET GLOBAL binlog_order_commits = OFF",
    "binlog_expire_logs_seconds": "SET GLOBAL binlog_expire_logs_seconds = 60",
    "server_id": "SET GLOBAL server_id = 7331",
    "grants": "REVOKE LOCK TABLES ON tidemark.* FROM projector",
    "table tidemark.likes": "ALTER TABLE likes RENAME COLUMN created_at TO liked_at",
    "foreign keys": "ALTER TABLE likes ADD FOREIGN KEY (post_id) REFERENCES posts (id) ON DELETE CASCADE",
    "counted columns": "ALTER TABLE comments DROP FOREIGN KEY comments_post_fk, DROP INDEX comments_post",
}
RIGHT = {
    "binlog_format": "SET GLOBAL binlog_format = 'ROW'",
    "binlog_row_image": "SET GLOBAL binlog_row_image = 'FULL'",
    "binlog_row_metadata": "SET GLOBAL binlog_row_metadata = 'FULL'",
    "binlog_row_value_options": "SET GLOBAL binlog_row_value_options = ''",
    "binlog_checksum": "SET GLOBAL binlog_checksum = 'CRC32'",
    "gtid_mode": "SET GLOBAL gtid_mode = 'ON'",
    "binlog_order_commits": "SET GLOBAL binlog_order_commits = ON",
    "binlog_expire_logs_seconds": "SET GLOBAL binlog_expire_logs_seconds = 2592000",
    "server_id": "SET GLOBAL server_id = 1",
    "grants": "GRANT LOCK TABLES ON tidemark.* TO projector",
}
IN_WORDS = {"server_id", "table tidemark.likes", "foreign keys"}  # no single command mends these
NEEDS_RESTART = {
    "log_bin": ["--skip-log-bin", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"],
    "enforce_gtid_consistency": ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"],
    "log_replica_updates": ["--skip-log-replica-updates"],
}


def run_check(stack: Stack) -> tuple[int, dict[str, Any]]:
    """The command's exit status and output, run in this process: thirty starts of Python take a minute."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        for variable, value in stack.environment().items():
            patch.setenv(variable, value)
        status = main(["check", "--json"])
    document: dict[str, Any] = json.loads(output.getvalue())
    return status, document


def failed(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in document["checks"] if not check["ok"]}


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    with admin_connection(stack) as connection:
        create_tables(connection)
        yield connection


def test_a_right_source_passes(stack: Stack, connection: Connection) -> None:
    status, document = run_check(stack)
    assert (status, document["ok"], failed(document)) == (0, True, {})


def test_the_command_line_exits_non_zero(stack: Stack, connection: Connection) -> None:
    run_sql(connection, WRONG["binlog_row_image"])
    try:
        command = [sys.executable, "-m", "binlog_projector", "check", "--json"]
        environment = projector_environment(stack)
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        run_sql(connection, RIGHT["binlog_row_image"])
    assert (done.returncode, list(failed(json.loads(done.stdout)))) == (1, ["binlog_row_image"])


def test_every_variable_that_is_checked_is_tested() -> None:
    assert {variable.name for variable in VARIABLES} <= WRONG.keys() | NEEDS_RESTART.keys()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_and_its_remedy_mends_it_as_printed(
    stack: Stack, connection: Connection, name: str
) -> None:
    run_sql(connection, WRONG[name])
    try:
        status, document = run_check(stack)
        assert (status, list(failed(document))) == (1, [name])
        remedy = failed(document)[name]["remedy"]
        if name not in IN_WORDS:
            run_sql(connection, *remedy.split("; "))
            assert failed(run_check(stack)[1]) == {}
    finally:
        run_sql(connection, "RESET PERSIST")
        if name in RIGHT:
            run_sql(connection, RIGHT[name])
    assert remedy


def test_the_remedy_of_missing_tables_makes_them_as_printed(stack: Stack) -> None:
    status, document = run_check(stack)
    ((_, command, _),) = {
        tuple(one["remedy"].split("`")) for one in failed(document).values() if "`" in one["remedy"]
    }
    subprocess.run(
        ["bash", "-c", command.replace("python", sys.executable, 1)],
        env=projector_environment(stack),
        cwd=ROOT,
        check=True,
    )
    assert status == 1 and failed(run_check(stack)[1]) == {}


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        ("bio JSON", "column bio is json, which is not decoded"),
        ("bio VARCHAR(500) CHARACTER SET latin1", "column bio is varchar in latin1, which is not decoded"),
    ],
)
def test_a_projected_column_that_cannot_be_decoded_is_named(
    stack: Stack, connection: Connection, definition: str, found: str
) -> None:
    run_sql(connection, f"ALTER TABLE users MODIFY {definition}")
    status, document = run_check(stack)
    assert (status, failed(document)["table tidemark.users"]["found"]) == (1, found)


def test_ids_near_their_end_are_found_and_stop_nobody(stack: Stack, connection: Connection) -> None:
    assert failed(run_check(stack)[1]) == {}
    run_sql(connection, f"ALTER TABLE posts AUTO_INCREMENT = {2**63 - 1000}")
    status, document = run_check(stack)
    assert (status, list(failed(document))) == (1, ["auto_increment"])
    assert failed(document)["auto_increment"]["found"] == f"posts: {2**63 - 1000}"
    with structlog.testing.capture_logs() as logged:
        demand(check_source(MySqlSource(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], 7331), 24))
    assert [line["check"] for line in logged if line["log_level"] == "warning"] == [
        str(Finding(**failed(document)["auto_increment"]))  # type: ignore[arg-type]
    ]


@pytest.mark.server
@pytest.mark.parametrize("name", NEEDS_RESTART)
def test_a_setting_that_needs_a_restart_is_named_too(tmp_path: Path, name: str) -> None:
    from ops.stack import MySqlServer

    server = MySqlServer(tmp_path, options=NEEDS_RESTART[name])
    server.start()
    try:
        settings = {**connection_settings(server.admin_url), "database": None}
        with pymysql.connect(**settings) as admin:
            run_sql(admin, "CREATE DATABASE tidemark")
        findings = check_source(MySqlSource(server.admin_url, 7331), retention_hours=24)
    finally:
        server.stop()
    assert name in {check.name for check in findings if not check.ok}


def test_an_evicting_redis_is_refused(stack: Stack, connection: Connection) -> None:
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        cache.config_set("maxmemory-policy", "allkeys-lru")
        try:
            status, document = run_check(stack)
            assert_mended(stack, cache, document)
        finally:
            cache.config_set("maxmemory-policy", "volatile-lfu")
    assert (status, list(failed(document))) == (1, ["redis maxmemory-policy"])


def test_a_projector_that_may_not_announce_is_told(stack: Stack, connection: Connection) -> None:
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        cache.execute_command("ACL", "SETUSER", "projector", "resetchannels")
        try:
            status, document = run_check(stack)
            assert_mended(stack, cache, document)
        finally:
            cache.execute_command("ACL", "SETUSER", "projector", f"&{TIDE_CHANNEL}")
    assert (status, list(failed(document))) == (1, ["redis announcements"])


@pytest.mark.parametrize("limit", ["32mb 8mb 60", "0 0 0"])
def test_a_redis_that_keeps_slow_subscribers_is_named_to_who_may_look(
    stack: Stack, connection: Connection, limit: str
) -> None:
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        assert check_cache(cache) == [one for one in check_cache(cache) if one.ok]
        cache.config_set(BUFFERS, f"pubsub {limit}")
        try:
            (finding,) = [one for one in check_cache(cache) if not one.ok]
            cache.execute_command(*shlex.split(finding.remedy))
            assert all(one.ok for one in check_cache(cache))
        finally:
            cache.config_set(BUFFERS, "pubsub 4mb 1mb 5")
    assert finding.name == f"redis {BUFFERS} pubsub"


def assert_mended(stack: Stack, cache: redis.Redis, document: dict[str, Any]) -> None:
    """The remedy of the only finding, run as printed, makes it good."""
    (finding,) = failed(document).values()
    cache.execute_command(*shlex.split(finding["remedy"]))  # type: ignore[no-untyped-call]
    assert failed(run_check(stack)[1]) == {}


def test_a_mongodb_that_soon_forgets_is_named_to_who_may_look(stack: Stack) -> None:
    with mongodb.connect(stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        assert mongodb.check_history(client) == [], "its own account has no right to look"
    with mongodb.connect(stack.mongodb.admin_url) as client:
        (finding,) = mongodb.check_history(client)
        assert finding.ok and finding.found == "300"
        client.admin.command({"setParameter": 1, mongodb.HISTORY: 59})
        try:
            (finding,) = mongodb.check_history(client)
            wanted, log_in = CLIENTS["mongodb"]
            login = log_in(stack.mongodb.admin_url)
            command = [*wanted.find().command, *login.options, "--eval", finding.remedy]
            subprocess.run(command, env={**os.environ, **login.variables}, check=True)
            assert mongodb.check_history(client)[0].ok
        finally:
            client.admin.command({"setParameter": 1, mongodb.HISTORY: 300})
        assert not finding.ok and finding.found == "59"


def test_a_server_that_is_away_is_a_finding_and_the_others_are_asked(
    stack: Stack, connection: Connection
) -> None:
    environment = {
        **projector_environment(stack),
        "TIDEMARK_PROJECTOR_MYSQL_URL": "mysql://x:y@127.0.0.1:1/tidemark",
    }
    command = [sys.executable, "-m", "binlog_projector", "check"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and not done.stderr
    assert "FAILED  mysql 127.0.0.1:1 is \"away: Can't connect to MySQL server" in done.stdout
    assert "ok      mongodb replica set: tidemark\n" in done.stdout
