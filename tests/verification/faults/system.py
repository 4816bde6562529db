"""A projector and a reader on servers that a test disturbs, and the end that every fault must have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import httpx2

from binlog_projector.mysql.connections import Connection
from ops.stack import Server, Stack
from ops.stack.servers.ports import free_port
from reader.read_model.cached_values import Watermark
from tests.reader.conftest import RunningReader
from tests.support.caches import caches
from tests.support.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    create_tables,
    process,
    projector,
    wait_until,
    wait_until_caught_up,
    watermark,
)
from tests.support.traffic import seed_rows

POSTS, USERS = range(1, 16), range(1, 11)  # to read; traffic writes to more
PATHS = [
    *(f"/post/{id}{rest}" for id in POSTS for rest in ("", "/comments")),
    *(f"/user/{id}{rest}" for id in USERS for rest in ("", "/posts", "/followers")),
]


def answers(client: httpx2.Client, path: str) -> bool:
    """A store that comes back may refuse at first."""
    return client.get(path).status_code == 200


@dataclass(frozen=True)
class System:
    """Running servers and services, and a connection as MySQL's administrator."""

    stack: Stack
    connection: Connection
    projecting: Process
    reading: RunningReader

    def catch_up_and_fill(self) -> Watermark:
        """Fills the cache with posts, users and lists, under leases. Returns the watermark then."""
        wait_until_caught_up(self.stack, self.connection)
        with self.reading.client() as client:
            for path in PATHS:
                wait_until(partial(answers, client, path), path)
        return self.watermark()

    def watermark(self) -> Watermark:
        mark = watermark(self.stack)
        assert mark is not None, "the watermark is gone"
        return mark

    def assert_all_is_well(self) -> None:
        """The cache and MongoDB equal MySQL as the fault left them, and again after a read of everything.

        Before, the reader loses its connection to Redis: an emptied replica fills Redis.
        """
        wait_until_caught_up(self.stack, self.connection)
        assert_everything_is_equal(self.stack, self.connection)
        with caches(self.stack) as shards:
            for _, client in shards:
                client.client_kill_filter(_type="pubsub")
        self.catch_up_and_fill()
        assert assert_everything_is_equal(self.stack, self.connection) >= len(PATHS)


@contextlib.contextmanager
def running_system(stack: Stack, environment: Mapping[str, str], *launcher: str) -> Iterator[System]:
    """Over empty stores: tables with rows, a projector (`launcher`: its module) and a reader."""
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
        with projector(environment, *launcher) as projecting, reader(environment) as reading:
            yield System(stack, connection, projecting, reading)


@contextlib.contextmanager
def reader(environment: Mapping[str, str]) -> Iterator[RunningReader]:
    """A reader process that answers."""
    port, admin_port = free_port(), free_port()
    binds = {
        "TIDEMARK_READER_BIND": f"127.0.0.1:{port}",
        "TIDEMARK_READER_ADMIN_BIND": f"127.0.0.1:{admin_port}",
    }
    with process({**environment, **binds}, "-m", "reader") as started:
        running = RunningReader(started, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
        wait_until(running.answers, "the reader to answer")
        yield running


@contextlib.contextmanager
def standing_in(stack: Stack, store: str, server: Server) -> Iterator[None]:
    """During the block, `server` is the stack's server of `store`."""
    own = stack.servers[store]
    stack.servers[store] = server
    try:
        yield
    finally:
        stack.servers[store] = own


@contextlib.contextmanager
def stopped(server: Server) -> Iterator[None]:
    """The server is stopped during the block."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def paused(server: Server) -> Iterator[None]:
    """The server is silent during the block, and keeps its state."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
