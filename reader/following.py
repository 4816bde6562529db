"""The tide: what Redis announces and answers, followed in one order. All entries are valid at one moment.

A message or reply that does not continue the tide is a reset: the replica is emptied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import structlog

from reader.cluster import Cluster
from reader.errors import CacheBypassed
from reader.merging import Merging
from reader.metrics import ReaderMetrics
from reader.named import Named, Position
from reader.node import STALLED, Node
from reader.parts import Origin
from reader.read_model.announcements import Announcement
from reader.read_model.cached_values import Watermark
from reader.read_model.shards import shard_number, shards
from reader.replica import Replica
from reader.strand import Request, Strand, TideBroken
from reader.wire import usable
from tidemark.gtid import GtidSet
from tidemark.redis_url import RedisUrl

log = structlog.get_logger()


class Following:
    """The tide of this process. `tide` is None until a watermark is known.

    `bypass` says why the tide cannot be used now; None: it can. `replica` holds entries valid at the tide.
    `whole`: no shard is away from the tide.
    """

    def __init__(self, url: RedisUrl, replica: Replica, metrics: ReaderMetrics) -> None:
        self.replica = replica
        self.tide: Watermark | None = None
        self.bypass: Origin | None = Origin.UNAVAILABLE
        self.named = Named()
        self.strands = tuple(map(Strand, shards(url.shards)))
        self.whole = not url.cluster
        self.metrics = metrics
        self._merging = Merging(self.strands, self, self._broken) if url.cluster else None
        self._cluster = Cluster(url, self.strands, self._make_node) if url.cluster else None
        self._source = self._cluster or self._make_node(url.text, self.strands)
        self._blind, self._blind_since = 0.0, time.monotonic()
        self._waiters: dict[asyncio.Future[None], GtidSet] = {}

    def _make_node(self, url: str, strands: Sequence[Strand]) -> Node:
        return Node(url, strands, self, self.metrics)

    async def run(self) -> None:
        """Follow the tide until cancelled."""
        await self._source.run()

    def strand_of(self, key: str) -> Strand:
        return self.strands[shard_number(key, len(self.strands))]

    async def ask(
        self, strand: Strand, commands: Iterable[bytes], replies: int, read: Callable[[list[Any]], Any]
    ) -> Any:
        """Send commands, the last of which returns the watermark, alone or as the end of a list.

        `read` gets the replies while the tide is exactly theirs. Raises CacheBypassed.
        """
        node = strand.node
        if strand.bypass is not None or node is None or node.silent >= STALLED:
            raise CacheBypassed(strand.bypass or Origin.UNAVAILABLE)
        self.metrics.redis_commands.add(amount=replies)
        future = asyncio.get_running_loop().create_future()
        await node.send(b"".join(commands), Request(strand, replies, read, future))
        return await future

    def reason(self, strand: Strand) -> Origin | None:
        """Why a shard cannot be asked now."""
        stalled = strand.node is None or strand.node.silent >= STALLED
        return strand.bypass or (Origin.UNAVAILABLE if stalled else None)

    @property
    def position(self) -> Position:
        return self.named.position

    @property
    def away(self) -> list[int]:
        """The numbers of the shards that are not at the tide, or cannot be asked."""
        return [strand.shard.number for strand in self.strands if strand.bypass is not None]

    @property
    def blind_seconds(self) -> float:
        """The time without a usable tide so far."""
        return self._blind + (time.monotonic() - self._blind_since if self.bypass is not None else 0)

    async def reaches(self, gtids: GtidSet, seconds: float) -> bool:
        """Wait until the tide contains `gtids`, at most `seconds`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = gtids
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            del self._waiters[future]
        return True

    def received(self, strand: Strand, message: Announcement) -> None:
        if strand.at is None:
            return  # it came before the watermark's reply, which contains it
        if message.found != strand.lineage:
            raise TideBroken(f"a message continues {message.found}, the tide is {strand.lineage}")
        if self._merging is not None:
            self._merging.received(strand, message)
            return
        names = self.named.add(message.keys, message.counted, last=message.to is not None)
        self.replica.drop(names)
        if message.to is not None:
            strand.at, strand.lineage = message.to, message.to.lineage
            self._advance(message.to)

    def replied(self, request: Request) -> None:
        answer, strand = request.answers[-1], request.strand
        self._check(strand, answer[-1] if isinstance(answer, list) else answer)
        if self._merging is None:
            request.finish()
        elif strand.at is not None:
            self._merging.replied(request)
        if self.bypass is not None:
            self._use()

    def unheard(self, strands: Collection[Strand]) -> None:
        """The tide may go on where it was: while nobody else has one, only its use ends."""
        others = (one for one in self.strands if one.present and one not in strands)
        if self._merging is not None and not all(one.is_unheard for one in others):
            self._merging.leave(strands)
        for strand in strands:
            strand.bypass = strand.bypass or Origin.UNAVAILABLE
        self._doubt()
        self._use()

    def look(self, strands: Collection[Strand]) -> None:
        late = self._merging.look(strands) if self._merging is not None else []
        if late and self._merging is not None:
            log.warning("shards are late; their reads go to MongoDB", shards=numbers(late))
            self.metrics.tide_resets.add("late", amount=len(late))
            self._merging.leave(late)
            self._use()

    def lost(self, strands: Collection[Strand]) -> None:
        if self._merging is not None:
            self._merging.lost(strands)
        else:
            self.strands[0].reset()
            self.ends()
        self._doubt()
        self._use()

    def begins(self, at: Watermark) -> None:
        if self.tide is not None:
            self.ends()
        elif self.bypass is not Origin.UNAVAILABLE:
            self.named.reset()  # there was no watermark, so this one may be of another history
        log.info("follows the tide", lineage=at.lineage)
        self.whole = self._merging is None
        self._advance(at)

    def ends(self) -> None:
        self.named.reset()
        self.tide = None
        self.replica.clear()

    def passes(self, messages: Iterable[Announcement], to: Watermark, *, whole: bool) -> None:
        for message in messages:
            self.named.add(message.keys, message.counted, last=False)
        self.replica.drop(self.named.add((), whole=whole))
        self._advance(to)

    def ticks(self, to: Watermark) -> None:
        if self.tide is None or to.as_of > self.tide.as_of:
            self._advance(to)

    def loses(self, strands: Collection[Strand]) -> None:
        """No message names their entries now. A watch shows no tide, for it may miss a change."""
        self.whole = False
        gone, count = set(numbers(strands)), len(self.strands)
        self.replica.drop_if(lambda key: shard_number(key, count) in gone)

    def is_whole(self) -> None:
        self.whole = True
        if self.named.listener is not None:
            self.named.listener.reset()

    def _check(self, strand: Strand, text: Any) -> None:
        """A reply's watermark has the lineage of the strand, or is the first one."""
        if isinstance(text, Exception):
            raise TideBroken(f"Redis refuses: {text}")
        if strand.at is None:
            bypass, watermark = usable(text)
            if watermark is not None:
                strand.begin(watermark)
            else:
                strand.bypass = bypass
            if watermark is not None and self._merging is None:
                strand.present, strand.bypass = True, None
                self.begins(watermark)
            return
        if text is None or not text.startswith(strand.lineage.encode()):
            raise TideBroken(f"a reply of {text!r}, the tide is {strand.lineage}")
        if strand.bypass is not None and strand.present:
            strand.bypass = None

    def _doubt(self) -> None:
        if self._cluster is not None:
            self._cluster.doubt()

    def _broken(self, strand: Strand, error: Exception) -> None:
        """A reply that waited cannot be read."""
        if strand.node is not None:
            strand.node.broke(strand, error)

    def _use(self) -> None:
        """The tide can be used while some shard can be asked."""
        now = time.monotonic()
        if self.bypass is not None:
            self._blind += now - self._blind_since
        reasons = [strand.bypass for strand in self.strands if strand.bypass is not None]
        can = len(reasons) < len(self.strands)
        self.bypass = None if can else min(reasons, key=lambda origin: origin.rank)
        self._blind_since = now

    def _advance(self, to: Watermark) -> None:
        before, self.tide = self.tide, to
        if self._waiters and (before is None or before.gtid_set != to.gtid_set):
            reached = GtidSet.parse(to.gtid_set)
            for future, gtids in self._waiters.items():
                if not future.done() and reached >= gtids:
                    future.set_result(None)


def numbers(strands: Iterable[Strand]) -> list[int]:
    return sorted(strand.shard.number for strand in strands)
