"""A single server serves, survives faults, or fails with a clear reason."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
import redis

from ops.stack import MongoDbServer, MySqlServer, PortTaken, RedisServer, Server, ServerFailed
from ops.stack.servers.ports import free_port, is_free
from ops.stack.urls import mysql_arguments

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def plain_mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MySqlServer]:
    """A second MySQL with settings of its own."""
    server = MySqlServer(tmp_path_factory.mktemp("plain"), options=["--skip-log-bin", "--server-id=77"])
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def ask(server: MySqlServer, question: str) -> tuple[Any, ...]:
    with pymysql.connect(**mysql_arguments(server.admin_url)) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone() or ()


def ping(server: RedisServer, seconds: float = 2) -> bool:
    with redis.Redis.from_url(server.admin_url, socket_timeout=seconds) as client:
        return bool(client.ping())


def test_options_given_win_over_ours(plain_mysql: MySqlServer) -> None:
    assert ask(plain_mysql, "SELECT @@log_bin, @@server_id") == (0, 77)


def test_a_killed_mysql_starts_again_although_nobody_has_reaped_it(plain_mysql: MySqlServer) -> None:
    with subprocess.Popen(["/bin/true"]) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
        plain_mysql.kill()
        lock = plain_mysql.data / "mysqld.sock.lock"
        assert lock.exists()
        lock.write_text(f"{dead.pid}\n")
        plain_mysql.start()
    assert ask(plain_mysql, "SELECT 1") == (1,)


@pytest.mark.parametrize("kind", [MySqlServer, MongoDbServer, RedisServer])
def test_a_server_that_cannot_start_fails_at_once_showing_its_log(tmp_path: Path, kind: type[Server]) -> None:
    server = kind(tmp_path, options=["--no-such-option=1"])
    started = time.monotonic()
    with pytest.raises(ServerFailed) as failed:
        server.start()
    assert time.monotonic() - started < 15
    assert failed.value.server == server.name
    assert failed.value.log_path == server.log_path
    assert "no-such-option" in failed.value.tail
    assert f"{server.name} ended while starting on port {server.port}" in str(failed.value)
    assert not server.is_running()


@pytest.mark.parametrize("kind", [MySqlServer, MongoDbServer, RedisServer])
def test_an_unusable_folder_is_named(tmp_path: Path, kind: type[Server]) -> None:
    server = kind(tmp_path)
    server.data.write_text("not a folder")
    with pytest.raises(ServerFailed, match=str(server.data)):
        server.start()
    assert not server.is_running()


def test_a_server_not_ready_in_time_is_killed_showing_its_log(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.launch()
    server.pause()
    with pytest.raises(ServerFailed, match=r"redis was not ready after 0\.5 s on port \d+"):
        server.wait_until_ready(0.5)
    assert not server.is_running()


def test_a_taken_port_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = RedisServer(tmp_path, port=port)
        with pytest.raises(PortTaken, match=f"redis cannot start: port {port} is taken"):
            server.start()
        assert server.process is None


def test_free_ports_are_out_of_reach_of_outgoing_connections() -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = {free_port() for _ in range(20)}
    assert len(ports) == 20, "none is given twice"
    assert all(10_000 <= port < first_ephemeral and is_free(port) for port in ports)


def test_a_paused_server_does_not_answer_and_a_resumed_one_does(redis_server: RedisServer) -> None:
    redis_server.pause()
    with pytest.raises(redis.TimeoutError):
        ping(redis_server, seconds=0.1)
    redis_server.resume()
    assert ping(redis_server)


def test_a_paused_server_can_be_stopped_and_started_again(redis_server: RedisServer) -> None:
    redis_server.pause()
    redis_server.stop()
    assert not redis_server.is_running()
    redis_server.start()
    assert ping(redis_server)


def test_starting_a_running_server_changes_nothing(redis_server: RedisServer) -> None:
    before = redis_server.process
    redis_server.start()
    assert redis_server.process is before


def test_redis_keeps_its_keys_over_a_stop(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.admin_url) as client:
        client.set("tidemark:watermark", "7")
    redis_server.stop()
    redis_server.start()
    with redis.Redis.from_url(redis_server.admin_url) as client:
        assert client.get("tidemark:watermark") == b"7"


def test_a_killed_server_frees_its_port_before_kill_returns(plain_mysql: MySqlServer) -> None:
    assert plain_mysql.process is not None
    uuid = ask(plain_mysql, "SELECT @@server_uuid")
    plain_mysql.kill()
    assert is_free(plain_mysql.port)
    assert plain_mysql.process.wait(5) == -signal.SIGKILL
    plain_mysql.start()
    assert ask(plain_mysql, "SELECT @@server_uuid") == uuid
