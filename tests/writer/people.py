"""People with tokens that use the writer over HTTP."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any, TypeVar

import httpx2
from starlette.testclient import TestClient

from tests.conftest import AUTH
from tests.support.tokens import AUTH_SETTINGS, bearer
from tidemark.settings import load
from writer.app import create_app
from writer.settings import WriterSettings

T = TypeVar("T")


@dataclass
class Person:
    """A subject with a token; `id` once there is a profile."""

    http: httpx2.Client
    subject: str
    id: str = ""

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> httpx2.Response:
        headers = {**bearer(self.subject), **more.pop("headers", {})}
        return self.http.request(method, path, json=json, headers=headers, **more)

    def post(self, body: str = "Hello") -> str:
        """Write a post and return its id."""
        answer = self.send("POST", "/post", {"body": body})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


@dataclass
class Writer:
    """The public application in this process."""

    http: httpx2.Client

    def stranger(self) -> Person:
        """A person with a token and no profile."""
        return Person(self.http, f"subject|{secrets.token_hex(8)}")

    def person(self) -> Person:
        """A person with a profile."""
        person = self.stranger()
        answer = person.send("PUT", "/user/me", {"handle": new_handle(), "display_name": "Jane"})
        assert answer.status_code == 201, answer.text
        return Person(self.http, person.subject, answer.json()["id"])


@contextlib.contextmanager
def serving(mysql_url: str, pool_size: int = 8, commands_per_minute: int = 0) -> Iterator[Writer]:
    """The writer's public application, started and stopped, on the database of `mysql_url`."""
    environment = {
        **AUTH,
        "TIDEMARK_WRITER_MYSQL_URL": mysql_url,
        "TIDEMARK_WRITER_POOL_SIZE": str(pool_size),
        "TIDEMARK_WRITER_COMMANDS_PER_MINUTE": str(commands_per_minute),
    }
    with TestClient(create_app(load(WriterSettings, environment), AUTH_SETTINGS)) as http:
        yield Writer(http)


def new_handle() -> str:
    return f"h_{secrets.token_hex(8)}"


def at_once(*works: Callable[[], T]) -> list[T]:
    """The results of all `works`, started at the same moment, each in a thread of its own."""
    barrier = Barrier(len(works))

    def start(work: Callable[[], T]) -> T:
        barrier.wait(timeout=10)
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(start, works))
