"""Server-sent events (HTML standard, 9.2), as plain ASGI: a read as a stream of its states."""

from __future__ import annotations

import asyncio
import random
import re

from starlette.types import Receive, Scope, Send

from authorizer_lambda.middleware import CLAIMS
from reader.demands import ENTITY_TAG, IF_NONE_MATCH, conditions_of
from reader.live.connection import RETRY_MS, Connection
from reader.live.connections import Connections
from reader.live.direct import abort_of, direct_of
from reader.live.messages import End, Message, Shown
from reader.live.watch import Watched, as_of
from reader.read_model.cached_values import Watermark
from tidemark.http import EVENT_STREAM
from tidemark.one_write import chunk

ACCEPTED = re.compile(rb"(?:^|,)\s*text/event-stream\s*(?:;(?!\s*q=0(?:\.0*)?\s*(?:,|$))[^,]*)?(?=,|$)", re.I)
MINIMAL = re.compile(rb"(?:^|[,;])\s*return\s*=\s*\"?minimal\"?\s*(?=[,;]|$)", re.I)
HEADERS = [
    (b"content-type", EVENT_STREAM),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes each event on at once
    (b"vary", b"Accept, Authorization, Prefer"),
]


def wants_stream(scope: Scope) -> bool:
    """Whether a GET accepts events."""
    for name, value in scope["headers"]:
        if name == b"accept" and EVENT_STREAM in value.lower():
            return scope["method"] == "GET" and ACCEPTED.search(value) is not None
    return False


async def stream(
    scope: Scope, receive: Receive, send: Send, connections: Connections, watched: Watched
) -> None:
    """Raises Problem before the stream begins."""
    conditions = conditions_of(scope["headers"])
    known = conditions.pop(IF_NONE_MATCH, [])
    known += [value for name, value in scope["headers"] if name == b"last-event-id"]
    minimal = any(map(MINIMAL.search, conditions.get(b"prefer", ())))
    headers = [*HEADERS, *([(b"preference-applied", b"return=minimal")] if minimal else [])]
    with connections.admit(scope[CLAIMS], "sse", abort_of(scope)) as connection:
        await connection.watch(
            watched,
            scope["path"],
            demands=connections.demands_of(conditions),
            known={tag.decode("latin-1") for tag in ENTITY_TAG.findall(b", ".join(known))},
            minimal=minimal,
        )
        gone = asyncio.create_task(_end_when_gone(receive, connection))

        async def write(message: Message) -> None:
            await send({"type": "http.response.body", "body": _event(message), "more_body": True})

        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send(
                {
                    "type": "http.response.body",
                    "body": b"retry: %d\n\n" % random.randrange(*RETRY_MS),
                    "more_body": True,
                }
            )
            await connection.serve(write, direct_of(scope, _chunk))
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()


async def _end_when_gone(receive: Receive, connection: Connection) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    connection.end("client")


def _chunk(message: Message) -> bytes:
    return chunk(_event(message))


def _event(message: Message) -> bytes:
    match message:
        case Shown(subscription, state, moment):
            minimal = subscription.minimal
            name, data = (b"changed", state.change(moment)) if minimal else (b"state", state.data(moment))
            return b"event: %s\nid: %s\ndata: %s\n\n" % (name, state.etag.encode(), data)
        case Watermark():
            return b'event: tide\ndata: {"as_of":"%s"}\n\n' % as_of(message)
        case End(reason, retry_ms):
            return b'event: end\nretry: %d\ndata: {"reason":"%s"}\n\n' % (retry_ms, reason.encode())
    raise AssertionError(message)
