"""The reader's connection to Redis, its clock and its MongoDB, each step of which waits for its turn.

Redis executes what the reader has sent one command at a time: others come between. The reader mostly
handles what has come one item at a time, in the connection's order: others go on while a reply or a message
lies there.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis
from bson.timestamp import Timestamp
from pymongo.database import Database
from pymongo.errors import NetworkTimeout, OperationFailure

from reader.read_model.cached_values import TIDE_CHANNEL
from reader.read_model.control import CONTROL
from tests.verification.schedules.redis_commands import CHANGING, described
from tests.verification.schedules.scheduler import Scheduler, turn
from tests.verification.schedules.wire import Wire, is_message

BsonDocument = dict[str, Any]
SNAPSHOT_TOO_OLD = 239
AT_ONCE = 0.2  # the probability that a reader handles all that has come in one turn of its event loop
LATER_ON = 0.5  # the probability that Redis executes what a closed connection has sent
CLOCK: contextvars.ContextVar[Clock] = contextvars.ContextVar("clock")


class Wires:
    """Real connections to Redis. A closed one serves again: opening one takes longer than a command."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: list[Wire] = []
        self._spare: list[Wire] = []

    def take(self) -> Wire:
        if not self._spare:
            self._spare.append(Wire(self._url))
            self._made.append(self._spare[0])
        return self._spare.pop()

    def give_back(self, wire: Wire) -> None:
        wire.call([b"SUNSUBSCRIBE", TIDE_CHANNEL])
        self._spare.append(wire)

    def close(self) -> None:
        for wire in self._made:
            wire.close()


class ReaderConnection:
    """Takes the place of redis-py's connection: what the reader sends, and what comes, waits for its turn."""

    def __init__(self, actor: str, wires: Wires, scheduler: Scheduler) -> None:
        self.is_connected = False
        self.continues = False  # since it read the watermark, each change of it was announced here
        self.loses_message = False  # the next one that comes
        self._has_asked = False
        self._redis, self._reader = f"{actor}>", f"{actor}<"
        self._wires = wires
        self._scheduler = scheduler
        self._wire: Wire | None = None
        self._sent: deque[Sequence[bytes]] = deque()
        self._come: deque[Any] = deque()
        self._reading: asyncio.Future[Any] | None = None
        self._at_once = False

    async def connect(self) -> None:
        self._wire = self._wires.take()
        self.is_connected = True

    async def send_packed_command(self, packed: bytes) -> None:
        reader = hiredis.Reader()  # commands have the form of replies
        reader.feed(packed)
        idle = not self._sent
        while self._wire is not None and (words := reader.gets()):
            self._sent.append(words)
        if idle:
            self._offer_execution()

    async def read_response(self, **options: bool) -> Any:
        if self._at_once and self._come:
            answer = self._come.popleft()
        else:
            self._at_once, self._reading = False, asyncio.get_running_loop().create_future()
            self._offer_handling()
            answer = await self._reading
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disconnect(self, nowait: bool) -> None:
        self.is_connected = False
        self._scheduler.drop(self._reader)
        if self._reading is not None and not self._reading.done():
            self._reading.set_exception(redis.ConnectionError("closed"))
        if self._wire is not None:
            self._lose_wire(self._scheduler.chance.random() < LATER_ON)

    def kill(self, executes_rest: bool) -> None:
        """The reader gets some of what has come, and then an error."""
        if self._wire is not None:
            self._lose_wire(executes_rest)
            left = self._scheduler.chance.randint(0, len(self._come))
            items = [*list(self._come)[:left], redis.ConnectionError("killed")]
            self._scheduler.drop(self._reader)
            self._come.clear()
            self._arrive(items)

    def hear(self) -> None:
        """Takes in what Redis has published."""
        if self._wire is not None:
            *pushes, _ = self._wire.call([b"PING"])
            self._arrive(pushes)

    def unsubscribe(self) -> None:
        """Redis ends the subscription, and the connection stays."""
        assert self._wire is not None
        self._arrive(self._wire.call([b"SUNSUBSCRIBE", TIDE_CHANNEL]))

    def _lose_wire(self, executes_rest: bool) -> None:
        """Commands sent before may be executed later; nobody gets the replies."""
        assert self._wire is not None
        wire, self._wire, self.continues = self._wire, None, False
        self._scheduler.drop(self._redis)
        if not executes_rest:
            self._sent.clear()
        if self._sent:
            self._execute_later(wire)
        else:
            self._wires.give_back(wire)

    def _execute_later(self, wire: Wire) -> None:
        words = self._sent[0]

        def execute() -> None:
            self._sent.popleft()
            wire.call(words)
            if self._sent:
                self._execute_later(wire)
            else:
                self._wires.give_back(wire)

        self._offer_command(f"{described(words)}, though closed", words, execute)

    def _offer_command(self, action: str, words: Sequence[bytes], proceed: Callable[[], None]) -> None:
        """A step of Redis, which no coroutine waits for."""
        self._scheduler.offer(self._redis, action, words[0].decode() in CHANGING, proceed, in_loop=False)

    def _offer_execution(self) -> None:
        if self._sent and self._wire is not None:
            words = self._sent[0]
            self._offer_command(described(words), words, self._execute)

    def _execute(self) -> None:
        assert self._wire is not None
        words = self._sent.popleft()
        self._arrive(self._wire.call(words))
        if words[0] == b"GET" and not self._has_asked:
            self._has_asked = self.continues = True
        self._offer_execution()

    def _arrive(self, items: Sequence[Any]) -> None:
        nothing = not self._come
        for item in items:
            if self.loses_message and is_message(item):
                self.loses_message = self.continues = False
            else:
                self._come.append(item)
        if nothing:
            self._offer_handling()

    def _offer_handling(self) -> None:
        if self._come and self._reading is not None and not self._reading.done():
            self._scheduler.offer(self._reader, _what(self._come[0]), False, self._handle)

    def _handle(self) -> None:
        assert self._reading is not None
        self._reading.set_result(self._come.popleft())
        self._at_once = self._scheduler.chance.random() < AT_ONCE


def _what(item: Any) -> str:
    if isinstance(item, hiredis.PushNotification):
        keys = item[2].decode().split("\n")[2:] if is_message(item) else []
        return " ".join([item[0].decode(), *keys])
    return f"error {item}" if isinstance(item, Exception) else "reply"


class ReaderRedis:
    """Takes the place of one reader's pool: its connections, one after the other."""

    def __init__(self, name: str, wires: Wires, scheduler: Scheduler) -> None:
        self.last: ReaderConnection | None = None
        self._name = name
        self._wires = wires
        self._scheduler = scheduler
        self._made = 0

    @property
    def continues(self) -> bool:
        return self.last is not None and self.last.continues

    def hear(self) -> None:
        if self.last is not None:
            self.last.hear()

    def make_connection(self) -> ReaderConnection:
        self._made += 1
        self.last = ReaderConnection(f"{self._name}{self._made}", self._wires, self._scheduler)
        return self.last


class Pools:
    """Takes the place of the reader's pool class. `next`: what the next Following gets."""

    def __init__(self) -> None:
        self.next: ReaderRedis | None = None

    def from_url(self, url: str, **options: Any) -> ReaderRedis:
        assert self.next is not None
        return self.next


class Clock:
    """A reader's time, which goes on by ticks: each lets one sleep end."""

    def __init__(self) -> None:
        self._left = 0
        self._sleeping: list[asyncio.Future[None]] = []

    def tick(self, times: int = 1) -> None:
        self._left = times - 1
        for sleeping in self._sleeping:
            if not sleeping.done():
                sleeping.set_result(None)
        self._sleeping.clear()

    async def sleep(self, seconds: float) -> None:
        if seconds == 0 or self._left:
            self._left -= self._left > 0
            await asyncio.sleep(0)
        else:
            self._sleeping.append(asyncio.get_running_loop().create_future())
            await self._sleeping[-1]


async def sleep(seconds: float) -> None:
    await CLOCK.get().sleep(seconds)


class ReaderMongoDB:
    """Takes the place of the reader's client and of its database. Commands run one at a time.

    `depose`: reads find what a primary has that lost its majority then. `forget`: no snapshot from before
    can be read any more.
    """

    def __init__(self, database: Database[BsonDocument]) -> None:
        self.was_deposed = False
        self._database = database
        self._deposed_at: Timestamp | None = None
        self._forgot_before: Timestamp | None = None

    def get_default_database(self, name: str) -> ReaderMongoDB:
        return self

    def depose(self) -> None:
        self.was_deposed, self._deposed_at = True, self._now()

    def rejoin(self) -> None:
        self._deposed_at = None

    def forget(self) -> None:
        self._forgot_before = self._now()

    async def command(self, asked: BsonDocument, codec_options: Any) -> BsonDocument:
        await turn(f"find {asked['find']}")
        return self._database.command(self._possible(asked), codec_options=codec_options)

    async def cursor_command(self, asked: BsonDocument, codec_options: Any) -> Found:
        await turn(f"find {asked['find']}")
        return Found(self._database.cursor_command(self._possible(asked), codec_options=codec_options))

    def _possible(self, asked: BsonDocument) -> BsonDocument:
        """The command as this MongoDB can answer it."""
        time, deposed_at = asked["readConcern"].get("atClusterTime"), self._deposed_at
        if deposed_at is not None:
            if time is not None and time > deposed_at:
                raise NetworkTimeout("no majority confirms this moment")
            return {**asked, "readConcern": {"level": "snapshot", "atClusterTime": time or deposed_at}}
        if time is not None and self._forgot_before is not None and time < self._forgot_before:
            raise OperationFailure("the snapshot is gone", SNAPSHOT_TOO_OLD)
        return asked

    def _now(self) -> Timestamp:
        reply = self._database.command(
            {"find": CONTROL, "limit": 1, "singleBatch": True, "readConcern": {"level": "snapshot"}}
        )
        time: Timestamp = reply["cursor"]["atClusterTime"]
        return time


class Found:
    """A cursor."""

    def __init__(self, documents: Any) -> None:
        self._documents = documents

    async def to_list(self) -> list[BsonDocument]:
        return list(self._documents)
