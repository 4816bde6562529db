"""`make demo` and `make run` as people use them: all processes start, faults are named, all processes end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from ops.demo import Report, failure_of, show
from ops.observer import Done, Expected, NotAsPromised, Step
from ops.round_trip import RoundTrip
from ops.run import stay
from ops.stack import ServerFailed
from ops.stack.servers.process import ProcessIdentity
from ops.system import System
from tests.support.harness import ROOT, Process, process, wait_until
from tests.support.secrecy import leaks
from tidemark.settings import Address

WITHIN_SECONDS = 300  # the very first start downloads the servers
SERVERS_AND_SERVICES = 6
COUNTS = {
    "jane joins": {"post_count": 0, "follower_count": 0, "following_count": 0},
    "joe joins": {"post_count": 0, "follower_count": 0, "following_count": 0},
    "post": {"like_count": 0, "comment_count": 0},
    "comment": {"like_count": 0, "comment_count": 1},
    "like": {"like_count": 1, "comment_count": 1},
    "unlike": {"like_count": 0, "comment_count": 1},
    "edit": {"like_count": 0, "comment_count": 1},
    "rename": {"like_count": 0, "comment_count": 1},
    "follow": {"post_count": 1, "follower_count": 1, "following_count": 0},
    "delete": {"post_count": 0, "follower_count": 1, "following_count": 0},
}
Finished = subprocess.CompletedProcess[str]


def command(*arguments: str, within_seconds: float = WITHIN_SECONDS, **environment: str) -> Finished:
    """Run one module in a process of its own, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=within_seconds,
    )


@pytest.fixture(scope="module")
def demos() -> dict[str, Finished]:
    """Two demos, run side by side: one with JSON, one whose reader refuses its settings."""
    with ThreadPoolExecutor() as pool:
        running = {
            "json": pool.submit(command, "ops.demo", "--json"),
            "refused": pool.submit(command, "ops.demo", TIDEMARK_READER_MONGODB_READS="none"),
        }
        return {name: result.result() for name, result in running.items()}


@pytest.mark.server
def test_the_demo_shows_each_step_on_a_plain_line(
    demos: dict[str, Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(demos["json"].stdout)
    show(Report(**{**found, "steps": [Step(**step) for step in found["steps"]]}), as_json=False)
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines()]
    for step in COUNTS:
        [line] = [line for line in lines if re.match(rf"{step} +(PUT|POST|PATCH|DELETE) /", line)]
        assert re.search(r" \d+\.\d ms +(local|redis|mongo) +\w+ \d, \w+ \d", line), line
    assert said.isascii()
    assert "make run" in lines[-1]


@pytest.mark.server
def test_the_demo_prints_one_json_object_with_all_it_found(demos: dict[str, Finished]) -> None:
    done = demos["json"]
    report = json.loads(done.stdout)
    assert (done.returncode, report["held"], report["failure"]) == (0, True, None)
    assert {step["step"]: step["counts"] for step in report["steps"]} == COUNTS
    assert all(0 < step["visible_ms"] < 10_000 for step in report["steps"])
    assert all(
        (step["served_from"] == "mongo") != step["cache_status"].endswith("; hit") for step in report["steps"]
    )
    assert len(report["checks"]) == 4


@pytest.mark.server
def test_a_service_ending_at_start_is_named_with_status_and_log(
    demos: dict[str, Finished],
) -> None:
    done = demos["refused"]
    assert done.returncode == 1
    assert re.search(r"reader \(pid \d+\) ended with status 2", done.stderr)
    assert "TIDEMARK_READER_MONGODB_READS='none': should be a whole number" in done.stderr


@pytest.mark.parametrize(
    ("module", "variable", "name"),
    [
        ("ops.demo", "TIDEMARK_READER_BIND", "reader"),
        ("ops.run", "TIDEMARK_WRITER_BIND", "writer"),
        ("ops.run", "TIDEMARK_PROJECTOR_ADMIN_BIND", "projector"),
    ],
)
def test_a_taken_address_is_named_before_anything_is_started(module: str, variable: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        address = f"127.0.0.1:{occupant.getsockname()[1]}"
        done = command(module, within_seconds=60, **{variable: address})
    assert done.returncode == 1
    assert (
        f"{name} cannot listen on {address}: [Errno 98] Address already in use; change {variable}"
        in done.stderr
    )
    assert "starting" not in done.stderr


@contextmanager
def reader_that_says(**headers: str) -> Iterator[System]:
    """A system, not started, whose reader answers 404 with these headers to every request."""

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            for name, value in {"content_length": "0", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing to the terminal."""

    system = System({})
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        where = Address("127.0.0.1", server.server_port)
        system.addresses = {"TIDEMARK_WRITER_BIND": where, "TIDEMARK_READER_BIND": where}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield system
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("freshness", "expected"),
    [
        ({}, "GET /post/1 with Freshness and Cache-Status"),
        ({"freshness": 'as-of="2999-01-01T00:00:00.000Z"'}, "since it claims to be newer"),
    ],
)
def test_the_demo_finds_a_reader_staler_than_it_says(freshness: dict[str, str], expected: str) -> None:
    written = Done("post", "POST /post", 201, {}, time.perf_counter(), datetime.now(UTC))
    with (
        reader_that_says(cache_status="redis; hit", **freshness) as system,
        closing(RoundTrip(system)) as trip,
        pytest.raises(NotAsPromised) as found,
    ):
        trip.see(written, Expected("/post/1", {}))
    assert expected in found.value.expected


@pytest.mark.server
def test_a_system_reports_broken_promises_and_the_killed_child() -> None:
    with System(os.environ) as system:
        with closing(RoundTrip(system)) as trip:
            trip.jane.put_profile("jane was here before", 201, "Jane")
            failure = failure_of(system, trip)
        assert failure is not None
        assert failure.step == "jane joins"
        assert "PUT /user/me -> 201" in failure.expected
        assert failure.found.startswith("200")
        assert failure.logs.keys() == {"projector", "writer", "reader"}
        assert all('"event"' in tail for tail in failure.logs.values())

        killed = system.children["reader"].identity
        killed.send(signal.SIGKILL)
        assert killed.wait(10)
        with pytest.raises(ServerFailed, match=rf"reader \(pid {killed.pid}\) was killed by SIGKILL"):
            stay(system)


@contextmanager
def running(directory: Path) -> Iterator[Process]:
    """`python -m ops.run` in that folder, after it has printed its addresses."""
    with process(os.environ, "-m", "ops.run", "--dir", str(directory)) as started:
        wait_until(lambda: "Ctrl-C" in started.log.read_text(), "the system to be up", WITHIN_SECONDS)
        yield started
    assert not any(leaks(path.read_text(), {}) for path in directory.rglob("*.log"))


def children(started: Process) -> list[ProcessIdentity]:
    threads = Path(f"/proc/{started.popen.pid}/task").glob("*/children")
    found = [ProcessIdentity.of(int(pid)) for thread in threads for pid in thread.read_text().split()]
    assert len(found) == SERVERS_AND_SERVICES
    return found


def jane(started: Process, service: str) -> httpx2.Client:
    """A client made from the printed URL and the token in the printed file."""
    said = started.log.read_text()
    [url] = re.findall(rf"^{service} +(http://\S+)", said, re.MULTILINE)
    [settings] = re.findall(r"^\. (\S+)$", said, re.MULTILINE)
    [token] = re.findall(r"^export TOKEN=(\S+)$", Path(settings).read_text(), re.MULTILINE)
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=15)


@pytest.mark.server
def test_an_ended_or_killed_run_keeps_users_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as first:
        with jane(first, "writer") as writer:
            written = writer.put("/user/me", json={"handle": "jane", "display_name": "Jane"})
        assert written.status_code == 201
        processes = children(first)
        first.popen.send_signal(signal.SIGINT)
        assert first.popen.wait(60) == 0
        assert not any(each.is_alive() for each in processes)
        assert first.log.read_text().endswith("stopping all of it\nstopped\n")

    with running(tmp_path) as second:
        with jane(second, "reader") as reader:
            wait_until(
                lambda: reader.get(written.headers["location"]).json().get("handle") == "jane",
                "jane's profile",
            )
        processes = children(second)
        second.kill()
        assert all(each.wait(10) for each in processes)
