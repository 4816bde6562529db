"""Redis: one atomic APPLY per batch moves present entries and the watermark together.

The watermark is the cache's checkpoint, and lies in Redis itself. A failover or a restore from an old dump
takes entries and watermark back together, and the journal brings both forward again.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import redis
import structlog

from binlog_projector.errors import CacheUnavailable
from binlog_projector.fault_points import reached
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores.cache_scripts import APPLY, PRESENT, SET_WATERMARK
from binlog_projector.stores.cache_values import Values, values_of
from binlog_projector.stores.document_store import DocumentStore
from reader.read_model.announcements import encode
from reader.read_model.cached_values import (
    TIDE_CHANNEL,
    WATERMARK_KEY,
    Watermark,
    absent_ttl_ms,
    cache_key,
    value_ttl_ms,
)
from reader.read_model.control import Checkpoint, JournalEntry
from reader.read_model.declarations import MODEL_VERSION

REPLAY_ENTRIES = 50
PROBED_KEYS = 1_000  # at once: Redis serves others in between
log = structlog.get_logger()


Client = redis.Redis


def connect(url: str) -> Client:
    """A client that gives up after a second. Only the cache stage retries."""
    return redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None, protocol=2)


def read_watermark(client: Client) -> Watermark | None:
    """The watermark in force; None for none, and for another release's. Raises CacheUnavailable."""
    with cache_errors():
        return decode_watermark(client.get(WATERMARK_KEY))


def decode_watermark(raw: object) -> Watermark | None:
    """None for no watermark, and for one of another release."""
    try:
        return Watermark.decode(raw) if isinstance(raw, bytes) else None
    except ValueError:
        return None


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Turn redis-py's errors into CacheUnavailable."""
    try:
        yield
    except redis.RedisError as error:
        raise CacheUnavailable(f"Redis does not answer: {error}") from error


class CacheStage:
    """Follows the journal of the serving build. `watermark`: None while Redis is away or not understood."""

    def __init__(
        self, client: Client, documents: DocumentStore, metrics: ProjectorMetrics, chance: random.Random
    ) -> None:
        self.client = client
        self.documents = documents
        self.metrics = metrics
        self.chance = chance
        self.watermark: Watermark | None = None
        self.unpublished = ""  # why the last announcement was refused
        self.apply_script = client.register_script(APPLY)
        self.set_script = client.register_script(SET_WATERMARK)

    def apply(self, entry: JournalEntry) -> None:
        """Bring a committed batch into the cache. A cache that is further behind replays the journal."""
        if self.watermark is None or self.watermark.seq >= entry.checkpoint.seq:
            return
        try:
            if self.watermark.seq == entry.checkpoint.seq - 1:
                self._apply(self.watermark, entry)
            else:
                self._replay()
        except redis.RedisError as error:
            self._lost(error)

    def tick(self, checkpoint: Checkpoint) -> None:
        """Tell readers that nothing was missing at the checkpoint's `as_of`."""
        if self.watermark is None or self.watermark.seq > checkpoint.seq:
            return
        try:
            if self.watermark.seq < checkpoint.seq:
                self._replay()
            else:
                reached("before_tick")
                self._send(self.watermark, JournalEntry(checkpoint, ()), Values({}))
        except redis.RedisError as error:
            self._lost(error)

    def catch_up(self) -> None:
        """Continue from the watermark, or from an empty cache. Raises CacheUnavailable, StandDown."""
        self.watermark = None
        try:
            raw = self.client.get(WATERMARK_KEY)
            self._continue_from(raw if isinstance(raw, bytes) else b"")
        except redis.RedisError as error:
            self.watermark = None  # only a cache without one is looked at again, with back-off
            raise CacheUnavailable(f"Redis does not answer: {error}") from error

    def _continue_from(self, text: bytes) -> None:
        """`text`: the watermark in Redis, empty if there is none."""
        serving = self.documents.serving()
        found = decode_watermark(text)
        if reason := self._break_in_history(found, serving.epoch):
            self._start_empty(text, "absent" if not text else reason)
        else:
            self.watermark = found
            self._replay()

    def _break_in_history(self, watermark: Watermark | None, epoch: str) -> str:
        """The reason why the cache cannot continue from this watermark. Empty if it can."""
        checkpoint = self.documents.position.checkpoint
        if watermark is None or watermark.model_version != MODEL_VERSION:
            return "model"
        if (watermark.build, watermark.epoch) != (checkpoint.build, epoch):
            return "build"
        if watermark.seq > checkpoint.seq:
            return "ahead"
        if watermark.seq == checkpoint.seq:
            return "" if watermark.batch_id == checkpoint.batch_id else "history"
        return "" if self.documents.batch_id(watermark.seq) == watermark.batch_id else "history"

    def _start_empty(self, found: bytes | str, reason: str) -> None:
        """Begin a new epoch: an empty cache. If another process moves the watermark, look again later.

        `found`: the watermark in Redis, empty if there is none.
        """
        self.watermark = None
        serving = self.documents.new_cache_epoch()
        watermark = self.documents.position.checkpoint.watermark(serving.epoch)
        if self.set_script(keys=[WATERMARK_KEY], args=[found, watermark.encode()]):
            self.watermark = watermark
            self.metrics.epochs.labels(reason).inc()
            log.info("cache starts empty", reason=reason, epoch=serving.epoch, seq=watermark.seq)

    def _replay(self) -> None:
        """Apply the journal's entries beyond the watermark. If they are gone, start empty."""
        while self.watermark is not None and self.watermark.seq < self.documents.position.checkpoint.seq:
            entries = self.documents.journal(self.watermark.seq, REPLAY_ENTRIES)
            if not entries:
                self._start_empty(self.watermark.encode(), "journal")
            for entry in entries:
                if self.watermark is not None:
                    self._apply(self.watermark, entry)

    def _apply(self, watermark: Watermark, entry: JournalEntry) -> None:
        values = values_of(self.documents, entry, self._present(watermark.epoch, entry.touched))
        reached("before_apply")
        self._send(watermark, entry, values)

    def _present(self, epoch: str, keys: Sequence[str]) -> list[str]:
        found: list[str] = []
        for at in range(0, len(keys), PROBED_KEYS):
            some = keys[at : at + PROBED_KEYS]
            places = self.client.eval_ro(PRESENT, len(some), *(cache_key(epoch, key) for key in some))
            found += (some[place - 1] for place in places)
        return found

    def _send(self, watermark: Watermark, entry: JournalEntry, values: Values) -> None:
        """APPLY. A refusal means that another process moved the watermark: `catch_up` has to look."""
        new = entry.checkpoint.watermark(watermark.epoch)
        others = (key for key in entry.touched if key not in values.bytes)
        keys = [WATERMARK_KEY, *(cache_key(watermark.epoch, key) for key in (*values.bytes, *others))]
        arguments: list[bytes | str | int] = [watermark.lineage, new.encode(), len(values.bytes)]
        for key, value in values.bytes.items():
            arguments += [value, self._ttl_ms(value), int(key in values.new)]
        arguments += [TIDE_CHANNEL, *encode(watermark.lineage, new, entry.keys, entry.counted)]
        refused, *done = self.apply_script(keys=keys, args=arguments)
        if refused or not done:
            log.warning("APPLY refused", expected=watermark.lineage, found=bytes(refused).decode())
            self.watermark = None
            return
        self.watermark = new
        *counts, failure = done
        for action, count in zip(("updated", "deleted", "absent"), counts, strict=True):
            self.metrics.applies.labels(action).inc(count)
        self._published(bytes(failure).decode())

    def _published(self, failure: str) -> None:
        """Count the announcement, and log when refusals begin: readers then fetch what they hold again."""
        self.metrics.announcements.labels("refused" if failure else "sent").inc()
        if failure and not self.unpublished:
            log.warning("announcement refused", error=failure, channel=TIDE_CHANNEL)
        self.unpublished = failure

    def _ttl_ms(self, value: bytes) -> int:
        return (
            absent_ttl_ms(self.chance.random()) if value[:1] == b"N" else value_ttl_ms(self.chance.random())
        )

    def _lost(self, error: redis.RedisError) -> None:
        self.watermark = None
        self.metrics.errors.labels("cache").inc()
        log.warning("cache unavailable", error=str(error))


OpenCache = Callable[[DocumentStore], CacheStage]
