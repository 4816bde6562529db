"""Read your writes: every part of an answer to a consistency token provably contains the token's GTIDs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import cookie_parser

from reader.asked import Query
from reader.errors import CacheBypassed, DocumentsUnavailable
from reader.metrics import ReaderMetrics
from reader.parts import is_of_one_build
from reader.queries import Answer, Queries
from reader.read_model.cached_values import Watermark
from reader.read_through import ReadThrough
from tidemark.consistency_token import COOKIE, HEADER, ConsistencyKeys, InvalidConsistencyToken, verify
from tidemark.gtid import GtidSet
from tidemark.problem import Problem

WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d+(?:\.\d+)?)\"?\s*(?:;[^,]*)?(?=,|$)", re.IGNORECASE)
DEFAULT_WAIT_SECONDS = 0.15  # many times the usual lag of the projector
LOOK_SECONDS = 0.004
log = structlog.get_logger()


@dataclass(frozen=True)
class Need:
    """The GTIDs that an answer must contain, and how long to wait for them.

    `preferred`: the client named the time itself, with `Prefer: wait`.
    """

    gtids: GtidSet
    wait_seconds: float
    preferred: bool

    def is_met_by(self, proof: Watermark) -> bool:
        return GtidSet.parse(proof.gtid_set) >= self.gtids


class Consistency:
    """Answers from the cache if it is recent enough, else waits, else asks MongoDB, else raises 503."""

    def __init__(
        self,
        read_through: ReadThrough,
        cached: Queries,
        uncached: Queries,
        metrics: ReaderMetrics,
        max_waiters: int,
    ) -> None:
        self._read_through = read_through
        self._cached = cached
        self._uncached = uncached
        self._metrics = metrics
        self._max_waiters = max_waiters
        self._waiters = 0

    async def answer(self, query: Query, need: Need | None) -> Answer:
        """Raises Problem 503 if MongoDB lacks the token's GTIDs too; DocumentsUnavailable."""
        answer = await self._of_one_build(query)
        if need is None:
            return answer
        if _is_met(answer, need):
            return self._counted("immediate", answer, need)
        if await self._wait(need):
            answer = await self._of_one_build(query)
            if _is_met(answer, need):
                return self._counted("waited", answer, need)
        answer = await self._uncached.answer(query)
        if _is_met(answer, need):
            return self._counted("mongo", answer, need)
        self._metrics.consistency.add("failed")
        log.warning("read of a write", outcome="failed", gtids=str(need.gtids))
        raise Problem(
            503,
            "not-yet-consistent",
            "Your write is committed but has not reached the read side yet. Try again.",
            HEADER,
            {"retry-after": "1"},
        )

    async def _of_one_build(self, query: Query) -> Answer:
        """After a switch the cache may still have parts of the old build; MongoDB gives the new one only."""
        answer = await self._cached.answer(query)
        return answer if is_of_one_build(answer.parts) else await self._uncached.answer(query)

    async def _wait(self, need: Need) -> bool:
        """Wait until the watermark (without a cache: MongoDB's checkpoint) meets `need`.

        Returns False if the time is over, or if too many wait already.
        """
        if self._waiters >= self._max_waiters:
            return False
        self._waiters += 1
        started = time.monotonic()
        try:
            while time.monotonic() - started < need.wait_seconds:
                await asyncio.sleep(min(LOOK_SECONDS, need.wait_seconds))
                if need.is_met_by(await self._latest()):
                    return True
            return False
        except DocumentsUnavailable:
            return False
        finally:
            self._waiters -= 1
            self._metrics.consistency_wait.observe(time.monotonic() - started)

    async def _latest(self) -> Watermark:
        try:
            return await self._read_through.watermark()
        except CacheBypassed:
            await asyncio.sleep(LOOK_SECONDS * 4)
            return await self._read_through.checkpoint()

    def _counted(self, outcome: str, answer: Answer, need: Need) -> Answer:
        """Count the outcome and log it, with the same GTIDs as in the writer's log line of the command."""
        self._metrics.consistency.add(outcome)
        seq = min(part.proof.seq for part in answer.parts)
        log.info("read of a write", outcome=outcome, gtids=str(need.gtids), seq=seq)
        return answer


def _is_met(answer: Answer, need: Need) -> bool:
    """True if every part meets `need`: parts may have been read under different watermarks."""
    return all(need.is_met_by(part.proof) for part in answer.parts)


def need_of(
    headers: Mapping[bytes, Sequence[bytes]], keys: ConsistencyKeys, now: float, max_wait_seconds: float
) -> Need | None:
    """The need that the request's token states (the header's, else the cookie's).

    `headers`: values by lower-case name. Raises Problem 400 for a bad token.
    """
    token = _token(headers)
    if token is None:
        return None
    try:
        gtids = verify(token, keys, now)
    except InvalidConsistencyToken as error:
        raise Problem(400, "invalid-consistency-token", f"{str(error).capitalize()}.", HEADER) from error
    preferred = WAIT.search(b",".join(headers.get(b"prefer", ())).decode("latin-1"))
    wished = float(preferred[1]) if preferred else DEFAULT_WAIT_SECONDS
    return Need(gtids, min(wished, max_wait_seconds), preferred is not None)


def _token(headers: Mapping[bytes, Sequence[bytes]]) -> str | None:
    tokens = headers.get(HEADER.lower().encode(), ())
    if len(tokens) > 1:
        raise Problem(400, "invalid-consistency-token", "There may be one token only.", HEADER)
    if tokens:
        return tokens[0].decode("latin-1")
    if b"cookie" not in headers:
        return None
    return cookie_parser(b"; ".join(headers[b"cookie"]).decode("latin-1")).get(COOKIE)
