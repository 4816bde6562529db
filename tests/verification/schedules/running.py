"""Runs many schedules, and tells whether one of them finds a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
import structlog

from tests.verification.schedules.actors import Product
from tests.verification.schedules.bench import Bench
from tests.verification.schedules.faults import ALL
from tests.verification.schedules.promises import BrokenPromise
from tests.verification.schedules.schedule import Schedule, ScheduleFailed

BLOCK = 50  # schedules whose rows are made together
SHIPPING = Product()


class Runner:
    """One schedule after the other on one bench."""

    def __init__(self, bench: Bench, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bench = bench
        self._loop = loop
        self._monkeypatch = monkeypatch

    def run(
        self, seeds: Sequence[int], product: Product = SHIPPING, faults: Sequence[str] = ALL
    ) -> list[list[str]]:
        """The steps of each schedule. Raises ScheduleFailed."""
        for name, value in product.patches.items():
            self._monkeypatch.setattr(name, value)
        with structlog.testing.capture_logs():
            return [
                trace
                for block in _blocks(seeds)
                for trace in self._loop.run(self._run(block, product, faults))
            ]

    def count(self, seeds: Sequence[int], product: Product = SHIPPING, faults: Sequence[str] = ALL) -> str:
        """Tells how much of the shipping product was compared. Raises ScheduleFailed."""
        self._bench.checks.clear()
        self.run(seeds, product, faults)
        compared = ", ".join(f"{number:,} {kind}" for kind, number in sorted(self._bench.checks.items()))
        return f"{len(seeds):,} schedules: {compared} compared, none stale"

    def finds(self, product: Product, faults: Sequence[str], seeds: Sequence[int]) -> bool:
        """Whether one of the schedules breaks a promise. Prints the seed of the first that does."""
        try:
            self.run(seeds, product, faults)
        except ScheduleFailed as failed:
            if not isinstance(failed.__cause__, BrokenPromise):
                raise
            print(f"found with seed {failed.seed}")
            return True
        return False

    async def _run(self, seeds: Sequence[int], product: Product, faults: Sequence[str]) -> list[list[str]]:
        histories = self._bench.open_histories(seeds)
        schedules = zip(seeds, histories, strict=True)
        traces = [
            await Schedule(self._bench, product, history, seed, faults).run() for seed, history in schedules
        ]
        self._bench.assert_documents_follow(histories)
        return traces


def _blocks(seeds: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(seeds), BLOCK):
        yield seeds[first : first + BLOCK]
