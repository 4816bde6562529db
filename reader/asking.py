"""Requests to several shards, in one write for each node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reader.errors import CacheBypassed
from reader.following import Following
from reader.node import Node
from reader.strand import Request, Strand

Asked = tuple[Strand, Iterable[bytes], int, Callable[[list[Any]], Any]]  # as Following.ask takes


def by_strand(following: Following, keys: Sequence[str]) -> dict[Strand, Sequence[str]]:
    if len(following.strands) == 1:
        return {following.strands[0]: keys}
    found: dict[Strand, list[str]] = {}
    for key in keys:
        found.setdefault(following.strand_of(key), []).append(key)
    return {**found}


async def ask_all(following: Following, asked: Sequence[Asked]) -> list[Any]:
    """A result may be a CacheBypassed, or another error if a reply cannot be read."""
    if len(asked) == 1:
        return [await following.ask(*asked[0])]
    futures: list[asyncio.Future[Any]] = []
    of_nodes: dict[Node, tuple[list[bytes], list[Request]]] = {}
    for strand, commands, replies, read in asked:
        futures.append(asyncio.get_running_loop().create_future())
        request = Request(strand, replies, read, futures[-1])
        if strand.node is None or following.reason(strand) is not None:
            request.fail()
        else:
            following.metrics.redis_commands.add(amount=replies)
            packed, requests = of_nodes.setdefault(strand.node, ([], []))
            packed += commands
            requests.append(request)
    for node, (packed, requests) in of_nodes.items():
        try:
            await node.send(b"".join(packed), *requests)
        except CacheBypassed:
            for request in requests:
                request.fail()
    return await asyncio.gather(*futures, return_exceptions=True)
