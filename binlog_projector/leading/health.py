"""The projector's state as others see it: metrics after each batch, and readiness part by part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

from binlog_projector.domain.batch import Batch
from binlog_projector.metrics import STAGES, ProjectorMetrics
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint

STALLED_AFTER_SECONDS = 5.0


class Health:
    """Collects the state that `/readyz` and `/metrics` show."""

    def __init__(self, metrics: ProjectorMetrics) -> None:
        self.metrics = metrics
        self.epoch: int | None = None  # of the lease, while this projector leads
        self.checkpoint: Checkpoint | None = None
        self.watermark: Watermark | None = None
        self.busy: dict[str, Callable[[], float]] = {}  # stage -> seconds since its last progress
        for stage in STAGES:
            metrics.busy.labels(stage).set_function(partial(self.busy_seconds, stage))
        self.parts = {
            "lease": "standing by",
            "source": "not connected",
            "mongodb": "not connected",
            "redis": "not connected",
        }

    @property
    def leads(self) -> bool:
        return self.epoch is not None

    def led(self, epoch: int | None) -> None:
        """This projector leads under this epoch of the lease. None: it leads no longer."""
        self.epoch = epoch
        self.metrics.leader.set(self.leads)
        self.parts["lease"] = "ok" if self.leads else "standing by"
        if not self.leads:
            self.metrics.partial_rows.set(0)

    def part(self, name: str, state: str = "ok") -> None:
        self.parts[name] = state

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A batch is in this stage for the length of the block."""
        with self.working(name), self.metrics.stage_seconds.labels(name).time():
            yield

    def working(self, stage: str) -> contextlib.AbstractContextManager[None]:
        """The block is one step of the stage: nothing in between counts as progress."""
        begun = time.monotonic()
        return self.watched(stage, lambda: time.monotonic() - begun)

    @contextlib.contextmanager
    def watched(self, stage: str, seconds: Callable[[], float]) -> Iterator[None]:
        """During the block, `seconds` returns how long the stage has made no progress."""
        self.busy[stage] = seconds
        try:
            yield
        finally:
            del self.busy[stage]

    def busy_seconds(self, stage: str) -> float:
        seconds = self.busy.get(stage)
        return seconds() if seconds else 0.0

    def committed(self, batch: Batch) -> None:
        self.metrics.transactions.inc(batch.transactions)
        self.metrics.rows.inc(batch.rows)
        self.metrics.batch_transactions.observe(batch.transactions)

    def applied(self, commit_us: int | None) -> None:
        """A transaction that MySQL committed at that time (microseconds since 1970) can be read now."""
        if commit_us is not None:
            self.metrics.visibility.observe(max(0.0, time.time() - commit_us / 1e6))

    def served(self, checkpoint: Checkpoint, watermark: Watermark | None) -> None:
        """The slower store decides the lag. If Redis is away, readers use MongoDB, and MongoDB decides."""
        self.checkpoint, self.watermark = checkpoint, watermark
        self.metrics.seq.labels("mongodb").set(checkpoint.seq)
        self.metrics.as_of.labels("mongodb").set(seconds(checkpoint.as_of))
        if watermark is not None:
            self.metrics.seq.labels("redis").set(watermark.seq)
            self.metrics.as_of.labels("redis").set(seconds(watermark.as_of))
        self.metrics.served_as_of(seconds((watermark or checkpoint).as_of))
        self.part("redis", "ok" if watermark is not None else "away: readers use MongoDB")

    async def ready(self) -> dict[str, str]:
        """Name of each part -> "ok" or its trouble. A standby is ready, and so is a leader without Redis."""
        if self.parts["lease"] != "ok":
            return {"lease": "ok"}
        redis = "redis" if self.parts["redis"] == "ok" else "degraded: redis"
        stalled = {
            stage: seconds
            for stage in STAGES
            if (seconds := self.busy_seconds(stage)) > STALLED_AFTER_SECONDS
        }
        parts = {name: state for name, state in self.parts.items() if name != "redis"}
        return {
            **parts,
            redis: "ok",
            **{stage: f"no progress for {stalled[stage]:.0f} s" for stage in stalled},
        }


def seconds(as_of: str) -> float:
    return datetime.fromisoformat(as_of.rstrip("Z")).replace(tzinfo=UTC).timestamp()
