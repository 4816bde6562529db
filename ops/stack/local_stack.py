"""MySQL, MongoDB and Redis together: start, schema and accounts, the record in `stack.json`, stop."""

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
from ops.stack.servers.mongodb import MongoDbServer
from ops.stack.servers.mysql import MySqlServer
from ops.stack.servers.process import Launch, launch_tethered, launched_below, stop_processes
from ops.stack.servers.redis import RedisServer
from ops.stack.servers.server import STOPPED_WITHIN_SECONDS, Server
from ops.stack.state import STORES, ServerState, StackState

ServerType = TypeVar("ServerType", bound=Server)
SERVERS: Mapping[str, type[Server]] = {"mysql": MySqlServer, "mongodb": MongoDbServer, "redis": RedisServer}


class Stack:
    """The three servers of one folder, each on a loopback port, and the accounts of the services.

    `directory` None: a temporary folder, which `stop` removes; any other keeps data, ports and passwords for
    the next start. `ports` fixes ports by store (`mysql`, `mongodb`, `redis`). `external`: store -> the
    administrator's URL of a server to use instead of starting one. The servers end with this process, unless
    `launch` is `launch_detached`.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        ports: Mapping[str, int] | None = None,
        mysql_options: Sequence[str] = (),
        external: Mapping[str, str] | None = None,
        launch: Launch = launch_tethered,
    ) -> None:
        self._temporary = directory is None
        self.directory = (directory or Path(tempfile.mkdtemp(prefix="tidemark-"))).absolute()
        self.external = dict(external or {})
        self.state = StackState.read(self.directory)
        self.servers: dict[str, Server] = {}
        wanted = self._ports(ports or {})
        for store, create in SERVERS.items():
            passwords = self.state.passwords.setdefault(store, _new_passwords(store))
            if store not in self.external:
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

    def start(self) -> None:
        """Start all servers at once and wait until services can use them; on a failure stop all.

        Raises ServerFailed, PortTaken, ProgramMissing, DownloadFailed; StackError if the stack is up.
        """
        own = {server.identity for server in self.servers.values()}
        if {*StackState.read(self.directory).processes(), *launched_below(self.directory)} - own:
            raise StackError(
                f"a stack is up in {self.directory}: stop it first (python -m ops.stack down --dir ...)"
            )
        with ExitStack() as undo:
            undo.callback(self.stop)
            for server in self.servers.values():
                server.program()
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
        running = {server.identity for server in self.servers.values() if server.identity is not None}
        seconds = 0.0 if self._temporary else STOPPED_WITHIN_SECONDS
        stop_processes([*running.union(launched_below(self.directory))], seconds)
        if self._temporary:
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
            raise NotOurs(
                f"{store} is used at a URL that was given; only a server of this stack can be disturbed"
            )
        return server

    def _ports(self, asked: Mapping[str, int]) -> dict[str, int]:
        recorded = {
            store: server.port for store, server in self.state.servers.items() if server.port is not None
        }
        return {**recorded, **asked}

    def _record(self) -> None:
        for store in STORES:
            server = self.servers.get(store)
            self.state.servers[store] = (
                ServerState(self.external[store])
                if server is None
                else ServerState(server.admin_url, server.port, str(server.log_path), server.identity)
            )
        self.state.write()

    def _open_for_services(self) -> None:
        if "mongodb" in self.servers:
            self.mongodb.initiate()
        self.state.environment = {
            f"TIDEMARK_{account}_{store}_URL".upper(): url
            for store in STORES
            for account, url in create_accounts(
                store, self.state.servers[store].admin_url, self.state.passwords[store]
            ).items()
        }
        self._record()


def _new_passwords(store: str) -> dict[str, str]:
    return {account: secrets.token_urlsafe(18) for account in ("admin", *ACCOUNTS[store])}
