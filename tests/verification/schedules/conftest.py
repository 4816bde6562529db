"""The bench of all schedules, in an event loop that notices when it is quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from zlib import crc32

import pytest

from ops.stack import Stack
from tests.conftest import empty_stores
from tests.verification.schedules.bench import Bench
from tests.verification.schedules.reader_stores import sleep
from tests.verification.schedules.running import Runner
from tests.verification.schedules.scheduler import QuietLoop, QuietSelector


@pytest.fixture(scope="module")
def bench_runner(shared_stack: Stack) -> Iterator[tuple[Bench, asyncio.Runner]]:
    empty_stores(shared_stack)
    selector = QuietSelector()

    async def opened() -> Bench:
        return Bench(shared_stack, selector)

    with asyncio.Runner(loop_factory=lambda: QuietLoop(selector)) as loop:
        bench = loop.run(opened())
        yield bench, loop
        bench.close()


@pytest.fixture
def runner(bench_runner: tuple[Bench, asyncio.Runner], monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Schedules use no clock: the seed decides when leases expire and when time goes on for a reader.

    Nor do addresses decide the order of a set of watches.
    """
    bench, loop = bench_runner
    monkeypatch.setattr("reader.wire.ConnectionPool", bench.pools)
    monkeypatch.setattr("reader.node.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    monkeypatch.setattr("reader.live.watch.Watch.__hash__", lambda watch: crc32(watch.key[0].encode()))
    monkeypatch.setattr("reader.cache.LEASE_TTL_MS", 600_000)
    monkeypatch.setattr("reader.fetching.LEASE_PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("reader.consistency.LOOK_SECONDS", 0.0)
    return Runner(bench, loop, monkeypatch)
