"""`--workers N`: several processes behind one address count, stop and fail as one service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pymongo.database import Database

from ops.stack import Stack
from tests.conftest import service_environment
from tests.reader.conftest import RunningReader, starting_reader
from tests.reader.world import World
from tests.support.harness import wait_until

REQUESTS = 60
WELL = dict.fromkeys(("reads", "redis", "mongodb", "worker 1", "worker 2"), "ok")


@pytest.fixture(scope="module")
def workers(shared_stack: Stack, database: Database[dict[str, Any]]) -> Iterator[RunningReader]:
    """One reader for all tests: they leave it with both workers, except for the last two."""
    with redis.Redis.from_url(shared_stack.redis.admin_url) as cache:
        World(database, cache)
    with starting_reader(service_environment(shared_stack), "--workers", "2") as reader:
        wait_until(lambda: reader.answers() and reader.ready().status_code == 200, "both workers")
        yield reader


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask_on_new_connections(workers: RunningReader) -> None:
    for _ in range(REQUESTS):
        with workers.client() as client:
            assert client.get("/post/1").status_code == 404


def test_both_workers_serve_and_their_metrics_add_up(workers: RunningReader) -> None:
    pids = children(workers.process.popen.pid)
    assert len(pids) == 2
    ask_on_new_connections(workers)
    name = 'tidemark_http_request_duration_seconds_count{code="404",method="GET",route="/post/{id}"'
    assert workers.metrics(name) == [REQUESTS]
    assert workers.ready().status_code == 200


def test_a_stopped_worker_makes_the_reader_not_ready_by_name(workers: RunningReader) -> None:
    one, _ = children(workers.process.popen.pid)
    os.kill(one, signal.SIGSTOP)
    try:
        assert (workers.ready().status_code, workers.ready().json()["worker 1"]) == (503, "does not answer")
    finally:
        os.kill(one, signal.SIGCONT)
    wait_until(lambda: workers.ready().json().get("worker 1") == "ok", "the worker to go on")


def test_a_slow_store_is_no_worker_that_does_not_answer(workers: RunningReader, shared_stack: Stack) -> None:
    """Readiness waits up to 2 s for MongoDB; a reader with Redis alone is ready."""
    shared_stack.mongodb.pause()
    try:
        answer = workers.ready()
    finally:
        shared_stack.mongodb.resume()
    assert answer.status_code == 200, answer.text
    assert answer.json()["mongodb"].startswith("away: ")
    assert {**answer.json(), "mongodb": "ok"} == WELL
    wait_until(lambda: workers.ready().json() == WELL, "MongoDB")


def test_a_killed_worker_is_started_again_and_no_count_is_lost(workers: RunningReader) -> None:
    one, other = children(workers.process.popen.pid)
    ask_on_new_connections(workers)
    counted = workers.metrics("tidemark_http_request_duration_seconds_count")
    os.kill(one, signal.SIGKILL)
    not_ready = workers.ready()
    assert (not_ready.status_code, not_ready.json()) == (
        503,
        {"worker 1": "does not answer", "worker 2": "ok"},
    )
    assert workers.metrics("tidemark_http_request_duration_seconds_count") == counted
    ask_on_new_connections(workers)
    wait_until(lambda: workers.ready().status_code == 200, "another worker")
    assert workers.ready().json() == WELL
    assert workers.metrics("tidemark_http_request_duration_seconds_count") == [counted[0] + REQUESTS]
    assert workers.metrics('tidemark_reader_worker_restarts_total{worker="1"}') == [1]
    assert one not in children(workers.process.popen.pid) and other in children(workers.process.popen.pid)
    assert "a worker ended; it is started again" in [event["event"] for event in workers.process.events()]


def test_workers_do_not_outlive_a_killed_parent(workers: RunningReader) -> None:
    pids = children(workers.process.popen.pid)
    workers.process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers to end")
