"""Sessions: whoever sends back the last token never reads backwards. A read may demand an age."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest

from binlog_projector.mysql.connections import query_value
from ops.stack import Stack
from tests.conftest import AUTH, service_environment
from tests.support.harness import admin_connection, wait_until
from tests.support.traffic import write_traffic
from tests.verification.faults.system import POSTS, System, reader, running_system
from tidemark.consistency_token import HEADER, ConsistencyKeys, sign, verify
from tidemark.gtid import EMPTY, GtidSet

KEYS = ConsistencyKeys.parse(AUTH["TIDEMARK_CONSISTENCY_SECRET"])
READS = 600
RESTARTED, KILLED = 200, 400  # before these reads: a reader, and Redis


@pytest.fixture
def system(stack: Stack) -> Iterator[System]:
    with running_system(stack, service_environment(stack)) as system:
        system.catch_up_and_fill()
        yield system


def test_whoever_sends_back_the_last_token_never_reads_backwards(system: System) -> None:
    """Two processes in turn; one is restarted, and Redis is killed and comes back."""
    stack, environment = system.stack, service_environment(system.stack)
    seen, token, statuses, stopping = EMPTY, "", Counter[int](), threading.Event()

    def write() -> None:
        with admin_connection(stack) as connection:
            chance = random.Random(5)
            while not stopping.wait(0.01):
                write_traffic(connection, chance, 1)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        with system.reading.client() as one, ExitStack() as others:
            other = others.enter_context(others.enter_context(reader(environment)).client())
            for number in range(READS):
                if number == RESTARTED:
                    others.close()
                    other = others.enter_context(others.enter_context(reader(environment)).client())
                if number == KILLED:
                    stack.redis.kill()
                    stack.redis.start()
                headers = {HEADER: token, "Prefer": "wait=2"} if token else {}
                client = (one, other)[number % 2]
                answer = client.get(f"/post/{POSTS[number % len(POSTS)]}", headers=headers)
                statuses[answer.status_code] += 1
                if token and answer.status_code in (200, 404):
                    token = answer.headers[HEADER]
                    contained = verify(token, KEYS, time.time())
                    assert contained >= seen, f"read {number} went back from {seen} to {contained}"
                    seen = contained
                elif not token:
                    token = first_token(system)
    finally:
        stopping.set()
        writing.join()
    assert set(statuses) <= {200, 404, 503} and statuses[200] > READS / 2, statuses


def test_a_read_may_demand_an_age(system: System) -> None:
    """While the projector stands still, an age of a second becomes a 503, and none is demanded by 0."""
    with system.reading.client() as client:

        def ask(demand: str) -> httpx2.Response:
            return client.get("/post/1", headers={"cache-control": demand})

        assert ask("max-age=5").status_code == 200
        system.projecting.popen.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: ask("max-age=1").status_code == 503, "an answer that is too old")
            refused = ask("no-transform, max-age=1")
            assert (refused.headers["retry-after"], refused.json()["field"]) == ("1", "Cache-Control")
            assert refused.json()["type"] == "/problems/too-old"
            for demand in ("max-age=0", "no-cache", "max-age=3600", ""):
                assert ask(demand).status_code == 200, demand
        finally:
            system.projecting.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: ask("max-age=1").status_code == 200, "a recent answer")


def first_token(system: System) -> str:
    """Of all that MySQL had committed."""
    executed = GtidSet.parse(query_value(system.connection, "SELECT @@global.gtid_executed"))
    return sign(executed, KEYS, time.time())
