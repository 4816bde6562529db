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

from ops.child import LOG_BYTES, rotate
from ops.demo import Report, failure_of, show
from ops.observer import Done, Expected, NotAsPromised, Step
from ops.round_trip import RoundTrip
from ops.run import stay
from ops.services import AddressRefused, given_addresses, with_steady_ports
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


def test_the_page_that_gives_tokens_listens_on_the_loopback_only() -> None:
    with pytest.raises(AddressRefused, match=r"shore cannot listen on 0\.0\.0\.0:0: .* the loopback; change"):
        given_addresses({"TIDEMARK_SHORE_BIND": "0.0.0.0:0"})
    assert given_addresses({"TIDEMARK_SHORE_BIND": "localhost:0"})


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
def test_a_system_reports_broken_promises_and_the_killed_child(
    capsys: pytest.CaptureFixture[str],
) -> None:
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
        with pytest.raises(ServerFailed) as failed:
            stay(system)
    reason = f"reader (pid {killed.pid}) was killed by SIGKILL"
    assert str(failed.value).splitlines()[-1] == reason, "it stands below the lines of the log"
    said = capsys.readouterr().err.splitlines()
    assert said.index(reason) < said.index("stopping all of it"), "it is said at once"


@contextmanager
def running(directory: Path, *options: str) -> Iterator[Process]:
    """`python -m ops.run` in that folder, after it has printed its addresses."""
    with process(os.environ, "-m", "ops.run", "--dir", str(directory), *options) as started:
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
def test_the_printed_page_acts_on_the_run_which_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        [url] = re.findall(r"^Open +(http://\S+)", run.log.read_text(), re.MULTILINE)
        own = {"origin": url, "x-shore": "1"}
        with httpx2.Client(base_url=url, headers=own, timeout=60, trust_env=False) as page:
            assert "<h1>Tidemark</h1>" in page.get("/").text
            session = page.post("/session").json()
            page.headers["authorization"] = f"Bearer {session['admin']}"
            for act, there in (("stop-redis", False), ("start-redis", True), ("kill-projector", True)):
                assert page.post(f"/act/{act}").status_code == 200
                assert page.get("/figures").json()["parts"]["redis"] is there
            assert page.post("/act/start-projector").status_code == 200
        assert httpx2.get(f"{session['reader']}/docs", trust_env=False).status_code == 200
        run.popen.send_signal(signal.SIGINT)
        assert run.popen.wait(60) == 0


@pytest.mark.server
def test_an_ended_or_killed_run_keeps_users_tokens_and_addresses_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as first, jane(first, "reader") as reader:
        with jane(first, "writer") as writer:
            written = writer.put("/user/me", json={"handle": "jane", "display_name": "Jane"})
        assert written.status_code == 201
        processes = children(first)
        first.popen.send_signal(signal.SIGINT)
        assert first.popen.wait(60) == 0
        assert not any(each.is_alive() for each in processes)
        assert first.log.read_text().endswith("stopping all of it\nstopped\n")

        with running(tmp_path) as second:
            wait_until(
                lambda: reader.get(written.headers["location"]).json().get("handle") == "jane",
                "jane's profile, with the first run's token at the first run's address",
            )
            processes = children(second)
            second.kill()
            assert all(each.wait(10) for each in processes)
    starts = (tmp_path / "reader.log").read_text().count('"event": "settings"')
    assert starts == 2, "the second run's log stands below the first's"


@pytest.mark.server
def test_keep_going_starts_ended_services_and_servers_again(tmp_path: Path) -> None:
    with running(tmp_path, "--keep-going") as run, jane(run, "reader") as reader:
        for killed in children(run):
            killed.send(signal.SIGKILL)
        for name in ("projector", "writer", "reader", "mysql", "mongodb", "redis"):
            _wait_for(run, f"{name} is started again")
        assert run.log.read_text().count("was killed by SIGKILL") == 3
        wait_until(lambda: _status(reader, "/post/1") == 404, "the reader's own answer again", 60)
        assert len(children(run)) == SERVERS_AND_SERVICES


def _wait_for(run: Process, line: str) -> None:
    wait_until(lambda: line in run.log.read_text(), line, 60)


def _status(client: httpx2.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx2.TransportError:
        return None


def test_a_remembered_port_is_kept_unless_another_process_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    ports: dict[str, int] = {}
    first = with_steady_ports({}, ports)
    assert with_steady_ports({}, ports) == first
    taken = first["TIDEMARK_READER_BIND"]
    with socket.create_server((taken.host, taken.port)):
        second = with_steady_ports({}, ports)
    assert {bind for bind in first if first[bind] != second[bind]} == {"TIDEMARK_READER_BIND"}
    new = second["TIDEMARK_READER_BIND"].port
    assert capsys.readouterr().err == (
        f"reader has a new port, {new}: another process listens on {taken.port}\n"
    )
    given = {"TIDEMARK_WRITER_BIND": Address(taken.host, new)}
    assert with_steady_ports(given, ports)["TIDEMARK_READER_BIND"].port != new


def test_a_long_log_begins_anew_while_its_process_writes(tmp_path: Path) -> None:
    log = tmp_path / "reader.log"
    with log.open("ab", buffering=0) as process:
        process.write(b"first\n")
        rotate(log)
        assert not (tmp_path / "reader.log.1").exists()
        process.write(b"x" * LOG_BYTES)
        rotate(log)
        process.write(b"last\n")
    assert (tmp_path / "reader.log.1").read_bytes().startswith(b"first\n")
    assert log.read_bytes() == b"last\n"
