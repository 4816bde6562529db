"""A rebuild: fill a new build beside the one that serves, catch up with MySQL, then switch in one step.

The leader projects into the old build until the new one has caught up. Then it hands over the lease for
the switch. Readers see no change before the switch, so a rebuild can be interrupted at any time.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import structlog

from binlog_projector.backoff import Backoff
from binlog_projector.domain.projections import project
from binlog_projector.errors import CacheUnavailable, NothingServes, Retry, StoreUnavailable, ToldToStop
from binlog_projector.fault_points import reached
from binlog_projector.leading.batcher import Batcher
from binlog_projector.leading.lease import Lease, Standby
from binlog_projector.mysql import failover
from binlog_projector.mysql.failover import Servers
from binlog_projector.mysql.freshness import INTERVAL_SECONDS, ClockThread, Freshness
from binlog_projector.mysql.source import Stream
from binlog_projector.snapshot.snapshot import take_snapshot
from binlog_projector.stores.cache_topology import CacheTopology
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from reader.read_model.control import LONG_AGO, Position
from tidemark.gtid import GtidSet

T = TypeVar("T")
Goal = Callable[[GtidSet], bool]
log = structlog.get_logger()


class Rebuild:
    """One attempt. `building` writes under the lease for making builds, `control` under the leader's."""

    def __init__(
        self,
        servers: Servers,
        control: ControlStore,
        building: ControlStore,
        topology: CacheTopology,
        chance: random.Random,
        stopping: threading.Event,
    ) -> None:
        self.servers = servers
        self.control = control
        self.building = building
        self.topology = topology
        self.stopping: Sequence[threading.Event] = (stopping,)
        self.backoff = Backoff(chance)
        self.freshness = Freshness(LONG_AGO)

    def run(self, leadership: AbstractContextManager[Lease | None], *stopping: threading.Event) -> int | None:
        """Return the new build's number once it serves, or None if stopped first.

        `leadership` is entered for the switch only. Raises Stop, StandDown and Retry. After None or an error,
        nothing has changed.
        """
        self.stopping = (*self.stopping[:1], *stopping)
        self._demand_room()
        with Standby(self.building.lease).leadership(*self.stopping) as mine:
            if mine is None:
                return None
            with contextlib.suppress(ToldToStop):
                documents, stream = take_snapshot(self.servers.usable(), self.building, 0, *self.stopping)
                self.freshness = Freshness(documents.position.checkpoint.as_of)
                return self._finish(documents.build, stream, leadership)
        return None

    def _demand_room(self) -> None:
        """Log the rows, time and disk that a rebuild needs. Raises NotEnoughDisk, NothingServes."""
        former = self.control.position()
        if former is None:
            raise NothingServes("no build serves yet: `python -m binlog_projector run` makes the first one")
        needs = self.control.needs(former.checkpoint.build)
        log.info(
            "rebuilding needs",
            rows=needs.rows,
            seconds=round(needs.seconds),
            disk_mib=needs.disk_bytes >> 20,
            free_disk_mib=needs.free_bytes >> 20,
        )
        needs.demand()

    def _finish(
        self, build: int, stream: Stream, leadership: AbstractContextManager[Lease | None]
    ) -> int | None:
        try:
            if not self._follow(build, self.freshness.is_caught_up, stream):
                return None
            log.info("caught up, asking for the lease", build=build)
            with leadership as lease:
                return self._switch(build, lease.epoch) if lease is not None else None
        finally:
            with contextlib.suppress(StoreUnavailable):  # then the leader drops it
                self.building.drop_unfinished(build)

    def _switch(self, build: int, epoch: int) -> int | None:
        """Switch once the new build has all of the former, into which nobody projects any more."""
        former = self._persistently(lambda: self.control.open_serving(epoch, to_replace=True))
        lost = self._persistently(lambda: self._lost(former.position)) if former else None
        if (
            former is None
            or lost is None
            or not self._follow(build, lambda at: at >= former.position.reached - lost)
        ):
            return None
        documents = self.control.open_build(build, epoch)
        as_of = self.freshness.as_of(documents.position.gtid_set)
        self.topology.forget(former.serving())
        reached("before_switch")
        documents.serve(former.position, as_of if lost else max(as_of, former.position.checkpoint.as_of))
        reached("after_switch")
        log.info("switched", build=build, former=former.build, lost=str(lost))
        with contextlib.suppress(CacheUnavailable):  # then the next leader's cache catches up
            for node in self.topology.open(documents):
                node.catch_up()
        return build

    def _lost(self, former: Position) -> GtidSet:
        """Applied transactions that MySQL no longer has. A server that is only behind gets some time."""
        deadline = time.monotonic() + failover.PATIENCE_SECONDS
        while lost := former.reached - self._executed():
            if time.monotonic() > deadline or self._is_stopped():
                log.warning("MySQL has lost transactions that readers have seen", gtid_set=str(lost))
                break
            self.stopping[0].wait(1)
        return lost

    def _executed(self) -> GtidSet:
        source = self.servers.usable()
        with source.session() as connection:
            return source.clock(connection).executed

    def _follow(self, build: int, is_enough: Goal, stream: Stream | None = None) -> bool:
        """Project the stream into the build until `is_enough`. False if stopped first."""
        streams = [stream] if stream is not None else []

        def follow() -> bool:
            documents = self.building.open_build(build, 0)
            at = documents.position
            return self._project(documents, streams.pop() if streams else self.servers.stream(at), is_enough)

        return bool(self._persistently(follow))

    def _project(self, documents: DocumentStore, stream: Stream, is_enough: Goal) -> bool:
        batcher = Batcher(documents.position.gtid_set, project)
        with (
            contextlib.closing(stream),
            ClockThread(stream.source, self.freshness),
            contextlib.closing(batcher),
        ):
            stream.start(batcher)
            while not is_enough(documents.position.gtid_set):
                if self._is_stopped():
                    return False
                if batch := batcher.take(INTERVAL_SECONDS):
                    documents.commit(batch, self.freshness.as_of(batch.gtid_set))
                    self.backoff.reset()
        return True

    def _persistently(self, action: Callable[[], T]) -> T | None:
        """Repeat `action` until it raises no Retry, and return its result. None if stopped first."""
        while not self._is_stopped():
            try:
                return action()
            except Retry as error:
                log.warning("retrying", error=str(error), kind=type(error).__name__)
                self.stopping[0].wait(self.backoff.next_seconds())
        return None

    def _is_stopped(self) -> bool:
        return any(event.is_set() for event in self.stopping)
