"""The projector's state as others see it: metrics after each batch, and readiness part by part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from binlog_projector.domain.batch import Batch
from binlog_projector.metrics import STAGES, ProjectorMetrics
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint
from reader.read_model.leases import LeaseRecord
from tidemark.admin import OK, Readiness

STALLED_AFTER_SECONDS = 5.0
STANDING_BY, NOT_CONNECTED = "standing by", "not connected"
NOT_USED = "not used: the projector waits for another server"
REDIS_AWAY = "away: reads come from MongoDB"


class Health:
    """Collects the state that `/readyz` and `/metrics` show."""

    def __init__(self, metrics: ProjectorMetrics, clock: Callable[[], float] = time.time) -> None:
        self.metrics = metrics
        self.clock = clock
        self.epoch: int | None = None  # of the lease, while this projector leads
        self.checkpoint: Checkpoint | None = None
        self.watermarks: Mapping[int, Watermark | None] = {}  # by shard; None: away
        self.cache: Callable[[], Mapping[int, Watermark | None]] | None = None  # None: not in use
        self.busy: dict[str, list[Callable[[], float]]] = {}  # stage -> seconds since progress, by thread
        for stage in STAGES:
            metrics.busy.labels(stage).set_function(partial(self.busy_seconds, stage))
        self.parts = {"lease": STANDING_BY, **dict.fromkeys(STAGES, NOT_CONNECTED)}
        self.verified = {"state": "", "since": ""}  # the last swap of a table
        self.since = dict.fromkeys(self.parts, clock())  # of the present kind of state, the word before ":"

    @property
    def leads(self) -> bool:
        return self.epoch is not None

    def led(self, epoch: int | None) -> None:
        """This projector leads under this epoch of the lease. None: it leads no longer."""
        self.epoch = epoch
        self.metrics.leader.set(self.leads)
        self.part("lease", OK if self.leads else STANDING_BY)
        if not self.leads:
            self.metrics.partial_rows.set(0)
            self.metrics.shard_as_of.clear()
            self.metrics.shard_away.clear()

    def looked(self, lease: LeaseRecord | None) -> None:
        """A standby has read the lease, so MongoDB answers."""
        self.part("mongodb")

    def part(self, name: str, state: str = OK) -> None:
        if _kind(state) != _kind(self.parts[name]):
            self.since[name] = self.clock()
        self.parts[name] = state

    def failed(self, stage: str, state: str) -> None:
        """The projector returns to its checkpoint. Nobody uses the stages behind it until it goes on."""
        self.part(stage, state)
        for other in {"source", "redis"} - {stage}:
            self.part(other, NOT_USED)

    @contextlib.contextmanager
    def caching(self, cache: Callable[[], Mapping[int, Watermark | None]]) -> Iterator[None]:
        """During the block, `cache` returns the watermark of each shard; None for one that is away."""
        self.cache = cache
        try:
            yield
        finally:
            self.cache = None

    def look(self) -> None:
        """At the cache, which goes on while the stream is held."""
        if self.cache is None:
            return
        self.watermarks = self.cache()
        for shard, mark in self.watermarks.items():
            self.metrics.shard_away.labels(str(shard)).set(mark is None)
            if mark is not None:
                self.metrics.shard_as_of.labels(str(shard)).set(seconds(mark.as_of))
        away = [shard for shard, mark in self.watermarks.items() if mark is None]
        some = away_in_part(away) if away else OK
        self.part("redis", some if self.watermark is not None else REDIS_AWAY)

    def says(self) -> dict[str, dict[str, str]]:
        """Each part's state, and since when: the leader writes them into the lease."""
        self.look()
        said = {name: {"state": state, "since": utc(self.since[name])} for name, state in self.parts.items()}
        return {**said, "swap": self.verified} if self.verified["state"] else said

    def swap_verified(self, state: str) -> None:
        """A table that a tool has swapped for a copy is proved to be the same."""
        self.metrics.swaps.labels("verified").inc()
        self.verified = {"state": state, "since": utc(self.clock())}

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
        at_work = self.busy.setdefault(stage, [])
        at_work.append(seconds)
        try:
            yield
        finally:
            at_work.remove(seconds)

    def busy_seconds(self, stage: str) -> float:
        return max((seconds() for seconds in (*self.busy.get(stage, ()),)), default=0.0)

    def committed(self, batch: Batch) -> None:
        self.metrics.transactions.inc(batch.transactions)
        self.metrics.rows.inc(batch.rows)
        self.metrics.batch_transactions.observe(batch.transactions)

    def applied(self, commit_us: int | None) -> None:
        """A transaction that MySQL committed at that time (microseconds since 1970) can be read now."""
        if commit_us is not None:
            self.metrics.visibility.observe(max(0.0, time.time() - commit_us / 1e6))

    @property
    def watermark(self) -> Watermark | None:
        """The watermark of the shard that is furthest behind. None if all are away."""
        return furthest_behind(self.watermarks.values())

    def served(self, checkpoint: Checkpoint) -> None:
        """The slower store decides the lag. If Redis is away, readers use MongoDB, and MongoDB decides."""
        self.checkpoint = checkpoint
        self.look()
        watermark = self.watermark
        self.metrics.seq.labels("mongodb").set(checkpoint.seq)
        self.metrics.as_of.labels("mongodb").set(seconds(checkpoint.as_of))
        if watermark is not None:
            self.metrics.seq.labels("redis").set(watermark.seq)
            self.metrics.as_of.labels("redis").set(seconds(watermark.as_of))
        self.metrics.served_as_of(seconds((watermark or checkpoint).as_of))

    async def ready(self) -> Readiness:
        """A standby is ready while it can read the lease, and a leader without Redis is ready, too."""
        self.look()
        if not self.leads:
            parts = {name: self.parts[name] for name in ("lease", "mongodb")}
            return Readiness(parts, parts["mongodb"] == OK)
        stalled = {
            stage: f"no progress for {seconds:.0f} s"
            for stage in STAGES
            if (seconds := self.busy_seconds(stage)) > STALLED_AFTER_SECONDS
        }
        needed = [state for name, state in self.parts.items() if name != "redis"]
        return Readiness({**self.parts, **stalled}, not stalled and set(needed) == {OK})


def furthest_behind(watermarks: Iterable[Watermark | None]) -> Watermark | None:
    """None if there is none."""
    known = [one for one in watermarks if one is not None]
    return min(known, key=lambda one: (one.seq, one.as_of), default=None)


def away_in_part(shards: Sequence[int]) -> str:
    """As REDIS_AWAY, if other shards of the cache are there."""
    return f"away: reads of {shards_named(shards)} come from MongoDB"


def shards_named(numbers: Sequence[int]) -> str:
    """`shard 3`, or `shards 3, 4, 9`."""
    return f"shard{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _kind(state: str) -> str:
    return state.partition(":")[0]


def utc(seconds: float) -> str:
    """RFC 3339, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds(as_of: str) -> float:
    return datetime.fromisoformat(as_of.rstrip("Z")).replace(tzinfo=UTC).timestamp()
