"""Redis: one atomic APPLY per batch moves present entries and the watermark together.

The watermark is the cache's checkpoint, and lies in Redis itself. A failover or a restore from an old dump
takes entries and watermark back together, and the journal brings both forward again.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis
import structlog

from binlog_projector.errors import CacheUnavailable
from binlog_projector.fault_points import reached
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores.cache_scripts import APPLY, PRESENT, SET_WATERMARK
from binlog_projector.stores.cache_values import Values, values_of
from binlog_projector.stores.document_store import DocumentStore
from reader.read_model.announcements import encode
from reader.read_model.cached_values import Watermark, absent_ttl_ms, value_ttl_ms
from reader.read_model.control import Checkpoint, JournalEntry
from reader.read_model.declarations import MODEL_VERSION
from reader.read_model.shards import SINGLE, Shard

REPLAY_ENTRIES = 50
PROBED_KEYS = 1_000  # at once: Redis serves others in between
log = structlog.get_logger()


Client = redis.Redis


class Request(NamedTuple):
    """An APPLY."""

    keys: list[str]
    arguments: list[bytes | str | int]


def connect(url: str) -> Client:
    """A client that gives up after a second. Only the cache stage retries."""
    return redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None, protocol=2)


def read_watermark(client: Client, shard: Shard = SINGLE) -> Watermark | None:
    """The watermark in force; None for none, and for another release's. Raises CacheUnavailable."""
    with cache_errors():
        return decode_watermark(client.get(shard.watermark_key))


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
    """Follows the journal of the serving build, with the keys of one shard.

    `watermark`: None while Redis is away or not understood.
    """

    def __init__(
        self,
        client: Client,
        documents: DocumentStore,
        metrics: ProjectorMetrics,
        chance: random.Random,
        shard: Shard = SINGLE,
    ) -> None:
        self.client = client
        self.documents = documents
        self.metrics = metrics
        self.chance = chance
        self.shard = shard
        self.watermark: Watermark | None = None
        self.unpublished = ""  # why the last announcement was refused
        self.apply_script = client.register_script(APPLY)
        self.set_script = client.register_script(SET_WATERMARK)

    def apply(self, entry: JournalEntry) -> None:
        """Bring a committed batch into the cache. A cache that is further behind replays the journal.

        `entry` has the keys of this shard alone.
        """
        if self.watermark is None or self.watermark.seq >= entry.checkpoint.seq:
            return
        try:
            if self.watermark.seq == entry.checkpoint.seq - 1:
                self._apply(self.watermark, entry)
            else:
                self._replay()
        except redis.RedisError as error:
            self.lost(error)

    def send(self, watermark: Watermark, entry: JournalEntry, request: Request) -> None:
        """APPLY. Raises redis-py's errors."""
        self.settle(watermark, entry, self.apply_script(keys=request.keys, args=request.arguments))

    def tick(self, checkpoint: Checkpoint) -> None:
        """Tell readers that nothing was missing at the checkpoint's `as_of`."""
        if self.watermark is None or self.watermark.seq > checkpoint.seq:
            return
        try:
            if self.watermark.seq < checkpoint.seq:
                self._replay()
            else:
                reached("before_tick")
                ticked = JournalEntry(checkpoint, ())
                self.send(self.watermark, ticked, self.request(self.watermark, ticked, Values({})))
        except redis.RedisError as error:
            self.lost(error)

    def catch_up(self) -> None:
        """Continue from the watermark, or from an empty cache. Raises CacheUnavailable, StandDown."""
        self.watermark = None
        try:
            raw = self.client.get(self.shard.watermark_key)
            self._continue_from(raw if isinstance(raw, bytes) else b"")
        except redis.RedisError as error:
            self.watermark = None  # only a cache without one is looked at again, with back-off
            raise CacheUnavailable(f"Redis does not answer: {error}") from error

    def _continue_from(self, text: bytes) -> None:
        """`text`: the watermark in Redis, empty if there is none."""
        serving = self.documents.serving()
        found = decode_watermark(text)
        if reason := self._break_in_history(
            found, serving.epoch_of(self.shard.number, self.documents.shards)
        ):
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
        serving = self.documents.new_cache_epoch(self.shard.number)
        epoch = serving.epoch_of(self.shard.number, self.documents.shards)
        watermark = self.documents.position.checkpoint.watermark(epoch)
        if self.set_script(keys=[self.shard.watermark_key], args=[found, watermark.encode()]):
            self.watermark = watermark
            self.metrics.epochs.labels(reason).inc()
            shard = self.shard.number
            log.info("cache starts empty", reason=reason, shard=shard, epoch=epoch, seq=watermark.seq)

    def _replay(self) -> None:
        """Apply the journal's entries beyond the watermark. If they are gone, start empty."""
        while self.watermark is not None and self.watermark.seq < self.documents.position.checkpoint.seq:
            entries = self.documents.journal(self.watermark.seq, REPLAY_ENTRIES)
            if not entries:
                self._start_empty(self.watermark.encode(), "journal")
            for entry in entries:
                if self.watermark is not None:
                    mine = entry.by_shard(self.documents.shards)[self.shard.number]
                    self._apply(self.watermark, mine)

    def _apply(self, watermark: Watermark, entry: JournalEntry) -> None:
        values = values_of(self.documents, entry, self._present(watermark.epoch, entry.touched))
        request = self.request(watermark, entry, values)
        reached("before_apply")
        self.send(watermark, entry, request)

    def _present(self, epoch: str, keys: Sequence[str]) -> list[str]:
        found: list[str] = []
        for at in range(0, len(keys), PROBED_KEYS):
            some = keys[at : at + PROBED_KEYS]
            names = (self.shard.cache_key(epoch, key) for key in some)
            places = self.client.eval_ro(PRESENT, len(some), *names)
            found += (some[place - 1] for place in places)
        return found

    def request(self, watermark: Watermark, entry: JournalEntry, values: Values) -> Request:
        new = entry.checkpoint.watermark(watermark.epoch)
        others = (key for key in entry.touched if key not in values.bytes)
        names = (self.shard.cache_key(watermark.epoch, key) for key in (*values.bytes, *others))
        arguments: list[bytes | str | int] = [watermark.lineage, new.encode(), len(values.bytes)]
        for key, value in values.bytes.items():
            arguments += [value, self._ttl_ms(value), int(key in values.new)]
        arguments += [self.shard.channel, *encode(watermark.lineage, new, entry.keys, entry.counted)]
        return Request([self.shard.watermark_key, *names], arguments)

    def settle(self, watermark: Watermark, entry: JournalEntry, reply: Sequence[Any]) -> None:
        """A refusal means that another process moved the watermark: `catch_up` has to look."""
        refused, *done = reply
        if refused or not done:
            found = bytes(refused).decode()
            log.warning("APPLY refused", shard=self.shard.number, expected=watermark.lineage, found=found)
            self.watermark = None
            return
        self.watermark = entry.checkpoint.watermark(watermark.epoch)
        *counts, failure = done
        for action, count in zip(("updated", "deleted", "absent"), counts, strict=True):
            self.metrics.applies.labels(action).inc(count)
        self._published(bytes(failure).decode())

    def _published(self, failure: str) -> None:
        """Count the announcement, and log when refusals begin: readers then fetch what they hold again."""
        self.metrics.announcements.labels("refused" if failure else "sent").inc()
        if failure and not self.unpublished:
            log.warning("announcement refused", error=failure, channel=self.shard.channel)
        self.unpublished = failure

    def _ttl_ms(self, value: bytes) -> int:
        return (
            absent_ttl_ms(self.chance.random()) if value[:1] == b"N" else value_ttl_ms(self.chance.random())
        )

    def lost(self, error: redis.RedisError) -> None:
        self.watermark = None
        self.metrics.errors.labels("cache").inc()
        log.warning("cache unavailable", error=str(error))
