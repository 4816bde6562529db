"""`python -m reader`: settings, start and end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from authorizer_lambda.settings import AuthSettings
from ops.stack import Stack
from reader.app import Reader
from reader.settings import ReaderSettings
from tests.conftest import AUTH, service_environment
from tests.reader.conftest import RunningReader
from tests.reader.world import World
from tests.support.harness import ROOT, free_port, process, wait_until
from tidemark.settings import Address, SettingError, load

URLS = {
    "TIDEMARK_READER_MONGODB_URL": "mongodb://reader:secret@127.0.0.1:1/a?serverSelectionTimeoutMS=100",
    "TIDEMARK_READER_REDIS_URL": "redis://reader:secret@127.0.0.1:1/0",
}
REQUIRED = {**AUTH, **URLS}


def test_the_defaults_are_those_that_are_documented() -> None:
    settings = load(ReaderSettings, REQUIRED)
    assert (settings.bind, settings.admin_bind) == (Address("127.0.0.1", 8002), Address("127.0.0.1", 9102))
    assert (settings.mongodb_reads, settings.max_staleness_seconds) == (64, 30)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TIDEMARK_READER_MONGODB_URL", ""),
        ("TIDEMARK_READER_REDIS_URL", "http://127.0.0.1"),
        ("TIDEMARK_READER_BIND", "nowhere"),
        ("TIDEMARK_READER_ADMIN_BIND", "127.0.0.1:65536"),
        ("TIDEMARK_READER_MONGODB_READS", "0"),
        ("TIDEMARK_MAX_STALENESS_SECONDS", "soon"),
    ],
)
def test_a_bad_setting_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=variable):
        load(ReaderSettings, {**REQUIRED, variable: value})


@pytest.mark.parametrize("variable", ["TIDEMARK_READER_REDIS_URL", "TIDEMARK_AUTH_SECRET"])
def test_without_a_setting_that_has_no_default_nothing_starts(variable: str) -> None:
    environment = {**REQUIRED, variable: ""}
    ended = subprocess.run(
        [sys.executable, "-m", "reader"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert variable in ended.stderr
    assert "secret@" not in ended.stderr


def test_it_starts_before_its_stores_do_and_ends_on_a_signal(shared_stack: Stack) -> None:
    port, admin_port = free_port(), free_port()
    binds = {
        "TIDEMARK_READER_BIND": f"127.0.0.1:{port}",
        "TIDEMARK_READER_ADMIN_BIND": f"127.0.0.1:{admin_port}",
    }
    with process({**service_environment(shared_stack), **URLS, **binds}, "-m", "reader") as reader:
        running = RunningReader(reader, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
        wait_until(lambda: "settings" in reader.log.read_text(), "the start")
        assert "secret@" not in reader.log.read_text()
        wait_until(running.answers, "the reader to listen")
        assert running.ready().status_code == 503
        assert reader.stop() == 0


@pytest.mark.anyio
async def test_a_service_that_has_not_opened_its_stores_is_not_ready() -> None:
    reader = Reader(load(ReaderSettings, REQUIRED), AuthSettings.from_environ(AUTH))
    assert await reader.ready() == {"reads": "the service is starting or has ended"}


def test_importing_the_app_connects_to_nothing(world: World) -> None:
    """The process cannot connect: a connection would fail the import."""
    code = "import socket; socket.socket.connect = None; import reader.app, reader.__main__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
