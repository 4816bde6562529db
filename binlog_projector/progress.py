"""How far a copy has come."""

from __future__ import annotations

import time

import structlog

SAY_SECONDS = 1.0
log = structlog.get_logger()


class Progress:
    """How much has been copied, said now and then."""

    def __init__(self, expected_rows: int) -> None:
        self.expected_rows = expected_rows
        self.rows = 0
        self.began = self.said = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def copied(self, table: str, rows: int) -> None:
        self.rows += rows
        if time.monotonic() - self.said >= SAY_SECONDS:
            self.said = time.monotonic()
            log.info("snapshot", table=table, rows=self.rows, **self._outlook())

    def _outlook(self) -> dict[str, int]:
        """Nothing where nothing is expected."""
        if self.rows >= self.expected_rows:
            return {}
        left = self.seconds() * (self.expected_rows - self.rows) / self.rows
        return {"percent": 100 * self.rows // self.expected_rows, "seconds_left": round(left)}
