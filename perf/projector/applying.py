"""`python -m perf apply`: what APPLY pays for reading a batch back at its time, and for announcing it."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import redis

from binlog_projector.domain.batch import Batch
from binlog_projector.domain.mutations import Increment, Put
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.cache_scripts import APPLY
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.read_back import Documents, Found, Listed
from ops.stack import Stack
from reader.read_model.announcements import encode
from reader.read_model.cached_values import TIDE_CHANNEL, WATERMARK_KEY, Watermark, cache_key, encode_absent
from reader.read_model.control import LONG_AGO, Checkpoint
from reader.read_model.declarations import COLLECTIONS

KEYS = 10_000
SUBSCRIBERS = 4
FIELDS = {"author_id": 1, "body": "b" * 100, "hashtags": [], "created_at": LONG_AGO, "updated_at": LONG_AGO}


class EitherWay(DocumentStore):
    """Reads back at the batch's time, or what is there at present, as before."""

    at_present = False

    def read_back(
        self, batch: Checkpoint, wanted: Mapping[str, Iterable[int]], lists: Sequence[Listed] = ()
    ) -> Found:
        if not self.at_present:
            return super().read_back(batch, wanted, lists)
        found: Documents = {}
        for name, ids in wanted.items():
            documents = self.database[COLLECTIONS[name].in_build(self.build)]
            found[name] = {one["_id"]: one for one in documents.find({"_id": {"$in": [*ids]}})}
        return Found(found, {})


def apply(repeats: int) -> dict[str, Any]:
    """Medians in milliseconds. Raises StackError."""
    with Stack() as stack:
        urls = stack.environment()
        with (
            mongodb.connect(urls["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client,
            contextlib.closing(cache.connect(urls["TIDEMARK_PROJECTOR_REDIS_URL"])) as projector,
            redis.Redis.from_url(stack.redis.admin_url) as admin,
        ):
            build = ControlStore(client, 1).create_build(1)
            build.serve(None, LONG_AGO)
            documents = EitherWay(client, build.session, build.position, 1)
            stage = CacheStage(projector, documents, ProjectorMetrics(), random.Random(1))
            stage.catch_up()
            read_back = {
                f"{posts} cached": _read_back(stage, documents, admin, posts, repeats) for posts in (1, 100)
            }
            return {**read_back, f"{KEYS} keys": _announce(projector, admin, repeats)}


def _read_back(
    stage: CacheStage, documents: EitherWay, admin: redis.Redis, posts: int, repeats: int
) -> dict[str, float]:
    """APPLYs of batches that touch so many cached posts, in turn with both ways to read them."""
    epoch, seconds = documents.serving().epoch, defaultdict[str, list[float]](list)
    _commit(documents, (Put("posts", id, FIELDS, new=True) for id in range(1, posts + 1)))
    stage.catch_up()
    for id in range(1, posts + 1):
        admin.set(cache_key(epoch, f"post:{id}"), encode_absent(0))
    for way in ("at_its_time_ms", "at_present_ms") * repeats:
        documents.at_present = way == "at_present_ms"
        batch = Batch(documents.position.gtid_set)
        batch.fold(Increment("posts", id, "like_count", 1) for id in range(1, posts + 1))
        entry = documents.commit(batch, LONG_AGO)
        with _measured(seconds[way].append):
            stage.apply(entry)
    return _medians(seconds)


def _commit(documents: DocumentStore, mutations: Iterable[Put]) -> None:
    batch = Batch(documents.position.gtid_set)
    batch.fold(mutations)
    documents.commit(batch, LONG_AGO)


def _announce(projector: cache.Client, admin: redis.Redis, repeats: int) -> dict[str, float]:
    """APPLYs of keys that are not cached: silent, announced, and heard by some readers."""
    script, seconds = projector.register_script(APPLY), defaultdict[str, list[float]](list)
    marks = [Watermark(1, "1-a", 3, seq, f"{seq:016x}", "1.1", False, LONG_AGO, "") for seq in range(2)]
    keys = [f"post:{2**53 - number}" for number in range(KEYS)]
    names = [WATERMARK_KEY, *(cache_key("1-a", key) for key in keys)]
    messages: list[bytes] = []
    with contextlib.ExitStack() as listening:
        for way in ("silent_ms", "announced_ms", "heard_ms"):
            if way == "heard_ms":
                for _ in range(SUBSCRIBERS):
                    listening.enter_context(_listener(admin))
            for _ in range(repeats):
                with _measured(seconds["encode_ms"].append):
                    messages = encode(marks[0].lineage, marks[1], keys)
                admin.set(WATERMARK_KEY, marks[0].encode())
                sent = [] if way == "silent_ms" else messages
                with _measured(seconds[way].append):
                    script(names, [marks[0].lineage, marks[1].encode(), 0, TIDE_CHANNEL, *sent])
    return {**_medians(seconds), "messages": len(messages), "bytes": sum(map(len, messages))}


@contextlib.contextmanager
def _listener(admin: redis.Redis) -> Iterator[None]:
    """A subscriber that reads all it gets, in a thread."""
    with contextlib.closing(admin.pubsub()) as pubsub:  # type: ignore[no-untyped-call]
        pubsub.ssubscribe(**{TIDE_CHANNEL: lambda message: None})
        thread = pubsub.run_in_thread(sleep_time=0.01, daemon=True)
        yield
        thread.stop()
        thread.join()


@contextlib.contextmanager
def _measured(note: Callable[[float], object]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    note(time.perf_counter() - began)


def _medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {way: round(1e3 * statistics.median(each), 2) for way, each in seconds.items()}
