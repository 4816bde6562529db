"""`--workers N`: several processes behind one address, which count, stop and fail as one service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack import Stack
from tests.conftest import service_environment
from tests.harness import free_port, process, wait_until
from tests.reader.conftest import RunningReader
from tests.reader.world import World

REQUESTS = 60


@pytest.fixture
def workers(shared_stack: Stack, world: World) -> Iterator[RunningReader]:
    port, admin_port = free_port(), free_port()
    environment = {
        **service_environment(shared_stack),
        "TIDEMARK_READER_BIND": f"127.0.0.1:{port}",
        "TIDEMARK_READER_ADMIN_BIND": f"127.0.0.1:{admin_port}",
    }
    world.set_watermark(world.commit(1))
    with process(environment, "-m", "reader", "--workers", "2") as started:
        reader = RunningReader(started, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
        wait_until(reader.answers, "the workers to answer")
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


def test_a_worker_that_dies_takes_the_service_down_with_a_reason(workers: RunningReader) -> None:
    one, other = children(workers.process.popen.pid)
    os.kill(one, signal.SIGKILL)
    assert workers.process.popen.wait(timeout=20) == 1
    workers.process.expected_status = 1
    assert "a worker ended by itself" in workers.process.events()[-1]["event"]
    assert not Path(f"/proc/{other}").exists()


def test_workers_do_not_outlive_a_killed_parent(workers: RunningReader) -> None:
    pids = children(workers.process.popen.pid)
    workers.process.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers to end")
