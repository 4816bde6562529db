"""Benchmarks at the size of a test."""

from __future__ import annotations

from typing import Any

import pytest

from perf import wrk
from perf.wrk import Load

PAUSE_MS = 100


@pytest.fixture(autouse=True)
def gentle_wrk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its connections pauses after an answer: a test needs figures, and not the greatest ones."""
    run = wrk.run

    def gently(*arguments: Any, delay_ms: int = 0, **options: Any) -> Load:
        return run(*arguments, delay_ms=max(delay_ms, PAUSE_MS), **options)

    monkeypatch.setattr(wrk, "run", gently)
