"""The reader as a process of its own, and a small read model for it to read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import redis
from pymongo import MongoClient
from pymongo.database import Database

from ops.stack import Stack
from ops.stack.servers.ports import free_port
from tests.conftest import service_environment
from tests.reader.world import World
from tests.support.harness import Process, process, wait_until
from tests.support.tokens import bearer


@dataclass(frozen=True)
class RunningReader:
    """A reader process: its public and its admin address."""

    process: Process
    url: str
    admin_url: str

    def client(self, subject: str = "subject-1", scope: str = "read") -> httpx2.Client:
        return plain_client(self.url, bearer(subject, scope))

    def anonymous(self) -> httpx2.Client:
        return plain_client(self.url, {})

    def answers(self) -> bool:
        with self.anonymous() as client:
            try:
                return client.get("/openapi.json").status_code == 200
            except httpx2.TransportError:
                return False

    def ready(self) -> httpx2.Response:
        with plain_client(self.admin_url, {}) as client:
            return client.get("/readyz")

    def metrics(self, *names: str) -> list[float]:
        """For each of `names`, the sum of all samples whose name and labels begin with that text."""
        with plain_client(self.admin_url, {}) as client:
            samples = [line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines()]
        return [sum(float(sample[1]) for sample in samples if sample[0].startswith(name)) for name in names]


def plain_client(url: str, headers: dict[str, str]) -> httpx2.Client:
    """A client without TLS: loading the machine's certificates takes longer than a test."""
    return httpx2.Client(base_url=url, headers=headers, timeout=20, verify=False)


@contextlib.contextmanager
def starting_reader(environment: Mapping[str, str], *options: str) -> Iterator[RunningReader]:
    """A reader process that may not answer yet."""
    bind, admin_bind = (f"127.0.0.1:{free_port()}" for _ in range(2))
    binds = {"TIDEMARK_READER_BIND": bind, "TIDEMARK_READER_ADMIN_BIND": admin_bind}
    with process({**environment, **binds}, "-m", "reader", "serve", *options) as started:
        yield RunningReader(started, f"http://{bind}", f"http://{admin_bind}")


@pytest.fixture(scope="session")
def running_reader(shared_stack: Stack) -> Iterator[RunningReader]:
    with starting_reader({**service_environment(shared_stack), "TIDEMARK_READER_LOCAL_MIB": "0"}) as reader:
        wait_until(reader.answers, "the reader to answer")
        yield reader


@pytest.fixture(scope="session")
def database(shared_stack: Stack) -> Iterator[Database[dict[str, Any]]]:
    """MongoDB as its administrator sees it; one client for all tests, for opening one is slow."""
    with MongoClient[dict[str, Any]](shared_stack.mongodb.admin_url, w="majority") as client:
        yield client["tidemark"]


@pytest.fixture
def world(shared_stack: Stack, database: Database[dict[str, Any]]) -> Iterator[World]:
    """An empty read model with its checkpoint and watermark."""
    with redis.Redis.from_url(shared_stack.redis.admin_url) as cache:
        yield World(database, cache)


@pytest.fixture
def api(running_reader: RunningReader, world: World) -> Iterator[httpx2.Client]:
    """A client whose token is that of user 1, reading `world`."""
    with running_reader.client() as client:
        world.cache.flushall()
        world.begin()
        wait_until(lambda: follows(client), "the reader to follow this world's tide")
        yield client


def hit(client: httpx2.Client, path: str, **options: Any) -> httpx2.Response:
    """The first answer that comes from Redis alone. A machine that stands still may be late with a fill."""

    def asked() -> httpx2.Response | None:
        answer = client.get(path, **options)
        return answer if answer.headers.get("cache-status") == "redis; hit" else None

    return wait_until(asked, f"{path} to come from Redis")


def follows(client: httpx2.Client) -> bool:
    return "bypass" not in client.get("/user/987654321").headers.get("cache-status", "bypass")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(api: httpx2.Client, running_reader: RunningReader, world: World) -> str:
    """The reader's address. There are two users, and post 5 of the first."""
    world.user(1)
    world.user(2)
    world.post(5, author_id=1)
    return running_reader.url
