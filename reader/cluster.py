"""The nodes of a cluster: which has which shard is asked once for all, and again when a strand is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from reader.node import Node
from reader.read_model.shards import owners
from reader.strand import Strand
from reader.wire import slots
from tidemark.redis_url import RedisUrl, node_at

PAUSE_SECONDS = 0.1  # between two looks at the map
log = structlog.get_logger()


class Cluster:
    """Strands move to other connections when the map says so. The others stay where they are."""

    def __init__(
        self, url: RedisUrl, strands: Sequence[Strand], make_node: Callable[[str, Sequence[Strand]], Node]
    ) -> None:
        self._strands = strands
        self._make_node = make_node
        self._to_ask = deque(url.nodes)
        self._nodes: dict[str, tuple[Node, asyncio.Task[None]]] = {}  # by URL
        self._doubt = asyncio.Event()
        self._told = True

    def doubt(self) -> None:
        """A shard may be elsewhere."""
        self._doubt.set()

    async def run(self) -> None:
        """Follow all shards until cancelled."""
        try:
            while True:
                self._doubt.clear()
                await self._look()
                await asyncio.sleep(PAUSE_SECONDS)
                if all(strand.node is not None for strand in self._strands):
                    await self._doubt.wait()
        finally:
            await _end([task for _, task in self._nodes.values()])

    async def _look(self) -> None:
        """Ask one node after the other in turn: one that is cut off has an old map."""
        for _ in range(len(self._to_ask)):
            url = self._to_ask[0]
            self._to_ask.rotate(-1)
            reply = await slots(url)
            if not isinstance(reply, Exception):
                self._told = True
                found = owners(reply, [strand.shard for strand in self._strands])
                await self._place({number: node_at(url, *where) for number, where in found.items()})
                return
            if self._told:  # else it was said
                log.warning("a node does not tell where the shards are", error=repr(reply))
        self._told = False

    async def _place(self, urls: Mapping[int, str]) -> None:
        """Each strand on the node with this URL."""
        wanted: dict[str, list[Strand]] = {}
        for strand in self._strands:
            url = urls.get(strand.shard.number, "")
            node = self._nodes[url][0] if url in self._nodes else None
            if strand.node is not node or not node:
                if strand.node is not None:
                    strand.node.give(strand)
                wanted.setdefault(url, []).append(strand)
        wanted.pop("", None)  # their slots are served nowhere
        for url, strands in wanted.items():
            if url in self._nodes:
                for strand in strands:
                    self._nodes[url][0].take(strand)
            else:
                node = self._make_node(url, strands)
                self._nodes[url] = node, asyncio.create_task(node.run())
        left = [url for url, (node, _) in self._nodes.items() if not node.strands]
        await _end([self._nodes.pop(url)[1] for url in left])
        self._to_ask = deque(dict.fromkeys([*self._to_ask, *self._nodes]))


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
