"""Waiting between attempts."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from 0.1 s to `most` seconds, with jitter, until `reset`."""

    def __init__(self, chance: random.Random, most: float = 5.0) -> None:
        self.chance = chance
        self.most = most
        self.failures = 0

    def next_seconds(self) -> float:
        self.failures += 1
        return float(min(self.most, 0.1 * 2 ** min(self.failures - 1, 10)) * self.chance.uniform(0.5, 1.0))

    def reset(self) -> None:
        self.failures = 0
