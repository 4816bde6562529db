"""All connections of this process: their limits, the tide for each, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial

from authorizer_lambda.tokens import Claims
from reader.demands import Demands, demands_of
from reader.live.connection import TIDE_SECONDS, Connection
from reader.live.hub import Hub
from reader.live.slices import TOGETHER
from reader.live.watch import Turn
from reader.metrics import ReaderMetrics
from reader.settings import ReaderSettings
from tidemark.problem import Problem

SLOTS = 20  # parts of the connections, each of which hear the tide together
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
        self._slots: list[dict[Connection, None]] = [{} for _ in range(SLOTS)]
        neighbours = (itertools.repeat(slot, TOGETHER) for slot in self._slots)
        self._turns = itertools.cycle(
            itertools.chain.from_iterable(neighbours)
        )  # who come together hear alike
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
        connection = Connection(self.hub, self._metrics, self._clock, kind, abort)
        slot = next(self._turns)
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
        """Tell the tide to those for whom it is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for slot in self._slots:
                await asyncio.sleep(TIDE_SECONDS / 2 / SLOTS)
                due = [one for one in slot if one.is_due(loop.time())]
                await self.hub.slices.each(due, partial(self._tell_tide, slot))

    def _tell_tide(self, slot: Container[Connection], connections: Sequence[Connection]) -> None:
        tide = self.hub.tide
        if tide is None:
            return
        turn = Turn(tide, asyncio.get_running_loop().time())
        for connection in connections:
            if connection in slot and connection.is_due(turn.now):  # it may have ended or heard meanwhile
                connection.hear(tide, turn)
        turn.end()

    def drain(self) -> None:
        """End all; admit none."""
        self._draining = True
        for slot in self._slots:
            for connection in slot:
                connection.end("drain")
