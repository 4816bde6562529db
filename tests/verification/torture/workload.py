"""Random writes through SQL and HTTP during faults, and recorded reads."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import httpx2
import pymysql

from binlog_projector.mysql.connections import Connection
from tests.support.acts import ACTS, IDS, WITHOUT_CHECKS, Act
from tests.support.harness import admin_connection
from tests.support.services import Services
from tests.support.threads import in_threads
from tests.verification.torture.answers import Asking, Records, Token, observe
from tests.verification.torture.system import System
from tidemark.consistency_token import HEADER

WRITERS = 2
PAUSE_SECONDS = 0.01


class Writing(Services):
    """Remembers the latest token of a write. Failures are no errors."""

    records: Records

    def write(self, subject: str, method: str, path: str, json: object = None) -> httpx2.Response:
        answer = super().write(subject, method, path, json)
        if HEADER in answer.headers:
            self.records.token = Token(answer.headers[HEADER], time.monotonic())
        return answer


@contextlib.contextmanager
def workload(system: System, seed: int, records: Records) -> Iterator[None]:
    """Writes and reads during the block."""
    services = Writing(system.services.writer_url, system.services.reader_url, system.services.projector)
    services.records = records
    askers = (
        (asked, random.Random(f"{seed}:ask {n}")) for n, asked in enumerate((system.services, system.lasting))
    )
    writing = [threading.Lock() for _ in range(WRITERS)]
    with in_threads(
        [
            *(
                partial(_write, system, services, random.Random(f"{seed}:write {n}"), n, writing)
                for n in range(WRITERS)
            ),
            partial(observe, system.stack, records),
            *(partial(_ask, asked, records, chance) for asked, chance in askers),
        ]
    ):
        yield
    services.close()


def _write(
    system: System,
    services: Writing,
    chance: random.Random,
    at: int,
    writing: Sequence[threading.Lock],
    stopping: threading.Event,
) -> None:
    while not stopping.is_set():
        with (
            contextlib.suppress(pymysql.err.MySQLError, OSError),
            admin_connection(system.stack) as connection,
        ):
            while not stopping.wait(PAUSE_SECONDS):
                act = chance.choice(ACTS)
                with turn(act, at, writing):
                    _act(act, services, connection, chance)


@contextlib.contextmanager
def turn(act: Act, at: int, writing: Sequence[threading.Lock]) -> Iterator[None]:
    """Of writer `at`. Statements without foreign keys wait until nobody else writes.

    Else such a statement may stand in MySQL's binlog before one that was checked earlier. Then every replica
    stops at the latter.
    """
    with contextlib.ExitStack() as held:
        for lock in writing if act in WITHOUT_CHECKS else writing[at : at + 1]:
            held.enter_context(lock)
        yield


def _act(act: Act, services: Writing, connection: Connection, chance: random.Random) -> None:
    """A writer that cannot reach MySQL answers so. The binlog tells whether it wrote."""
    with contextlib.suppress(httpx2.TransportError, AssertionError):
        act(services, connection, services.records.first_id, *(chance.randrange(IDS) for _ in range(3)))


def _ask(services: Services, records: Records, chance: random.Random, stopping: threading.Event) -> None:
    asking = Asking(services, records, chance)
    while not stopping.wait(PAUSE_SECONDS):
        asking.ask_for_anything()
