"""The messages to a client, and the way to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from reader.live.subscription import Subscription
from reader.live.watch import State
from reader.read_model.cached_values import Watermark


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


class Direct(NamedTuple):
    """A way to the client that no task waits on, for when the client has taken all before: it `is_free`."""

    is_free: Callable[[], bool]
    write: Callable[[bytes], None]
    encode: Callable[[Message], bytes]


def encoded(message: Message, encode: Callable[[Message], bytes]) -> bytes:
    if not isinstance(message, Shown):
        return encode(message)
    form = encode, message.subscription.path, message.subscription.minimal
    return message.state.encoded(message.moment, form, partial(encode, message))
