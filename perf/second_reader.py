"""A second reader process of a running system, with other settings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from ops.child import Child
from ops.stack.servers.ports import free_port
from ops.system import System

READY_WITHIN_SECONDS = 30.0
WITHOUT_LOCAL = {"TIDEMARK_READER_LOCAL_MIB": "0"}


@dataclass(frozen=True)
class SecondReader:
    child: Child
    url: str
    admin_url: str


def second_reader(system: System, settings: Mapping[str, str], name: str = "second reader") -> SecondReader:
    """Start it; the system stops it with its own services. Raises ServerFailed."""
    bind, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    binds = {"TIDEMARK_READER_BIND": bind, "TIDEMARK_READER_ADMIN_BIND": admin}
    environment = {**system.environment(), **settings, **binds}
    child = Child(name, ("reader",), environment, system.stack.directory / f"{name.replace(' ', '-')}.log")
    system.children[child.name] = child
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while not _is_ready(f"http://{admin}"):
        system.check()
        if time.monotonic() > deadline:
            raise child.failure(f"was not ready after {READY_WITHIN_SECONDS:g} s")
        time.sleep(0.1)
    return SecondReader(child, f"http://{bind}", f"http://{admin}")


def _is_ready(admin_url: str) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return set(httpx2.get(f"{admin_url}/readyz", trust_env=False).json().values()) == {"ok"}
    return False
