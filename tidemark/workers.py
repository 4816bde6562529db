"""Several processes behind one address: they share one listening socket, and one admin port answers for all.

The parent serves that port only. A worker is the parent's command with `--worker`; the parent starts an ended
worker again.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import httpx2
import structlog
import uvloop
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tidemark.admin import DRAIN_SECONDS, OK, listen, serve_on
from tidemark.settings import Address

LOOK_SECONDS = 0.1
PAUSE_SECONDS = 0.2  # before a worker starts again; doubled for each earlier end within WINDOW_SECONDS
MOST_RESTARTS, WINDOW_SECONDS = 5, 60
STOP_SECONDS = DRAIN_SECONDS + 5
ALIVE_SECONDS, ANSWER_SECONDS = 1, 5
EARLIEST = ("process_start_time_seconds",)  # combined by minimum; all other metrics are added up
LASTING = ("counter", "histogram", "summary")
log = structlog.get_logger()


def serve_workers(
    count: int, public: Address, admin: Address, registry: CollectorRegistry, restarts: Counter
) -> int:
    """Serve with `count` processes until SIGTERM or SIGINT. `registry` is the parent's and has `restarts`.

    Returns the exit status: 1 if a worker kept ending and so all were stopped. Raises AddressUnavailable.
    """
    shared, own = listen(public), listen(admin)
    parent_ended, _ = os.pipe()  # nobody writes: the other end closes with the parent
    with tempfile.TemporaryDirectory(prefix="tidemark-workers-") as folder:
        workers = [
            Worker(number, Path(folder), shared, parent_ended, restarts.labels(str(number)))
            for number in range(1, count + 1)
        ]
        return uvloop.run(_supervise(workers, own, combined_admin_app(workers, registry)))


async def serve_as_worker(
    app: ASGIApp, admin: ASGIApp, shared: str, path: str, end_streams: Callable[[], None] | None = None
) -> None:
    """Serve `app` on the parent's socket (a file descriptor), and `admin` on a UNIX socket at `path`.

    `end_streams` as in `serve_on`.
    """
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    own.bind(path)
    own.listen()
    public = app, socket.socket(fileno=int(shared))
    await serve_on([public, (admin, own)], until=_end_of_input(), end_streams=end_streams)


async def _end_of_input() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())


class WorkerKeepsEnding(Exception):
    """A worker ended more than MOST_RESTARTS times within WINDOW_SECONDS."""


class Worker:
    """One worker: its current process, and the metrics of all its processes."""

    def __init__(
        self, number: int, folder: Path, shared: socket.socket, parent_ended: int, restarts: Counter
    ) -> None:
        self.name = f"worker {number}"
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._shared = shared.fileno()
        self._parent_ended = parent_ended
        self._restarts = restarts
        self._ends: list[float] = []
        self._due = 0.0
        self._path = folder / "none.sock"  # each process gets another one
        self._seen, self._last, self._former = self._path, "", ""

    def look(self) -> None:
        """Start the process if it is due. Raises WorkerKeepsEnding."""
        if self.process is None:
            if time.monotonic() >= self._due:
                self._start()
        elif (status := self.process.poll()) is not None:
            self._note_end(self.process.pid, status)
            self.process = None

    def _start(self) -> None:
        if self._ends:
            self._restarts.inc()
        self._path = self._folder / f"{time.monotonic_ns()}.sock"
        command = [sys.executable, *sys.orig_argv[1:], "--worker", str(self._shared), str(self._path)]
        self.process = subprocess.Popen(command, stdin=self._parent_ended, pass_fds=[self._shared])

    def _note_end(self, pid: int, status: int) -> None:
        now = time.monotonic()
        self._ends = [*(end for end in self._ends if now - end < WINDOW_SECONDS), now]
        about = log.bind(worker=self.name, pid=pid, exit_status=status)
        if len(self._ends) > MOST_RESTARTS:
            about.error("a worker keeps ending; stopping all", restarts=MOST_RESTARTS, seconds=WINDOW_SECONDS)
            raise WorkerKeepsEnding
        pause = PAUSE_SECONDS * 2 ** (len(self._ends) - 1)
        about.warning("a worker ended; it is started again", pause_seconds=pause)
        self._due = now + pause

    async def ready(self) -> tuple[int, dict[str, str], str]:
        """Status and parts of the worker's `/readyz`, and the state of the worker."""
        alive = await _ask(self._path, "/healthz", ALIVE_SECONDS)
        answer = await _ask(self._path, "/readyz", ANSWER_SECONDS) if alive is not None else None
        if answer is None:
            return 503, {}, "does not answer"
        if answer.status_code not in {200, 503}:
            return 503, {}, f"answers with {answer.status_code}"
        return answer.status_code, answer.json(), "ok" if answer.status_code == 200 else "not ready"

    async def metrics(self) -> str:
        """The worker's `/metrics`, plus the last known counts of its former processes; one call at a time."""
        path = self._path
        answer = await _ask(path, "/metrics", ALIVE_SECONDS)
        if path != self._seen:
            self._former = combined([self._former, self._last], gauges=False)
            self._seen, self._last = path, ""
        if answer is None:
            return combined([self._former, self._last], gauges=False)
        self._last = answer.text
        return combined([self._former, self._last])


async def _supervise(workers: Sequence[Worker], own: socket.socket, app: ASGIApp) -> int:
    try:
        await serve_on([(app, own)], until=_keep(workers))
    except WorkerKeepsEnding:
        return 1
    finally:
        _stop([worker.process for worker in workers if worker.process])
    return 0


async def _keep(workers: Sequence[Worker]) -> None:
    while True:
        for worker in workers:
            worker.look()
        await asyncio.sleep(LOOK_SECONDS)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Stop all. This blocks the event loop, which has nothing else left to do."""
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.warning("a worker does not end; it is killed", pid=process.pid)
            process.kill()
            process.wait()


def combined_admin_app(workers: Sequence[Worker], registry: CollectorRegistry) -> Starlette:
    """`/metrics` adds up workers and parent; `/readyz` is the worst worker's, with the state of each."""
    one_at_a_time = asyncio.Lock()  # an older answer must not take the place of a newer one

    async def metrics(request: Request) -> Response:
        async with one_at_a_time:
            texts = await asyncio.gather(*(worker.metrics() for worker in workers))
        return PlainTextResponse(combined([generate_latest(registry).decode(), *texts]))

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        answers = await asyncio.gather(*(worker.ready() for worker in workers))
        status, parts, _ = max(answers, key=lambda one: (one[0], {*one[1].values()} != {OK}, len(one[1])))
        states = {worker.name: state for worker, (_, _, state) in zip(workers, answers, strict=True)}
        return JSONResponse({**parts, **states}, status)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    )


async def _ask(uds: Path, path: str, seconds: float) -> httpx2.Response | None:
    """The answer; None if nobody answers."""
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(uds)), timeout=seconds) as http:
        try:
            return await http.get(f"http://worker{path}")
        except httpx2.TransportError:
            return None


def combined(texts: Iterable[str], *, gauges: bool = True) -> str:
    """Prometheus' texts of several processes as the text of one; without `gauges`, counts only."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    heads: dict[str, str] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            if not gauges and family.type not in LASTING and not family.name.endswith("_created"):
                continue
            name = f"{family.name}_total" if family.type == "counter" else family.name
            heads[name] = f"# HELP {name} {_escaped(family.documentation)}\n# TYPE {name} {family.type}\n"
            for sample in family.samples:
                _add(values[name], sample.name, f"{sample.name}{_labels(sample.labels)}", sample.value)
    return "".join(
        head + "".join(f"{sample} {value}\n" for sample, value in values[name].items())
        for name, head in heads.items()
    )


def _add(samples: dict[str, float], name: str, sample: str, value: float) -> None:
    if name in EARLIEST or name.endswith("_created"):
        samples[sample] = min(samples.get(sample, value), value)
    else:
        samples[sample] = samples.get(sample, 0.0) + value


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value, quote=True)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text
