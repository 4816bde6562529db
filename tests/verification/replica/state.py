"""The states of MongoDB, of two Redis nodes, of the cache stage and of one reader process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.verification.protocol.checker import Step

ENTITY, LIST = KEYS = (0, 1)


class Batch(NamedTuple):
    """A commit: its id, the last transaction it contains, and whether a new build begins to serve with it."""

    id: int
    upto: int
    of_new_build: bool = False


class Mark(NamedTuple):
    """A watermark. `upto` and `open` stand for its GTID set and for a transaction in parts that is open."""

    epoch: int
    seq: int
    id: int
    upto: int = 0
    open: bool = False

    @property
    def lineage(self) -> tuple[int, int, int]:
        return self[:3]


class Value(NamedTuple):
    """The transaction that changed the key last, and the seq that the document carries as its version."""

    content: int
    version: int


class Lease(NamedTuple):
    token: int


Entry = Value | Lease | None
Pair = tuple[Entry, Entry]


class Node(NamedTuple):
    """The contents of one Redis."""

    mark: Mark
    entries: Pair = (None, None)


class Taken(NamedTuple):
    """The cache stage has a batch to apply: from `found` to `to`. `replayed`: its cluster time is unknown."""

    found: Mark
    to: Mark
    replayed: bool


class ReadBack(NamedTuple):
    """The same, and what the stage has read back for the entity and, if there were not too many, the list."""

    found: Mark
    to: Mark
    value: Value | None
    list: Value | None = None


class Watermark(NamedTuple):
    """The first reply of a connection: the watermark, asked for after the subscription."""

    mark: Mark


class Reply(NamedTuple):
    """An MGET's."""

    mark: Mark
    entries: tuple[Value | None, Value | None]


class Granted(NamedTuple):
    """A lease's reply."""

    key: int
    token: int
    mark: Mark


class Message(NamedTuple):
    """An announcement of APPLY: from `found` to `to`, and the keys that it names."""

    found: Mark
    to: Mark
    names: tuple[bool, bool]


class Sunsubscribe(NamedTuple):
    """Redis ends the subscription; the connection lives."""

    why: str = "MOVED"


Item = Watermark | Reply | Granted | Message | Sunsubscribe


class Fill(NamedTuple):
    """A fill under way. `phase`: leased, viewed, read, stored. `orphan`: older than the last reset."""

    phase: str
    key: int
    token: int
    mark: Mark
    value: Value | None = None
    orphan: bool = False


class Composition(NamedTuple):
    """An answer under way: its moment, its parts (the contents), and how many reads of MongoDB it took."""

    moment: Mark
    parts: tuple[int | None, int | None]
    reads: int = 0


class Reader(NamedTuple):
    """One process. `named`: seq of the last message that named a key. `told`: latest answer since a reset."""

    tide: Mark | None = None
    local: tuple[Value | None, Value | None] = (None, None)
    named: tuple[int, int] = (0, 0)
    inbox: tuple[Item, ...] = ()
    subscribed: bool = False
    deaf: bool = False  # its node is not the primary any more, and says MOVED
    fills: tuple[Fill, ...] = ()
    leases: int = 0
    composition: Composition | None = None
    floor: int = 0
    told: int = 0
    answers: int = 0


class Left(NamedTuple):
    """How many faults may still strike."""

    restores: int
    failovers: int
    demotions: int
    unsubscribes: int
    evictions: int
    takeovers: int
    rebuilds: int
    too_old: int
    others: int


class World(NamedTuple):
    """`demoted`: the reader's node, if that is not the primary. `other`: a fill of another process."""

    left: Left
    history: tuple[Batch, ...] = (Batch(0, 0),)
    ids: int = 1
    serving: int = 0
    primary: Node = Node(Mark(0, 0, 0))
    replica: Node = Node(Mark(0, 0, 0))
    demoted: Node | None = None
    stage: Taken | ReadBack | None = None
    reader: Reader = Reader()
    other: Fill | None = None

    @property
    def node(self) -> Node:
        """The one to which the reader is connected."""
        return self.primary if self.demoted is None else self.demoted

    def with_node(self, node: Node) -> World:
        return self._replace(primary=node) if self.demoted is None else self._replace(demoted=node)

    @property
    def last(self) -> int:
        return len(self.history) - 1

    def has(self, mark: Mark) -> bool:
        """MongoDB's history contains this watermark's batch, and its epoch serves."""
        return mark.epoch == self.serving and self.has_batch(mark)

    def has_batch(self, mark: Mark) -> bool:
        return mark.seq <= self.last and self.history[mark.seq].id == mark.id

    def spend(self, fault: str) -> World:
        return self._replace(left=self.left._replace(**{fault: getattr(self.left, fault) - 1}))

    def with_reader(self, **changes: Any) -> World:
        return self._replace(reader=self.reader._replace(**changes))


class Told(NamedTuple):
    """The answer that a step gives to a client, or a reset."""

    contents: tuple[int, int] | None = None
    moment: Mark | None = None
    reads: int = 0
    reset: bool = False


Moves = Iterator[Step[World, Told]]


def with_one(pair: tuple[Any, Any], key: int, one: Any) -> tuple[Any, Any]:
    return (one, pair[LIST]) if key == ENTITY else (pair[ENTITY], one)
