"""A connection of a client that watches: what it is sent next, and its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple

from reader.demands import NO_DEMANDS, Demands
from reader.live.hub import Hub
from reader.live.watch import State, Watched, contains
from reader.metrics import ReaderMetrics
from reader.read_model.cached_values import Watermark

TAKES_NOTHING_SECONDS = 30.0
BARRED_SECONDS = 10.0  # for the tide to contain what was sent; then the stream ends
END_SECONDS = 3.0  # for the last message
RETRY_MS = (1000, 6000)  # clients come back at random moments


class Shown(NamedTuple):
    """A state to send, as of `moment`."""

    subscription: Subscription
    state: State
    moment: Watermark


class End(NamedTuple):
    """The last message, and when to come back."""

    reason: str
    retry_ms: int


Message = Shown | Watermark | End


class Subscription:
    """One client's interest in one read. `sent`: what the client has, and as of when."""

    def __init__(self, connection: Connection, watched: Watched, path: str, *, minimal: bool) -> None:
        self.path = path
        self.minimal = minimal
        self.sent: tuple[State, Watermark] | None = None
        self.touched_at = 0.0
        self._begun = False
        self._connection = connection
        self._behind: Watermark | None = None  # the moment before what is offered and not sent
        self.watch = connection.hub.watch(watched, self)

    def offer(self, state: State, before: Watermark, touched_at: float) -> bool:
        if self.sent is not None and state.shows_as(self.sent[0]):
            self.has(state, self.sent[1])
            return False
        if self._begun and self not in self._connection.pending:
            self._behind, self.touched_at = self._behind or before, touched_at
            self._connection.pending[self] = None
        return self._begun

    def begin(self, known: Collection[str]) -> None:
        """Send the present state, unless the client has one of that ETag."""
        state = self.watch.state
        assert state is not None
        self._begun = True
        if state.etag and state.etag in known:
            self.has(state, state.moment)
        else:
            self._connection.pending[self] = None
        self._connection.wake()

    def has(self, state: State, moment: Watermark) -> None:
        self.sent, self._behind = (state, moment), None
        self._connection.pending.pop(self, None)

    def state(self, tide: Watermark | None) -> tuple[State, Watermark]:
        """The latest state, and the moment at which it is valid: the tide, unless the watch is due."""
        state = self.watch.state
        assert state is not None
        if tide is not None and self.watch.before is None and contains(tide, state.moment):
            return state, tide
        return state, state.moment

    def complete_to(self, tide: Watermark) -> Watermark | None:
        """The moment up to which this client has all that changes the read."""
        if self.sent is None:
            return None
        moment = self._behind if self in self._connection.pending else self.watch.before or tide
        return self.sent[1] if moment is None or contains(self.sent[1], moment) else moment

    def wake(self) -> None:
        self._connection.wake()


class Connection:
    """Decides what one client is sent next. Only the latest state of each read counts: nothing is queued."""

    def __init__(self, hub: Hub, metrics: ReaderMetrics, clock: Callable[[], float], kind: str) -> None:
        self.hub = hub
        self.abort: Callable[[], None] = lambda: None
        self.subscriptions: dict[str, Subscription] = {}
        self.pending: dict[Subscription, None] = {}
        self.reason = ""
        self._metrics = metrics
        self._clock = clock
        self._kind = kind
        self._news = asyncio.Event()
        self._tide: Watermark | None = None  # to tell
        self._shown: Watermark | None = None  # by the last state
        self._told: Watermark | None = None
        self._barred_at: float | None = None  # since then the tide lacks something that was sent
        self._expiry: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None

    def expires(self, at: float) -> None:
        """The connection ends with its token, at a time in Unix seconds."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = _later(at - self._clock(), self.end, "token-expired")

    async def watch(
        self,
        watched: Watched,
        path: str,
        *,
        demands: Demands = NO_DEMANDS,
        known: Collection[str] = (),
        minimal: bool = False,
    ) -> None:
        """Raises as a GET would."""
        self.unwatch(path)
        subscription = self.subscriptions[path] = Subscription(self, watched, path, minimal=minimal)
        try:
            await self.hub.present(subscription.watch, demands)
        except BaseException:
            self.unwatch(path)
            raise
        subscription.begin(known)

    def unwatch(self, path: str) -> None:
        subscription = self.subscriptions.pop(path, None)
        if subscription is not None:
            self.pending.pop(subscription, None)
            self.hub.unwatch(subscription.watch, subscription)

    def hear(self, tide: Watermark) -> None:
        """Tell the tide, unless this is of another history than what was told."""
        if self._follows(tide, self._shown, self._told):
            self._barred_at = None
        elif self._barred_at is None:
            self._barred_at = _now()
        elif _now() - self._barred_at >= BARRED_SECONDS:
            self.end("other-history")
        self._tide = tide
        self.wake()

    def wake(self) -> None:
        self._news.set()

    def end(self, reason: str) -> None:
        """Send the reason as the last message; a client that does not take it is cut off."""
        if not self.reason:
            self.reason = reason
            self._cut = _later(END_SECONDS, self.abort)
            self.wake()

    async def serve(self, send: Callable[[Message], Awaitable[None]]) -> None:
        """Send what is to be sent until the end."""
        message: Message | None = None
        while not isinstance(message, End):
            message = await self._next()
            try:
                async with asyncio.timeout(TAKES_NOTHING_SECONDS):
                    await send(message)
            except TimeoutError:
                self.end("slow")
                self.abort()

    def close(self) -> None:
        for timer in (self._expiry, self._cut):
            if timer is not None:
                timer.cancel()
        for path in [*self.subscriptions]:
            self.unwatch(path)
        self._metrics.live_ends.add(self._kind, self.reason or "client")

    async def _next(self) -> Message:
        while True:
            if self.reason:
                return End(self.reason, random.randrange(*RETRY_MS))
            message = self._next_tide() or self._next_state()
            if message is not None:
                return message
            self._news.clear()
            await self._news.wait()

    def _next_state(self) -> Shown | None:
        """The offered state of the earliest moment among those that contain all that was sent before."""
        best: Shown | None = None
        tide = self.hub.tide
        for subscription in self.pending:
            state, moment = subscription.state(tide)
            follows = self._follows(moment, self._shown, self._told)
            if follows and (best is None or moment.as_of < best.moment.as_of):
                best = Shown(subscription, state, moment)
        if best is not None:
            best.subscription.has(best.state, best.moment)
            self._shown = best.moment
            self._count(best.subscription.touched_at)
        return best

    def _next_tide(self) -> Watermark | None:
        """The least over the reads; None: there is nothing to tell."""
        tide, self._tide = self._tide, None
        if tide is None:
            return None
        moments = [tide]
        for subscription in self.subscriptions.values():
            moment = subscription.complete_to(tide)
            if moment is None:
                return None
            moments.append(moment)
        least = min(moments, key=lambda moment: moment.as_of)
        if not self._follows(least, self._told):
            return None
        self._told = least
        return least

    def _follows(self, moment: Watermark, *others: Watermark | None) -> bool:
        return all(
            other is None or (moment.as_of >= other.as_of and contains(moment, other)) for other in others
        )

    def _count(self, touched_at: float) -> None:
        self._metrics.live_states.add(self._kind)
        if touched_at:
            self._metrics.live_delay.observe(_now() - touched_at)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _later(seconds: float, call: Callable[..., None], *arguments: str) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(max(0.0, seconds), call, *arguments)
