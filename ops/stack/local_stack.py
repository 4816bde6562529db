"""MySQL, MongoDB and Redis (or a cluster): start, schema and accounts, the record in `stack.json`, stop."""

import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ops.stack.accounts.create import ACCOUNTS, create_accounts
from ops.stack.errors import NotOurs, StackError
from ops.stack.fetch.cache import require_space
from ops.stack.servers.mongodb import MongoDbServer
from ops.stack.servers.mysql import MySqlServer
from ops.stack.servers.process import (
    Launch,
    ProcessIdentity,
    launch_tethered,
    launched_below,
    stop_processes,
)
from ops.stack.servers.redis import RedisServer
from ops.stack.servers.redis_cluster import RedisCluster
from ops.stack.servers.server import STOPPED_WITHIN_SECONDS, Server
from ops.stack.state import STORES, ServerState, StackState

ServerType = TypeVar("ServerType", bound=Server)
SERVERS: Mapping[str, type[Server]] = {"mysql": MySqlServer, "mongodb": MongoDbServer, "redis": RedisServer}


class Stack:
    """The three servers of one folder, each on a loopback port, and the accounts of the services.

    `directory` None: a temporary folder, which `stop` removes; any other keeps data, ports and passwords for
    the next start. `ports` fixes ports by store (`mysql`, `mongodb`, `redis`). `external`: store -> the
    administrator's URL of a server to use instead of starting one. `cluster`: `redis` or `valkey`, and the
    number of primaries, in place of one Redis. The servers end with this process, unless `launch` is
    `launch_detached`. Raises StackError if the folder has another kind of Redis.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        ports: Mapping[str, int] | None = None,
        mysql_options: Sequence[str] = (),
        external: Mapping[str, str] | None = None,
        cluster: tuple[str, int] | None = None,
        launch: Launch = launch_tethered,
    ) -> None:
        self._temporary = directory is None
        self.directory = (directory or Path(tempfile.mkdtemp(prefix="tidemark-"))).absolute()
        self.external = dict(external or {})
        self.state = StackState.read(self.directory)
        self.servers: dict[str, Server] = {}
        self.cluster: RedisCluster | None = None
        self._fixed = dict(ports or {})
        wanted = {**self._recorded_ports(), **self._fixed}
        kind = self._kind_of_redis(cluster)
        for store, create in SERVERS.items():
            passwords = self.state.passwords.setdefault(store, _new_passwords(store))
            if store == "redis" and kind is not None:
                admin = passwords["admin"]
                self.cluster = RedisCluster(
                    self.directory, *kind, ports=wanted, password=admin, launch=launch
                )
                self.servers |= self.cluster.nodes
            elif store not in self.external:
                self.servers[store] = create(
                    self.directory / store,
                    port=wanted.get(store),
                    options=mysql_options if store == "mysql" else (),
                    password=passwords["admin"],
                    launch=launch,
                )

    @property
    def mysql(self) -> MySqlServer:
        """The MySQL server. Raises NotOurs if it was given by URL."""
        return self._own("mysql", MySqlServer)

    @property
    def mongodb(self) -> MongoDbServer:
        """The MongoDB server. Raises NotOurs if it was given by URL."""
        return self._own("mongodb", MongoDbServer)

    @property
    def redis(self) -> RedisServer:
        """The Redis server. Raises NotOurs if it was given by URL."""
        return self._own("redis", RedisServer)

    def environment(self) -> dict[str, str]:
        """The `TIDEMARK_*_URL` variables of the services: name -> URL; empty before `start`."""
        return dict(self.state.environment)

    def adopt(self) -> list[str]:
        """Take over the folder's running servers on the wanted ports, and stop all others that run there."""
        for store, server in self.servers.items():
            recorded = self.state.servers.get(store)
            if recorded is not None and recorded.port == server.port and recorded.is_running():
                server.identity = recorded.process
        stop_processes([*self._not_ours()], STOPPED_WITHIN_SECONDS)
        return [store for store, server in self.servers.items() if server.is_running()]

    def start(self) -> None:
        """Start all servers at once and wait until services can use them; on a failure stop those again.

        A server gets another port if the one of the last start is taken. Raises ServerFailed, PortTaken,
        ProgramMissing, DownloadFailed; StackError if the stack is up.
        """
        if self._not_ours():
            raise StackError(
                f"a stack is up in {self.directory}: stop it first (python -m ops.stack down --dir ...)"
            )
        require_space(self.directory)
        with ExitStack() as undo:
            undo.callback(self._stop, {each.identity for each in self.servers.values() if each.is_running()})
            for store, server in self.servers.items():
                server.program()
                if not (server.is_running() or store in self._fixed):
                    server.find_port()
            self._record()  # before any password reaches a data folder
            for server in self.servers.values():
                server.launch()
                self._record()
            for server in self.servers.values():
                server.wait_until_ready()
            self._open_for_services()
            undo.pop_all()

    def stop(self) -> None:
        """Stop all servers; kill those that are too slow, and those whose data is temporary."""
        self._stop(set())

    def launch(self, store: str) -> None:
        """Start one server that has ended, without waiting for it. Raises PortTaken or ServerFailed."""
        self.servers[store].launch()
        self._record()

    def _stop(self, kept: set[ProcessIdentity | None]) -> None:
        running = {server.identity for server in self.servers.values() if server.identity is not None}
        seconds = 0.0 if self._temporary else STOPPED_WITHIN_SECONDS
        stop_processes([*(running.union(launched_below(self.directory)) - kept)], seconds)
        if self._temporary and not kept:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _own(self, store: str, kind: type[ServerType]) -> ServerType:
        server = self.servers.get(store)
        if not isinstance(server, kind):
            where = "at a URL that was given" if store in self.external else "as a cluster"
            raise NotOurs(f"{store} is used {where}; only a server of this stack can be disturbed")
        return server

    def _kind_of_redis(self, cluster: tuple[str, int] | None) -> tuple[str, int] | None:
        recorded = self.state.cluster
        if cluster is not None and self.state.servers and cluster != recorded:
            raise StackError(f"{self.directory} uses another kind of Redis: take another folder (--dir)")
        return None if "redis" in self.external else cluster or recorded

    def _admin_url(self, store: str) -> str:
        if store == "redis" and self.cluster is not None:
            return self.cluster.admin_url
        return self.state.servers[store].admin_url

    def _not_ours(self) -> set[ProcessIdentity]:
        own = {server.identity for server in self.servers.values()}
        return {*StackState.read(self.directory).processes(), *launched_below(self.directory)} - own

    def _recorded_ports(self) -> dict[str, int]:
        return {store: each.port for store, each in self.state.servers.items() if each.port is not None}

    def _record(self) -> None:
        given = {store: ServerState(url) for store, url in self.external.items()}
        self.state.servers = given | {
            name: ServerState(server.admin_url, server.port, str(server.log_path), server.identity)
            for name, server in self.servers.items()
        }
        self.state.write()

    def _open_for_services(self) -> None:
        if "mongodb" in self.servers:
            self.mongodb.initiate()
        if self.cluster is not None:
            self.cluster.join()
        self.state.environment = {
            f"TIDEMARK_{account}_{store}_URL".upper(): url
            for store in STORES
            for account, url in create_accounts(
                store, self._admin_url(store), self.state.passwords[store]
            ).items()
        }
        self._record()


def _new_passwords(store: str) -> dict[str, str]:
    return {account: secrets.token_urlsafe(18) for account in ("admin", *ACCOUNTS[store])}
