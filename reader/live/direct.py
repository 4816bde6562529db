"""The way to a client's socket past the ASGI server, if this offers one: no task wakes for a message."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Scope

from reader.live.messages import Direct, Message
from tidemark.one_write import Gathering


def direct_of(scope: Scope, encode: Callable[[Message], bytes]) -> Direct | None:
    """`encode` makes what the server would write."""
    transport = _transport(scope)
    return None if transport is None else Direct(transport.is_free, transport.write_now, encode)


def abort_of(scope: Scope) -> Callable[[], None]:
    """Cuts off a client that takes nothing."""
    transport = _transport(scope)
    return (lambda: None) if transport is None else transport.abort


def _transport(scope: Scope) -> Gathering | None:
    transport: Gathering | None = scope["state"].get("transport")
    return transport
