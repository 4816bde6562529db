"""All connections of this process: their limits, the tide for each, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from authorizer_lambda.tokens import Claims
from reader.demands import Demands, demands_of
from reader.live.connection import Connection
from reader.live.hub import Hub
from reader.metrics import ReaderMetrics
from reader.settings import ReaderSettings
from tidemark.problem import Problem

TICKS_PER_SECOND = 20  # each for a part of the connections, which hear of the tide once a second
RETRY_AFTER = {"retry-after": "5"}


class Connections:
    """All connections of this process."""

    def __init__(
        self, hub: Hub, settings: ReaderSettings, metrics: ReaderMetrics, clock: Callable[[], float]
    ) -> None:
        self.hub = hub
        self._metrics = metrics
        self._clock = clock
        self.most_watches = settings.live_watches
        self._settings = settings
        self._subjects: Counter[str] = Counter()
        self._slots: list[dict[Connection, None]] = [{} for _ in range(TICKS_PER_SECOND)]
        self._turns = itertools.cycle(self._slots)
        self._draining = False

    def demands_of(self, conditions: Mapping[bytes, Sequence[bytes]]) -> Demands:
        """The demands that the first state has to meet. Raises Problem 400."""
        its = self._settings
        return demands_of(conditions, its.consistency_keys, self._clock(), its.max_wait_seconds)

    def count(self) -> int:
        return self._subjects.total()

    @contextlib.contextmanager
    def admit(self, claims: Claims, kind: str, abort: Callable[[], None]) -> Iterator[Connection]:
        """`kind` of connection, for metrics. Raises Problem 429 or 503."""
        if self._draining or self.count() >= self._settings.live_connections:
            raise Problem(503, "too-many-streams", "This reader has too many.", headers=RETRY_AFTER)
        subject = claims.subject
        if self._subjects[subject] >= self._settings.live_per_subject:
            raise Problem(429, "too-many-streams", "You have too many of them.", headers=RETRY_AFTER)
        connection, slot = Connection(self.hub, self._metrics, self._clock, kind), next(self._turns)
        connection.abort = abort
        connection.expires(claims.expires_at)
        self._subjects[subject] += 1
        slot[connection] = None
        try:
            yield connection
        finally:
            del slot[connection]
            self._subjects[subject] -= 1
            if not self._subjects[subject]:
                del self._subjects[subject]
            connection.close()

    async def run(self) -> None:
        """Tell the tide, until cancelled."""
        while True:
            for slot in self._slots:
                await asyncio.sleep(1 / TICKS_PER_SECOND)
                tide = self.hub.tide if slot else None
                if tide is not None:
                    for connection in slot:
                        connection.hear(tide)

    def drain(self) -> None:
        """End all; admit none."""
        self._draining = True
        for slot in self._slots:
            for connection in slot:
                connection.end("drain")
