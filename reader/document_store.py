"""MongoDB: the serving build's checkpoint, then documents and lists of ids, in the encoding of the cache."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import structlog
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from reader.asked import FeedQuery, HashtagQuery, ListQuery, PageQuery
from reader.errors import DocumentsUnavailable, ReadModelMissing
from reader.paging import FIRST_PAGE, Page, encode_cursor
from reader.parts import Wanted
from reader.read_model.cached_values import Watermark, encode_absent, encode_entity, encode_page
from reader.read_model.control import CONTROL, SERVING_ID, Checkpoint, Serving, checkpoint_id, journal_id
from reader.read_model.declarations import (
    COLLECTIONS,
    POSTS_BY_HASHTAG,
    USER_FOLLOWING,
    USER_POSTS,
    USERS_BY_SUBJECT,
    Entity,
    Listing,
    is_present,
)
from reader.read_model.scans import Scan
from reader.stored_scan import BsonDocument, StoredScan

TIMEOUT_MS = 2_000  # of one read, finding the primary included
SLOT_SECONDS = 1.0
MAX_FOLLOWEES = 1_000  # of whom the feed shows posts: the most recently followed
MERGED_SCANS = 200  # values of $in: MongoDB merges scans for up to so many, beyond it sorts in memory
log = structlog.get_logger()


@dataclass(frozen=True)
class View:
    """The checkpoint before documents were read: the documents are at least as recent as `proof`.

    `continues`: the watermark is of the same build, epoch and history, and not ahead. Only then may the
    reader cache the documents under it.
    """

    proof: Watermark
    continues: bool


class PlainInt(TypeDecoder):
    """Turns PyMongo's own 64-bit type, a subclass of int, into int."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        return int(value)


class DocumentStore:
    """Reads the primary with readConcern majority, at most `reads` at a time. Raises DocumentsUnavailable."""

    def __init__(self, client: AsyncMongoClient[BsonDocument], reads: int) -> None:
        self._client = client
        self._database = client.get_default_database(
            "tidemark",
            codec_options=CodecOptions[BsonDocument](type_registry=TypeRegistry([PlainInt()])),
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
        )
        self._reads = reads
        self._slots = asyncio.Semaphore(reads)
        self.in_use = 0  # places that reads have
        self.waiting = 0  # reads without one
        self._build = 0  # the one that served last: its checkpoint is likely the one to read

    @classmethod
    def connect(cls, url: str, reads: int) -> Self:
        """A store that connects at its first read, and again after a lost connection."""
        client = AsyncMongoClient[BsonDocument](
            url,
            timeoutMS=TIMEOUT_MS,
            connectTimeoutMS=TIMEOUT_MS,
            maxPoolSize=reads,
            appname="tidemark-reader",
        )
        return cls(client, reads)

    async def view(self, watermark: Watermark | None = None) -> View:
        """The serving build's checkpoint. Read it before documents. Raises also ReadModelMissing."""
        serving, checkpoint = await self._control()
        proof = checkpoint.watermark(serving.epoch)
        return View(proof, watermark is not None and await self._continues(proof, watermark))

    async def values(self, view: View, wanted: Sequence[Wanted]) -> dict[str, bytes]:
        """Key -> the value to cache under it: a document, a known absence, or a first page."""
        ids: dict[str, list[int]] = {}
        values = {}
        for one in wanted:
            if isinstance(one.kind, Listing):
                values[one.key] = await self.page(view, ListQuery(one.kind, one.id, FIRST_PAGE))
            else:
                ids.setdefault(one.kind.name, []).append(one.id)
        entities = {one.kind.name: one.kind for one in wanted if isinstance(one.kind, Entity)}
        for name, entity in entities.items():
            values |= await self._entities(view, entity, ids[name])
        return values

    async def page(self, view: View, query: PageQuery) -> bytes:
        """A page of ids of items, in the encoding of the cache."""
        match query:
            case ListQuery(listing, parent_id, page):
                return _page(view, await self._scan(view, listing, parent_id, page), listing, page)
            case HashtagQuery(tag, page):
                posts = await self._scan(view, POSTS_BY_HASHTAG, tag, page)
                return _page(view, posts, POSTS_BY_HASHTAG, page)
            case FeedQuery(subject, page):
                return _page(view, await self._feed(view, subject, page), USER_POSTS, page)

    async def _feed(self, view: View, subject: str, page: Page) -> list[BsonDocument]:
        """The newest posts by authors whom `subject` follows. None for a subject without a user."""
        users = await self._scan(view, USERS_BY_SUBJECT, subject, Page(1))
        follows = (
            await self._scan(view, USER_FOLLOWING, users[0]["_id"], Page(MAX_FOLLOWEES)) if users else []
        )
        item = _stored(view, USER_FOLLOWING).item
        authors = [item(follow) for follow in follows[:MAX_FOLLOWEES]]
        chunks = [authors[at : at + MERGED_SCANS] for at in range(0, len(authors), MERGED_SCANS)]
        found = [await self._scan(view, USER_POSTS, {"$in": chunk}, page) for chunk in chunks]
        return heapq.nlargest(
            page.limit + 1, (post for posts in found for post in posts), key=lambda post: post["_id"]
        )

    async def aclose(self) -> None:
        await self._client.close()

    async def _control(self) -> tuple[Serving, Checkpoint]:
        for _ in range(3):
            ids = [SERVING_ID, checkpoint_id(self._build)]
            found = {
                document["_id"]: document for document in await self._read(CONTROL, {"_id": {"$in": ids}})
            }
            if SERVING_ID not in found:
                break
            serving = Serving.decode(found[SERVING_ID])
            if serving.build == self._build and ids[1] in found:
                return serving, Checkpoint.decode(found[ids[1]])
            self._build = serving.build
        raise ReadModelMissing("MongoDB holds no serving build with a checkpoint; is the projector running?")

    async def _continues(self, proof: Watermark, watermark: Watermark) -> bool:
        if (proof.build, proof.epoch) != (watermark.build, watermark.epoch) or proof.seq < watermark.seq:
            return False
        if proof.seq == watermark.seq:
            return proof.batch_id == watermark.batch_id
        entries = await self._read(
            CONTROL, {"_id": journal_id(proof.build, watermark.seq)}, {"batch_id": True}
        )
        return bool(entries) and entries[0]["batch_id"] == watermark.batch_id

    async def _entities(self, view: View, entity: Entity, ids: list[int]) -> dict[str, bytes]:
        documents = await self._read(_name(view, entity.collection), {"_id": {"$in": ids}})
        absent = {entity.key(id): encode_absent(view.proof.seq) for id in ids}
        return absent | {
            entity.key(document["_id"]): encode_entity(entity, document)
            for document in documents
            if is_present(document)
        }

    async def _scan(self, view: View, scan: Scan, value: object, page: Page) -> list[BsonDocument]:
        """The page's documents, and one more if there are more."""
        return await self._read(_name(view, scan.collection), **_stored(view, scan).page(value, page))

    async def _read(
        self, collection: str, filter: BsonDocument, projection: BsonDocument | None = None, **options: Any
    ) -> list[BsonDocument]:
        async with self._slot():
            try:
                return await self._database[collection].find(filter, projection, **options).to_list()
            except PyMongoError as error:
                log.warning("MongoDB gives no answer", collection=collection, error=str(error))
                raise DocumentsUnavailable(f"MongoDB does not give {collection}: {error}") from error

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


def _name(view: View, collection: str) -> str:
    return COLLECTIONS[collection].in_build(view.proof.build)


def _stored(view: View, scan: Scan) -> StoredScan:
    return StoredScan.of(scan, view.proof.model_version)


def _page(view: View, found: Sequence[BsonDocument], scan: Scan, page: Page) -> bytes:
    shown, stored = found[: page.limit], _stored(view, scan)
    cursor = encode_cursor(stored.place(shown[-1])) if len(found) > page.limit else None
    return encode_page(view.proof.seq, [stored.item(document) for document in shown], cursor)
