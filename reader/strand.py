"""A strand: the messages and replies of one shard, in the order of its connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from reader.errors import CacheBypassed
from reader.parts import Origin
from reader.read_model.announcements import Announcement
from reader.read_model.cached_values import BatchName, Watermark
from reader.read_model.shards import Shard
from reader.wire import packed

if TYPE_CHECKING:
    from reader.node import Node


class TideBroken(Exception):
    """A message or reply does not continue the tide; the error's message says why."""


class Batch(NamedTuple):
    """The messages of one APPLY. A tick names no keys and no other batch."""

    parts: list[Announcement]
    to: Watermark
    is_tick: bool


class Strand:
    """`at`: the watermark that it has come to; None: none is known. The last message left `lineage`.

    `bypass` says why the shard cannot be asked now; None: it can. `names_begin` with this text in Redis.
    `life` counts resets. Of several shards: `present`: the strand is at the tide; `inbox` waits for the tide;
    `parts` of a batch whose end has not come; `late`: asks since others wait for its messages;
    `is_fed`: a message has come since it began or was put out, so a projector writes to it.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.subscribe = packed("SSUBSCRIBE", shard.channel)
        self.ask = packed("GET", shard.watermark_key)
        self.node: Node | None = None
        self.life = 0
        self.inbox: deque[Batch | Request] = deque()
        self.reset()

    def reset(self) -> None:
        for item in self.inbox:
            if isinstance(item, Request):
                item.fail()
        self.bypass: Origin | None = Origin.UNAVAILABLE
        self.at: Watermark | None = None
        self.lineage = self.names_begin = ""
        self.life += 1
        self.present = False
        self.inbox.clear()
        self.parts: list[Announcement] = []
        self.late = 0
        self.is_fed = False

    def begin(self, watermark: Watermark) -> None:
        self.at = watermark
        self.names_begin = self.shard.cache_key(watermark.epoch, "")
        self.lineage = watermark.lineage

    def comes_to(self, watermark: Watermark) -> None:
        self.at, self.late = watermark, 0

    @property
    def batch(self) -> BatchName:
        assert self.at is not None
        return self.at.batch

    @property
    def waits_for(self) -> BatchName | None:
        """The batch at the head of its inbox."""
        head = self.inbox[0] if self.inbox else None
        return head.to.batch if isinstance(head, Batch) else None

    @property
    def is_unheard(self) -> bool:
        return self.node is None or self.node.is_unheard


@dataclass(slots=True)
class Request:
    """A request under way. `read` makes the future's result of the replies, at their place in the order.

    `is_void`: its strand has begun anew since.
    """

    strand: Strand
    replies: int
    read: Callable[[list[Any]], Any] | None = None
    future: asyncio.Future[Any] | None = None
    answers: list[Any] = field(default_factory=list)
    is_void: bool = False

    def finish(self) -> None:
        """Raises ValueError if a reply cannot be read."""
        if self.future is not None and self.read is not None and not self.future.done():
            self.future.set_result(self.read(self.answers))

    def fail(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_exception(CacheBypassed(Origin.UNAVAILABLE))
