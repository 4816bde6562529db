"""Real servers for the tests: one stack per test process, emptied between the tests that ask for it."""

from __future__ import annotations

import gc
import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pymysql
import pytest
import redis
from hypothesis import HealthCheck, settings
from pymongo import MongoClient
from xdist.scheduler import LoadScopeScheduling

from ops.stack import Stack
from ops.stack.servers.redis_cluster import PROGRAMS
from ops.stack.servers.server import NO_SERVERS
from ops.stack.urls import mysql_arguments
from tests.support.clusters import Cluster, running_cluster
from tests.support.memory import keep_temporary_files_in_memory
from tests.support.secrecy import leaks

# A busy machine is no defect, and no run depends on an earlier one.
settings.register_profile(
    "tidemark", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tidemark")
gc.disable()  # until all tests are collected: they stay, and a third of that time went into looking at them

LONGEST = (  # modules that begin first, so that no worker ends alone with one of them
    "schedules/test_schedules.py",
    "faults/test_rebuild.py",
    "perf/test_compare.py",
    "torture/",
    "protocol/test_protocol.py",
    "faults/",
    "perf/",
    "ops/",
    "projector/test_projecting.py",
    "projector/test_crashes.py",
    "tidemark/test_workers.py",
    "projector/",
    "docker/",
    "reader/",
)
TOGETHER = {  # module -> what it shares with others
    **{f"tests/ops/test_{name}.py": "one system" for name in ("console", "dashboards", "logs")},
    **{f"tests/authorizer/test_{name}.py": "the zips" for name in ("zip", "lambda_runtime")},
}
STARTS_SERVERS = {"shared_stack", "clusters", "zips"}  # fixtures; `zips` downloads
AUTH = {
    "TIDEMARK_AUTH_ALGORITHM": "HS256",
    "TIDEMARK_AUTH_SECRET": secrets.token_hex(32),
    "TIDEMARK_AUTH_ISSUER": "tidemark-tests",
    "TIDEMARK_AUTH_AUDIENCE": "tidemark",
    "TIDEMARK_CONSISTENCY_SECRET": secrets.token_hex(32),
}


def pytest_configure(config: pytest.Config) -> None:
    """The processes of pytest-xdist inherit the folder of the first process, which removes it."""
    if not hasattr(config, "workerinput") and (folder := keep_temporary_files_in_memory()) is not None:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test fails, too, if its captured output or log holds a secret."""
    report = yield
    text = "\n".join(content for _, content in report.sections)
    if report.when == "teardown" and report.passed and (found := leaks(text, AUTH)):
        report.outcome, report.longrepr = "failed", f"{item.nodeid} shows {', '.join(found)}"
    return report


def twice_if_late(item: pytest.Item) -> pytest.MarkDecorator:
    """A test on real servers that fails runs once more, and the summary names it.

    A machine that stands still for 0.3 s makes a reader blind by design. On an idle one nothing runs twice.
    A history is never judged twice: in `verification/`, only a wait that was too short is repeated.
    """
    only = ["waited"] if "verification/" in item.nodeid else ["."]
    return pytest.mark.flaky(reruns=1, only_rerun=only)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that use the stack through any fixture. Tests that start other servers mark themselves."""
    items.sort(
        key=lambda item: next((at for at, path in enumerate(LONGEST) if path in item.nodeid), len(LONGEST))
    )
    for item in items:
        if STARTS_SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")
        if item.get_closest_marker("server") is not None:
            item.add_marker(twice_if_late(item))


class ByModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A module stays in one process, and so do modules that share something."""

    def _split_scope(self, nodeid: str) -> str:
        module: str = super()._split_scope(nodeid)
        return TOGETHER.get(module, module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule | None:
    return ByModule(config, log) if config.getoption("dist") == "loadscope" else None


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test without the mark gets no server, nor does a process that it starts."""
    with pytest.MonkeyPatch.context() as environment:
        if item.get_closest_marker("server") is None:
            environment.setenv(NO_SERVERS, "1")
        return (yield)


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """The servers of this test process, running and empty (schema `tidemark` without tables)."""
    empty_stores(shared_stack)
    return shared_stack


def empty_stores(stack: Stack) -> None:
    arguments = mysql_arguments(stack.mysql.admin_url)
    with pymysql.connect(**arguments, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS tidemark")
        cursor.execute("RESET BINARY LOGS AND GTIDS")
        cursor.execute("CREATE DATABASE tidemark CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci")
    with MongoClient[dict[str, object]](stack.mongodb.admin_url) as client:
        for name in client["tidemark"].list_collection_names():
            client["tidemark"].drop_collection(name)
    with redis.Redis.from_url(stack.redis.admin_url) as cache:
        cache.flushall()


@pytest.fixture(scope="session")
def clusters() -> Iterator[Callable[[str], Cluster]]:
    """Engine -> its cluster, which starts when it is first asked for."""
    with ExitStack() as running:
        yield cache(lambda engine: running.enter_context(running_cluster(engine)))


@pytest.fixture(params=PROGRAMS)
def cluster(request: pytest.FixtureRequest, clusters: Callable[[str], Cluster]) -> Cluster:
    """A whole, empty cluster of each engine: three primaries, and a replica of each."""
    found = clusters(request.param)
    found.make_whole()
    return found


def service_environment(stack: Stack) -> dict[str, str]:
    """The whole environment of a service process that uses `stack`."""
    return {**os.environ, **AUTH, **stack.environment()}
