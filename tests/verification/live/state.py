"""The states of one reader process: its tide, the paths of its hub, and its connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.verification.protocol.checker import Step

Body = tuple[int, ...]


class State(NamedTuple):
    """A body, its moment, and the keys that it depends on.

    `placed`: `position` is of this life of the tide.
    """

    body: Body
    moment: int
    dependencies: tuple[int, ...]
    position: int
    placed: bool


class Making(NamedTuple):
    """A composition under way. `present`: from one session of MongoDB, whose moment is not known at first."""

    moment: int | None
    position: int
    placed: bool
    present: bool = False
    level: int = 0  # reads done


class Path(NamedTuple):
    """A read that is watched: once for all watchers. `flag`: for a mutation that compares no positions."""

    state: State | None = None
    making: Making | None = None
    flag: bool = False


class Watch(NamedTuple):
    """`sent`: what its client took last. `known`: a body that the client has from an earlier watch."""

    on: bool
    sent: State | None = None
    waiting: tuple[State, ...] = ()
    known: Body | None = None


class Connection(NamedTuple):
    """`told` and `tided`: the moments of the last `state` and `tide`."""

    watches: tuple[Watch, ...]
    told: int = -1
    tided: int = -1
    ended: bool = False


class Left(NamedTuple):
    """How many faults may still strike."""

    failovers: int
    losses: int
    silences: int
    presents: int
    unwatches: int


class World(NamedTuple):
    """`last`: MongoDB's last batch. `end`: the last that will be.

    `heard`: the tide; twice its moment, and one more if a batch's first message of two has come. `node`: the
    least moment of the next tide while there is none.
    """

    left: Left
    end: int
    paths: tuple[Path, ...]
    connections: tuple[Connection, ...]
    last: int = 0
    heard: int | None = 0
    node: int = 0
    blind: bool = False

    @property
    def tide(self) -> int | None:
        return None if self.heard is None else self.heard // 2

    def spend(self, fault: str) -> World:
        return self._replace(left=self.left._replace(**{fault: getattr(self.left, fault) - 1}))

    def with_path(self, read: int, path: Path) -> World:
        return self._replace(paths=with_one(self.paths, read, path))

    def with_connection(self, at: int, connection: Connection) -> World:
        return self._replace(connections=with_one(self.connections, at, connection))

    def with_watch(self, at: int, place: int, watch: Watch) -> World:
        connection = self.connections[at]
        return self.with_connection(
            at, connection._replace(watches=with_one(connection.watches, place, watch))
        )


class Told(NamedTuple):
    """A step that a promise is about: `state`, `tide`, `end` to a client, or `make`.

    `at`: the connection, or for `make` the read. `place`: the watch.
    """

    kind: str
    at: int
    place: int = 0
    body: Body = ()
    moment: int = 0


Moves = Iterator[Step[World, Told]]


def with_one(all_: tuple[Any, ...], at: int, one: Any) -> tuple[Any, ...]:
    return (*all_[:at], one, *all_[at + 1 :])
