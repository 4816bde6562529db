"""The warnings that the console shows: each once, from whichever thread they come."""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog

from tidemark import logs

WARNINGS, THREADS, ROUNDS = 10, 4, 100


@pytest.fixture
def troubles() -> Iterator[deque[logs.Event]]:
    configured, interval = structlog.get_config(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    kept: deque[logs.Event] = deque(maxlen=WARNINGS)
    try:
        logs.configure("test", io.StringIO(), kept)
        yield kept
    finally:
        sys.setswitchinterval(interval)
        structlog.configure(**configured)


def test_no_warning_of_several_threads_is_lost(troubles: deque[logs.Event]) -> None:
    def warn(thread: int) -> None:
        for number in range(WARNINGS * ROUNDS):
            structlog.get_logger().warning("trouble", number=number % WARNINGS)

    with ThreadPoolExecutor(THREADS) as pool:
        assert [*pool.map(warn, range(THREADS))] == [None] * THREADS
    assert sorted(each["number"] for each in troubles) == [str(number) for number in range(WARNINGS)]
    assert {each["times"] for each in troubles} == {str(THREADS * ROUNDS)}
