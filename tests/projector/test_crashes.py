"""kill -9 of the projector at its worst moments loses nothing, doubles nothing, and leaves nothing stale."""

from __future__ import annotations

import contextlib
import random
import signal
import statistics
import subprocess
import time
from datetime import datetime

import pytest

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.support.harness import (
    Process,
    admin_connection,
    assert_everything_is_equal,
    create_tables,
    projector,
    projector_environment,
    wait_until,
    wait_until_caught_up,
)
from tests.support.reader_fills import fill_cache
from tests.support.traffic import seed_rows, write_traffic

PAUSE_SECONDS = 0.02  # between writes
STREAMING_POINTS = ["inside_transaction", "after_commit", "after_apply"]


def crash(
    environment: dict[str, str], point: str, count: int, connection: Connection, chance: random.Random
) -> None:
    with projector(
        {**environment, "AT": f"{point}:SIGKILL:{count}"}, "tests.support.faulty_projector"
    ) as crashing:
        deadline = time.monotonic() + 30
        while crashing.popen.poll() is None and time.monotonic() < deadline:
            write_traffic(connection, chance, 2)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a flood would leave no cached entry alone
                crashing.popen.wait(PAUSE_SECONDS)
        assert crashing.popen.poll() == -signal.SIGKILL, crashing.tail()


def seconds_until_streaming(restarted: Process) -> float:
    """From the first to the "streaming" line of the log, so that slow imports do not count."""
    wait_until(lambda: any(event["event"] == "streaming" for event in restarted.events()), "the stream")
    moments = {event["event"]: datetime.fromisoformat(event["timestamp"]) for event in restarted.events()}
    return (moments["streaming"] - moments["settings"]).total_seconds()


def check_streaming_crashes(stack: Stack, point: str, times: int) -> None:
    environment, chance, pauses = projector_environment(stack), random.Random(point), []
    entries = 0  # a replay may delete all that are cached
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
        with projector(environment):
            wait_until_caught_up(stack, connection)
        for _ in range(times):
            fill_cache(stack)
            crash(environment, point, chance.randint(1, 6), connection, chance)
            with projector(environment) as restarted:
                pauses.append(seconds_until_streaming(restarted))
                wait_until_caught_up(stack, connection)
                entries += assert_everything_is_equal(stack, connection)
    assert entries > 0
    assert statistics.median_low(pauses) < 2, f"the restarted projector went on after {pauses} s"


def check_snapshot_crashes(stack: Stack, times: int) -> None:
    environment, chance = projector_environment(stack), random.Random(7)
    with admin_connection(stack) as connection:
        create_tables(connection)
        seed_rows(connection)
        for _ in range(times):
            crash(environment, "after_commit", chance.randint(1, 2), connection, chance)
        with projector(environment):
            wait_until_caught_up(stack, connection)
            assert_everything_is_equal(stack, connection)


@pytest.mark.parametrize("point", STREAMING_POINTS)
def test_a_crash_loses_and_doubles_nothing_and_leaves_nothing_stale(stack: Stack, point: str) -> None:
    check_streaming_crashes(stack, point, times=1)


def test_a_crash_during_the_snapshot_begins_a_new_build(stack: Stack) -> None:
    check_snapshot_crashes(stack, times=1)


@pytest.mark.long
@pytest.mark.parametrize("point", STREAMING_POINTS)
def test_twenty_crashes_lose_and_double_nothing(stack: Stack, point: str) -> None:
    check_streaming_crashes(stack, point, times=20)


@pytest.mark.long
def test_twenty_crashes_during_the_snapshot(stack: Stack) -> None:
    check_snapshot_crashes(stack, times=20)
