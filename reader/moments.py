"""Moments of MongoDB that answers share: what several answers want at once is read once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reader.document_store import DocumentStore, Moment
from reader.parts import Wanted, WantedPage
from reader.read_model.cached_values import Entry, Watermark, decode

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Shared:
    """A moment, and the reads of its parts that are under way, by key."""

    moment: Moment
    reads: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)


class Moments:
    """Raises DocumentsUnavailable, MomentGone. Reads are tasks: a cancelled caller ends none."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._reading: asyncio.Task[Shared] | None = None
        self._next: asyncio.Task[Shared] | None = None
        self._at: dict[Hashable, asyncio.Task[Any]] = {}  # by lineage

    async def present(self) -> Shared:
        """A moment that is read after this call. Calls during a read share the next one."""
        if self._next is None:
            self._next = asyncio.create_task(self._read_present(self._reading))
        return await _result(self._next)

    async def at(self, watermark: Watermark) -> Shared:
        if watermark.lineage not in self._at:
            _start(self._read_at(watermark), self._at, [watermark.lineage])
        shared: Shared = await _result(self._at[watermark.lineage])
        return shared

    async def entries(self, shared: Shared, wanted: Sequence[Wanted | WantedPage]) -> dict[str, Entry]:
        """Key -> entry at that moment."""
        new = [one for one in wanted if one.key not in shared.reads]
        if new:
            _start(self._read(shared.moment, new), shared.reads, [one.key for one in new])
        tasks = {shared.reads[one.key] for one in wanted}
        read = [await _result(task) for task in tasks]
        return {one.key: next(each[one.key] for each in read if one.key in each) for one in wanted}

    async def _read_present(self, former: asyncio.Task[Shared] | None) -> Shared:
        if former is not None:
            await asyncio.wait([former])
        self._reading, self._next = self._next, None
        return Shared(await self._documents.present())

    async def _read_at(self, watermark: Watermark) -> Shared:
        return Shared(await self._documents.at(watermark))

    async def _read(self, moment: Moment, wanted: Sequence[Wanted | WantedPage]) -> dict[str, Entry]:
        values = await self._documents.values(moment, wanted)
        return {key: entry for key, value in values.items() if (entry := decode(value)) is not None}


def _start(
    reading: Coroutine[Any, Any, Any], under_way: MutableMapping[Hashable, Any], keys: Sequence[Hashable]
) -> None:
    """Begin a read that others join by its keys until it ends."""

    def ended(task: asyncio.Task[Any]) -> None:
        for key in keys:
            del under_way[key]

    task = asyncio.create_task(reading)
    task.add_done_callback(ended)
    under_way.update(dict.fromkeys(keys, task))


async def _result(task: asyncio.Task[T]) -> T:
    await asyncio.wait([task])
    return task.result()
