"""A node: the connection to one Redis server. One order holds for the messages and replies of each shard.

Subscribe, then read the watermark. Each later message continues the strand, and each reply has its lineage.
After anything else the strand begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Protocol

import structlog
from hiredis import PushNotification
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from reader.errors import CacheBypassed
from reader.metrics import ReaderMetrics
from reader.parts import Origin
from reader.read_model import announcements
from reader.read_model.announcements import Announcement
from reader.strand import Request, Strand, TideBroken
from reader.wire import CONNECT_SECONDS, pool

ASK_SECONDS = 0.1  # an idle connection asks for the watermark this often
# After so many times without a reply: requests fail, the process is blind, the connection is given up.
STALLED, BLIND, DEAD = 2, 5, 20
PAUSES_SECONDS = (0.0, 0.1, 0.2, 0.4)  # before the next connection
log = structlog.get_logger()


class Follower(Protocol):
    """Is told what comes, in order. Raises TideBroken or ValueError if this does not continue the tide."""

    def received(self, strand: Strand, message: Announcement) -> None: ...

    def replied(self, request: Request) -> None: ...

    def look(self, strands: Collection[Strand]) -> None:
        """They are asked for their watermark now."""

    def unheard(self, strands: Collection[Strand]) -> None:
        """Nothing has come for a while."""

    def lost(self, strands: Collection[Strand]) -> None:
        """Nothing that came before counts any more."""


class Node:
    """`silent`: how often the node was asked since its last reply."""

    def __init__(
        self, url: str, strands: Iterable[Strand], follower: Follower, metrics: ReaderMetrics
    ) -> None:
        self.silent = 0
        self.connection: AbstractConnection | None = None
        self._strands: dict[bytes, Strand] = {}  # by channel
        self._broken: set[Strand] = set()  # to begin anew
        self._follower = follower
        self._metrics = metrics
        self._pool = pool(url)
        self._pending: deque[Request] = deque()
        for strand in strands:
            self.take(strand)

    @property
    def strands(self) -> list[Strand]:
        return [*self._strands.values()]

    @property
    def is_unheard(self) -> bool:
        return self.silent > BLIND

    def take(self, strand: Strand) -> None:
        """The strand begins here, on the present connection or on the next one."""
        strand.node = self
        self._strands[strand.shard.channel.encode()] = strand
        self._broken.add(strand)

    def give(self, strand: Strand) -> None:
        """The shard is elsewhere."""
        del self._strands[strand.shard.channel.encode()]
        strand.node = None
        self._forget(strand)

    def broke(self, strand: Strand, error: Exception) -> None:
        """A message or reply did not continue this strand, which begins anew with the next ask."""
        if strand.at is not None:  # else it was said
            log.warning(
                "a shard is lost; its reads go to MongoDB", shard=strand.shard.number, error=repr(error)
            )
            self._metrics.tide_resets.add("broken")
        self._broken.add(strand)
        self._forget(strand)

    async def run(self) -> None:
        """Follow on one connection after the other, until cancelled."""
        failures = 0
        while True:
            connection: AbstractConnection = self._pool.make_connection()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.connect()  # type: ignore[no-untyped-call]
                await self._follow(connection)
            except (RedisError, OSError, CacheBypassed, TideBroken, ValueError) as error:
                known = any(strand.at is not None for strand in self.strands)
                failures = 0 if known else failures + 1
                cause = "broken" if isinstance(error, TideBroken | ValueError) else "connection"
                if failures < 2:  # else it was said
                    log.warning("the tide is lost; reads go to MongoDB", cause=cause, error=repr(error))
                self._metrics.tide_resets.add(cause)
            finally:
                self._reset()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])

    async def send(self, commands: bytes, *requests: Request) -> None:
        """A closed connection would connect again, without a subscription."""
        connection = self.connection
        if connection is None or not connection.is_connected:
            raise CacheBypassed(Origin.UNAVAILABLE)
        self._pending += requests
        try:
            await connection.send_packed_command(commands)
        except (RedisError, OSError) as error:
            raise CacheBypassed(Origin.UNAVAILABLE) from error

    async def _follow(self, connection: AbstractConnection) -> None:
        self.connection = connection
        self._broken.clear()
        for strand in self.strands:
            await self._begin(strand)
        asking = asyncio.create_task(self._ask_when_idle(connection))
        try:
            while True:
                try:
                    answer = await connection.read_response(disable_decoding=True, push_request=True)
                except ResponseError as error:
                    answer = error
                if isinstance(answer, PushNotification):
                    self._pushed(answer)
                else:
                    self._replied(answer)
        finally:
            asking.cancel()

    async def _begin(self, strand: Strand) -> None:
        """The watermark contains what was announced before its reply."""
        await self.send(strand.subscribe, Request(strand, 1))
        await self.send(strand.ask, Request(strand, 1))

    async def _ask_when_idle(self, connection: AbstractConnection) -> None:
        """An idle connection asks for the watermark: silence alone does not tell that Redis lives."""
        while self.silent < DEAD:
            await asyncio.sleep(ASK_SECONDS)
            self.silent += 1
            if self.silent > STALLED:
                self._fail_requests()
            if self.is_unheard:
                self._follower.unheard(self.strands)
            self._follower.look(self.strands)
            with contextlib.suppress(CacheBypassed):  # the connection has ended, and `run` sees it
                await self._ask()
        await connection.disconnect(nowait=True)

    async def _ask(self) -> None:
        while self._broken:
            await self._begin(self._broken.pop())
        busy = {request.strand for request in self._pending}
        idle = [strand for strand in self.strands if strand not in busy]
        if idle:
            await self.send(b"".join(strand.ask for strand in idle), *(Request(strand, 1) for strand in idle))

    def _pushed(self, push: list[Any]) -> None:
        kind, *arguments = push
        strand = self._strands.get(arguments[0])
        if kind == b"ssubscribe":
            self._pending.popleft()
        elif strand is not None:
            try:
                if kind == b"smessage":
                    self._follower.received(strand, announcements.decode(arguments[1]))
                elif kind == b"sunsubscribe":
                    raise TideBroken("Redis ended the subscription")
            except (TideBroken, ValueError) as error:
                self._breaks(strand, error)

    def _replied(self, answer: Any) -> None:
        if not self._pending:
            raise TideBroken(f"Redis answers what nobody asked: {answer!r}")
        request = self._pending[0]
        request.answers.append(answer)
        if len(request.answers) < request.replies:
            return
        self.silent = 0
        if not request.is_void:
            try:
                self._follower.replied(request)
            except (TideBroken, ValueError) as error:
                self._breaks(request.strand, error)
        self._pending.popleft()  # only now: a reset fails it if its replies cannot be read

    def _breaks(self, strand: Strand, error: Exception) -> None:
        """A strand that is alone begins anew with its connection."""
        if len(self._strands) == 1:
            raise error
        self.broke(strand, error)

    def _forget(self, strand: Strand) -> None:
        for request in self._pending:
            if request.strand is strand:
                request.is_void = True
                request.fail()
        self._follower.lost([strand])

    def _reset(self) -> None:
        self.silent, self.connection = 0, None
        self._follower.lost(self.strands)
        self._fail_requests()
        self._pending.clear()

    def _fail_requests(self) -> None:
        for request in self._pending:
            request.fail()
