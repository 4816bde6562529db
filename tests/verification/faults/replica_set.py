"""Three MongoDB nodes: clients know all of them, and a test can hold back what the primary replicates."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from ops.stack import MongoDbServer, Stack
from ops.stack.accounts.create import create_accounts
from reader.read_model.control import journal_id
from tests.support.harness import wait_until

TEST_COMMANDS = ("--setParameter=enableTestCommands=1",)  # for `stopReplProducer`
NODES = 3


class Member(MongoDbServer):
    """One of several nodes. Its address names all of them."""

    members: Sequence[MongoDbServer] = ()

    @property
    def admin_url(self) -> str:
        own, hosts = f"127.0.0.1:{self.port}", [f"127.0.0.1:{member.port}" for member in self.members]
        return super().admin_url.replace(own, ",".join(hosts))


@contextlib.contextmanager
def replica_set(folder: Path) -> Iterator[list[Member]]:
    """Running nodes; the first one is the primary."""
    password, key = secrets.token_urlsafe(18), secrets.token_hex(64)
    nodes = [
        Member(folder / f"node{number}", password=password, key=key, options=TEST_COMMANDS)
        for number in range(NODES)
    ]
    for node in nodes:
        node.members = nodes
    try:
        start(nodes)
        nodes[0].initiate(nodes[1:])
        for node in nodes:
            node.wait_until_ready()
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def start(nodes: Sequence[Member]) -> None:
    for node in nodes:
        node.launch()
    for node in nodes:
        node.wait_until_ready()


def lose_primary(nodes: Sequence[Member]) -> None:
    """Kills all nodes and starts all but the first one again, which elect another primary.

    The others die too because their memory holds writes that were held back.
    """
    for node in nodes:
        node.kill()
    start(nodes[1:])


def service_urls(stack: Stack, node: Member) -> dict[str, str]:
    """The MongoDB URLs of the services, with accounts made for them: variable -> URL."""
    urls = create_accounts("mongodb", node.admin_url, stack.state.passwords["mongodb"])
    return {f"TIDEMARK_{account}_MONGODB_URL".upper(): url for account, url in urls.items()}


@contextlib.contextmanager
def direct(node: Member) -> Iterator[MongoClient[dict[str, Any]]]:
    """The administrator's client of this node alone, whatever its role."""
    with MongoClient[dict[str, Any]](
        "127.0.0.1", node.port, username="admin", password=node.password, directConnection=True
    ) as client:
        yield client


def set_replication(nodes: Sequence[Member], mode: str) -> None:
    """`off`: these nodes follow the primary without applying its writes. `on`: they apply them again."""
    for node in nodes:
        with direct(node) as client:
            fail_point = {"on": "off", "off": "alwaysOn"}[mode]
            client.admin.command("configureFailPoint", "stopReplProducer", mode=fail_point)


def hold_back_a_batch(nodes: Sequence[Member], build: int) -> dict[str, Any]:
    """Stops replication when only the first node has a batch. Returns the batch's journal entry."""

    def held_back() -> dict[str, Any] | None:
        set_replication(nodes[1:], "off")
        for _ in range(10):
            if batch := _unreplicated_batch(nodes[0], build):
                return batch
        set_replication(
            nodes[1:], "on"
        )  # another write of the projector is under way, and would stay so for long
        return None

    return wait_until(held_back, "a batch on one node alone")


def _unreplicated_batch(node: Member, build: int) -> dict[str, Any] | None:
    """The newest batch of this node, if it is on the node's disk and the majority lacks it."""
    with direct(node) as client:
        ours, theirs = (
            client["tidemark"]
            .get_collection("control", read_concern=concern)
            .find_one(
                {"_id": {"$gt": journal_id(build, 0), "$lt": journal_id(build + 1, 0)}}, sort=[("_id", -1)]
            )
            for concern in (ReadConcern("local"), ReadConcern("majority"))
        )
        status = client.admin.command("replSetGetStatus")["optimes"]
    is_safe = status["durableOpTime"] == status["appliedOpTime"]
    return ours if is_safe and ours != theirs else None


def has_rolled_back(node: Member) -> bool:
    """Whether the node has rolled back writes that the others lack."""
    return (node.data / "rollback").exists()
