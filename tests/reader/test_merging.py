"""Random histories of shards: whatever comes in whatever order, entries are of the tide, and names true."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterator
from itertools import pairwise

import pytest

from reader.following import Following
from reader.metrics import ReaderMetrics
from reader.named import Position
from reader.read_model.announcements import decode, encode
from reader.read_model.cached_values import Entry, Watermark
from reader.read_model.declarations import MODEL_VERSION
from reader.replica import Replica
from reader.strand import Request, Strand
from tidemark.redis_url import RedisUrl

pytestmark = pytest.mark.anyio
COUNT = 3
KEYS = [f"post:{id}" for id in range(8)]
EVENTS = 300


class Shards:
    """A projector and Redis at work on the shards, each at its own pace; and their connections."""

    def __init__(self, following: Following, chance: random.Random) -> None:
        self.following = following
        self.chance = chance
        self.named: list[set[str]] = [set(), set()]  # by batch
        self.at = dict.fromkeys(following.strands, 1)
        self.ticks = dict.fromkeys(following.strands, 0)
        self.under_way: dict[Strand, deque[bytes | Request]] = {one: deque() for one in following.strands}

    def watermark(self, strand: Strand) -> Watermark:
        seq, epoch = self.at[strand], f"7{strand.shard.number}"
        as_of = f"2026-11-23T16:{seq:02}:{self.ticks[strand]:02}.000000Z"
        return Watermark(3, epoch, MODEL_VERSION, seq, f"b{seq}", "", False, as_of, "")

    def version(self, key: str, seq: int) -> int:
        """The last batch up to `seq` that named the key."""
        return max(at for at in range(seq + 1) if at == 0 or key in self.named[at])

    def commit(self) -> None:
        if len(self.named) < 60:
            self.named.append(set(self.chance.sample(KEYS, 2)))

    def apply(self, strand: Strand) -> None:
        if self.at[strand] + 1 == len(self.named):
            return
        found = self.watermark(strand).lineage
        self.at[strand] += 1
        self.ticks[strand] = 0
        mine = [key for key in self.named[self.at[strand]] if self.following.strand_of(key) is strand]
        self.under_way[strand] += encode(found, self.watermark(strand), mine)

    def tick(self, strand: Strand) -> None:
        self.ticks[strand] = min(59, self.ticks[strand] + 1)
        watermark = self.watermark(strand)
        self.under_way[strand] += encode(watermark.lineage, watermark)

    def ask(self, strand: Strand) -> None:
        """For the watermark, and for the values of some keys."""
        keys = [key for key in KEYS if self.following.strand_of(key) is strand]
        entries = {key: Entry(True, self.version(key, self.at[strand])) for key in keys}

        def read(replies: list[bytes]) -> None:
            for key, entry in entries.items():
                self.following.replica.put(key, entry)

        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.exception())
        text = self.watermark(strand).encode().encode()
        self.under_way[strand].append(Request(strand, 1, read, future, [text]))

    def deliver(self, strand: Strand) -> None:
        if self.under_way[strand]:
            one = self.under_way[strand].popleft()
            if isinstance(one, Request):
                strand.node.is_unheard = False  # type: ignore[union-attr, misc]  # as it has replied
                self.following.replied(one)
            else:
                self.following.received(strand, decode(one))

    def lose(self, strand: Strand) -> None:
        """The connection; the next one begins with the watermark."""
        self.under_way[strand].clear()
        self.following.lost([strand])
        self.ask(strand)

    def silence(self, strand: Strand) -> None:
        """Its node does not reply for a while."""
        strand.node.is_unheard = True  # type: ignore[union-attr, misc]
        self.following.unheard([strand])
        self.ask(strand)

    def steps(self) -> Iterator[None]:
        chance, strands = self.chance, self.following.strands
        slow = chance.choice([None, *strands])
        deeds = {self.apply: 25, self.tick: 5, self.ask: 10, self.deliver: 40, self.lose: 2, self.silence: 2}
        for strand in strands:
            self.ask(strand)
        for _ in range(EVENTS):
            if chance.random() < 0.1:
                self.commit()
            if chance.random() < 0.08:
                self.following.look(strands)
            (deed,) = chance.choices([*deeds], [*deeds.values()])
            strand = chance.choice(strands)
            if deed != self.deliver or strand is not slow or chance.random() < 0.1:
                deed(strand)
            yield
        for strand in strands:
            self.ask(strand)
        for _ in range(3 * len(self.named) * COUNT):
            for strand in strands:
                self.apply(strand)
                self.deliver(strand)
            yield


class Heard:
    """A node that answers."""

    is_unheard = False
    silent = 0


def shards_of(seed: int) -> Shards:
    url = RedisUrl.parse(f"redis+cluster://nobody:1/?shards={COUNT}")
    following = Following(url, Replica(2**20, ReaderMetrics()), ReaderMetrics())
    for strand in following.strands:
        strand.node = Heard()  # type: ignore[assignment]  # nothing is sent here
    return Shards(following, random.Random(seed))


@pytest.mark.parametrize("seed", range(40))
async def test_all_entries_are_of_the_tide_and_no_name_is_missing(seed: int) -> None:
    it = shards_of(seed)
    following = it.following
    passed: dict[Position, Watermark] = {}
    for _ in it.steps():
        tide, position = following.tide, following.position
        if tide is None:
            assert len(following.replica) == 0
            continue
        for key in KEYS:
            entry = following.replica.get(key)
            assert entry is None or entry.version == it.version(key, tide.seq)
        former = passed.get(position)
        assert former is None or (former.seq == tide.seq and former.as_of <= tide.as_of)
        passed[position] = tide
        for (one, before), (other, after) in pairwise(sorted(passed.items())):
            if one.life == other.life:
                assert before.seq < after.seq
                names = following.named.names(one, other)
                changed = set().union(*it.named[before.seq + 1 : after.seq + 1])
                assert names is None or names == changed
    assert following.whole
    assert following.tide is not None
    assert following.tide.seq == len(it.named) - 1


async def test_a_shard_that_is_heard_again_begins_the_tide() -> None:
    """It was silent when the others were lost, and its messages came before its reply."""
    it = shards_of(0)
    first, *others = it.following.strands
    for strand in it.following.strands:
        it.ask(strand)
        it.deliver(strand)
    it.named.append({"post:1"})
    it.apply(first)
    it.silence(first)
    it.following.lost(others)
    assert it.following.tide is None
    it.following.look(it.following.strands)
    it.deliver(first)
    assert it.following.tide is None
    it.deliver(first)
    assert it.following.tide == it.watermark(first)
