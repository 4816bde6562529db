"""Clients of a reader's hub: each watches reads, and judges all that it is sent by MySQL's history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from authorizer_lambda.tokens import Claims
from reader.errors import NOTHING, DocumentsUnavailable, not_found
from reader.live.connection import Connection
from reader.live.connections import Connections
from reader.live.messages import Direct, End, Message, Shown
from reader.live.watch import Watched, as_of, contains
from reader.read_model.cached_values import Watermark
from tests.verification.schedules.history import History
from tests.verification.schedules.promises import BrokenPromise, Promises
from tests.verification.schedules.reader_stores import ReaderMongoDB
from tests.verification.schedules.scheduler import turn
from tidemark.problem import Problem

NOBODY_LEAVES_BEFORE = 10**9  # seconds


class Has(NamedTuple):
    """A client's knowledge of a read: its answer in state number `state`."""

    told: Any
    etag: str | None
    state: int
    watched_again: bool = False  # since it was sent


class Pieces:
    """Stands for the bytes of messages, which several clients may get."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    def encode(self, message: Message) -> bytes:
        self._messages.append(message)
        return b"%d " % (len(self._messages) - 1)

    def messages(self, piece: bytes) -> list[Message]:
        return [self._messages[int(number)] for number in piece.split()]


class Client:
    """One connection. The client watches what it is told to, one thing after the other."""

    def __init__(
        self,
        name: str,
        connections: Connections,
        mongodb: ReaderMongoDB,
        promises: Promises,
        history: History,
        pieces: Pieces,
        *,
        slow: bool,
    ) -> None:
        self._name = name
        self._connections = connections
        self._mongodb = mongodb
        self._promises = promises
        self._history = history
        self._slow = slow
        self._asked: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._has: dict[str, Has | None] = {}
        self._state: Watermark | None = None  # of the last message of this kind
        self._tide: Watermark | None = None
        self._connection: Connection | None = None
        self._serving: asyncio.Task[None] | None = None
        self._broken: BrokenPromise | None = None  # by something that was sent
        self._encode, self._messages = pieces.encode, pieces.messages
        self.left = False

    async def run(self) -> None:
        claims = Claims(self._name, frozenset({"read"}), NOBODY_LEAVES_BEFORE, 0)
        with self._connections.admit(claims, "schedule", lambda: None) as self._connection:
            direct = Direct(lambda: not self._slow, self._write, self._encode)
            self._serving = asyncio.create_task(self._connection.serve(self._take, direct))
            try:
                while True:
                    await (await self._asked.get())()
            finally:
                self.left = True
                self._serving.cancel()

    def watch(self, asked: str, *, by_etag: bool) -> None:
        self._asked.put_nowait(lambda: self._watch(asked, by_etag))

    def unwatch(self, asked: str) -> None:
        async def unwatch() -> None:
            assert self._connection is not None
            self._connection.unwatch(asked)

        self._asked.put_nowait(unwatch)

    def look(self) -> None:
        """Raises what broke while something was sent."""
        if self._broken is not None:
            raise self._broken
        if self._serving is not None and self._serving.done() and not self._serving.cancelled():
            self._serving.result()

    def has_all(self, last: Watermark) -> bool:
        """Whether all reads that are watched, and the tide, have come to the last moment."""
        if self.left or self._connection is None:
            return True
        state = self._promises.state_of(last)
        watched = [*self._connection.subscriptions]
        shows = all(
            (has := self._has.get(asked)) is not None and has.told == self._history.answer(asked, state)
            for asked in watched
        )
        return shows and self._tide is not None and self._follows(self._tide, last)

    async def _watch(self, asked: str, by_etag: bool) -> None:
        """Only MongoDB's fault excuses that there is no first state."""
        assert self._connection is not None
        has = self._has.get(asked)
        known = [has.etag] if by_etag and has is not None and has.etag else []
        self._has[asked] = has._replace(watched_again=True) if has is not None and known else None
        watched = Watched((asked, "", ""), self._history.queries[asked], not_found(*NOTHING))
        try:
            await self._connection.watch(watched, asked, known=known)
        except (DocumentsUnavailable, Problem) as error:
            if not self._mongodb.was_deposed:
                raise BrokenPromise(f"{asked} has no first state: {error!r}") from error

    async def _take(self, message: Message) -> None:
        """A slow client keeps the next message waiting. Any other is mostly written to directly."""
        self._written(message)
        if self._slow:
            await turn("takes " + (message.subscription.path if isinstance(message, Shown) else "the tide"))

    def _write(self, data: bytes) -> None:
        for message in self._messages(data):
            self._written(message)

    def _written(self, message: Message) -> None:
        """Counts as sent when it comes here."""
        try:
            self._judge(message)
        except BrokenPromise as broken:
            self._broken = self._broken or broken

    def _judge(self, message: Message) -> None:
        match message:
            case Shown(subscription, state, moment):
                self._check_order("state", moment, self._state, self._tide)
                self._state = moment
                if subscription.path in self._has:
                    self._shown(subscription.path, msgspec.json.decode(state.data(moment)), moment)
            case Watermark():
                self._check_order("tide", message, self._tide)
                self._tide = message
                self._check_complete(message)
            case End(reason):
                self._check_end(reason)
                self.left = True

    def _shown(self, asked: str, sent: Any, moment: Watermark) -> None:
        """It is what a GET answers at this moment, and not what the client has.

        An ETag may be another for the same body: an author's counters change it.
        """
        if sent["as_of"] != as_of(moment).decode():
            raise BrokenPromise(f"{asked} is sent as of {sent['as_of']}, and is of {moment}")
        body = None if sent["status"] == 404 else msgspec.json.encode(sent["body"])
        self._promises.checks["states sent to clients"] += 1
        state, told = self._promises.shown(asked, body, sent["etag"] or "", moment)
        has = self._has[asked]
        if (
            has is not None
            and has.told == told
            and not (has.watched_again and (has.etag != sent["etag"] or self._differed(asked, has, state)))
        ):
            raise BrokenPromise(f"{asked} is sent again: {told}")
        self._has[asked] = Has(told, sent["etag"], state)

    def _check_order(self, kind: str, moment: Watermark, *before: Watermark | None) -> None:
        if not self._follows(moment, *before):
            raise BrokenPromise(f"a {kind} as of {moment} is sent after {before}")

    def _follows(self, moment: Watermark, *before: Watermark | None) -> bool:
        return all(one is None or (contains(moment, one) and moment.as_of >= one.as_of) for one in before)

    def _check_complete(self, tide: Watermark) -> None:
        """The client has what MySQL had then, or later: what changed and changed back may be left out."""
        assert self._connection is not None
        self._promises.checks["tides sent to clients"] += 1
        least = self._promises.state_at(tide.as_of)
        for asked in self._connection.subscriptions:
            has = self._has.get(asked)
            if has is None:
                raise BrokenPromise(f"the tide is sent before {asked}")
            if has.state < least and has.told not in self._answers(asked, least, self._promises.last_state):
                raise BrokenPromise(f"the tide of state {least} is sent, and {asked} is of {has.state}")

    def _differed(self, asked: str, has: Has, state: int) -> bool:
        """Whether the hub may have had another state between, or an older one if a store has gone back."""
        first = 0 if self._promises.went_back or self._mongodb.was_deposed else has.state
        return any(told != has.told for told in self._answers(asked, first, state))

    def _answers(self, asked: str, first: int, last: int) -> list[Any]:
        return [self._history.answer(asked, state) for state in range(first, last + 1)]

    def _check_end(self, reason: str) -> None:
        """Streams end only if the tide lacks what was sent."""
        assert self._connection is not None
        tide = self._connection.hub.tide
        if reason != "other-history" or (tide is not None and self._follows(tide, self._state, self._tide)):
            raise BrokenPromise(f"the stream ends: {reason}")
