"""Leadership: one projector writes, the others stand by; the epoch of the lease fences whoever was paused."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from binlog_projector.control_store import ControlStore, LeaseRecord
from binlog_projector.errors import StoreUnavailable

RENEW_SECONDS = 1.5
DEAD_AFTER_SECONDS = 6.0
LOOK_SECONDS = 0.25
log = structlog.get_logger()


class Standby:
    """Waits for the lease, judging the holder by its renewals and our own monotonic clock only."""

    def __init__(self, control: ControlStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.control = control
        self.monotonic = monotonic
        self.seen: LeaseRecord | None = None
        self.since = 0.0

    @contextlib.contextmanager
    def leadership(self, stopping: threading.Event) -> Iterator[int | None]:
        """The epoch once the lease is ours (None if we were stopped first); renewed until the end, then released."""
        epoch = self._wait(stopping)
        if epoch is None:
            yield None
            return
        log.info("lease taken", epoch=epoch)
        with _renewed(self.control, epoch):
            yield epoch

    def _wait(self, stopping: threading.Event) -> int | None:
        while not stopping.is_set():
            record = self.control.lease()
            if record is None or self._is_free(record):
                epoch = self.control.take_lease(record, identity(os.getpid()))
                if epoch is not None:
                    return epoch
            stopping.wait(LOOK_SECONDS)
        return None

    def _is_free(self, record: LeaseRecord) -> bool:
        if record.released or is_gone(record.holder):
            return True
        if record != self.seen:
            self.seen, self.since = record, self.monotonic()
            return False
        return self.monotonic() - self.since >= DEAD_AFTER_SECONDS


@contextlib.contextmanager
def _renewed(control: ControlStore, epoch: int) -> Iterator[None]:
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                if not control.renew_lease(epoch):
                    log.warning("lease lost", epoch=epoch)
                    return
            except StoreUnavailable as error:
                log.warning("lease not renewed", error=str(error))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)
        with contextlib.suppress(StoreUnavailable):
            control.release_lease(epoch)


def identity(pid: int) -> dict[str, Any]:
    """Which process this is: enough for a successor on the same machine to see at once that it has died."""
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _link("/proc/self/ns/pid"),
        "pid": pid,
        "started": _started(pid),
    }


def is_gone(holder: Mapping[str, Any]) -> bool:
    """True only if the holder ran in our own pid namespace of this boot and is no longer there."""
    here = identity(os.getpid())
    if any(holder.get(name) != here[name] or not here[name] for name in ("host", "boot", "pid_namespace")):
        return False
    return _started(holder["pid"]) != str(holder["started"])


def _started(pid: int) -> str:
    """Start time of a live process in clock ticks since boot; empty for a dead one or a zombie."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _link(path: str) -> str:
    with contextlib.suppress(OSError):
        return str(Path(path).readlink())
    return ""
