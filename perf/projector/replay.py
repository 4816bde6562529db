"""One backlog in MySQL for many runs: MongoDB and Redis go back to their state before the backlog."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from ops.stack import Stack
from ops.stack.servers.server import Server

CACHE_GB = 8.0  # the local stack's own is 1


class Replay:
    """Keeps the present state of MongoDB and Redis; no projector may run. `restore` brings it back."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._servers: list[Server] = [stack.mongodb, stack.redis]
        for server in self._servers:
            server.stop()
            _copy(server.data, _kept(server))
        self._start(CACHE_GB)

    def restore(self, cache_gb: float = CACHE_GB) -> None:
        for server in self._servers:
            server.kill()
            shutil.rmtree(server.data)
            _copy(_kept(server), server.data)
        self._start(cache_gb)

    def _start(self, cache_gb: float) -> None:
        for server in self._servers:
            server.start()
        set_mongodb_cache(self._stack, cache_gb)


def set_mongodb_cache(stack: Stack, gb: float) -> None:
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as mongodb:
        size = f"cache_size={round(gb * 1024)}MB"
        mongodb.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=size)


def _kept(server: Server) -> Path:
    return server.directory / "kept"


def _copy(folder: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", str(folder), str(to)], check=True)
