"""Tidemark's services leave the machine to another lane for its turn."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from ops.system import System


@contextlib.contextmanager
def services_paused(system: System) -> Iterator[None]:
    services = [child.identity for child in system.children.values()]
    for service in services:
        service.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for service in services:
            service.send(signal.SIGCONT)
