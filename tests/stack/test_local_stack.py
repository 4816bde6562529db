"""The three servers together, as a library."""

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymongo import MongoClient
from redis import Redis

from ops.stack import NotOurs, PortTaken, Stack, StackError
from ops.stack.servers.process import ProcessIdentity, launched_below
from ops.stack.urls import mysql_arguments
from tests.support.harness import ROOT, wait_until

pytestmark = pytest.mark.server

READER = "TIDEMARK_READER_MONGODB_URL"
SETTINGS = {
    "gtid_mode": "ON",
    "enforce_gtid_consistency": "ON",
    "log_bin": 1,
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "binlog_row_value_options": "",
    "binlog_transaction_compression": 0,
    "binlog_order_commits": 1,
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "time_zone": "+00:00",
    "character_set_server": "utf8mb4",
    "bind_address": "127.0.0.1",
}


def mysql_row(stack: Stack, question: str) -> tuple[Any, ...]:
    with (
        pymysql.connect(**mysql_arguments(stack.mysql.admin_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(question)
        return cursor.fetchone() or ()


def test_every_server_is_found_by_its_folder_even_if_unrecorded(shared_stack: Stack) -> None:
    assert {server.identity for server in shared_stack.servers.values()} <= {
        *launched_below(shared_stack.directory)
    }


def test_mysql_is_set_for_the_projector_and_as_durable_as_by_default(shared_stack: Stack) -> None:
    row = mysql_row(shared_stack, f"SELECT {', '.join(f'@@global.{name}' for name in SETTINGS)}")
    assert dict(zip(SETTINGS, row, strict=True)) == SETTINGS


def test_mysql_has_the_schema_and_no_second_protocol(shared_stack: Stack) -> None:
    assert mysql_row(shared_stack, "SHOW DATABASES LIKE 'tidemark'") == ("tidemark",)
    assert mysql_row(
        shared_stack, "SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'mysqlx'"
    ) in [
        (),
        ("DISABLED",),
    ]


def test_mongodb_is_a_replica_set_that_only_known_users_enter(shared_stack: Stack) -> None:
    client: MongoClient[dict[str, Any]]
    with MongoClient(shared_stack.mongodb.admin_url) as client:
        assert client.admin.command("hello")["setName"] == "tidemark"
        options = client.admin.command("getCmdLineOpts")["parsed"]
    assert options["net"]["bindIp"] == "127.0.0.1"
    assert options["security"]["keyFile"]


def test_redis_never_evicts_keys_without_a_ttl(shared_stack: Stack) -> None:
    with Redis.from_url(shared_stack.redis.admin_url, decode_responses=True) as client:
        settings = client.config_get("maxmemory*")
        assert settings["maxmemory-policy"] == "volatile-lfu"
        assert int(settings["maxmemory"]) == 256 * 1024 * 1024
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_the_environment_names_every_service_url(shared_stack: Stack) -> None:
    assert set(shared_stack.environment()) == {
        "TIDEMARK_MIGRATOR_MYSQL_URL",
        "TIDEMARK_WRITER_MYSQL_URL",
        "TIDEMARK_PROJECTOR_MYSQL_URL",
        "TIDEMARK_PROJECTOR_MONGODB_URL",
        "TIDEMARK_READER_MONGODB_URL",
        "TIDEMARK_PROJECTOR_REDIS_URL",
        "TIDEMARK_READER_REDIS_URL",
    }


def test_after_a_taken_port_nothing_runs_and_no_folder_is_left(shared_stack: Stack) -> None:
    stack = Stack(ports={"redis": shared_stack.redis.port})
    with pytest.raises(PortTaken, match=f"redis cannot start: port {shared_stack.redis.port} is taken"):
        stack.start()
    assert stack.mysql.process is not None
    assert not any(server.is_running() for server in stack.servers.values())
    assert not stack.directory.exists()


def test_a_folder_of_a_running_stack_is_not_taken_over(shared_stack: Stack) -> None:
    with pytest.raises(StackError, match=f"a stack is up in {shared_stack.directory}"):
        Stack(shared_stack.directory).start()
    assert all(server.is_running() for server in shared_stack.servers.values())


def test_a_folder_whose_servers_were_all_restarted_is_not_taken_over(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        for server in stack.servers.values():
            server.kill()
            server.start()
        with pytest.raises(StackError, match=f"a stack is up in {tmp_path}"):
            Stack(tmp_path).start()
        assert all(server.is_running() for server in stack.servers.values())


def test_a_server_given_by_url_cannot_be_disturbed(shared_stack: Stack, tmp_path: Path) -> None:
    stack = Stack(tmp_path, external={"redis": shared_stack.redis.admin_url})
    with pytest.raises(NotOurs, match="redis is used at a URL that was given"):
        stack.redis.kill()


USER = """
import sys, time
from ops.stack import Stack
with Stack() as stack:
    print(*(server.process.pid for server in stack.servers.values()), flush=True)
    time.sleep(600)
"""


def test_no_server_outlives_the_killed_process_that_used_the_library(tmp_path: Path) -> None:
    command = [sys.executable, "-c", USER]
    quiet, environment = subprocess.DEVNULL, {"TMPDIR": str(tmp_path), "HOME": str(Path.home())}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=quiet) as user:
        try:
            assert user.stdout is not None
            servers = [ProcessIdentity.of(int(pid)) for pid in user.stdout.readline().split()]
            assert [server.is_alive() for server in servers] == [True, True, True]
        finally:
            user.kill()
    wait_until(lambda: not any(server.is_alive() for server in servers), "the servers to end")


def test_a_stack_whose_ports_were_taken_moves_with_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    post: dict[str, Any] = {"_id": 1, "body": "stays"}
    client: MongoClient[dict[str, Any]]
    with Stack(tmp_path) as first, MongoClient(first.mongodb.admin_url) as client:
        client["tidemark"]["posts"].replace_one({"_id": 1}, post, upsert=True)
    before = {store: server.port for store, server in first.servers.items()}
    with ExitStack() as strangers:
        for port in before.values():
            strangers.enter_context(socket.create_server(("127.0.0.1", port)))
        with Stack(tmp_path) as second:
            with MongoClient(second.environment()[READER]) as client:
                assert client["tidemark"]["posts"].find_one() == post
            after = {store: server.port for store, server in second.servers.items()}
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{store} has a new port, {after[store]}: another process listens on {before[store]}"
        for store in before
    ]
    with Stack(tmp_path) as third:
        assert {store: server.port for store, server in third.servers.items()} == after
