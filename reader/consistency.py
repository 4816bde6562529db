"""Every answer is of one moment, and an answer to a consistency token contains the token's GTIDs."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from reader.asked import Query
from reader.composing import Answer, compose
from reader.demands import Demands, Need
from reader.errors import DocumentsUnavailable, MomentGone
from reader.fetching import Fetching
from reader.following import Following
from reader.metrics import ReaderMetrics
from reader.moments import Moments
from reader.parts import Origin
from reader.read_model.cached_values import Watermark
from reader.view import View
from tidemark.consistency_token import HEADER
from tidemark.gtid import EMPTY, GtidSet
from tidemark.problem import Problem

LOOK_SECONDS = 0.02  # without a tide
NOT_YET = "Your write is committed but has not reached the read side yet. Try again."
TOO_OLD = "The read side is further behind than max-age allows. Try again."
RETRY_AFTER = {"retry-after": "1"}
log = structlog.get_logger()


class Consistency:
    """Answers of one moment: from the replica, through the cache, or from one snapshot of MongoDB.

    A token waits for the tide; else MongoDB is asked, else the answer is 503.
    """

    def __init__(
        self,
        following: Following,
        fetching: Fetching,
        moments: Moments,
        metrics: ReaderMetrics,
        max_waiters: int,
    ) -> None:
        self._following = following
        self._fetching = fetching
        self._moments = moments
        self._metrics = metrics
        self._max_waiters = max_waiters
        self._waiters = 0
        self._floor: tuple[int, GtidSet] | None = None  # what an answer of this life of the tide contained

    def ready(self, path: str) -> Answer | None:
        """The answer that the replica keeps for `path`, valid at the tide."""
        tide = self._following.tide
        if tide is None or self._following.bypass is not None or self._floor is not None:
            return None
        kept = self._following.replica.answer(path)
        if kept is None:
            return None
        known: Answer = kept.answer
        self._count_local(known.view)
        return Answer(known.body, known.version, tide, Origin.LOCAL, known.view, known.next_cursor)

    async def answer(self, query: Query, demands: Demands, path: str = "") -> Answer:
        """`path`: under which the answer may be kept ready; empty if it depends on more than that.

        Raises Problem 503 if MongoDB does not meet the demands either; DocumentsUnavailable.
        """
        need = demands.need
        answer = await (self._plain(query, path) if need is None else self._containing(query, need))
        if answer.moment.as_of >= demands.not_before:
            return answer
        answer = await self._at_present(query, Origin.MAX_AGE)
        if answer.moment.as_of < demands.not_before or not (need is None or need.is_met_by(answer.moment)):
            raise Problem(503, "too-old", TOO_OLD, "Cache-Control", RETRY_AFTER)
        return answer

    async def _containing(self, query: Query, need: Need) -> Answer:
        outcome = "immediate"
        if not self._tide_meets(need):
            outcome = "waited" if await self._wait(need) else "mongo"
        answer = await (self._at_present(query, Origin.TOKEN) if outcome == "mongo" else self._plain(query))
        if not need.is_met_by(answer.moment):
            self._metrics.consistency.add("failed")
            log.warning("read of a write", outcome="failed", gtids=str(need.gtids))
            raise Problem(503, "not-yet-consistent", NOT_YET, HEADER, RETRY_AFTER)
        self._metrics.consistency.add(outcome)
        log.info("read of a write", outcome=outcome, gtids=str(need.gtids), seq=answer.moment.seq)
        return answer

    async def _plain(self, query: Query, path: str = "") -> Answer:
        following = self._following
        tide = following.tide
        if following.bypass is not None or tide is None:
            return await self._at_present(query, following.bypass or Origin.UNAVAILABLE)
        if self._floor is not None and not self._reaches_floor(tide):
            return await self._at_present(query, Origin.MOVED_ON)
        view = View(tide, following.position, following.replica)
        former = following.replica.former(path)
        if former is not None:
            known, view.gone = former
            view.heads = known.view.heads
        answer = compose(query, view)
        if answer is None:
            try:
                answer = await self._complete(query, view)
            except MomentGone:
                return await self._at_present(query, Origin.MOVED_ON)
        if path:
            self._keep(path, answer)
        self._count_local(view)
        return answer

    def _count_local(self, view: View) -> None:
        for label, count in view.local.items():
            self._metrics.cache_requests.add("local", label, "hit", amount=count)

    def _keep(self, path: str, answer: Answer) -> None:
        """For the next one who asks for `path`, if the replica has all parts."""
        if answer.origin is Origin.LOCAL and answer.body is not None:
            self._following.replica.keep(path, answer, answer.view.all_parts, len(answer.body))

    async def _complete(self, query: Query, view: View) -> Answer:
        """One MGET and one read of MongoDB a level at most: a list, its items, and their authors."""
        rounds = 0
        while (answer := compose(query, view)) is None:
            await self._fetching.fetch(view)
            rounds += 1
        self._metrics.rounds.observe(rounds)
        return answer

    async def _at_present(self, query: Query, origin: Origin) -> Answer:
        """All parts from one snapshot of MongoDB, no older than any answer before it was asked for.

        Later answers of this process are no older either.
        """
        life, known = self._following.position.life, self._known()
        answer = await self._from_one_snapshot(query, origin)
        self._metrics.sessions.add(origin.name.lower())
        if life == self._following.position.life:
            gtids = GtidSet.parse(answer.moment.gtid_set)
            if not gtids >= known:
                raise DocumentsUnavailable("MongoDB is older than an answer before")
            if origin not in (Origin.TOKEN, Origin.MAX_AGE):
                self._floor = life, gtids | self._floor_of(life)
        return answer

    def _known(self) -> GtidSet:
        """All that answers since the last reset contained; nothing while there is no tide."""
        tide = self._following.tide
        if tide is None:
            return EMPTY
        return GtidSet.parse(tide.gtid_set) | self._floor_of(self._following.position.life)

    def _floor_of(self, life: int) -> GtidSet:
        return self._floor[1] if self._floor is not None and self._floor[0] == life else EMPTY

    async def _from_one_snapshot(self, query: Query, origin: Origin) -> Answer:
        """Tries twice: MongoDB may lose the moment, for example when its catalog changes."""
        for attempt in range(2):
            try:
                shared = await self._moments.present()
                view = View(shared.moment.proof, None, None)
                view.stored = shared
                view.came_from(origin)
                return await self._complete(query, view)
            except MomentGone as gone:
                if attempt:
                    raise DocumentsUnavailable(f"MongoDB does not keep a moment: {gone}") from gone
        raise AssertionError("the last attempt returns or raises")

    def _reaches_floor(self, tide: Watermark) -> bool:
        if not GtidSet.parse(tide.gtid_set) >= self._floor_of(self._following.position.life):
            return False
        self._floor = None
        return True

    def _tide_meets(self, need: Need) -> bool:
        return self._following.tide is not None and need.is_met_by(self._following.tide)

    async def _wait(self, need: Need) -> bool:
        """Wait until the tide contains `need`; without a tide, until MongoDB's checkpoint does.

        Returns False if the time is over, or if too many wait already.
        """
        if self._waiters >= self._max_waiters:
            return False
        self._waiters += 1
        started = time.monotonic()
        try:
            if self._following.bypass is None:
                return await self._following.reaches(need.gtids, need.wait_seconds)
            await self._await_checkpoint(need, started + need.wait_seconds)
            return False
        finally:
            self._waiters -= 1
            self._metrics.consistency_wait.observe(time.monotonic() - started)

    async def _await_checkpoint(self, need: Need, until: float) -> None:
        with contextlib.suppress(DocumentsUnavailable, MomentGone):
            while time.monotonic() < until:
                if need.is_met_by((await self._moments.present()).moment.proof):
                    return
                await asyncio.sleep(LOOK_SECONDS)
