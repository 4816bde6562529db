"""Every answer is of one moment, and an answer to a consistency token contains the token's GTIDs."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.requests import cookie_parser

from reader.asked import Query
from reader.composing import Answer, View, compose
from reader.document_store import DocumentStore
from reader.errors import DocumentsUnavailable, MomentGone
from reader.fetching import Fetching
from reader.following import Following
from reader.metrics import ReaderMetrics
from reader.parts import Origin
from reader.read_model.cached_values import Watermark
from tidemark.consistency_token import COOKIE, HEADER, ConsistencyKeys, InvalidConsistencyToken, verify
from tidemark.gtid import GtidSet
from tidemark.problem import Problem

WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d+(?:\.\d+)?)\"?\s*(?:;[^,]*)?(?=,|$)", re.IGNORECASE)
MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})\"?\s*(?=,|$)", re.IGNORECASE)
DEFAULT_WAIT_SECONDS = 0.15  # many times the usual lag of the projector
LOOK_SECONDS = 0.02  # without a tide
NOT_YET = "Your write is committed but has not reached the read side yet. Try again."
TOO_OLD = "The read side is further behind than max-age allows. Try again."
RETRY_AFTER = {"retry-after": "1"}
log = structlog.get_logger()


@dataclass(frozen=True)
class Need:
    """The GTIDs that an answer must contain, and how long to wait for them.

    `preferred`: the client named the time itself, with `Prefer: wait`. `in_cookie`: the token came in one.
    """

    gtids: GtidSet
    wait_seconds: float
    preferred: bool
    in_cookie: bool = False

    def is_met_by(self, proof: Watermark) -> bool:
        return GtidSet.parse(proof.gtid_set) >= self.gtids


@dataclass(frozen=True)
class Demands:
    """The demands of a request: what the answer must contain, and the time before which it may not be.

    `not_before`: in the form of `as_of`; empty if the request names no `max-age`.
    """

    need: Need | None = None
    not_before: str = ""


NO_DEMANDS = Demands()


class Consistency:
    """Answers of one moment: from the replica, through the cache, or from one snapshot of MongoDB.

    A token waits for the tide; else MongoDB is asked, else the answer is 503.
    """

    def __init__(
        self,
        following: Following,
        fetching: Fetching,
        documents: DocumentStore,
        metrics: ReaderMetrics,
        max_waiters: int,
    ) -> None:
        self._following = following
        self._fetching = fetching
        self._documents = documents
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
        for label, count in kept.labels:
            self._metrics.cache_requests.add("local", label, "hit", amount=count)
        known: Answer = kept.answer
        return Answer(known.body, known.version, tide, Origin.LOCAL, known.next_cursor)

    async def answer(self, query: Query, demands: Demands, path: str = "") -> Answer:
        """`path`: under which the answer may be kept ready; empty if it depends on more than that.

        Raises Problem 503 if MongoDB does not meet the demands either; DocumentsUnavailable."""
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
        answer = compose(query, view)
        if answer is None:
            try:
                answer = await self._complete(query, view)
            except MomentGone:
                return await self._at_present(query, Origin.MOVED_ON, view.moment)
        if path:
            self._keep(path, view, answer)
        for one in view.local:
            self._metrics.cache_requests.add("local", one.label, "hit")
        return answer

    def _keep(self, path: str, view: View, answer: Answer) -> None:
        """For the next one who asks for `path`, if the replica has all parts."""
        if answer.origin is Origin.LOCAL and answer.body is not None:
            labels = [one.label for one in view.local]
            self._following.replica.keep(path, answer, len(answer.body), view.parts, labels)

    async def _complete(self, query: Query, view: View) -> Answer:
        """One MGET and one read of MongoDB a level at most: a list, its items, and their authors."""
        rounds = 0
        while (answer := compose(query, view)) is None:
            await self._fetching.fetch(view)
            rounds += 1
        self._metrics.rounds.observe(rounds)
        return answer

    async def _at_present(self, query: Query, origin: Origin, at_least: Watermark | None = None) -> Answer:
        """All parts from one snapshot of MongoDB. Later answers of this process are no older."""
        life, floor = self._following.position.life, self._floor
        answer = await self._from_one_snapshot(query, origin)
        self._metrics.sessions.add(origin.name.lower())
        gtids = GtidSet.parse(answer.moment.gtid_set)
        known = [GtidSet.parse(at_least.gtid_set)] if at_least else []
        lives_on = life == self._following.position.life
        if floor is not None and floor[0] == life and lives_on:
            known.append(floor[1])
        if self._following.tide is not None and not all(gtids >= one for one in known):
            raise DocumentsUnavailable("MongoDB is older than an answer before")
        if lives_on and origin not in (Origin.TOKEN, Origin.MAX_AGE):
            others = self._floor[1] if self._floor is not None and self._floor[0] == life else gtids
            self._floor = life, gtids if gtids >= others else others
        return answer

    async def _from_one_snapshot(self, query: Query, origin: Origin) -> Answer:
        """Tries twice: MongoDB may lose the moment, for example when its catalog changes."""
        for attempt in range(2):
            try:
                stored = await self._documents.present()
                view = View(stored.proof, None, None)
                view.stored = stored
                view.came_from(origin)
                return await self._complete(query, view)
            except MomentGone as gone:
                if attempt:
                    raise DocumentsUnavailable(f"MongoDB does not keep a moment: {gone}") from gone
        raise AssertionError("the last attempt returns or raises")

    def _reaches_floor(self, tide: Watermark) -> bool:
        """A reset ends the floor: there may be another history."""
        assert self._floor is not None
        life, gtids = self._floor
        if life == self._following.position.life and not GtidSet.parse(tide.gtid_set) >= gtids:
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
                if need.is_met_by((await self._documents.present()).proof):
                    return
                await asyncio.sleep(LOOK_SECONDS)


def demands_of(
    headers: Mapping[bytes, Sequence[bytes]], keys: ConsistencyKeys, now: float, max_wait_seconds: float
) -> Demands:
    """The demands that a request states: by a token (the header's, else the cookie's) and by `max-age`.

    `headers`: values by lower-case name. `max-age=0` and `no-cache` demand nothing: browsers send them on
    reload, and no answer is of this very moment. Raises Problem 400 for a bad token.
    """
    token, in_cookie = _token(headers)
    need = None if token is None else _need(token, in_cookie, headers, keys, now, max_wait_seconds)
    ages = MAX_AGE.findall(b",".join(headers.get(b"cache-control", ())).decode("latin-1"))
    seconds = min((int(age) for age in ages), default=0)
    oldest = datetime.fromtimestamp(max(0.0, now - seconds), UTC)
    return Demands(need, oldest.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if seconds else "")


def _need(
    token: str,
    in_cookie: bool,
    headers: Mapping[bytes, Sequence[bytes]],
    keys: ConsistencyKeys,
    now: float,
    max_wait_seconds: float,
) -> Need:
    try:
        gtids = verify(token, keys, now)
    except InvalidConsistencyToken as error:
        raise Problem(400, "invalid-consistency-token", f"{str(error).capitalize()}.", HEADER) from error
    preferred = WAIT.search(b",".join(headers.get(b"prefer", ())).decode("latin-1"))
    wished = float(preferred[1]) if preferred else DEFAULT_WAIT_SECONDS
    return Need(gtids, min(wished, max_wait_seconds), preferred is not None, in_cookie)


def _token(headers: Mapping[bytes, Sequence[bytes]]) -> tuple[str | None, bool]:
    """The token, and whether it came in the cookie."""
    tokens = headers.get(HEADER.lower().encode(), ())
    if len(tokens) > 1:
        raise Problem(400, "invalid-consistency-token", "There may be one token only.", HEADER)
    if tokens:
        return tokens[0].decode("latin-1"), False
    if b"cookie" not in headers:
        return None, False
    return cookie_parser(b"; ".join(headers[b"cookie"]).decode("latin-1")).get(COOKIE), True
