"""Leadership: one projector writes, the others stand by. The lease's epoch fences a paused leader."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from binlog_projector.errors import StoreUnavailable
from binlog_projector.stores.lease_store import LeaseStore, Said
from reader.read_model.leases import LeaseRecord

RENEW_SECONDS = 1.5
DEAD_AFTER_SECONDS = 6.0
LOOK_SECONDS = 0.25
log = structlog.get_logger()


@dataclass(frozen=True)
class Lease:
    """A lease that is ours while it is renewed. `wanted` is set once another process asks for it."""

    epoch: int
    wanted: threading.Event


class Standby:
    """Waits for a lease. Judges the holder only by its renewals and our own monotonic clock.

    With `asks`, the holder is asked to release the lease, and other standbys leave the lease to this one.
    `looked` gets the lease at each look. `says`: what this process says about itself as the holder.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        asks: bool = False,
        looked: Callable[[LeaseRecord | None], None] = lambda record: None,
        says: Callable[[], Said] = dict,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.asks = asks
        self.looked = looked
        self.says = says
        self.monotonic = monotonic
        self.me = identity(os.getpid())
        self.seen: LeaseRecord | None = None
        self.since = 0.0

    @contextlib.contextmanager
    def leadership(self, *stopping: threading.Event) -> Iterator[Lease | None]:
        """Yield the lease once it is ours, and renew it until the end. None if stopped first."""
        epoch = self._wait(stopping)
        if epoch is None:
            yield None
            return
        log.info("lease taken", lease=self.store.name, epoch=epoch)
        with _renewed(self.store, Lease(epoch, threading.Event()), self.says) as lease:
            yield lease

    def _wait(self, stopping: Sequence[threading.Event]) -> int | None:
        record = None
        while not any(event.is_set() for event in stopping):
            record = self.store.read()
            self.looked(record)
            if record is None or self._is_free(record):
                epoch = self.store.take(record, self.me)
                if epoch is not None:
                    return epoch
            elif self.asks and record.wanted_by != self.me:
                self.store.ask(record.epoch, self.me)
            stopping[0].wait(LOOK_SECONDS)
        if self.asks and record is not None:
            self.store.ask(record.epoch, None)
        return None

    def _is_free(self, record: LeaseRecord) -> bool:
        asker = record.wanted_by
        reserved = asker is not None and asker != self.me and not is_gone(asker)
        if (record.released and not reserved) or is_gone(record.holder):
            return True
        if record != self.seen:
            self.seen, self.since = record, self.monotonic()
            return False
        return self.monotonic() - self.since >= DEAD_AFTER_SECONDS


@contextlib.contextmanager
def _renewed(store: LeaseStore, lease: Lease, says: Callable[[], Said]) -> Iterator[Lease]:
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                record = store.renew(lease.epoch, says())
                if record is None:
                    log.warning("lease lost", lease=store.name, epoch=lease.epoch)
                    return
                if record.wanted_by is not None:
                    lease.wanted.set()
            except StoreUnavailable as error:
                log.warning("lease not renewed", error=str(error))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join(timeout=5)
        with contextlib.suppress(StoreUnavailable):
            store.release(lease.epoch, says())


def name_of(holder: Mapping[str, Any]) -> str:
    """The process in words: `host:pid`."""
    return f"{holder['host']}:{holder['pid']}"


def identity(pid: int) -> dict[str, Any]:
    """Identifies a process, so that a successor on the same machine sees at once that it has died."""
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
