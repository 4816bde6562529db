"""A connection of a client that watches: what it is sent next, and its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from reader.demands import NO_DEMANDS, Demands
from reader.live.hub import Hub
from reader.live.messages import Direct, End, Message, Shown, encoded
from reader.live.subscription import Subscription
from reader.live.watch import Has, Told, Touch, Turn, Watched, follows
from reader.metrics import ReaderMetrics
from reader.read_model.cached_values import Watermark

TAKES_NOTHING_SECONDS = 30.0
TIDE_SECONDS = 1.0  # from one tide to the next
BARRED_SECONDS = 10.0  # for the tide to contain what was sent; then the stream ends
END_SECONDS = 3.0  # for the last message
RETRY_MS = (1000, 6000)  # clients come back at random moments


class Connection:
    """Decides what one client is sent next. Only the latest state of each read counts: nothing is queued."""

    def __init__(
        self,
        hub: Hub,
        metrics: ReaderMetrics,
        clock: Callable[[], float],
        kind: str,
        abort: Callable[[], None],
    ) -> None:
        self.hub = hub
        self.subscriptions: dict[str, Subscription] = {}
        self.pending: dict[Subscription, None] = {}
        self.reason = ""
        self._metrics = metrics
        self._clock = clock
        self._kind = kind
        self._abort = abort
        self._now = asyncio.get_running_loop().time
        self._news = asyncio.Event()
        self._waits = False  # `serve`, for news
        self._direct: Direct | None = None
        self._tide: Watermark | None = None  # to tell
        self._shown: Watermark | None = None  # by the last state
        self._told: Watermark | None = None
        self._told_at = -TIDE_SECONDS
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
        subscription = Subscription(self.hub, watched, path, self, minimal=minimal)
        self.subscriptions[path] = subscription
        try:
            await self.hub.present(subscription.watch, demands)
        except BaseException:
            self.unwatch(path)
            raise
        subscription.begin(known)

    def unwatch(self, path: str) -> None:
        subscription = self.subscriptions.pop(path, None)
        if subscription is not None:
            subscription.sent = None
            self.pending.pop(subscription, None)
            self.hub.unwatch(subscription.watch, subscription)

    def offer(self, subscription: Subscription, turn: Turn) -> None:
        """A new state takes the tide along if this is due soon: one write costs less than two."""
        is_soon = turn.now - self._told_at >= TIDE_SECONDS / 2
        self._tell(subscription, turn.tide if is_soon else None, turn)

    def is_due(self, now: float) -> bool:
        """Whether the tide was told long ago. It comes with states, too."""
        return now - self._told_at >= 0.9 * TIDE_SECONDS

    def hear(self, tide: Watermark, turn: Turn) -> None:
        if len(self.subscriptions) == 1:
            (subscription,) = self.subscriptions.values()
            self._tell(subscription, tide, turn)
        else:
            self._hear(tide)

    def wake(self) -> bytes:
        """Send news here if this can be, and return it: waking a task would cost more than all else."""
        piece, direct = b"", self._free()
        if direct is not None:
            messages = self._next_state(), self._next_tide()
            piece = b"".join([encoded(one, direct.encode) for one in messages if one is not None])
            direct.write(piece)
        if direct is None or self.pending or self._tide is not None:
            self._news.set()
        return piece

    def end(self, reason: str) -> None:
        """Send the reason as the last message; a client that does not take it is cut off."""
        if not self.reason:
            self.reason = reason
            self._cut = _later(END_SECONDS, self._abort)
            self.wake()

    async def serve(self, send: Callable[[Message], Awaitable[None]], direct: Direct | None = None) -> None:
        """Send what is to be sent until the end."""
        self._direct = direct
        message: Message | None = None
        while not isinstance(message, End):
            message = await self._next()
            try:
                async with asyncio.timeout(TAKES_NOTHING_SECONDS):
                    await send(message)
            except TimeoutError:
                self.end("slow")
                self._abort()

    def close(self) -> None:
        stops = self.reason == "drain"  # waits for nobody who does not take what was written
        for timer in (self._expiry, None if stops else self._cut):
            if timer is not None:
                timer.cancel()
        for path in [*self.subscriptions]:
            self.unwatch(path)
        self._metrics.live_ends.add(self._kind, self.reason or "client")

    async def _next(self) -> Message:
        while True:
            if self.reason:
                return End(self.reason, random.randrange(*RETRY_MS))
            if (message := self._take()) is not None:
                return message
            self._news.clear()
            self._waits = True
            try:
                await self._news.wait()
            finally:
                self._waits = False

    def _tell(self, subscription: Subscription, tide: Watermark | None, turn: Turn) -> None:
        """Of several clients that had the same, each gets the same: it is decided and encoded once."""
        sent, shown, told, direct = subscription.sent, self._shown, self._told, self._free()
        alone = tide is None or len(self.subscriptions) == 1
        if direct is None or sent is None or not alone or self._has_news():
            self._step(subscription, tide)
            return
        form = tide is None, subscription.path, subscription.minimal, direct.encode
        had = id(sent[0]), id(sent[1]), id(shown), id(told), id(subscription.watch), form
        same = turn.told.get(had)
        if same is not None:
            subscription.sent, self._shown, self._told, self._told_at = same.has
            direct.write(same.piece)
            same.others += 1
            return
        before, lacks = Has(sent, shown, told, self._told_at), subscription.lacks
        piece = self._step(subscription, tide)
        if not self._has_news():
            count = partial(self._count, lacks) if self._shown is not shown else None
            has = Has(subscription.sent, self._shown, self._told, self._told_at)
            turn.told[had] = Told(before, has, piece, count)

    def _step(self, subscription: Subscription, tide: Watermark | None) -> bytes:
        is_pending = subscription.is_pending()
        if tide is not None:
            return self._hear(tide)
        return self.wake() if is_pending else b""

    def _hear(self, tide: Watermark) -> bytes:
        """Tell the tide, unless this is of another history than what was told."""
        if follows(tide, self._shown, self._told):
            self._barred_at = None
        elif self._barred_at is None:
            self._barred_at = self._now()
        elif self._now() - self._barred_at >= BARRED_SECONDS:
            self.end("other-history")
        self._tide = tide
        return self.wake()

    def _has_news(self) -> bool:
        """There is something that could not be sent."""
        return bool(self.pending) or self._tide is not None or self._barred_at is not None

    def _free(self) -> Direct | None:
        """The way to a client that has taken all before."""
        direct = self._direct
        return direct if self._waits and not self.reason and direct is not None and direct.is_free() else None

    def _take(self) -> Shown | Watermark | None:
        return self._next_tide() or self._next_state()

    def _next_state(self) -> Shown | None:
        """The offered state of the earliest moment among those that contain all that was sent before."""
        best: Shown | None = None
        tide = self.hub.tide
        for subscription in self.pending:
            state, moment = subscription.state(tide)
            is_earlier = best is None or moment.as_of < best.moment.as_of
            if is_earlier and follows(moment, self._shown, self._told):
                best = Shown(subscription, state, moment)
        if best is not None:
            self._count(best.subscription.lacks, 1)
            best.subscription.has(best.state, best.moment)
            self._shown = best.moment
        return best

    def _next_tide(self) -> Watermark | None:
        """The least over the reads; None: there is nothing to tell."""
        tide, self._tide = self._tide, None
        if tide is None:
            return None
        moments = [tide]
        for subscription in self.subscriptions.values():
            subscription.is_pending()
            moment = subscription.complete_to(tide)
            if moment is None:
                return None
            moments.append(moment)
        least = min(moments, key=lambda moment: moment.as_of)
        if not follows(least, self._told):
            return None
        self._told, self._told_at = least, self._now()
        return least

    def _count(self, lacked: Touch | None, states: int) -> None:
        self._metrics.live_states.add(self._kind, amount=states)
        if lacked is not None and lacked.at:
            self._metrics.live_delay.observe(self._now() - lacked.at, times=states)


def _later(seconds: float, call: Callable[..., None], *arguments: str) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(max(0.0, seconds), call, *arguments)
