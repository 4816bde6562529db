"""Threads that run beside a block."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor


@contextlib.contextmanager
def in_threads(calls: Sequence[Callable[[threading.Event], object]]) -> Iterator[None]:
    """Run each call in a thread; the event that it gets is set at the end. Then its error is raised."""
    stopping = threading.Event()
    with ThreadPoolExecutor(len(calls)) as threads:
        running = [threads.submit(call, stopping) for call in calls]
        try:
            yield
        finally:
            stopping.set()
        for thread in running:
            thread.result()
