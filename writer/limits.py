"""A limit on the commands of each caller, in this process."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from tidemark.problem import Problem


class Limits:
    """At most `per_minute` commands of one subject in any minute; 0: any number."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, subject: str) -> None:
        """Raises Problem 429 for one command too many, which then does not count."""
        if self._item is None or self._limiter.hit(self._item, subject):
            return
        free_at = self._limiter.get_window_stats(self._item, subject).reset_time
        wait = max(1, math.ceil(free_at - time.time()))
        raise Problem(
            429,
            "too-many-commands",
            f"You may send {self._item.amount} commands a minute.",
            headers={"Retry-After": str(wait)},
        )
