"""The shipping reader beside the model: it is told what comes of the same shards, in the same order."""

from __future__ import annotations

import asyncio
import re
from functools import cache

from reader.following import Following
from reader.merging import LATE
from reader.metrics import ReaderMetrics
from reader.named import Position
from reader.read_model.announcements import Announcement
from reader.read_model.cached_values import Entry, Watermark
from reader.read_model.declarations import MODEL_VERSION
from reader.read_model.shards import shard_number
from reader.replica import Replica
from reader.strand import Request, TideBroken
from tests.verification.strands.connections import is_named
from tests.verification.strands.rules import DESIGN
from tests.verification.strands.state import Item, Mark, Message, World
from tidemark.redis_url import RedisUrl

LOST = re.compile(r"the connection of shard \d breaks|shard \d fails over|shard \d answers MOVED")


@cache
def key_of(shard: int, count: int) -> str:
    return next(key for key in map("post:{}".format, range(1000)) if shard_number(key, count) == shard)


def watermark(shard: int, mark: Mark) -> Watermark:
    as_of = f"2026-11-23T16:00:{mark.as_of:02}.000000Z"
    epoch, batch_id = f"{shard}{mark.epoch}", f"b{mark.id}"
    return Watermark(mark.build, epoch, MODEL_VERSION, mark.seq, batch_id, "", False, as_of, "")


class Node:
    """Sends nothing. `is_unheard`: nothing comes of its shard."""

    silent = 0

    def __init__(self) -> None:
        self.is_unheard = False


class Shipping:
    """Its strands are connected, and at the first batch, like those of a scenario."""

    def __init__(self, world: World) -> None:
        self.count = len(world.shards)
        metrics = ReaderMetrics()
        url = RedisUrl.parse(f"redis+cluster://nobody:1/?shards={self.count}")
        self.following = Following(url, Replica(2**20, metrics), metrics)
        self.nodes = [Node() for _ in world.shards]
        self.positions: dict[Position, int] = {}  # of this life -> number of the batch
        for strand, node, of_model in zip(
            self.following.strands, self.nodes, world.reader.strands, strict=True
        ):
            strand.node = node  # type: ignore[assignment]  # nothing is sent here
            if of_model.at is not None:
                at = watermark(strand.shard.number, of_model.at)
                self.following.replied(Request(strand, 1, answers=[at.encode().encode()]))

    def take(self, world: World, label: str) -> None:
        """A step of the model, from this state."""
        found = re.search(r"(?:strand|shard) (\d)", label)
        if found is None:
            return
        at = int(found[1])
        if " hears " in label:
            self.hear(at, world.reader.strands[at].wire[0])
        elif label.endswith("is put out"):
            self.wait(world, at)
        elif LOST.match(label):
            self.following.lost([self.following.strands[at]])
        elif label.endswith((" is silent", " is heard again")):
            self.nodes[at].is_unheard = label.endswith(" is silent")

    def hear(self, at: int, item: Item) -> None:
        strand = self.following.strands[at]
        try:
            if isinstance(item, Message):
                keys = (key_of(at, self.count),) if item.named else ()
                build, seq, id = item.found[1:]
                found = watermark(at, Mark(item.found[0], build, seq, id, 0, 0)).lineage
                self.following.received(strand, Announcement(found, watermark(at, item.to), keys, ()))
            else:
                text = None if item.mark is None else watermark(at, item.mark).encode().encode()
                self.following.replied(self.request(at, item.entry, text))
        except TideBroken:
            self.following.lost([strand])

    def request(self, at: int, entry: int | None, text: bytes | None) -> Request:
        def read(replies: list[bytes]) -> None:
            if entry is not None:
                self.following.replica.put(key_of(at, self.count), Entry(True, entry))

        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.exception())
        return Request(self.following.strands[at], 1, read, future, [text])

    def wait(self, world: World, at: int) -> None:
        """Until the strand is late, or known to be silent. Where the projector comes, ticks come."""
        strand = self.following.strands[at]
        for one, shard, node in zip(self.following.strands, world.shards, self.nodes, strict=True):
            one.is_fed = one.is_fed or not (one.at is None or one.present or shard.hung or node.is_unheard)
        if self.nodes[at].is_unheard:
            self.following.unheard([strand])
        for _ in range(LATE + 1):
            self.following.look([strand])

    def rest(self) -> None:
        """Nothing happens for a while."""
        for _ in range(LATE + 1):
            self.following.look(self.following.strands)

    def differs(self, world: World) -> str:
        """Where the two are not alike; empty if they are."""
        following, reader = self.following, world.reader
        for at, (strand, of_model) in enumerate(zip(following.strands, reader.strands, strict=True)):
            expected = of_model.at and watermark(at, of_model.at)
            if (strand.at, strand.present) != (expected, of_model.present):
                return f"strand {at} is at {strand.at}, present: {strand.present}"
            if (len(strand.inbox), strand.is_fed) != (len(of_model.inbox), of_model.fed):
                return f"the inbox of strand {at}: {strand.inbox}, fed: {strand.is_fed}"
            entry = following.replica.get(key_of(at, self.count))
            if (entry and entry.version) != reader.local[at]:
                return f"the replica has {entry} of shard {at}"
        tide, expected = following.tide, reader.tide and watermark(0, reader.tide)
        if (tide and (tide.batch, tide.as_of)) != (expected and (expected.batch, expected.as_of)):
            return f"the tide is {tide}"
        return self.names_differ(world) if tide is not None else ""

    def names_differ(self, world: World) -> str:
        following, reader, now = self.following, world.reader, self.following.position
        if reader.tide is not None:
            self.positions[now] = reader.tide.seq
        if following.whole != reader.is_whole:
            return f"all are present: {following.whole}"
        for position, seq in self.positions.items():
            for at in range(self.count if position.life == now.life else 0):
                named = following.named.between((key_of(at, self.count),), position, now)
                if named != is_named(DESIGN, reader, at, seq):
                    return f"key {at} was named since {seq}: {named}"
        return ""
