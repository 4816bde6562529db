"""Each node of the cache has its own thread: Redis gets one batch while MongoDB commits the next."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from binlog_projector.backoff import Backoff
from binlog_projector.errors import CacheUnavailable
from binlog_projector.fault_points import reached
from binlog_projector.leading.health import Health
from binlog_projector.stores.cache_nodes import CacheNode
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint, JournalEntry

WAITING_BYTES = 2 * 1024 * 1024  # of keys
LOOK_SECONDS = 0.1
log = structlog.get_logger()


@dataclass(frozen=True)
class Committed:
    """A batch in MongoDB, as its entry in the journal for each shard of the cache.

    `commit_us`: MySQL's commit of its last transaction, microseconds since 1970.
    """

    parts: Sequence[JournalEntry]
    commit_us: int | None

    @property
    def size(self) -> int:
        return sum(sum(map(len, part.touched)) for part in self.parts)


class CacheThread:
    """Applies batches in commit order. After a gap or a Redis failure it catches up from the journal.

    `patient`: commits wait while too much waits here. Else all of it is dropped, and read from the journal.
    `demand_unmoved` is called while Redis is away.
    """

    def __init__(
        self,
        node: CacheNode,
        health: Health,
        backoff: Backoff,
        demand_unmoved: Callable[[], None],
        *,
        patient: bool,
    ) -> None:
        self.node = node
        self.health = health
        self.backoff = backoff
        self.demand_unmoved = demand_unmoved
        self.patient = patient
        self.waiting: deque[Committed | Checkpoint] = deque()
        self.size = 0
        self.failed: Exception | None = None
        self.stopping = False
        self.look_at = 0.0
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="cache", daemon=True)

    def stop(self, *, failed: bool) -> None:
        """Apply the batches that wait, unless something has failed."""
        with self.changed:
            self.stopping = True
            if failed:
                self.waiting.clear()
            self.changed.notify_all()

    def apply(self, committed: Committed) -> None:
        """Return once there is room for more. Raises the error that ended the thread."""
        with self.changed:
            if self.size >= WAITING_BYTES:
                self.waiting.clear()
                self.size = 0
            self.size += committed.size
            self._put(committed)
            if self.patient:
                self.changed.wait_for(lambda: self.size < WAITING_BYTES or self.failed)

    def tick(self, checkpoint: Checkpoint) -> None:
        """The last checkpoint holds at a later moment, too. Raises the error that ended the thread."""
        with self.changed:
            self._put(checkpoint)

    def check(self) -> None:
        """Raises the error that ended the thread."""
        if self.failed is not None:
            raise self.failed

    def _put(self, item: Committed | Checkpoint) -> None:
        self.check()
        self.waiting.append(item)
        self.changed.notify_all()

    def _run(self) -> None:
        try:
            while self.waiting or not self.stopping:
                self._look()
                self._turn()
        except Exception as error:  # noqa: BLE001 - raised where batches are committed
            with self.changed:
                self.failed = error
                self.changed.notify_all()

    def _turn(self) -> None:
        match self._next():
            case Committed(parts, commit_us) as committed:
                with self.health.stage("redis"):
                    self.node.apply(parts)
                reached("after_apply")
                self.health.applied(commit_us)
                with self.changed:
                    self.size = max(0, self.size - committed.size)
                    self.changed.notify_all()
            case Checkpoint() as checkpoint:
                self.node.tick(checkpoint)

    def _next(self) -> Committed | Checkpoint | None:
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.stopping, LOOK_SECONDS)
            return self.waiting.popleft() if self.waiting else None

    def _look(self) -> None:
        """Without a watermark, find out where the cache is. After a failure, try again with back-off."""
        if None not in self.node.watermarks.values() or time.monotonic() < self.look_at:
            return
        try:
            self.node.catch_up()
            self.backoff.reset()
        except CacheUnavailable as error:
            log.warning("cache unavailable", error=str(error))
            self.demand_unmoved()
            self.look_at = time.monotonic() + self.backoff.next_seconds()


class CacheThreads:
    """A thread for each node, over one journal. A node that is slow or lost holds up its own shards alone."""

    def __init__(self, threads: Sequence[CacheThread]) -> None:
        self.threads = threads

    def __enter__(self) -> CacheThreads:
        for each in self.threads:
            each.thread.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *exc_info: object) -> None:
        for each in self.threads:
            each.stop(failed=failure is not None)
        for each in self.threads:
            each.thread.join()
            each.node.client.close()

    @property
    def size(self) -> int:
        """Bytes of keys that wait for the slowest node."""
        return max(each.size for each in self.threads)

    @property
    def watermarks(self) -> dict[int, Watermark | None]:
        """Number of each shard -> its watermark; None while the shard is away."""
        found = {shard: mark for each in self.threads for shard, mark in each.node.watermarks.items()}
        return dict(sorted(found.items()))

    def apply(self, committed: Committed) -> None:
        """Raises the error that ended a thread."""
        for each in self.threads:
            each.apply(committed)

    def tick(self, checkpoint: Checkpoint) -> None:
        """The last checkpoint holds at a later moment, too. Raises the error that ended a thread."""
        for each in self.threads:
            each.tick(checkpoint)

    def check(self) -> None:
        """Raises the error that ended a thread."""
        for each in self.threads:
            each.check()
