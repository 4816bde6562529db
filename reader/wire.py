"""Commands, replies and connections of Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from reader.parts import Origin
from reader.read_model.cached_values import Watermark
from reader.read_model.declarations import MODEL_VERSION

CONNECT_SECONDS = 1.0


def packed(*words: str | bytes | int) -> bytes:
    """A command as it is sent."""
    command: bytes = pack_command(words)  # type: ignore[arg-type]  # hiredis declares one word
    return command


def usable(text: bytes | None) -> tuple[Origin | None, Watermark | None]:
    """The watermark, or the reason why it cannot be followed."""
    if text is None:
        return Origin.NO_WATERMARK, None
    try:
        watermark = Watermark.decode(text)
    except ValueError:
        return Origin.OTHER_MODEL, None
    return (None, watermark) if watermark.model_version == MODEL_VERSION else (Origin.OTHER_MODEL, None)


async def slots(url: str) -> Any:
    """The reply to CLUSTER SLOTS, or the error."""
    connection: AbstractConnection = pool(url).make_connection()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_packed_command(packed("CLUSTER", "SLOTS"))
            return await connection.read_response(disable_decoding=True)
    except (RedisError, OSError) as error:
        return error
    finally:
        await connection.disconnect(nowait=True)


def pool(url: str) -> Any:
    """Makes connections to a node."""
    return ConnectionPool.from_url(
        url,
        protocol=3,
        socket_timeout=None,  # with one, redis-py writes in another task: after later requests, or never
        socket_connect_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        client_name="tidemark-reader",
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
