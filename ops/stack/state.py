"""`stack.json`: which servers a stack folder has, where they listen, who may log in, and which processes they are."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.stack.servers.process import ProcessIdentity

STORES = ("mysql", "mongodb", "redis")


@dataclass
class ServerState:
    """One server as recorded; `process` and `log` are None for a server that was given by URL."""

    admin_url: str
    port: int | None = None
    log: str | None = None
    process: ProcessIdentity | None = None

    def is_running(self) -> bool:
        """Whether that very process lives; a server given by URL is somebody else's to run, and counts as running."""
        return self.log is None or (self.process is not None and self.process.is_alive())

    def summary(self) -> dict[str, Any]:
        """For people and programs that ask; without secrets."""
        pid = self.process.pid if self.process is not None and self.process.is_alive() else None
        return {"running": self.is_running(), "port": self.port, "pid": pid, "log": self.log}


@dataclass
class StackState:
    """All of `stack.json`; `passwords` maps store -> account -> password, `environment` is empty until all is up."""

    path: Path
    servers: dict[str, ServerState] = field(default_factory=dict)
    passwords: dict[str, dict[str, str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "StackState":
        """The recorded state of a stack folder; an empty one when nothing was recorded."""
        state = cls(directory / "stack.json")
        if state.path.exists():
            recorded = json.loads(state.path.read_text())
            state.servers = {name: _server(recorded[name]) for name in STORES if name in recorded}
            state.passwords = recorded["passwords"]
            state.environment = recorded["environment"]
        return state

    def write(self) -> None:
        """Replace the file at once; only its owner may read it."""
        text = json.dumps(self._content(), indent=2)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(text + "\n")
        new.replace(self.path)

    def public(self) -> dict[str, Any]:
        """What `up --json` prints: each server with its administrator's URL, and the environment."""
        servers = {
            name: {**server.summary(), "admin_url": server.admin_url} for name, server in self.servers.items()
        }
        return {**servers, "environment": self.environment}

    def processes(self) -> list[ProcessIdentity]:
        """The processes of this stack that live."""
        found = [server.process for server in self.servers.values() if server.process is not None]
        return [process for process in found if process.is_alive()]

    def forget_processes(self) -> None:
        """Record that nothing of it runs any more."""
        for server in self.servers.values():
            server.process = None
        self.write()

    def is_up(self) -> bool:
        """Whether everything was started and all of it still runs."""
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
