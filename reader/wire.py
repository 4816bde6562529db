"""Commands and replies on the connection that follows the tide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hiredis import pack_command

from reader.parts import Origin
from reader.read_model.cached_values import TIDE_CHANNEL, WATERMARK_KEY, Watermark
from reader.read_model.declarations import MODEL_VERSION


def packed(*words: str | bytes | int) -> bytes:
    """A command as it is sent."""
    command: bytes = pack_command(words)  # type: ignore[arg-type]  # hiredis declares one word
    return command


ASK = packed("GET", WATERMARK_KEY)
SUBSCRIBE = packed("SSUBSCRIBE", TIDE_CHANNEL)


@dataclass(slots=True)
class Request:
    """A request under way. `read` makes the future's result of the replies, at their place in the order."""

    replies: int
    read: Callable[[list[Any]], Any] | None = None
    future: asyncio.Future[Any] | None = None
    answers: list[Any] = field(default_factory=list)


def usable(text: bytes | None) -> tuple[Origin | None, Watermark | None]:
    """The watermark, or the reason why it cannot be followed."""
    if text is None:
        return Origin.NO_WATERMARK, None
    try:
        watermark = Watermark.decode(text)
    except ValueError:
        return Origin.OTHER_MODEL, None
    return (None, watermark) if watermark.model_version == MODEL_VERSION else (Origin.OTHER_MODEL, None)
