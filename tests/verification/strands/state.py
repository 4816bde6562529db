"""The states of MongoDB, of the shards in Redis, and of one reader process with its strands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.verification.protocol.checker import Step

LEASED = -1  # an entry that is a lease; others are the last transaction that changed the key


class Batch(NamedTuple):
    """A commit, by its random id, and the last transaction that it contains."""

    build: int
    id: int
    upto: int


class Mark(NamedTuple):
    """A watermark. `as_of` is twice the last transaction that it speaks of, and one more after a tick."""

    epoch: int
    build: int
    seq: int
    id: int
    upto: int
    as_of: int

    @property
    def lineage(self) -> tuple[int, int, int, int]:
        return self[:4]

    @property
    def batch(self) -> tuple[int, int, int]:
        return self[1:4]


class Node(NamedTuple):
    """One shard in Redis. `strays`: entries under names of other epochs, for a mutation."""

    mark: Mark | None = Mark(0, 0, 0, 0, 0, 0)
    entry: int | None = 0
    strays: tuple[tuple[int, int], ...] = ()


class Former(NamedTuple):
    """A leader of before that goes on talking: the batches and the epochs that it knows."""

    history: tuple[Batch, ...]
    epochs: tuple[int, ...]


class Shard(NamedTuple):
    """`replica`: what it has, if it lacks something. `hung`: the projector does not reach the shard."""

    node: Node = Node()
    replica: Node | None = None
    hung: bool = False


class Message(NamedTuple):
    """An announcement of APPLY, whether it names the key."""

    found: tuple[int, int, int, int]
    to: Mark
    named: bool


class Reply(NamedTuple):
    """The watermark, and an entry if one was asked for. `granted`: a lease was taken."""

    mark: Mark | None
    entry: int | None = None
    granted: bool = False


Item = Message | Reply


class Strand(NamedTuple):
    """`at`: the watermark that it has come to. `wire` is on its way, `inbox` has come and waits.

    `late`: it was put out, and has not moved since. `fed`: a message has come since, or since it began.
    `deaf`: its node does not have the shard any more. `silent`: nothing comes for a while.
    """

    at: Mark | None = None
    present: bool = False
    late: bool = False
    fed: bool = False
    connected: bool = False
    deaf: bool = False
    silent: bool = False
    inbox: tuple[Item, ...] = ()
    wire: tuple[Item, ...] = ()

    @property
    def heard(self) -> Mark | None:
        """The watermark after all that has come."""
        return next((item.to for item in reversed(self.inbox) if isinstance(item, Message)), self.at)

    @property
    def head(self) -> Mark | None:
        """The batch, or tick, at the head of the inbox."""
        head = self.inbox[0] if self.inbox else None
        return head.to if isinstance(head, Message) else None


class Fill(NamedTuple):
    """A fill under way. `of_life`: there was no reset of the tide since. `of_strand`: nor of the strand."""

    key: int
    mark: Mark
    position: int
    epoch: int
    stored: bool = False
    of_life: bool = True
    of_strand: bool = True


class Composition(NamedTuple):
    """An answer under way: its moment, and its parts."""

    moment: Mark
    parts: tuple[int | None, ...]
    of_life: bool = True


class Watch(NamedTuple):
    """`shown`: the contents that the watcher has. `placed`: `position` is of this life of the tide."""

    shown: tuple[int, ...] | None = None
    moment: int = 0
    position: int = 0
    placed: bool = False
    tided: int = 0


class Reader(NamedTuple):
    """One process. Positions of a life of the tide are its seqs.

    `named`: for each key, the last batch that named it. `unknown`: the last batch without some names.
    `told`: the latest answer in this life. `broken`: a promise of the tide.
    """

    strands: tuple[Strand, ...]
    local: tuple[int | None, ...]
    named: tuple[int, ...]
    tide: Mark | None = None
    unknown: int = 0
    fills: tuple[Fill, ...] = ()
    composition: Composition | None = None
    floor: int = 0
    told: int = 0
    watch: Watch | None = None
    broken: str | None = None

    @property
    def is_whole(self) -> bool:
        return all(strand.present for strand in self.strands)


class Left(NamedTuple):
    """How many faults and demands are left."""

    takeovers: int
    restores: int
    rebuilds: int
    hangs: int
    failovers: int
    flushes: int
    moves: int
    breaks: int
    losses: int
    silences: int
    lates: int
    too_old: int
    leases: int
    answers: int


class World(NamedTuple):
    """`epochs`: for each shard, the one that MongoDB names."""

    left: Left
    shards: tuple[Shard, ...]
    epochs: tuple[int, ...]
    reader: Reader
    history: tuple[Batch, ...] = (Batch(0, 0, 0),)
    ids: int = 1
    former: Former | None = None

    @property
    def last(self) -> int:
        return len(self.history) - 1

    def mark(self, epoch: int, seq: int) -> Mark:
        return mark_of(self.history, epoch, seq)

    def has(self, mark: Mark) -> bool:
        """MongoDB's history contains this batch, and its build serves."""
        if mark.seq > self.last or mark.build != self.history[-1].build:
            return False
        batch = self.history[mark.seq]
        return (batch.build, batch.id) == (mark.build, mark.id)

    def spend(self, fault: str) -> World:
        return self._replace(left=self.left._replace(**{fault: getattr(self.left, fault) - 1}))

    def with_shard(self, at: int, /, **changes: Any) -> World:
        return self._replace(shards=with_one(self.shards, at, self.shards[at]._replace(**changes)))

    def with_strand(self, at: int, /, **changes: Any) -> World:
        return self._replace(reader=with_strand(self.reader, at, **changes))


class Told(NamedTuple):
    """A message to a client: an answer or a watched state (`contents`, of `moment`), or a tide alone."""

    moment: Mark
    contents: tuple[int, ...] | None = None
    watched: bool = False


Moves = Iterator[Step[World, Told]]


def mark_of(history: tuple[Batch, ...], epoch: int, seq: int) -> Mark:
    build, id, upto = history[seq]
    return Mark(epoch, build, seq, id, upto, 2 * upto)


def with_strand(reader: Reader, at: int, /, **changes: Any) -> Reader:
    return reader._replace(strands=with_one(reader.strands, at, reader.strands[at]._replace(**changes)))


def with_one(all_: tuple[Any, ...], at: int, one: Any) -> tuple[Any, ...]:
    return (*all_[:at], one, *all_[at + 1 :])
