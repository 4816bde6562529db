"""`python -m ops.stack up|down|status` as people and scripts use it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymongo import MongoClient
from redis import Redis

from ops.stack import Stack
from ops.stack.__main__ import main
from ops.stack.servers.process import ProcessIdentity, launched_below
from ops.stack.state import StackState
from ops.stack.urls import mysql_arguments
from tests.support.harness import ROOT, wait_until

pytestmark = pytest.mark.server

STORES = ("mysql", "mongodb", "redis")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command in a process of its own, for at most two minutes."""
    command = [sys.executable, "-W", "error", "-m", "ops.stack", *arguments]
    whole = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=whole, capture_output=True, text=True, check=False, timeout=120
    )


def answer(*arguments: str, **environment: str) -> dict[str, Any]:
    """The JSON that a successful command prints."""
    done = run(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def quick(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and error output of a command that starts nothing, run in this process."""
    status = main(arguments)
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder of a stack that was up once; `down` ends it."""
    directory = str(tmp_path_factory.mktemp("command"))
    yield directory
    assert run("down", "--dir", directory).returncode == 0


def test_up_says_where_everything_is_and_whether_already_up(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = answer("up", "--dir", folder)
    status, out, err = quick(capsys, "up", "--dir", folder)
    assert (status, err) == (0, f"already up in {folder}\n")
    for store in STORES:
        assert f"127.0.0.1:{first[store]['port']}" in out
        assert first[store]["running"]
    exported = [line for line in out.splitlines() if line.startswith("export ")]
    assert len(exported) == len(first["environment"]) == 7
    script = "\n".join([*exported, 'printf "%s" "$TIDEMARK_READER_MONGODB_URL"'])
    assert (
        subprocess.check_output(["sh", "-c", script], text=True)
        == first["environment"]["TIDEMARK_READER_MONGODB_URL"]
    )


def test_only_the_dead_server_restarts_with_its_rows_port_and_passwords(
    folder: str, shared_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answer("up", "--dir", folder)
    with pymysql.connect(**mysql_arguments(before["mysql"]["admin_url"]), autocommit=True) as admin:
        admin.cursor().execute("CREATE TABLE IF NOT EXISTS tidemark.stays (id INT PRIMARY KEY)")
    client: MongoClient[dict[str, Any]]
    with MongoClient(before["environment"]["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        client["tidemark"]["posts"].replace_one({"_id": 1}, {"_id": 1, "body": "stays"}, upsert=True)
    os.kill(before["mysql"]["pid"], signal.SIGKILL)
    wait_until(
        lambda: "partly up" in quick(capsys, "status", "--dir", folder)[1], "the stack to be partly up"
    )

    after = answer("up", "--dir", folder)
    assert after["environment"] == before["environment"]
    assert [after[store]["pid"] == before[store]["pid"] for store in STORES] == [False, True, True]
    with pymysql.connect(**mysql_arguments(after["environment"]["TIDEMARK_WRITER_MYSQL_URL"])) as writer:
        assert writer.cursor().execute("SELECT * FROM stays") == 0
    with MongoClient(after["environment"]["TIDEMARK_READER_MONGODB_URL"]) as client:
        assert client["tidemark"]["posts"].find_one() == {"_id": 1, "body": "stays"}
    ports = {after[store]["port"] for store in STORES} | {
        server.port for server in shared_stack.servers.values()
    }
    assert len(ports) == 6  # the stack of the other tests runs beside it
    assert all(server.is_running() for server in shared_stack.servers.values())


def test_status_tells_up_from_down_and_down_ends_every_server(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = answer("up", "--dir", folder)
    status, out, _ = quick(capsys, "status", "--dir", folder, "--json")
    up = json.loads(out)
    assert (status, up["state"], up["directory"]) == (0, "up", folder)
    assert [up[store]["pid"] for store in STORES] == [servers[store]["pid"] for store in STORES]
    processes = [ProcessIdentity.of(up[store]["pid"]) for store in STORES]
    assert sorted(answer("down", "--dir", folder)["stopped"]) == sorted(STORES)
    assert not any(process.is_alive() for process in processes)
    status, out, _ = quick(capsys, "status", "--dir", folder, "--json")
    assert (status, json.loads(out)["state"]) == (1, "down")
    assert quick(capsys, "down", "--dir", folder) == (0, f"nothing is up in {folder}\n", "")


def test_up_with_a_taken_port_names_it_and_leaves_nothing_running(
    tmp_path: Path, shared_stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = shared_stack.mysql.port
    status, out, err = quick(capsys, "up", "--dir", str(tmp_path), "--mysql-port", str(taken))
    assert (status, out) == (1, "")
    assert err == f"mysql cannot start: port {taken} is taken; stop what listens there or ask for another\n"
    assert quick(capsys, "status", "--dir", str(tmp_path))[0] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_up_that_is_interrupted_stops_what_it_started(tmp_path: Path, number: signal.Signals) -> None:
    with starting(tmp_path) as (up, mysql):
        up.send_signal(number)
        assert up.wait(30) == 128 + number
    assert not any(process.is_alive() for process in [mysql, *launched_below(tmp_path)])


def test_down_ends_what_a_killed_up_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with starting(tmp_path) as (up, mysql):
        up.kill()
    assert mysql.is_alive()
    quick(capsys, "down", "--dir", str(tmp_path))
    assert not any(process.is_alive() for process in [mysql, *launched_below(tmp_path)])


@contextmanager
def starting(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", ProcessIdentity]]:
    """An `up` that has just launched MySQL, and that MySQL."""
    command = [sys.executable, "-m", "ops.stack", "up", "--dir", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as up:
        try:
            wait_until(lambda: bool(StackState.read(folder).processes()), "the launch of MySQL")
            yield up, StackState.read(folder).processes()[0]
        finally:
            up.kill()


def test_servers_given_by_url_are_used_not_started(tmp_path: Path, shared_stack: Stack) -> None:
    urls = {
        f"TIDEMARK_{store.upper()}_ADMIN_URL": server.admin_url
        for store, server in shared_stack.servers.items()
    }
    try:
        used = answer("up", "--dir", str(tmp_path), **urls)
        assert [used[store]["pid"] for store in STORES] == [None, None, None]
        with Redis.from_url(used["environment"]["TIDEMARK_PROJECTOR_REDIS_URL"]) as client:
            assert client.set("tidemark:watermark", "1")
        with pymysql.connect(**mysql_arguments(used["environment"]["TIDEMARK_WRITER_MYSQL_URL"])) as writer:
            assert writer.db == b"tidemark"
        assert answer("down", "--dir", str(tmp_path))["stopped"] == []
        assert all(server.is_running() for server in shared_stack.servers.values())
    finally:
        shared_stack.start()  # gives the shared stack's accounts their own passwords again


@pytest.mark.parametrize(
    ("store", "arguments"),
    [
        ("mysql", ["--skip-column-names", "-e", "SELECT CURRENT_USER()"]),
        ("mongodb", ["--eval", "db.runCommand({connectionStatus: 1}).authInfo.authenticatedUsers[0].user"]),
        ("redis", ["ACL", "WHOAMI"]),
    ],
)
def test_a_shell_is_the_servers_own_client_as_administrator(
    folder: str, store: str, arguments: list[str]
) -> None:
    answer("up", "--dir", folder)
    done = run("shell", "--dir", folder, store, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].strip("'").startswith("admin")


def test_a_shell_of_a_server_that_is_down_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = quick(capsys, "shell", "--dir", str(tmp_path), "redis")
    assert (status, out) == (1, "") and f"redis is not up in {tmp_path}" in err
