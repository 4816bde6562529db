"""The same readers on the baseline (SQL with COUNTs) and on Tidemark, in turns of half a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from ops.child import Child
from ops.shore.connection import Connection
from ops.shore.target import NotDone, Report, Target
from ops.stack.servers.ports import LOOPBACK, free_port
from ops.stack.servers.process import stop_processes
from tidemark.settings import Address

READERS = 16
TURNS = 20
TURN_SECONDS = 0.5
READY_SECONDS = 30.0
STOPPED_SECONDS = 10.0
MOST_LIKED = "SELECT post_id FROM likes GROUP BY post_id ORDER BY COUNT(*) DESC LIMIT 1"
NEWEST = "SELECT id FROM posts ORDER BY id DESC LIMIT 1"


async def compare(target: Target, report: Report) -> None:
    """Read the most liked post, else the newest. Raises NotDone, OSError, ServerFailed."""
    report(turns=[])
    found = target.sql(MOST_LIKED) or target.sql(NEWEST)
    if not found:
        raise NotDone("There is no post to read. Write one first.")
    path, token = f"/post/{found[0][0]}", target.token("crowd-0")
    where = Address(LOOPBACK, free_port())
    log = Path(target.environment["SHORE_BASELINE_LOG"])
    baseline = Child("baseline", ("perf.baseline", "sql", str(where)), target.environment, log)
    try:
        await _until_it_answers(baseline, where, path, token)
        await _in_turns({"before": where, "after": target.reader}, path, token, report)
    finally:
        stop_processes([baseline.identity], STOPPED_SECONDS)


async def _until_it_answers(baseline: Child, where: Address, path: str, token: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if not baseline.is_running():
            raise baseline.failure(baseline.end())
        try:
            async with Connection(where) as connection:
                if (await connection.ask("GET", path, token)).status == 200:
                    return
        except OSError:
            await asyncio.sleep(0.05)
    raise baseline.failure(f"did not answer within {READY_SECONDS:g} s")


async def _in_turns(lanes: dict[str, Address], path: str, token: str, report: Report) -> None:
    turns: list[dict[str, object]] = []
    async with AsyncExitStack() as undo:
        readers = {
            lane: [await undo.enter_async_context(Connection(where)) for _ in range(READERS)]
            for lane, where in lanes.items()
        }
        for _ in range(TURNS // len(lanes)):
            for lane, connections in readers.items():
                times = await _turn(connections, path, token)
                slow = times[int(len(times) * 0.99)] * 1000
                rate = round(len(times) / TURN_SECONDS)
                turns.append({"lane": lane, "reads_per_s": rate, "p99_ms": round(slow, 2)})
                report(turns=turns)
    report(turns=turns, done=True)


async def _turn(connections: Sequence[Connection], path: str, token: str) -> list[float]:
    """The seconds of each read, sorted."""
    end = time.perf_counter() + TURN_SECONDS
    times: list[float] = []

    async def read(connection: Connection) -> None:
        started = time.perf_counter()
        while started < end:
            answer = await connection.ask("GET", path, token)
            if answer.status != 200:
                raise NotDone(f"A read was answered {answer.status}.")
            now = time.perf_counter()
            times.append(now - started)
            started = now

    await asyncio.gather(*(read(connection) for connection in connections))
    return sorted(times)
