"""A local MongoDB node with access control, alone or as one member of a replica set."""

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from ops.stack.errors import ServerFailed
from ops.stack.fetch import programs
from ops.stack.fetch.programs import Program
from ops.stack.servers.ports import LOOPBACK
from ops.stack.servers.process import POLL_SECONDS, Launch, launch_tethered
from ops.stack.servers.server import READY_WITHIN_SECONDS, Server

ADMIN = "admin"
REPLICA_SET = "tidemark"


class MongoDbServer(Server):
    """One mongod; members of a replica set share `key`. Call `initiate` once after the first start of all."""

    name: ClassVar[str] = "mongodb"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        password: str | None = None,
        launch: Launch = launch_tethered,
        key: str | None = None,
    ) -> None:
        super().__init__(directory, port=port, options=options, password=password, launch=launch)
        self.key = key or secrets.token_hex(64)

    @property
    def admin_url(self) -> str:
        """`mongodb://admin:password@127.0.0.1:port/?replicaSet=tidemark&authSource=admin`."""
        hosts = f"{LOOPBACK}:{self.port}"
        return f"mongodb://{ADMIN}:{self.password}@{hosts}/?replicaSet={REPLICA_SET}&authSource=admin"

    @property
    def initiated(self) -> Path:
        """A file with the port at which this node is a member of a replica set."""
        return self.directory / "initiated"

    def program(self) -> Program:
        """mongod."""
        return programs.mongod()

    def prepare(self) -> None:
        """Make the data folder and the key file."""
        super().prepare()
        self.data.mkdir(exist_ok=True)
        key_file = self.directory / "key"
        if not key_file.exists():
            key_file.touch(mode=0o600)
            key_file.write_text(self.key)

    def command(self) -> list[str]:
        """The command, without diagnostic data capture: that would only cost disk here."""
        return [
            *self.program().command,
            f"--dbpath={self.data}",
            f"--bind_ip={LOOPBACK}",
            f"--port={self.port}",
            f"--replSet={REPLICA_SET}",
            f"--keyFile={self.directory / 'key'}",
            "--nounixsocket",
            "--wiredTigerCacheSizeGB=1",  # an upper limit: memory grows with the data
            "--oplogSize=512",
            "--setParameter=diagnosticDataCollectionEnabled=false",
            "--setParameter=shutdownTimeoutMillisForSignaledShutdown=100",  # a lone node has no successor
            *self.options,
        ]

    def is_ready(self) -> bool:
        """Whether the node answers and, as a member of a replica set, has found its role there.

        On a new port it has none, but knows the set.
        """
        moved = self._member_port() not in (None, self.port)
        with self._client(*((ADMIN, self.password) if moved else ())) as client:
            try:
                hello = client.admin.command("replSetGetConfig" if moved else "hello")
            except PyMongoError:
                return False
        is_member = self._member_port() == self.port
        return not is_member or bool(hello.get("isWritablePrimary") or hello.get("secondary"))

    def initiate(self, others: Sequence["MongoDbServer"] = ()) -> None:
        """Make one replica set of this node (its primary) and `others`, and create the administrator.

        All nodes must be started. If that was done before, a lone node on a new port takes its place in the
        set again. Raises ServerFailed.
        """
        if self._member_port() == self.port:
            return
        if not self._knows_admin():
            self._initiate_and_create_admin([self, *others])
        elif self.initiated.exists():
            self._move()
        for node in [self, *others]:
            node.initiated.write_text(str(node.port))

    def _member_port(self) -> int | None:
        return int(self.initiated.read_text()) if self.initiated.exists() else None

    def _move(self) -> None:
        with self._client(ADMIN, self.password) as client:
            configuration = client.admin.command("replSetGetConfig")["config"]
            [member] = configuration["members"]
            member["host"] = f"{LOOPBACK}:{self.port}"
            configuration["version"] += 1
            client.admin.command("replSetReconfig", configuration, force=True)
            self._wait_for_primary(client)

    def _knows_admin(self) -> bool:
        with self._client(ADMIN, self.password) as client:
            try:
                client.admin.command("ping")
            except OperationFailure:
                return False
        return True

    def _initiate_and_create_admin(self, nodes: Sequence["MongoDbServer"]) -> None:
        members = [
            {"_id": number, "host": f"{LOOPBACK}:{node.port}", "priority": 1 if node is self else 0.5}
            for number, node in enumerate(nodes)
        ]
        configuration = {"_id": REPLICA_SET, "members": members, "settings": {"electionTimeoutMillis": 2000}}
        with self._client() as client:  # there is no user yet: the localhost exception lets us in
            if not client.admin.command("hello").get("setName"):
                client.admin.command("replSetInitiate", configuration)
            self._wait_for_primary(client)
            client.admin.command("createUser", ADMIN, pwd=self.password, roles=["root"])

    def _wait_for_primary(self, client: "MongoClient[dict[str, Any]]") -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not client.admin.command("hello").get("isWritablePrimary"):
            if not self.is_running() or time.monotonic() > deadline:
                raise ServerFailed(self.name, "did not become the primary of its replica set", self.log_path)
            time.sleep(POLL_SECONDS)

    def _client(
        self, username: str | None = None, password: str | None = None
    ) -> "MongoClient[dict[str, Any]]":
        return MongoClient(
            LOOPBACK,
            self.port,
            username=username,
            password=password,
            directConnection=True,
            serverSelectionTimeoutMS=2000,
            connectTimeoutMS=2000,
        )
