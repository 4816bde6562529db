"""What the projector says of itself: metrics after each batch, and readiness part by part."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from binlog_projector.batch import Batch
from binlog_projector.metrics import ProjectorMetrics
from reader.read_model import Checkpoint, Watermark


class Health:
    """Collects the state that `/readyz` and `/metrics` show."""

    def __init__(self, metrics: ProjectorMetrics) -> None:
        self.metrics = metrics
        self.parts = {
            "lease": "standing by",
            "source": "not connected",
            "mongodb": "not connected",
            "redis": "not connected",
        }

    def led(self, leading: bool) -> None:
        self.metrics.leader.set(leading)
        self.parts["lease"] = "ok" if leading else "standing by"

    def part(self, name: str, state: str = "ok") -> None:
        self.parts[name] = state

    def committed(self, batch: Batch) -> None:
        self.metrics.transactions.inc(batch.transactions)
        self.metrics.rows.inc(batch.rows)
        self.metrics.batch_transactions.observe(batch.transactions)

    def applied(self, batch: Batch) -> None:
        if batch.last is not None:
            self.metrics.visibility.observe(max(0.0, time.time() - batch.last.immediate_commit_us / 1e6))

    def served(self, checkpoint: Checkpoint, watermark: Watermark | None) -> None:
        """The stage that is behind decides the lag, unless Redis is away: then readers use MongoDB."""
        self.metrics.seq.labels("mongodb").set(checkpoint.seq)
        self.metrics.as_of.labels("mongodb").set(seconds(checkpoint.as_of))
        if watermark is not None:
            self.metrics.seq.labels("redis").set(watermark.seq)
            self.metrics.as_of.labels("redis").set(seconds(watermark.as_of))
        self.metrics.served_as_of(seconds((watermark or checkpoint).as_of))
        self.part("redis", "ok" if watermark is not None else "away: readers use MongoDB")

    async def ready(self) -> dict[str, str]:
        """A standby is ready too: it is where it should be."""
        if self.parts["lease"] != "ok":
            return {"lease": "ok"}
        return {**self.parts, "redis": "ok"}


def seconds(as_of: str) -> float:
    return datetime.fromisoformat(as_of.rstrip("Z")).replace(tzinfo=UTC).timestamp()
