"""The other lanes as processes: the same bytes as the reader's, from the code in `lanes.py`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2
import redis

from ops.child import ROOT
from ops.stack.progress import say
from ops.stack.servers.ports import free_port
from ops.system import System
from perf import wrk
from perf.measured import checked
from perf.reader.lanes import PREFIX
from perf.wrk import Load

READY_WITHIN_SECONDS = 20.0


class Lane(Protocol):
    """Load of one lane for some seconds; each connection pauses for `delay_ms` on average."""

    def __call__(self, seconds: float, delay_ms: int = 0) -> Load: ...


@dataclass(frozen=True)
class Others:
    """`ids` is the file of posts that wrk asks for; `body` is the answer to each."""

    system: System
    ids: Path
    token: str
    body: bytes

    @contextlib.contextmanager
    def lane(self, name: str) -> Iterator[Lane]:
        """One implementation in a process of its own. Raises RuntimeError for failed requests."""
        address = f"127.0.0.1:{free_port()}"
        environment = {
            **self.system.environment(),
            "PERF_BODY": self.body.decode(),
            "PERF_REDIS_URL": self.system.stack.redis.admin_url,
        }

        def load(seconds: float, delay_ms: int = 0) -> Load:
            say(f"{name}, {seconds:.0f} s")
            url = f"http://{address}"
            return checked(wrk.run(url, process.pid, self.ids, self.token, seconds, delay_ms=delay_ms))

        command = [sys.executable, "-m", "perf.reader.lanes", name, address]
        with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
            try:
                self._wait_for(f"http://{address}/post/1")
                yield load
            finally:
                process.terminate()

    @contextlib.contextmanager
    def entries(self, posts: int) -> Iterator[None]:
        """The answers in Redis, for the lane `naive`."""
        keys = [f"{PREFIX}{id}" for id in range(1, posts + 1)]
        with redis.Redis.from_url(self.system.stack.redis.admin_url) as client:
            client.mset(dict.fromkeys(keys, self.body))
            yield
            client.delete(*keys)

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        headers = {"authorization": f"Bearer {self.token}"}
        while True:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(url, headers=headers, trust_env=False)
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing answers at {url}")
            time.sleep(0.05)
