"""The cache stage has its own thread: Redis gets one batch while MongoDB commits the next."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import structlog

from binlog_projector.backoff import Backoff
from binlog_projector.errors import CacheUnavailable
from binlog_projector.fault_points import reached
from binlog_projector.leading.health import Health
from binlog_projector.stores.cache import CacheStage
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint, JournalEntry

WAITING_BYTES = 2 * 1024 * 1024  # of keys
LOOK_SECONDS = 0.1
log = structlog.get_logger()


@dataclass(frozen=True)
class Committed:
    """A batch in MongoDB. `commit_us`: MySQL's commit of its last transaction, microseconds since 1970."""

    entry: JournalEntry
    commit_us: int | None

    @property
    def size(self) -> int:
        return sum(map(len, self.entry.touched))


class CacheThread:
    """Applies batches in commit order. After a gap or a Redis failure it catches up from the journal."""

    def __init__(self, stage: CacheStage, health: Health, backoff: Backoff) -> None:
        self.stage = stage
        self.health = health
        self.backoff = backoff
        self.waiting: deque[Committed | Checkpoint] = deque()
        self.size = 0
        self.failed: Exception | None = None
        self.stopping = False
        self.look_at = 0.0
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="cache", daemon=True)

    def __enter__(self) -> CacheThread:
        self.thread.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *exc_info: object) -> None:
        """Apply the batches that wait, unless the block has failed."""
        with self.changed:
            self.stopping = True
            if failure is not None:
                self.waiting.clear()
            self.changed.notify_all()
        self.thread.join()

    @property
    def watermark(self) -> Watermark | None:
        return self.stage.watermark

    def apply(self, committed: Committed) -> None:
        """Return once there is room for more. Raises the error that ended the thread."""
        with self.changed:
            self.size += committed.size
            self._put(committed)
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
            case Committed(entry, commit_us) as committed:
                with self.health.stage("redis"):
                    self.stage.apply(entry)
                reached("after_apply")
                self.health.applied(commit_us)
                with self.changed:
                    self.size -= committed.size
                    self.changed.notify_all()
            case Checkpoint() as checkpoint:
                self.stage.tick(checkpoint)

    def _next(self) -> Committed | Checkpoint | None:
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.stopping, LOOK_SECONDS)
            return self.waiting.popleft() if self.waiting else None

    def _look(self) -> None:
        """Without a watermark, find out where the cache is. After a failure, try again with back-off."""
        if self.stage.watermark is not None or time.monotonic() < self.look_at:
            return
        try:
            self.stage.catch_up()
            self.backoff.reset()
        except CacheUnavailable as error:
            log.warning("cache unavailable", error=str(error))
            self.look_at = time.monotonic() + self.backoff.next_seconds()
