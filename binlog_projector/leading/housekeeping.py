"""The leader drops builds that stopped serving a while ago, and builds that nobody will finish."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import structlog

from binlog_projector.errors import StandDown, StoreUnavailable
from binlog_projector.leading.lease import Standby
from binlog_projector.stores.control_store import ControlStore

LOOK_SECONDS = 5.0
log = structlog.get_logger()


class Housekeeping:
    """Looks every few seconds, in its own thread, because a drop may wait for locks."""

    def __init__(self, building: ControlStore, grace_seconds: float) -> None:
        self.building = building
        self.grace_seconds = grace_seconds

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        stopping = threading.Event()
        thread = threading.Thread(target=self._run, args=(stopping,), name="housekeeping", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(timeout=10)

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                self._look(stopping)
            except (StoreUnavailable, StandDown) as error:
                log.warning("housekeeping failed", error=str(error))
            stopping.wait(LOOK_SECONDS)

    def _look(self, stopping: threading.Event) -> None:
        """Drop unfinished builds only under the lease for making builds: it is held while one is being made.

        Taking the lease kills the last holder's session, whose open transaction would hold up the drop.
        """
        _say("former builds dropped", self.building.drop_retired(self.grace_seconds))
        if self.building.unfinished():
            with Standby(self.building.lease).leadership(stopping) as lease:
                if lease is not None:
                    _say("unfinished builds dropped", self.building.drop_unfinished())


def _say(what: str, builds: list[int]) -> None:
    if builds:
        log.info(what, builds=builds)
