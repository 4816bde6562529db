"""The writer as a process: its start, its readiness, its stop in the middle of a request."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2
import pytest

from ops.stack.servers.ports import free_port
from tests.conftest import service_environment
from tests.support.harness import Process, process, wait_until
from tests.writer.mysql import MySql
from tests.writer.people import Person, Writer
from writer.__main__ import main


@dataclass
class Running:
    """A writer process and its two ports."""

    process: Process
    port: int
    admin: httpx2.Client
    people: Writer

    def refuses_connections(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return False
        return True

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return self.admin.get("/readyz").status_code == 200
        return False


@contextlib.contextmanager
def running(mysql: MySql) -> Iterator[Running]:
    port, admin_port = free_port(), free_port()
    environment = {
        **service_environment(mysql.stack),
        "TIDEMARK_WRITER_BIND": f"127.0.0.1:{port}",
        "TIDEMARK_WRITER_ADMIN_BIND": f"127.0.0.1:{admin_port}",
    }
    with (
        process(environment, "-m", "writer") as started,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=15) as http,
        httpx2.Client(base_url=f"http://127.0.0.1:{admin_port}", timeout=15) as admin,
    ):
        writer = Running(started, port, admin, Writer(http))
        wait_until(writer.is_ready, "the writer to be ready")
        yield writer


def like(person: Person, post: str) -> httpx2.Response:
    return person.send("PUT", f"/post/{post}/like")


def test_at_sigterm_the_open_request_finishes_and_no_other_starts(mysql: MySql) -> None:
    with running(mysql) as writer, ThreadPoolExecutor() as threads:
        jane = writer.people.person()
        post = jane.post()
        with mysql.locked("SELECT 1 FROM posts WHERE id = %s FOR UPDATE", post):
            slow = threads.submit(like, jane, post)
            mysql.wait_for_lock_waits(1)
            writer.process.popen.send_signal(signal.SIGTERM)
            wait_until(writer.refuses_connections, "the port to be closed")
            assert not slow.done()
        assert slow.result(timeout=10).status_code == 204
        assert writer.process.popen.wait(timeout=20) == 0
    assert mysql.value("SELECT COUNT(*) FROM likes WHERE post_id = %s", post) == 1


def test_the_admin_port_tells_health_readiness_and_metrics(mysql: MySql) -> None:
    with running(mysql) as writer:
        like(writer.people.person(), "9999999999")
        assert writer.admin.get("/healthz").status_code == 200
        metrics = writer.admin.get("/metrics").text
        assert writer.people.http.get("/metrics").status_code == 401
        mysql.execute("RENAME TABLE users TO moved")
        unready = writer.admin.get("/readyz")
        mysql.execute("RENAME TABLE moved TO users")
        assert (unready.status_code, writer.admin.get("/readyz").json()) == (503, {"mysql": "ok"})
        assert "tidemark.users" in unready.json()["mysql"]
    for line in (
        "tidemark_http_request_duration_seconds_count"
        '{code="404",method="PUT",route="/post/{id}/like",service="writer"} 1.0',
        'tidemark_writer_commands_total{command="like_post",result="not-found"} 1.0',
        'tidemark_authorizer_decisions_total{result="allow",source="verify"}',
        'tidemark_writer_pool_connections{state="in_use"} 0.0',
        'tidemark_writer_pool_connections{state="free"} 8.0',
    ):
        assert line in metrics


@pytest.mark.parametrize("setting", ["read_only", "super_read_only"])
def test_a_writer_is_unready_until_its_read_only_server_is_promoted(mysql: MySql, setting: str) -> None:
    with running(mysql) as writer:
        jane = writer.people.person()
        executed = mysql.value("SELECT @@global.gtid_executed")
        mysql.execute(f"SET GLOBAL {setting} = ON")
        try:
            unready, refused = writer.admin.get("/readyz"), jane.send("POST", "/post", {"body": "x"})
        finally:
            mysql.execute("SET GLOBAL super_read_only = OFF")
            mysql.execute("SET GLOBAL read_only = OFF")
        assert (unready.status_code, refused.status_code) == (503, 503)
        assert "running with the --read-only option" in unready.json()["mysql"]
        assert (writer.admin.get("/readyz").status_code, writer.admin.get("/readyz").json()) == (
            200,
            {"mysql": "ok"},
        )
        assert mysql.value("SELECT @@global.gtid_executed") == executed, "asking leaves nothing in the binlog"
        assert jane.send("POST", "/post", {"body": "x"}).status_code == 201


def test_a_writer_waiting_for_a_table_lock_is_not_ready(mysql: MySql) -> None:
    with running(mysql) as writer:
        with mysql.session() as administrator:
            administrator.execute("LOCK TABLES users READ")
            unready = writer.admin.get("/readyz")
        assert unready.status_code == 503 and "Lock wait timeout" in unready.json()["mysql"]
        assert writer.is_ready()


def test_the_log_begins_with_the_settings_and_shows_no_secret(mysql: MySql) -> None:
    with running(mysql) as writer:
        settings = writer.process.events()[0]
    assert settings["event"] == "settings"
    assert "writer:***@127.0.0.1" in settings["TIDEMARK_WRITER_MYSQL_URL"]


def test_a_missing_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TIDEMARK_WRITER_MYSQL_URL", raising=False)
    assert main([]) == 2
    assert "TIDEMARK_WRITER_MYSQL_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("TIDEMARK_WRITER_MYSQL_URL", "mysql://u:p@127.0.0.1/tidemark")
    monkeypatch.setenv("TIDEMARK_CONSISTENCY_SECRET", "k" * 32)
    monkeypatch.setenv("TIDEMARK_AUTH_ALGORITHM", "none")
    assert main(["serve"]) == 2
    assert "TIDEMARK_AUTH_ALGORITHM" in capsys.readouterr().err
