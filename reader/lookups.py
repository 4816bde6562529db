"""Look-ups on one node: one MGET for each shard at a time. Keys wanted meanwhile go into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from reader.asking import ask_all, by_strand
from reader.errors import CacheBypassed
from reader.following import Following
from reader.named import Position
from reader.parts import Origin
from reader.read_model.cached_values import Entry, decode
from reader.strand import Strand
from reader.wire import packed

MGET_KEYS = 255


class Looked(NamedTuple):
    """The entries, valid at `position`, or at that in `positions`. Keys that cannot be asked are left out."""

    entries: dict[str, Entry | None]
    position: Position
    positions: Mapping[str, Position] = MappingProxyType({})

    def at(self, key: str) -> Position:
        return self.positions.get(key, self.position) if self.positions else self.position


class Lookups:
    """Each value is decoded once."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._waiting: list[tuple[Sequence[str], asyncio.Future[Looked]]] = []
        self._task: asyncio.Task[None] | None = None

    def get(self, keys: Sequence[str]) -> asyncio.Future[Looked]:
        """The entries of at most 255 keys."""
        future: asyncio.Future[Looked] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._look(*self._take())
        finally:
            self._task = None

    def _take(self) -> tuple[list[str], list[asyncio.Future[Looked]]]:
        """The oldest requests whose keys fit into one MGET, at least one."""
        keys: dict[str, None] = {}
        futures: list[asyncio.Future[Looked]] = []
        for wanted, future in self._waiting:
            if futures and len(keys) + len(wanted) > MGET_KEYS:
                break
            keys.update(dict.fromkeys(wanted))
            futures.append(future)
        del self._waiting[: len(futures)]
        return list(keys), futures

    async def _look(self, keys: list[str], futures: list[asyncio.Future[Looked]]) -> None:
        waiting = [future for future in futures if not future.done()]
        asked = [
            (strand, [_mget(strand, some)], 1, partial(self._looked, some))
            for strand, some in by_strand(self._following, keys).items()
        ]
        try:
            if len(asked) == 1:
                looked: Looked = await self._following.ask(*asked[0])
            else:
                looked = together(await ask_all(self._following, asked))
        except CacheBypassed as bypassed:
            for future in waiting:
                if not future.done():
                    future.set_exception(bypassed)
        else:
            for future in waiting:
                if not future.done():
                    future.set_result(looked)

    def _looked(self, keys: Sequence[str], replies: Sequence[Sequence[bytes | None]]) -> Looked:
        following, entries = self._following, dict(zip(keys, map(decode, replies[0]), strict=False))
        for key, entry in entries.items():
            if entry is not None:
                following.replica.put(key, entry)
        return Looked(entries, following.position)


def together(results: Sequence[Looked | BaseException]) -> Looked:
    """Raises CacheBypassed if nobody has answered."""
    looked = [one for one in results if isinstance(one, Looked)]
    for result in results:
        if isinstance(result, BaseException) and not (looked and isinstance(result, CacheBypassed)):
            raise result
    if len(looked) == 1:
        return looked[0]
    if not looked:
        raise CacheBypassed(Origin.UNAVAILABLE)
    first, entries, positions = looked[0], dict[str, Entry | None](), dict[str, Position]()
    for one in looked:
        entries |= one.entries
        if one.positions or one.position != first.position:
            positions |= {key: one.at(key) for key in one.entries}
    return Looked(entries, first.position, positions)


def _mget(strand: Strand, keys: Iterable[str]) -> bytes:
    names = [strand.names_begin + key for key in keys]
    return packed("MGET", *names, strand.shard.watermark_key)
