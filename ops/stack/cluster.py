"""The nodes of a Redis or Valkey Cluster, joined."""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ops.stack.errors import StackError
from tidemark.redis_url import RedisUrl

SLOTS = 16_384
BUS = 10_000  # by which a node's port for other nodes lies above that for clients
WHOLE_WITHIN_SECONDS = 60.0
POLL_SECONDS = 0.02
SOCKET_SECONDS = 5.0


@contextmanager
def node_client(url: str) -> Iterator[Redis]:
    """A client of one node alone, which tries once."""
    once = Retry(NoBackoff(), 0)
    with Redis.from_url(url, socket_timeout=SOCKET_SECONDS, retry=once, decode_responses=True) as client:
        yield client


def all_nodes(admin_url: str) -> Sequence[str]:
    """The URL of each node, or of the one server. Raises StackError if a cluster has more than are named."""
    nodes = RedisUrl.parse(admin_url).nodes
    if len(nodes) > 1:
        with node_client(nodes[0]) as client:
            known = [node for node in client.cluster("NODES").values() if "handshake" not in node["flags"]]
        if len(known) > len(nodes):
            raise StackError(f"the cluster has {len(known)} nodes, and the URL names {len(nodes)}: name all")
    return nodes


def is_new(url: str) -> bool:
    """Whether a node serves no slot and knows of none that is served."""
    with node_client(url) as client:
        return bool(client.cluster("INFO")["cluster_slots_assigned"] == "0")


def join(nodes: Sequence[str], seconds: float = WHOLE_WITHIN_SECONDS) -> None:
    """Make the nodes one cluster, new or again, and wait until all see all.

    In a new cluster, the first half share the slots, and each of the others is a replica. Safe to repeat.
    Raises StackError, RedisError.
    """
    with _clients(nodes) as clients:
        _share_slots(clients[: len(nodes) // 2])
        meet(nodes)
        deadline = time.monotonic() + seconds
        while not _is_whole(clients):
            if time.monotonic() > deadline:
                addresses = ", ".join(f"{host}:{port}" for host, port in map(_address, nodes))
                raise StackError(f"{addresses} are not one cluster after {seconds:g} s: see their logs")
            time.sleep(POLL_SECONDS)


def meet(nodes: Sequence[str]) -> None:
    """All meet all: gossip alone takes seconds, and addresses may be others than those that nodes know."""
    with _clients(nodes) as clients:
        for client, own in zip(clients, nodes, strict=True):
            for host, port in (_address(other) for other in nodes if other != own):
                client.cluster("MEET", host, port, port + BUS)


@contextmanager
def _clients(nodes: Sequence[str]) -> Iterator[list[Redis]]:
    with ExitStack() as opened:
        yield [opened.enter_context(node_client(node)) for node in nodes]


def _address(node: str) -> tuple[str, int]:
    """Nodes meet by number, not by name."""
    parts = urlsplit(node)
    return socket.gethostbyname(parts.hostname or ""), parts.port or 6379


def _share_slots(primaries: Sequence[Redis]) -> None:
    bounds = [SLOTS * number // len(primaries) for number in range(len(primaries) + 1)]
    for client, first, end in zip(primaries, bounds, bounds[1:], strict=False):
        if int(client.cluster("INFO")["cluster_slots_assigned"]) < SLOTS:
            with contextlib.suppress(ResponseError):  # an interrupted start has done so
                client.cluster("ADDSLOTSRANGE", first, end - 1)


def _is_whole(clients: Sequence[Redis]) -> bool:
    """Whether all nodes see the same, and all slots served. Lets nodes without slots become replicas."""
    try:
        own = [_own(client) for client in clients]
        replicas = sum("slave" in node["flags"] for node in own)
        is_paired = not _pair(clients, own)
        return is_paired and all(_sees_all(client, len(clients), replicas) for client in clients)
    except RedisError:  # a node loads its copy
        return False


def _own(client: Redis) -> dict[str, Any]:
    return next(node for node in client.cluster("NODES").values() if "myself" in node["flags"])


def _pair(clients: Sequence[Redis], own: Sequence[Mapping[str, Any]]) -> bool:
    """Lets nodes without slots follow primaries without a replica. Whether there were both."""
    followed = {node["master_id"] for node in own}
    alone = [node["node_id"] for node in own if node["slots"] and node["node_id"] not in followed]
    spare = [at for at, node in enumerate(own) if not node["slots"] and "master" in node["flags"]]
    for at, primary in zip(spare, alone, strict=False):
        with contextlib.suppress(ResponseError):  # it does not know the primary yet
            clients[at].cluster("REPLICATE", primary)
    return bool(spare and alone)


def _sees_all(client: Redis, count: int, replicas: int) -> bool:
    info, nodes = client.cluster("INFO"), client.cluster("NODES").values()
    return (
        (info["cluster_state"], info["cluster_slots_ok"]) == ("ok", str(SLOTS))
        and all(node["connected"] and "fail" not in node["flags"] for node in nodes)
        and (len(nodes), sum("slave" in node["flags"] for node in nodes)) == (count, replicas)
        and client.info("replication").get("master_link_status", "up") == "up"
    )
