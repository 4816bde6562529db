"""The tide: one connection to Redis carries the subscription and every request, so that one order holds.

Subscribe, then read the watermark. Each later message continues the tide, and each reply has its lineage.
Anything else is a reset: the replica is emptied, and the connection is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import structlog
from hiredis import PushNotification
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from reader.errors import CacheBypassed
from reader.metrics import ReaderMetrics
from reader.named import Named, Position
from reader.parts import Origin
from reader.read_model import announcements
from reader.read_model.announcements import Announcement
from reader.read_model.cached_values import Watermark
from reader.replica import Replica
from reader.wire import ASK, SUBSCRIBE, Request, usable
from tidemark.gtid import GtidSet

ASK_SECONDS = 0.1  # an idle connection asks for the watermark this often
# After so many times without a reply: requests fail, the process is blind, the connection is given up.
STALLED, BLIND, DEAD = 2, 5, 20
PAUSES_SECONDS = (0.0, 0.1, 0.2, 0.4)  # before the next connection
CONNECT_SECONDS = 1.0
log = structlog.get_logger()


class TideBroken(Exception):
    """A message or reply does not continue the tide; the error's message says why."""


class Following:
    """The tide of this process. `tide` is None until a watermark is known.

    `bypass` says why the tide cannot be used now; None: it can. `replica` holds entries valid at the tide.
    """

    def __init__(self, url: str, replica: Replica, metrics: ReaderMetrics) -> None:
        self.replica = replica
        self.tide: Watermark | None = None
        self.bypass: Origin | None = Origin.UNAVAILABLE
        self.named = Named()
        self._metrics = metrics
        self._pool = ConnectionPool.from_url(
            url,
            protocol=3,
            socket_timeout=None,  # with one, redis-py writes in another task: after later requests, or never
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            client_name="tidemark-reader",
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._connection: AbstractConnection | None = None
        self._pending: deque[Request] = deque()
        self._silent = 0  # asks since the last reply
        self._blind, self._blind_since = 0.0, time.monotonic()
        self._waiters: dict[asyncio.Future[None], GtidSet] = {}

    async def run(self) -> None:
        """Follow the tide, on one connection after the other, until cancelled."""
        failures = 0
        while True:
            connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.connect()  # type: ignore[no-untyped-call]
                await self._follow(connection)
            except (RedisError, OSError, CacheBypassed, TideBroken, ValueError) as error:
                failures = 0 if self.tide is not None else failures + 1
                cause = "broken" if isinstance(error, TideBroken | ValueError) else "connection"
                if failures < 2:  # else it was said
                    log.warning("the tide is lost; reads go to MongoDB", cause=cause, error=repr(error))
                self._metrics.tide_resets.add(cause)
            finally:
                self._reset()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])

    async def ask(self, commands: Iterable[bytes], replies: int, read: Callable[[list[Any]], Any]) -> Any:
        """Send commands, the last of which returns the watermark, alone or as the end of a list.

        `read` gets the replies while the tide is exactly theirs. Raises CacheBypassed.
        """
        if self.bypass is not None or self._silent >= STALLED:
            raise CacheBypassed(self.bypass or Origin.UNAVAILABLE)
        self._metrics.redis_commands.add(amount=replies)
        future = asyncio.get_running_loop().create_future()
        await self._send(b"".join(commands), Request(replies, read, future))
        return await future

    @property
    def position(self) -> Position:
        return self.named.position

    @property
    def blind_seconds(self) -> float:
        """The time without a usable tide so far."""
        return self._blind + (time.monotonic() - self._blind_since if self.bypass is not None else 0)

    async def reaches(self, gtids: GtidSet, seconds: float) -> bool:
        """Wait until the tide contains `gtids`, at most `seconds`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = gtids
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return False
        finally:
            del self._waiters[future]
        return True

    async def _follow(self, connection: AbstractConnection) -> None:
        self._connection = connection
        await connection.send_packed_command(SUBSCRIBE)
        await self._send(ASK, Request(1))
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

    async def _ask_when_idle(self, connection: AbstractConnection) -> None:
        """An idle connection asks for the watermark: silence alone does not tell that Redis lives."""
        while self._silent < DEAD:
            await asyncio.sleep(ASK_SECONDS)
            self._silent += 1
            if self._silent > STALLED:
                self._fail_requests()
            if self._silent > BLIND:
                self._use(self.bypass or Origin.UNAVAILABLE)
            if not self._pending:
                with contextlib.suppress(CacheBypassed):  # the connection has ended, and `run` sees it
                    await self._send(ASK, Request(1))
        await connection.disconnect(nowait=True)

    async def _send(self, packed: bytes, request: Request) -> None:
        """A closed connection would connect again, without a subscription."""
        connection = self._connection
        if connection is None or not connection.is_connected:
            raise CacheBypassed(Origin.UNAVAILABLE)
        self._pending.append(request)
        try:
            await connection.send_packed_command(packed)
        except (RedisError, OSError) as error:
            raise CacheBypassed(Origin.UNAVAILABLE) from error

    def _pushed(self, push: list[Any]) -> None:
        kind, *arguments = push
        if kind == b"smessage":
            self._continue(announcements.decode(arguments[1]))
        elif kind == b"sunsubscribe":
            raise TideBroken("Redis ended the subscription")

    def _continue(self, message: Announcement) -> None:
        if self.tide is None:
            return  # it came before the watermark's reply, which contains it
        if message.found != self.tide.lineage:
            raise TideBroken(f"a message continues {message.found}, the tide is {self.tide.lineage}")
        names = self.named.add(message.keys, message.counted, last=message.to is not None)
        self.replica.drop(names)
        if message.to is not None:
            self._advance(message.to)

    def _replied(self, answer: Any) -> None:
        if not self._pending:
            raise TideBroken(f"Redis answers what nobody asked: {answer!r}")
        request = self._pending[0]
        request.answers.append(answer)
        if len(request.answers) < request.replies:
            return
        self._silent = 0
        self._check(answer[-1] if isinstance(answer, list) else answer)
        if request.future is not None and request.read is not None and not request.future.done():
            request.future.set_result(request.read(request.answers))
        self._pending.popleft()  # only now: a reset fails it if its replies cannot be read

    def _check(self, text: Any) -> None:
        """A reply's watermark has the lineage of the tide, or is the first one."""
        if isinstance(text, Exception):
            raise TideBroken(f"Redis refuses: {text}")
        if self.tide is None:
            bypass, watermark = usable(text)
            if watermark is not None and self.bypass is not Origin.UNAVAILABLE:
                self.named.reset()  # there was none, so this one may be of another history
            self._use(bypass)
            if watermark is not None:
                log.info("follows the tide", lineage=watermark.lineage)
                self._advance(watermark)
            return
        if text is None or not text.startswith(_lineage(self.tide)):
            raise TideBroken(f"a reply of {text!r}, the tide is {self.tide.lineage}")
        self._use(None)

    def _use(self, bypass: Origin | None) -> None:
        now = time.monotonic()
        if self.bypass is not None:
            self._blind += now - self._blind_since
        self.bypass, self._blind_since = bypass, now

    def _advance(self, to: Watermark) -> None:
        before, self.tide = self.tide, to
        if self._waiters and (before is None or before.gtid_set != to.gtid_set):
            reached = GtidSet.parse(to.gtid_set)
            for future, gtids in self._waiters.items():
                if not future.done() and reached >= gtids:
                    future.set_result(None)

    def _reset(self) -> None:
        self.named.reset()
        self.tide, self._silent, self._connection = None, 0, None
        self._use(Origin.UNAVAILABLE)
        self.replica.clear()
        self._fail_requests()
        self._pending.clear()

    def _fail_requests(self) -> None:
        for request in self._pending:
            if request.future is not None and not request.future.done():
                request.future.set_exception(CacheBypassed(Origin.UNAVAILABLE))


@lru_cache(maxsize=8)
def _lineage(watermark: Watermark) -> bytes:
    return watermark.lineage.encode()
