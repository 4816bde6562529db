"""A primary that the other nodes cannot reach, and clients can: two nodes serve the same slots."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.stack import Stack
from ops.stack.cluster import BUS, node_client
from ops.stack.servers.redis_cluster import PROGRAMS, ClusterNode, RedisCluster
from tests.support.clusters import primaries, started
from tests.support.harness import wait_until
from tests.support.proxy import Proxy
from tests.support.traffic import traffic
from tests.verification.faults.test_cluster import Loss, assert_back, replaced, system_on
from tests.verification.faults.witness import Witness

PATIENCE_MS = 60_000  # for which the primary does not mind to be alone


class BusLink(Proxy):
    """The way to a node's bus. Refuses nodes by the address from which they call."""

    refused = ""

    def _connect(self, client: socket.socket) -> None:
        if client.getpeername()[0] == self.refused:
            client.close()
        else:
            super()._connect(client)


@dataclass(frozen=True)
class Links:
    """The way to each node."""

    to: dict[str, BusLink]  # by the name of the node's folder

    @contextlib.contextmanager
    def alone(self, node: ClusterNode) -> Iterator[None]:
        """The others and this node do not hear each other. It goes on as primary, as if nothing were."""
        own = node.directory.name
        with node_client(node.admin_url) as client:
            client.config_set("cluster-node-timeout", PATIENCE_MS)
        for name, link in self.to.items():
            link.refused = _address(own)
            link.switch(0 if name == own else link.target)
        yield
        for link in self.to.values():
            link.refused = ""
        self.to[own].switch(node.port + BUS)


@contextlib.contextmanager
def links_between(servers: RedisCluster) -> Iterator[Links]:
    """For a cluster that has not been started."""
    with contextlib.ExitStack() as opened:
        links = {name: BusLink(node.port + BUS) for name, node in servers.nodes.items()}
        for name, node in servers.nodes.items():
            opened.enter_context(links[name])
            announced = ("--cluster-announce-bus-port", str(links[name].port))
            node.options += (*announced, "--bind-source-addr", _address(name))
        yield Links(links)


def _address(name: str) -> str:
    """A loopback address of each node: valkey-3 calls from 127.0.0.13."""
    return f"127.0.0.1{name.rpartition('-')[2]}"


@pytest.mark.long
@pytest.mark.parametrize("engine", PROGRAMS)
def test_two_primaries_of_one_slot_leave_nothing_stale(
    shared_stack: Stack, engine: str, tmp_path: Path
) -> None:
    """The cut-off one serves on. A client that comes back to the cluster finds the other."""
    servers = RedisCluster(tmp_path, engine)
    with (
        links_between(servers) as links,
        started(servers) as cluster,
        system_on(shared_stack, cluster) as system,
    ):
        with Witness(shared_stack, system.reading) as witness, traffic(shared_stack, seed=5):
            system.catch_up_and_fill()
            loss = Loss.chosen(cluster)
            with links.alone(loss.node):
                wait_until(lambda: len(serving(servers, loss)) == 2, "two primaries")
                cut_clients(loss.node)  # reader and projector connect again, one by one
                witness.wait_until_fresh(system.connection)
                assert loss.node in serving(servers, loss)
            assert_back(witness, loss.posts, replaced(cluster, loss))
            cluster.mend()
            witness.wait_until_fresh(system.connection)
        system.assert_all_is_well()


def serving(servers: RedisCluster, loss: Loss) -> list[ClusterNode]:
    return [known.node for known in primaries(servers) if known.has(loss.shard.slot)]


def cut_clients(node: ClusterNode) -> None:
    with node_client(node.admin_url) as client:
        for kind in ("pubsub", "normal"):
            client.client_kill_filter(_type=kind, skipme=True)
