"""`stack.json`: the servers of a stack folder, with their addresses, passwords and processes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.stack.servers.process import ProcessIdentity

STORES = ("mysql", "mongodb", "redis")


@dataclass
class ServerState:
    """One recorded server; `process` and `log` are None for a server given by URL."""

    admin_url: str
    port: int | None = None
    log: str | None = None
    process: ProcessIdentity | None = None

    def is_running(self) -> bool:
        """Whether the recorded process lives; a server given by URL counts as running."""
        return self.log is None or (self.process is not None and self.process.is_alive())

    def summary(self) -> dict[str, Any]:
        """The state without secrets."""
        pid = self.process.pid if self.process is not None and self.process.is_alive() else None
        return {"running": self.is_running(), "port": self.port, "pid": pid, "log": self.log}


@dataclass
class StackState:
    """All of `stack.json`. `passwords`: store -> account -> password. `environment`: empty until start."""

    path: Path
    servers: dict[str, ServerState] = field(default_factory=dict)
    passwords: dict[str, dict[str, str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "StackState":
        """The recorded state of a stack folder; empty if there is no record."""
        state = cls(directory / "stack.json")
        if state.path.exists():
            recorded = json.loads(state.path.read_text())
            names = [name for name in recorded if name not in ("passwords", "environment")]
            state.servers = {name: _server(recorded[name]) for name in names}
            state.passwords = recorded["passwords"]
            state.environment = recorded["environment"]
        return state

    @property
    def cluster(self) -> tuple[str, int] | None:
        """The engine and the number of primaries, if nodes such as `valkey-1` are in place of `redis`."""
        nodes = [name for name in self.servers if name not in STORES]
        return (nodes[0].partition("-")[0], len(nodes) // 2) if nodes else None

    def of(self, store: str) -> ServerState | None:
        """The server of a store; of a cluster, a node that runs."""
        nodes = [each for name, each in self.servers.items() if name not in STORES and each.is_running()]
        return self.servers.get(store) or (nodes[0] if store == "redis" and nodes else None)

    def write(self) -> None:
        """Replace the file in one step; only its owner may read it."""
        text = json.dumps(self._content(), indent=2)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(text + "\n")
        new.replace(self.path)

    def public(self) -> dict[str, Any]:
        """The output of `up --json`: each server with its administrator's URL, and the environment."""
        servers = {
            name: {**server.summary(), "admin_url": server.admin_url} for name, server in self.servers.items()
        }
        return {**servers, "environment": self.environment}

    def processes(self) -> list[ProcessIdentity]:
        """The live processes of this stack."""
        found = [server.process for server in self.servers.values() if server.process is not None]
        return [process for process in found if process.is_alive()]

    def forget_processes(self) -> None:
        """Record that no server runs."""
        for server in self.servers.values():
            server.process = None
        self.write()

    def is_up(self) -> bool:
        """Whether all was started and still runs."""
        return bool(self.environment) and all(server.is_running() for server in self.servers.values())

    def _content(self) -> dict[str, Any]:
        servers: dict[str, Any] = {}
        for name, server in self.servers.items():
            process = server.process and {"pid": server.process.pid, "start_time": server.process.start_time}
            servers[name] = {
                "admin_url": server.admin_url,
                "port": server.port,
                "log": server.log,
                "process": process,
            }
        return {**servers, "passwords": self.passwords, "environment": self.environment}


def _server(recorded: dict[str, Any]) -> ServerState:
    process = recorded["process"]
    return ServerState(
        recorded["admin_url"],
        recorded["port"],
        recorded["log"],
        ProcessIdentity(**process) if process else None,
    )
