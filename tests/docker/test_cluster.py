"""The nodes of docker/compose.cluster.yaml become one cluster with the services' accounts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ops.stack.accounts.given import make_given_accounts
from ops.stack.cluster import node_client
from tests.docker.compose import CLUSTER, new_secrets
from tests.docker.outside import Outside
from tests.support.harness import wait_until
from tidemark.redis_url import RedisUrl

NODES = ("redis", *(f"redis-{number}" for number in range(2, 7)))


@pytest.mark.server
def test_nodes_are_joined_once_and_meet_again_at_new_addresses(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    secrets = new_secrets(tmp_path / "docker")
    for _ in ("first", "second"):
        with contextlib.ExitStack() as undo:
            outside = Outside(tmp_path, secrets, CLUSTER)
            undo.callback(outside.down)
            outside.up(*NODES)
            accounts = outside.environment("accounts")
            make_given_accounts({"redis": accounts["TIDEMARK_REDIS_ADMIN_URL"]}, accounts)
            ports = {outside.port(node, "6379") for node in NODES}
            reader = RedisUrl.parse(outside.environment("reader-1")["TIDEMARK_READER_REDIS_URL"])
            for node in reader.nodes:
                wait_until(lambda: ports_seen(node) == ports, "the nodes to see each other")  # noqa: B023


def ports_seen(node: str) -> set[int]:
    """Of the nodes that serve slots, as one of them tells its clients."""
    with node_client(node) as client:
        found = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        return {port for _, _, *nodes in found for _, port, *_ in nodes}
