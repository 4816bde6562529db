"""The reader's own Redis connection and MongoDB client, with a turn before each command."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import hiredis
import redis.asyncio
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession

from reader.read_model.control import CONTROL
from tests.verification.schedules.redis_commands import CHANGING, described
from tests.verification.schedules.scheduler import QuietSelector, command

BsonDocument = dict[str, Any]


class ReaderConnection(redis.asyncio.Connection):
    """Sends the commands of a pipeline in order, each in its own turn: Redis may interleave others."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._unsent: deque[Sequence[Any]] = deque()
        self._greeting = False

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        self._greeting = True
        await super().on_connect_check_health(check_health)
        self._greeting = False

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        self._unsent.extend(tuple(one) for one in commands)
        return []

    async def send_command(self, *arguments: Any, **options: Any) -> None:
        if self._greeting:
            await super().send_command(*arguments, **options)
        else:
            self._unsent.append(arguments)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """`command`: bytes that the reader has packed itself, or redis-py's list of commands."""
        if isinstance(command, bytes):
            reply = hiredis.Reader()  # commands have the form of replies
            reply.feed(command)
            self._unsent.append(reply.gets())
        else:
            await super().send_packed_command(command, check_health)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        if self._greeting or not self._unsent:
            return await super().read_response(*arguments, **options)
        unsent = self._unsent.popleft()
        try:
            async with command(described(unsent), unsent[0] in CHANGING):
                await super().send_command(*unsent)
                return await super().read_response(*arguments, **options)
        except BaseException:
            self._unsent.clear()
            await self.disconnect(nowait=True)  # like redis-py after an interrupted read
            raise


class ReaderPool(redis.asyncio.BlockingConnectionPool):
    """One pool for many caches in turn: connecting would take longer than a schedule."""

    def __init__(self, selector: QuietSelector, **options: Any) -> None:
        super().__init__(**options, connection_class=ReaderConnection)
        self._selector = selector
        self._made: list[Any] = []
        self._shared: list[Any] = []
        self._spare: list[Any] = []

    def make_connection(self) -> Any:
        if not self._spare:
            self._spare = [super().make_connection()]  # type: ignore[no-untyped-call]
            self._made += self._spare
        return self._spare.pop()

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        with self._selector.busy():
            connection = await super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]
        if connection not in self._shared:
            self._shared.append(connection)
        return connection

    def take_back(self) -> None:
        """Makes the last cache's own connection available to the next cache."""
        self._spare = [connection for connection in self._made if connection not in self._shared]

    async def close(self) -> None:
        for connection in self._made:
            await connection.disconnect()


class ReaderPools:
    """Takes the place of the reader's pool class. `reader`: the owner of the next pool."""

    def __init__(self, selector: QuietSelector) -> None:
        self.reader = ""
        self._selector = selector
        self._pools: dict[str, ReaderPool] = {}

    def from_url(self, url: str, **options: Any) -> ReaderPool:
        if self.reader not in self._pools:
            parsed = redis.asyncio.connection.parse_url(url)
            self._pools[self.reader] = ReaderPool(self._selector, **options, **parsed)
        pool = self._pools[self.reader]
        pool.take_back()
        return pool

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()


class ReaderClient:
    """The client methods that the reader's document store uses, with a turn before each read.

    After `depose` it reads MongoDB's snapshot of that moment, like a primary that lost its majority then.
    """

    def __init__(self, client: AsyncMongoClient[BsonDocument]) -> None:
        self.session: AsyncClientSession | None = None
        self._client = client

    def get_default_database(self, *arguments: Any, **options: Any) -> ReaderDatabase:
        return ReaderDatabase(self, self._client.get_default_database(*arguments, **options))

    async def depose(self, selector: QuietSelector) -> None:
        """The first read of a snapshot session fixes the moment for all later ones."""
        with selector.busy():
            session = self._client.start_session(snapshot=True)
            await self._client.get_default_database("tidemark")[CONTROL].find_one({}, session=session)
            self.session = session

    async def rejoin(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.end_session()


class ReaderDatabase:
    """Collections by name."""

    def __init__(self, client: ReaderClient, database: Any) -> None:
        self._client = client
        self._database = database

    def __getitem__(self, name: str) -> ReaderCollection:
        return ReaderCollection(self._client, self._database[name])


class ReaderCollection:
    """A collection with `find` methods."""

    def __init__(self, client: ReaderClient, collection: Any) -> None:
        self._client = client
        self._collection = collection

    def find(self, *arguments: Any, **options: Any) -> ReaderCursor:
        return ReaderCursor(
            self._client, self._collection, partial(self._collection.find, *arguments, **options)
        )


class ReaderCursor:
    """Results, read all at once."""

    def __init__(self, client: ReaderClient, collection: Any, find: Callable[..., Any]) -> None:
        self._client = client
        self._collection = collection
        self._find = find

    async def to_list(self) -> list[BsonDocument]:
        async with command(f"find {self._collection.name}"):
            found: list[BsonDocument] = await self._find(session=self._client.session).to_list()
            return found
