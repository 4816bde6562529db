"""The faults of a schedule, each at a moment that the seed chooses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial

import redis

from reader.read_model.cached_values import LEASE, WATERMARK_KEY
from tests.verification.schedules.actors import Leadership, Reader
from tests.verification.schedules.promises import Promises
from tests.verification.schedules.reader_stores import LATER_ON

TTL_MS = 600_000
EVICTED, LEASES_EXPIRED, FLUSHED, WATERMARK_LOST = "evicted", "leases expired", "flushed", "watermark lost"
FAILED_OVER, CRASHED, TAKEN_OVER, ANSWER_LOST = "failed over", "crashed", "taken over", "answer lost"
CANCELLED, DEPOSED, FORGOTTEN, RESTORED = "cancelled", "deposed", "forgotten", "restored"
KILLED, UNSUBSCRIBED, MESSAGE_LOST, SILENT = "killed", "unsubscribed", "message lost", "silent"
OF_A_READER = (DEPOSED, FORGOTTEN, KILLED, UNSUBSCRIBED, MESSAGE_LOST, SILENT)
SILENCES = (3, 6, 21)  # ticks without a reply: requests fail, the reader is blind, it gives the connection up
ALL = (
    EVICTED,
    LEASES_EXPIRED,
    FLUSHED,
    WATERMARK_LOST,
    *[FAILED_OVER] * 2,
    CRASHED,
    *[TAKEN_OVER] * 2,
    ANSWER_LOST,
    CANCELLED,
    *[DEPOSED] * 2,
    FORGOTTEN,
    *[KILLED] * 2,
    UNSUBSCRIBED,
    *[MESSAGE_LOST] * 2,
    SILENT,
)
PROJECTORS = (RESTORED, FAILED_OVER, TAKEN_OVER, CRASHED, ANSWER_LOST)


class Faults:
    """Faults of Redis, of the leader and of requests."""

    def __init__(
        self,
        cache: redis.Redis,
        chance: random.Random,
        leadership: Leadership,
        promises: Promises,
        readers: Sequence[Reader],
        requests: Sequence[asyncio.Task[None]],
    ) -> None:
        self._cache = cache
        self._chance = chance
        self._leadership = leadership
        self._promises = promises
        self._readers = readers
        self._requests = requests
        self._copy: dict[bytes, bytes] = {}

    def drawn(self, kinds: Sequence[str]) -> list[tuple[str, Callable[[], object]]]:
        """The steps, in order, of a fault drawn from `kinds`. A step without any effect returns False."""
        kind, reader = self._chance.choice(kinds), self._chance.choice(self._readers)
        parts: dict[str, list[Callable[[], object]]] = {
            EVICTED: [self.evict],
            LEASES_EXPIRED: [self.expire_leases],
            FLUSHED: [self.flush],
            WATERMARK_LOST: [self.lose_watermark],
            FAILED_OVER: [self.copy, self.fail_over],
            CRASHED: [self._leadership.crash],
            TAKEN_OVER: [self._leadership.take_over],
            ANSWER_LOST: [self._leadership.lose_answer],
            CANCELLED: [self.cancel],
            DEPOSED: [reader.mongodb.depose, reader.mongodb.rejoin],
            FORGOTTEN: [reader.mongodb.forget],
            KILLED: [partial(self.kill, reader)],
            UNSUBSCRIBED: [partial(self.unsubscribe, reader)],
            MESSAGE_LOST: [partial(self.lose_message, reader)],
            SILENT: [partial(self.be_silent, reader)],
            RESTORED: [self._leadership.back_up, self._leadership.restore],
        }
        about = f"{reader.name}, {kind}" if kind in OF_A_READER else kind
        return [(f"{about} {at}", happen) for at, happen in enumerate(parts[kind], 1)]

    def evict(self) -> bool:
        keys = [key for key in self._keys() if key != WATERMARK_KEY.encode()]
        return bool(keys) and bool(self._cache.delete(self._chance.choice(keys)))

    def expire_leases(self) -> bool:
        leases = [key for key, value in self._dump().items() if value.startswith(LEASE)]
        return bool(leases) and bool(self._cache.delete(*leases))

    def flush(self) -> None:
        self._cache.flushall()

    def lose_watermark(self) -> None:
        self._cache.delete(WATERMARK_KEY)

    def copy(self) -> None:
        """Copies Redis to a replica, which receives no later writes."""
        self._copy = self._dump()

    def fail_over(self) -> None:
        """The replica takes over, with entries and watermark of its copy and without scripts.

        All connections end: what was sent on them is lost.
        """
        with self._cache.pipeline() as pipeline:
            pipeline.flushall()
            pipeline.script_flush()
            for key, value in self._copy.items():
                pipeline.set(key, value, px=None if key == WATERMARK_KEY.encode() else TTL_MS)
            pipeline.execute()
        self._promises.forget()
        for reader in self._readers:
            if reader.redis.last is not None:
                reader.redis.last.kill(executes_rest=False)

    def kill(self, reader: Reader) -> bool:
        """The reader's connection ends. Redis may execute later what was sent on it."""
        if not reader.redis.continues:
            return False
        assert reader.redis.last is not None
        reader.redis.last.kill(self._chance.random() < LATER_ON)
        return True

    def unsubscribe(self, reader: Reader) -> bool:
        if not reader.redis.continues:
            return False
        assert reader.redis.last is not None
        reader.redis.last.unsubscribe()
        return True

    def lose_message(self, reader: Reader) -> bool:
        if reader.redis.last is None:
            return False
        reader.redis.last.loses_message = True
        return True

    def be_silent(self, reader: Reader) -> None:
        """Time passes, and Redis does not reply."""
        reader.clock.tick(self._chance.choice(SILENCES))

    def cancel(self) -> bool:
        waiting = [request for request in self._requests if not request.done()]
        return bool(waiting) and self._chance.choice(waiting).cancel()

    def _keys(self) -> list[bytes]:
        return sorted((key for key in self._cache.keys("tidemark:*") if isinstance(key, bytes)), key=_age)

    def _dump(self) -> dict[bytes, bytes]:
        keys = self._keys()
        values = zip(keys, self._cache.mget(keys) if keys else (), strict=True)
        return {key: value for key, value in values if isinstance(value, bytes)}


def _age(key: bytes) -> tuple[int, bytes]:
    """Sorts epochs by number, so that the order does not depend on earlier schedules."""
    _, epoch, *rest = key.split(b":", 2)
    return int(epoch[1:].partition(b"-")[0]) if rest else 0, b"".join(rest)
