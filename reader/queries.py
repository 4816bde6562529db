"""Queries: one answer from several parts, as fresh as the oldest, named by all their versions."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence

import msgspec

from reader.asked import EntityQuery, FeedQuery, HashtagQuery, ListQuery, PageQuery, Query
from reader.document_store import DocumentStore
from reader.metrics import ReaderMetrics
from reader.paging import FIRST_PAGE
from reader.parts import Origin, Part, Wanted, part
from reader.read_model.cached_values import page_body, with_author
from reader.read_model.declarations import AUTHORED, MODEL_VERSION, POST, USER, Entity
from reader.read_through import ReadPath

MAX_HINTS = 100_000
NOTHING: Mapping[str, Part] = {}


class Answer(msgspec.Struct, frozen=True):
    """A JSON body; None: there is no such document. `version` names exactly these bytes.

    `parts` are all parts that were read, so the answer is as fresh as the oldest.
    """

    body: bytes | None
    version: str
    parts: tuple[Part, ...]
    next_cursor: str | None = None


class Item(msgspec.Struct, frozen=True):
    """An entity as clients see it, and its parts."""

    body: bytes
    parts: tuple[Part, ...]


class Queries:
    """Answers queries from the parts that one read path gives. Raises DocumentsUnavailable."""

    def __init__(self, path: ReadPath, documents: DocumentStore, metrics: ReaderMetrics) -> None:
        self._path = path
        self._documents = documents
        self._metrics = metrics
        self._hints: dict[str, Wanted] = {}

    def answer(self, query: Query) -> Awaitable[Answer]:
        if isinstance(query, EntityQuery):
            return self._entity(query.entity, query.id)
        return self._list(query) if isinstance(query, ListQuery) else self._posts(query)

    async def _entity(self, entity: Entity, id: int) -> Answer:
        one = Wanted(entity, id)
        author = self._hints.get(one.key)
        parts = await self._path.get([one, author] if author else [one])
        found = parts[one.key]
        if not found.entry.present:
            return _absent(found)
        [item] = await self._complete(entity, [found], parts)
        if entity.name in AUTHORED:
            self._remember_author(one, int(found.entry.head))
        return Answer(
            item.body, f"{MODEL_VERSION}.{'.'.join([part.version for part in item.parts])}", item.parts
        )

    async def _list(self, query: ListQuery) -> Answer:
        """A page of a list; absent if the parent is absent."""
        listing = query.listing
        parent, first = Wanted(listing.parent, query.parent_id), Wanted(listing, query.parent_id)
        found = await self._path.get([parent, first] if query.page == FIRST_PAGE else [parent])
        if not found[parent.key].entry.present:
            return _absent(found[parent.key])
        ids = found.get(first.key) or await self._ids(first.label, query)
        return await self._page(listing.item, ids, found[parent.key])

    async def _posts(self, query: FeedQuery | HashtagQuery) -> Answer:
        label = "feed" if isinstance(query, FeedQuery) else "hashtag"
        return await self._page(POST, await self._ids(label, query))

    def _remember_author(self, authored: Wanted, author_id: int) -> None:
        """Let the next MGET ask for both at once; a wrong hint costs one more MGET."""
        known = self._hints.get(authored.key)
        if known is not None and known.id == author_id:
            return
        if len(self._hints) >= MAX_HINTS:
            self._hints.clear()
        self._hints[authored.key] = Wanted(USER, author_id)

    async def _ids(self, label: str, query: PageQuery) -> Part:
        """A page from MongoDB. Such pages are not cached: their keys could not all be invalidated."""
        view = await self._documents.view()
        found = part(await self._documents.page(view, query), view.proof, Origin.NOT_CACHED)
        self._metrics.cache_requests.add("mongo", label, "hit")
        return found

    async def _page(self, entity: Entity, ids: Part, *others: Part) -> Answer:
        wanted = [Wanted(entity, id) for id in ids.entry.ids()]
        found = await self._path.get(wanted)
        present = [found[one.key] for one in wanted if found[one.key].entry.present]
        items = await self._complete(entity, present)
        cursor = ids.entry.head.decode() or None
        body = page_body([item.body for item in items], cursor)
        shown = [(one.key, found[one.key]) for one in wanted if found[one.key].entry.present]
        version = _version_of_page(ids, [key for key, _ in shown], items, cursor)
        read = (ids, *others, *found.values(), *(part for item in items for part in item.parts))
        return Answer(body, version, read, cursor)

    async def _complete(
        self, entity: Entity, found: Sequence[Part], known: Mapping[str, Part] = NOTHING
    ) -> list[Item]:
        """The entities' bodies, with their authors if the entity has one; `known` may have some authors."""
        if entity.name not in AUTHORED:
            return [Item(part.entry.body, (part,)) for part in found]
        authors = [Wanted(USER, int(part.entry.head)) for part in found]
        if not all(one.key in known and known[one.key].entry.present for one in authors):
            known = await self._authors({one.key: one for one in authors}, known)
        return [_authored(part, known[author.key]) for part, author in zip(found, authors, strict=True)]

    async def _authors(self, wanted: Mapping[str, Wanted], known: Mapping[str, Part]) -> Mapping[str, Part]:
        """`known` with all authors. An author absent from the cache is read from MongoDB.

        The reason: the cached absence may be older than the post, which has another watermark.
        """
        found = {**known, **await self._path.get([one for key, one in wanted.items() if key not in known])}
        absent = [one for key, one in wanted.items() if not found[key].entry.present]
        if absent:
            found |= await self._path.from_documents(absent, Origin.MISS)
        return found


def _authored(found: Part, author: Part) -> Item:
    head = author.entry.head if author.entry.present else None
    return Item(with_author(found.entry.body, head), (found, author))


def _absent(found: Part) -> Answer:
    return Answer(None, "", (found,))


def _version_of_page(ids: Part, keys: Iterable[str], items: Iterable[Item], cursor: str | None) -> str:
    """A list has too many parts to name each: its version is a hash of ids, versions and cursor."""
    named = [
        f"{key}@{'+'.join(part.version for part in item.parts)}"
        for key, item in zip(keys, items, strict=True)
    ]
    digest = hashlib.sha256("\n".join([*named, cursor or ""]).encode()).hexdigest()[:32]
    return f"{MODEL_VERSION}.{ids.proof.epoch}.{digest}"
