"""Workers behind one address count, stop and fail as one service; an ended worker is started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ops.stack.servers.ports import free_port
from tests.reader.conftest import plain_client
from tests.support.harness import Process, process, wait_until
from tidemark.tally import Tally
from tidemark.workers import MOST_RESTARTS, PAUSE_SECONDS, combined

REQUESTS = 40
COUNTED = ("requests_total", "seconds_count", "seconds_sum", "seconds_bucket")


class Service:
    """Two workers of `tests.tidemark.service_of_workers`."""

    def __init__(self, process: Process, url: str, admin: httpx2.Client) -> None:
        self.process = process
        self.url = url
        self.admin = admin

    def pids(self) -> list[int]:
        pid = self.process.popen.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def get(self, path: str = "/") -> int:
        """The process id of the worker that answered, on a connection of its own."""
        with plain_client(self.url, {}) as client:
            return int(client.get(path).raise_for_status().text)

    def readiness(self) -> tuple[int, dict[str, str]]:
        answer = self.admin.get("/readyz")
        return answer.status_code, answer.json()

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return self.readiness()[0] == 200
        return False

    def metrics(self) -> dict[str, float]:
        """Sample name with labels -> value."""
        lines = self.admin.get("/metrics").text.splitlines()
        return {
            sample: float(value)
            for sample, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
        }

    def kill(self, pid: int, other: int) -> int:
        """End one worker, and return the process id of the next one, which may not answer yet."""
        os.kill(pid, signal.SIGKILL)
        new = wait_until(lambda: set(self.pids()) - {pid, other}, "another worker")
        return new.pop()


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Service]:
    public, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    arguments = ("-m", "tests.tidemark.service_of_workers", public, admin, *options)
    with process(dict(os.environ), *arguments) as started, plain_client(f"http://{admin}", {}) as client:
        yield Service(started, f"http://{public}", client)


@contextlib.contextmanager
def both_serving(*options: str) -> Iterator[Service]:
    with serving(*options) as service:
        wait_until(service.is_ready, "both workers")
        yield service


@pytest.fixture
def service() -> Iterator[Service]:
    with both_serving() as service:
        yield service


def test_a_stopped_worker_is_named_and_a_killed_one_is_started_again(service: Service) -> None:
    one, other = service.pids()
    os.kill(other, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert service.readiness() == (503, {"worker 1": "ok", "worker 2": "does not answer"})
        assert time.monotonic() - began < 2
    finally:
        os.kill(other, signal.SIGCONT)
    wait_until(service.is_ready, "the worker to go on")
    os.kill(one, signal.SIGKILL)
    seen: list[tuple[int, dict[str, str]]] = []
    while not seen or not service.is_ready():
        seen.append(service.readiness())
        assert service.get() in {other, *service.pids()}
        time.sleep(PAUSE_SECONDS / 2)
    assert (503, {"worker 1": "does not answer", "worker 2": "ok"}) in seen
    assert one not in service.pids() and other in service.pids()
    assert {service.get() for _ in range(REQUESTS)} == set(service.pids())
    assert service.metrics()['restarts_total{worker="1"}'] == 1
    assert service.metrics()['restarts_total{worker="2"}'] == 0
    (event,) = [event for event in service.process.events() if event["event"].startswith("a worker ended")]
    assert (event["worker"], event["pid"], event["exit_status"]) == ("worker 1", one, -signal.SIGKILL)
    assert event["pause_seconds"] == PAUSE_SECONDS


def test_readiness_shows_the_worst_worker_and_names_each(tmp_path: Path) -> None:
    with serving("--uneven-in", str(tmp_path)) as service:
        wait_until(lambda: service_answers(service), "both workers")
        status, parts = service.readiness()
        states = [parts.pop("worker 1"), parts.pop("worker 2")]
        assert (status, parts, sorted(states)) == (
            503,
            {"store": "away", "other": "away"},
            ["not ready", "ok"],
        )


def service_answers(service: Service) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return "does not answer" not in service.readiness()[1].values()
    return False


def test_no_counter_goes_back_when_workers_stop_end_and_start(service: Service) -> None:
    one, other = service.pids()
    for _ in range(REQUESTS):
        service.get()
    seen = [service.metrics()]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        os.kill(one, number)
        seen.append(service.metrics())
    assert [scrape["places"] for scrape in seen] == [20, 10, 10]
    while len(service.pids()) < 2 or not service.is_ready():
        seen.append(service.metrics())
        time.sleep(PAUSE_SECONDS / 2)
    service.kill(other, next(pid for pid in service.pids() if pid != other))
    wait_until(service.is_ready, "both workers")
    seen.append(service.metrics())
    assert seen[-1]["places"] == 20
    for earlier, later in pairwise(seen):
        for sample, value in earlier.items():
            assert not sample.startswith(COUNTED) or later[sample] >= value, sample
    assert (
        seen[-1]["requests_total"]
        == seen[-1]["seconds_count"]
        == seen[-1]['seconds_bucket{le="0.5"}']
        == REQUESTS
    )
    assert seen[-1]["seconds_sum"] == REQUESTS / 2


def test_a_worker_that_keeps_ending_ends_all_with_a_reason() -> None:
    """Each pause is twice the former one."""
    with both_serving("--pause", "0.01") as service:
        one, other = service.pids()
        for _ in range(MOST_RESTARTS):
            one = service.kill(one, other)
        os.kill(one, signal.SIGKILL)
        assert service.process.popen.wait(timeout=20) == 1
        service.process.expected_status = 1
        last = service.process.events()[-1]
        assert last["event"] == "a worker keeps ending; stopping all" and last["worker"] == "worker 1"
        pauses = [event["pause_seconds"] for event in service.process.events() if "pause_seconds" in event]
        assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16]
        assert not Path(f"/proc/{other}").exists()


def test_all_workers_finish_what_is_under_way_at_sigterm(service: Service) -> None:
    with ThreadPoolExecutor(10) as threads:
        answers = [threads.submit(service.get, "/slow") for _ in range(10)]
        time.sleep(0.5)
        pids = service.pids()
        assert service.process.stop() == 0
        assert {answer.result() for answer in answers} <= set(pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_that_ends_during_the_drain_is_not_started_again(service: Service) -> None:
    one, other = service.pids()
    os.kill(other, signal.SIGSTOP)
    service.process.popen.send_signal(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError):
        os.kill(one, signal.SIGKILL)
    wait_until(lambda: not is_running(one), "the worker to end")
    time.sleep(0.6)  # twice the pause before a worker is started again
    assert [pid for pid in service.pids() if is_running(pid)] == [other]
    os.kill(other, signal.SIGCONT)
    assert service.process.popen.wait(timeout=20) == 0


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.mark.long
def test_a_stopped_worker_does_not_hold_up_the_end_for_ever(service: Service) -> None:
    one, _ = service.pids()
    os.kill(one, signal.SIGSTOP)
    service.process.popen.send_signal(signal.SIGTERM)
    assert service.process.popen.wait(timeout=40) == 0
    assert not Path(f"/proc/{one}").exists()


def test_workers_do_not_outlive_a_killed_parent(service: Service) -> None:
    pids = service.pids()
    service.process.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids), "the workers to end")


def worker(requests: int, seconds: float) -> str:
    registry = CollectorRegistry()
    Counter("http_requests_total", 'a "quoted"\nhelp', ["path"], registry=registry).labels('/a"b\n').inc(
        requests
    )
    Histogram("http_seconds", "time", buckets=(0.1, 1), registry=registry).observe(seconds)
    Gauge("process_start_time_seconds", "start", registry=registry).set(1000 + requests)
    tally = Tally("cache_requests_total", "from a dict", ["result"], registry)
    for _ in range(requests):
        tally.add("hit")
    return generate_latest(registry).decode()


def test_counts_of_the_workers_are_added_up() -> None:
    text = combined([worker(2, 0.05), worker(3, 0.5)])
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["http_requests_total", '/a"b\n'] == 5
    assert samples["cache_requests_total", "hit"] == 5
    assert (samples["http_seconds_count",], samples["http_seconds_sum",]) == (2, 0.55)
    assert [samples["http_seconds_bucket", bound] for bound in ("0.1", "1.0", "+Inf")] == [1, 2, 2]
    assert samples["process_start_time_seconds",] == 1002


def test_one_worker_alone_is_unchanged() -> None:
    def values(text: str) -> list[tuple[str, dict[str, str], float]]:
        return [
            (s.name, s.labels, s.value)
            for family in text_string_to_metric_families(text)
            for s in family.samples
        ]

    text = worker(2, 0.05)
    assert values(combined([text])) == values(text)
