"""The age of a GTID set, by MySQL's clock only: never by ours, and never without an answer of MySQL."""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime, timedelta

import structlog

from binlog_projector.errors import SourceDemoted, SourceUnavailable
from binlog_projector.mysql.source import Clock, MySqlSource
from tidemark.gtid import GtidSet

INTERVAL_SECONDS = 0.1
MAX_PENDING = 600
CAUGHT_UP = timedelta(seconds=2)
log = structlog.get_logger()


class Freshness:
    """`as_of` of a set: the latest time at which all that MySQL had committed is in the set."""

    def __init__(self, as_of: str) -> None:
        self.latest = as_of
        self.pending: deque[Clock] = deque()
        self.lock = threading.Lock()
        self.observed = False
        self.demoted: SourceDemoted | None = None

    def observe(self, clock: Clock) -> None:
        with self.lock:
            self.observed = True
            if self.pending and self.pending[-1].executed == clock.executed:
                self.pending.pop()
            elif len(self.pending) >= MAX_PENDING:
                self.pending = deque([*self.pending][::2])
            self.pending.append(clock)

    def as_of(self, applied: GtidSet) -> str:
        """RFC 3339 with microseconds; never earlier than a former answer. Raises SourceDemoted."""
        if self.demoted is not None:
            raise self.demoted
        with self.lock:
            while self.pending and applied >= self.pending[0].executed:
                self.latest = max(self.latest, timestamp(self.pending.popleft().now))
        return self.latest

    def is_caught_up(self, applied: GtidSet) -> bool:
        """Whether `applied` is less than CAUGHT_UP behind MySQL's last answer."""
        self.as_of(applied)
        with self.lock:
            waited = self.pending[-1].now - self.pending[0].now if self.pending else timedelta(0)
            return self.observed and waited < CAUGHT_UP


class ClockThread:
    """Reads MySQL's clock ten times a second, on its own connection."""

    def __init__(self, source: MySqlSource, freshness: Freshness) -> None:
        self.source = source
        self.freshness = freshness
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def __enter__(self) -> ClockThread:
        self.freshness.demoted = None  # it was about another server
        self.thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        self.thread.join(timeout=10)

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                with self.source.session(read_timeout=5) as connection:
                    while not self.stopping.wait(INTERVAL_SECONDS):
                        self.freshness.observe(self.source.clock(connection))
            except SourceDemoted as error:
                self.freshness.demoted = error
                return
            except SourceUnavailable as error:
                log.warning("clock of the source unavailable", error=str(error))
                self.stopping.wait(1)


def timestamp(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
