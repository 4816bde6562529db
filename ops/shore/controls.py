"""The page's buttons: acts on the servers of this run, carried out by the thread that started them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import queue
from concurrent.futures import Future
from typing import Any

from ops.child import Child
from ops.stack import StackError
from ops.stack.errors import NotOurs
from ops.stack.servers.process import stop_processes
from ops.system import STOPPED_WITHIN_SECONDS, System

WITHIN_SECONDS = 90.0
ACTS = (
    "stop-redis",
    "start-redis",
    "stop-projector",
    "start-projector",
    "kill-projector",
    "likes",
    "compare",
)
NO_DRIVER = "The side of SQL needs what `make dev` installs. Run it in another terminal, then press again."


class Controls:
    """`ask` is for any thread and waits; `carry_out` is for the one whose end would end the servers."""

    def __init__(self, system: System, people: int) -> None:
        self._system = system
        self._people = people
        self._asked: queue.Queue[tuple[str, Future[None]]] = queue.Queue()
        self._load: Child | None = None

    def ask(self, name: str) -> None:
        """Have one of ACTS done. Raises StackError or OSError if it fails."""
        done: Future[None] = Future()
        self._asked.put((name, done))
        done.result(WITHIN_SECONDS)

    def carry_out(self, seconds: float) -> None:
        """Wait for an act at most that long, and carry it out."""
        with contextlib.suppress(queue.Empty):
            name, done = self._asked.get(timeout=seconds)
            try:
                self._do(name)
            except (StackError, OSError) as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    def report(self) -> dict[str, Any] | None:
        """The last report of the load; None before its first."""
        load = self._load
        if load is None:
            return None
        running = load.is_running()
        lines = load.log_path.read_text(errors="replace").splitlines()
        reports = [line for line in lines if line.startswith('{"report":')]
        report: dict[str, Any] = json.loads(reports[-1])["report"] if reports else {}
        if not running and not {"done", "failed"} & report.keys():
            return {"failed": f"the load {load.end()}: {lines[-1] if lines else ''}"}
        return report

    def close(self) -> None:
        """End a load that is running."""
        if self._load is not None:
            stop_processes([self._load.identity], 0.0)
            self._load.is_running()  # reaps it

    def is_running(self, part: str) -> bool:
        """Whether a server or a service of this run is running."""
        its = self._system.children.get(part) or self._system.stack.servers.get(part)
        return its is None or its.is_running()  # one that was given by URL is not ours to know

    def _do(self, name: str) -> None:
        verb, _, part = name.partition("-")
        match verb:
            case "stop":
                self._stop(part, STOPPED_WITHIN_SECONDS)
            case "kill":
                self._stop(part, 0.0)
            case "start":
                self._start(part)
            case _:
                self._start_load(name)

    def _stop(self, part: str, seconds: float) -> None:
        its = self._system.children.get(part) or self._system.stack.servers.get(part)
        if its is None or its.identity is None:
            raise NotOurs(f"{part} is used at a URL that was given; only a server of this run can be stopped")
        self._system.resting.add(part)
        stop_processes([its.identity], seconds)

    def _start(self, part: str) -> None:
        if not self.is_running(part):
            self._system.start_again(part)
        if part in self._system.stack.servers:
            self._system.stack.servers[part].wait_until_ready()
        self._system.resting.discard(part)

    def _start_load(self, name: str) -> None:
        if self._load is not None and self._load.is_running():
            raise StackError("A load is running. Wait until it is done.")
        if name == "compare" and importlib.util.find_spec("asyncmy") is None:
            raise StackError(NO_DRIVER)
        stack = self._system.stack
        environment = {
            **self._system.environment(),
            "PERF_MYSQL_URL": f"{stack.mysql.admin_url}tidemark",
            "PERF_REDIS_URL": stack.redis.admin_url,
            "SHORE_BASELINE_LOG": str(stack.directory / "baseline.log"),
        }
        self._load = None  # the log is about to be another one's
        log = stack.directory / "load.log"
        log.unlink(missing_ok=True)
        self._load = Child("load", ("ops.shore.load", name, str(self._people)), environment, log)
