"""The topology of the cache: the node of each shard. One server holds all, a cluster says itself."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import structlog

from binlog_projector.errors import CacheMoved, CacheUnavailable
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores.cache import CacheStage, cache_errors, connect
from binlog_projector.stores.cache_nodes import CacheNode
from binlog_projector.stores.document_store import DocumentStore
from reader.read_model.control import Serving
from reader.read_model.shards import owners, shards
from tidemark.redis_url import RedisUrl, node_at

log = structlog.get_logger()


class CacheTopology:
    """Opens the nodes of the cache."""

    def __init__(self, url: RedisUrl, metrics: ProjectorMetrics, chance: random.Random) -> None:
        self.url = url
        self.metrics = metrics
        self.chance = chance
        self.nodes: Mapping[int, str] = {}  # as of the last `open`

    def open(self, documents: DocumentStore) -> list[CacheNode]:
        """A node for each server that has shards. A shard that nobody serves goes with others, and waits."""
        self.nodes = self._look()
        self.forget(documents.serving())
        made = []
        for node, its in by_node(self.nodes).items():
            client = connect(node)
            stages = [
                CacheStage(client, documents, self.metrics, self.chance, shard)
                for shard in shards(self.url.shards)
                if shard.number in its
            ]
            made.append(CacheNode(client, stages))
        return made

    def forget(self, serving: Serving) -> None:
        """Remove the watermarks of another number of shards: readers of those then ask MongoDB."""
        if not (self.url.cluster and serving.epochs) or len(serving.epochs) == self.url.shards:
            return
        former = replace(self.url, shards=len(serving.epochs))
        try:
            for node, its in by_node(find_nodes(former, self.nodes.values())).items():
                with connect(node) as client, cache_errors():
                    for shard in its:
                        client.delete(shards(former.shards)[shard].watermark_key)
        except CacheUnavailable as error:
            log.warning("watermarks of former shards are left", shards=former.shards, error=str(error))

    def demand_unmoved(self) -> None:
        """Raises CacheMoved if shards lie on other nodes than those that `open` found."""
        if self.url.cluster and self._look() != self.nodes:
            raise CacheMoved("shards of the cache lie on other nodes now")

    def _look(self) -> dict[int, str]:
        """The node of every shard. While no node tells, nothing has changed."""
        try:
            found = find_nodes(self.url, self.nodes.values())
        except CacheUnavailable as error:
            log.warning("cache unavailable", error=str(error))
            found = dict(self.nodes)
        any_node = next(iter(found.values()), self.url.nodes[0])
        return {shard: found.get(shard, any_node) for shard in range(self.url.shards)}


def find_nodes(url: RedisUrl, known: Iterable[str] = ()) -> dict[int, str]:
    """Number of each shard -> the URL of its node. A shard that nobody serves is left out.

    All nodes are asked, because one that is cut off from the others does not know of a failover. Raises
    CacheUnavailable if none answers.
    """
    if not url.cluster:
        return {0: url.nodes[0]}
    asked = list(dict.fromkeys((*known, *url.nodes)))
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [*pool.map(partial(_view, url), asked)]
    views = [one for one in answers if not isinstance(one, CacheUnavailable)]
    if not views:
        raise next(one for one in answers if isinstance(one, CacheUnavailable))
    return agreed(views)


def agreed(views: Iterable[Mapping[int, str]]) -> dict[int, str]:
    """Shard -> the node that most views name."""
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for view in views:
        for shard, node in view.items():
            votes[shard][node] += 1
    return {shard: votes[shard].most_common(1)[0][0] for shard in sorted(votes)}


def by_node(nodes: Mapping[int, str]) -> dict[str, list[int]]:
    """URL of each node -> the numbers of its shards."""
    found: dict[str, list[int]] = {}
    for shard, node in nodes.items():
        found.setdefault(node, []).append(shard)
    return found


def address(node: str) -> str:
    """`host:port` of a node's URL."""
    return urlsplit(node).netloc.rpartition("@")[2]


def _view(url: RedisUrl, node: str) -> dict[int, str] | CacheUnavailable:
    """Where the shards are, as one node sees it."""
    try:
        with connect(node) as client, cache_errors():
            found = owners(client.execute_command("CLUSTER", "SLOTS"), shards(url.shards))
    except CacheUnavailable as error:
        return error
    return {shard: node_at(node, *where) for shard, where in found.items()}
