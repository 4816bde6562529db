"""A local Redis or Valkey Cluster: primaries, which share the slots, and a replica of each."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.stack.cluster import BUS, join
from ops.stack.fetch import programs
from ops.stack.fetch.programs import Program
from ops.stack.servers.ports import LOOPBACK, free_port, steady_port
from ops.stack.servers.process import Launch, launch_tethered
from ops.stack.servers.redis import ADMIN, RedisServer

NODE_TIMEOUT_MS = 2_000  # a primary that is silent for longer is replaced
FEWEST_PRIMARIES = 3  # of which two can vote when one is lost
PROGRAMS: Mapping[str, Callable[[], Program]] = {
    "redis": programs.redis_server,
    "valkey": programs.valkey_server,
}


class ClusterNode(RedisServer):
    """One node. Its folder has the slots and the other nodes, so it comes back as it was."""

    def __init__(
        self, directory: Path, engine: str = "redis", *, port: int | None = None, **more: Any
    ) -> None:
        super().__init__(directory, port=port or free_port(BUS), **more)
        self.engine = engine

    @property
    def configuration(self) -> Path:
        """A file, because `ps` shows the options of a command."""
        return self.directory / "node.conf"

    def program(self) -> Program:
        """redis-server or valkey-server."""
        return PROGRAMS[self.engine]()

    def find_port(self) -> None:
        """As every server; the port for other nodes is free as well."""
        self.port = steady_port(f"{self.engine} in {self.directory.name}", self.port, beside=BUS)

    def prepare(self) -> None:
        """The password for a primary, too."""
        super().prepare()
        self.configuration.touch(mode=0o600)
        self.configuration.write_text(f"masteruser {ADMIN}\nmasterauth {self.password}\n")

    def command(self) -> list[str]:
        """As one server's. A lost shard leaves the others up, and a new replica gets its copy at once."""
        program, options = self.program().command, super().command()[len(self.program().command) :]
        return [
            *program,
            str(self.configuration),
            *options,
            *("--cluster-enabled", "yes"),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--cluster-announce-ip", LOOPBACK),
            *("--cluster-require-full-coverage", "no"),
            *("--repl-diskless-sync-delay", "0"),
        ]


class RedisCluster:
    """Nodes by name, such as `valkey-1`. In a new cluster, the first half are the primaries.

    `primaries`: at least 3, so that the others can agree that one is lost. `ports`: node -> port.
    """

    def __init__(
        self,
        directory: Path,
        engine: str = "redis",
        primaries: int = FEWEST_PRIMARIES,
        *,
        ports: Mapping[str, int] | None = None,
        password: str | None = None,
        launch: Launch = launch_tethered,
    ) -> None:
        self.engine = engine
        password = password or secrets.token_urlsafe(18)
        self.nodes = {
            name: ClusterNode(
                directory / name, engine, port=(ports or {}).get(name), password=password, launch=launch
            )
            for name in (f"{engine}-{number + 1}" for number in range(2 * primaries))
        }

    @property
    def admin_url(self) -> str:
        """`redis+cluster://admin:password@127.0.0.1:port,127.0.0.1:port/`: all nodes."""
        nodes = [*self.nodes.values()]
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in nodes)
        return f"redis+cluster://{ADMIN}:{nodes[0].password}@{hosts}/"

    def start(self) -> None:
        """Start the nodes that do not run, and join them. Raises as `Server.start`, and StackError."""
        self.launch()
        self.join()

    def launch(self) -> None:
        """Start the nodes that do not run, and wait until each answers."""
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_until_ready()

    def kill(self) -> None:
        """SIGKILL to all nodes."""
        for node in self.nodes.values():
            node.kill()

    def join(self) -> None:
        """Make the running nodes one cluster, new or again, and wait until all see all. Raises StackError."""
        join([node.admin_url for node in self.nodes.values()])
