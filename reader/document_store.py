"""MongoDB: one moment of the read model, its documents and lists of ids, in the encoding of the cache."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import structlog
from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from reader.bson_values import RAW, plain, snapshot, timestamp
from reader.errors import DocumentsUnavailable, MomentGone, ReadModelMissing
from reader.paging import Page
from reader.parts import Wanted, WantedPage
from reader.read_model.cached_values import Watermark, encode_absent, encode_entity, encode_list, encode_page
from reader.read_model.control import CONTROL, SERVING_ID, Checkpoint, Serving, checkpoint_id
from reader.read_model.declarations import COLLECTIONS, ENTITIES
from reader.read_model.entities import Entity, is_present
from reader.read_model.notifications import NOTIFICATIONS
from reader.read_model.scans import CachedList, Scan
from reader.stored_notifications import stored_notifications
from reader.stored_scan import BsonDocument, StoredScan
from tidemark.driver_errors import brief

TIMEOUT_MS = 2_000  # of one read, finding the primary included
SLOT_SECONDS = 1.0
LOOKED_UP = 255  # lists in one read, which takes MongoDB some 0.5 ms each
MERGED_SCANS = 200  # values of $in: MongoDB merges scans for up to so many, beyond it sorts in memory
# MongoDB's errors for a time that is ahead of its clock (after a restore), too old, or before the collection
# got its present indexes.
NO_SUCH_MOMENT = (72, 239, 246)
log = structlog.get_logger()


@dataclass(frozen=True)
class Moment:
    """One moment of MongoDB: the checkpoint of the serving build there, and its cluster time.

    `epochs`: of the cache's shards. The proof names the newest.
    """

    proof: Watermark
    time: Timestamp
    epochs: tuple[str, ...]


class DocumentStore:
    """Reads snapshots of the primary, at most `reads` at a time. Raises DocumentsUnavailable."""

    def __init__(
        self,
        client: AsyncMongoClient[BsonDocument],
        reads: int,
        on_read: Callable[[str], None] = lambda collection: None,
    ) -> None:
        self._client = client
        self._database = client.get_default_database("tidemark")
        self._reads = reads
        self._on_read = on_read
        self._slots = asyncio.Semaphore(reads)
        self.in_use = 0  # places that reads have
        self.waiting = 0  # reads without one
        self._build = 0  # the one that served last: its checkpoint is likely the one to read

    @classmethod
    def connect(cls, url: str, reads: int, on_read: Callable[[str], None]) -> Self:
        """A store that connects at its first read, and again after a lost connection."""
        client = AsyncMongoClient[BsonDocument](
            url,
            timeoutMS=TIMEOUT_MS,
            connectTimeoutMS=TIMEOUT_MS,
            maxPoolSize=reads,
            appname="tidemark-reader",
        )
        return cls(client, reads, on_read)

    async def present(self) -> Moment:
        """The last moment that a majority has. Raises also ReadModelMissing."""
        return await self._moment(None)

    async def at(self, watermark: Watermark) -> Moment:
        """The moment of `watermark`. Raises MomentGone if MongoDB does not have exactly that one."""
        try:
            moment = await self._moment(timestamp(watermark.cluster_time))
        except MomentGone:
            moment = await self._moment(None)
        if moment.proof.batch != watermark.batch or watermark.epoch not in moment.epochs:
            raise MomentGone(f"MongoDB has {moment.proof.lineage}, not {watermark.lineage}")
        return moment

    async def values(self, moment: Moment, wanted: Sequence[Wanted | WantedPage]) -> dict[str, bytes]:
        """Key -> its value in the cache's encoding: a document, a known absence, or a list of ids.

        Raises also MomentGone.
        """
        entities: dict[str, list[int]] = {}
        lists: dict[str, tuple[CachedList, list[Any]]] = {}
        values = {}
        for one in wanted:
            if one.kind is NOTIFICATIONS:
                values[one.key] = await self._notifications(moment, one)
            elif isinstance(one, WantedPage):
                values[one.key] = await self.page(moment, one)
            elif isinstance(one.kind, CachedList):
                lists.setdefault(one.label, (one.kind, []))[1].append(one.id)
            else:
                entities.setdefault(one.kind.name, []).append(int(one.id))
        for kind, of in lists.values():
            for at in range(0, len(of), LOOKED_UP):
                values |= await self._lists(moment, kind, of[at : at + LOOKED_UP])
        for name, ids in entities.items():
            values |= await self._entities(moment, ENTITIES[name], ids)
        return values

    async def page(self, moment: Moment, wanted: WantedPage) -> bytes:
        """A page of ids of items, in the encoding of the cache."""
        kind, page, values = wanted.kind, wanted.page, wanted.values
        if len(values) == 1:
            found = await self._scan(moment, kind, values[0], page, wanted.among)
        else:
            chunks = [values[at : at + MERGED_SCANS] for at in range(0, len(values), MERGED_SCANS)]
            scans = [await self._scan(moment, kind, {"$in": chunk}, page) for chunk in chunks]
            documents = (document for scan in scans for document in scan)
            found = heapq.nlargest(page.limit + 1, documents, key=lambda document: document["_id"])
        ids, cursor = _stored(moment, kind).shown(found, page.limit)
        return encode_page(moment.proof.seq, ids, cursor)

    async def _notifications(self, moment: Moment, wanted: Wanted | WantedPage) -> bytes:
        def find(scan: Scan, options: BsonDocument) -> Awaitable[list[BsonDocument]]:
            return self._read(moment, scan.collection, **options)

        return await stored_notifications(find, moment.proof, wanted)

    async def _lists(self, moment: Moment, kind: CachedList, values: Sequence[Any]) -> dict[str, bytes]:
        """Key -> the first ids. Lists of documents with fields are read together, others one by one."""
        stored, page = _stored(moment, kind), Page(kind.limit)
        if len(values) > 1 and stored.edge is None:
            name = COLLECTIONS[kind.collection].in_build(moment.proof.build)
            together = await self._run(moment, kind.collection, stored.together(name, values, page))
            found = {each["value"]: each["found"] for each in together}
        else:
            found = {value: await self._scan(moment, kind, value, page) for value in values}
        return {
            kind.key(value): encode_list(kind, moment.proof.seq, *stored.shown(found[value], kind.limit))
            for value in values
        }

    async def aclose(self) -> None:
        await self._client.close()

    async def _moment(self, time: Timestamp | None) -> Moment:
        for _ in range(3):
            ids = [SERVING_ID, checkpoint_id(self._build)]
            documents, time = await self._control({"_id": {"$in": ids}}, time)
            found = {document["_id"]: document for document in documents}
            if SERVING_ID not in found or time is None:
                break
            serving = Serving.decode(found[SERVING_ID])
            if serving.build == self._build and ids[1] in found:
                epochs = serving.epochs or (serving.epoch,)
                return Moment(Checkpoint.decode(found[ids[1]]).watermark(max(epochs)), time, epochs)
            self._build = serving.build
        raise ReadModelMissing("MongoDB holds no serving build with a checkpoint; is the projector running?")

    async def _control(
        self, filter: BsonDocument, time: Timestamp | None
    ) -> tuple[list[BsonDocument], Timestamp | None]:
        """The time is None if the collection does not exist."""
        command = {"find": CONTROL, "filter": filter, "readConcern": snapshot(time)}
        async with self._reading(CONTROL):
            reply = await self._database.command(command, codec_options=RAW)
            cursor = reply["cursor"]
            return [plain(document) for document in cursor["firstBatch"]], cursor.get("atClusterTime")

    async def _entities(self, moment: Moment, entity: Entity, ids: list[int]) -> dict[str, bytes]:
        found = {"filter": {"_id": {"$in": ids}}, "batchSize": len(ids) + 1}
        documents = await self._read(moment, entity.collection, **found)
        absent = {entity.key(id): encode_absent(moment.proof.seq) for id in ids}
        return absent | {
            entity.key(document["_id"]): encode_entity(entity, document)
            for document in documents
            if is_present(document)
        }

    async def _scan(
        self, moment: Moment, scan: Scan, value: object, page: Page, among: Sequence[int] = ()
    ) -> list[BsonDocument]:
        """The page's documents, and one more if there are more."""
        return await self._read(moment, scan.collection, **_stored(moment, scan).page(value, page, among))

    async def _read(self, moment: Moment, name: str, **options: Any) -> list[BsonDocument]:
        return await self._run(
            moment, name, {"find": COLLECTIONS[name].in_build(moment.proof.build), **options}
        )

    async def _run(self, moment: Moment, name: str, command: BsonDocument) -> list[BsonDocument]:
        async with self._reading(name):
            cursor = await self._database.cursor_command(
                {**command, "readConcern": snapshot(moment.time)}, codec_options=RAW
            )
            return [plain(document) for document in await cursor.to_list()]

    @contextlib.asynccontextmanager
    async def _reading(self, collection: str) -> AsyncIterator[None]:
        self._on_read(collection)
        async with self._slot():
            try:
                yield
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and error.code in NO_SUCH_MOMENT:
                    raise MomentGone(str(error)) from error
                log.warning("MongoDB gives no answer", collection=collection, error=brief(error))
                raise DocumentsUnavailable(f"MongoDB does not give {collection}: {brief(error)}") from error

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self.waiting += 1
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise DocumentsUnavailable(
                f"all {self._reads} reads of MongoDB were busy for {SLOT_SECONDS} s"
            ) from None
        finally:
            self.waiting -= 1
        self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1
            self._slots.release()


def _stored(moment: Moment, scan: Scan) -> StoredScan:
    return StoredScan.of(scan, moment.proof.model_version)
