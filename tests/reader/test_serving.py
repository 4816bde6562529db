"""`python -m reader`: settings, start and end."""

from __future__ import annotations

import pytest

from authorizer_lambda.settings import AuthSettings
from ops.stack import Stack
from reader.app import Reader
from reader.settings import ReaderSettings
from tests.authorizer.processes import run_python
from tests.conftest import AUTH, service_environment
from tests.reader.conftest import starting_reader
from tests.reader.world import World
from tests.support.harness import wait_until
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
    ended = run_python("-m", "reader", environment=environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert variable in ended.stderr
    assert "secret@" not in ended.stderr


def test_it_starts_before_its_stores_do_and_ends_on_a_signal(shared_stack: Stack) -> None:
    with starting_reader({**service_environment(shared_stack), **URLS}) as reader:
        log = reader.process.log
        wait_until(lambda: "settings" in log.read_text(), "the start")
        assert "secret@" not in log.read_text()
        wait_until(reader.answers, "the reader to listen")
        assert reader.ready().status_code == 503
        assert reader.process.stop() == 0


@pytest.mark.anyio
async def test_a_service_that_has_not_opened_its_stores_is_not_ready() -> None:
    reader = Reader(load(ReaderSettings, REQUIRED), AuthSettings.from_environ(AUTH))
    assert await reader.ready() == ({"reads": "the service is starting or has ended"}, False)


def test_importing_the_app_connects_to_nothing(world: World) -> None:
    """The process cannot connect: a connection would fail the import."""
    code = "import socket; socket.socket.connect = None; import reader.app, reader.__main__"
    assert run_python("-c", code, environment={}).returncode == 0
