"""The contents of MongoDB, of Redis and of every process's memory, as tuples of small numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.verification.protocol.checker import Step


class Batch(NamedTuple):
    """A committed batch: its random id, and the last transaction in it."""

    id: int
    upto: int


History = tuple[Batch, ...]  # a batch's place in it, from one, is its seq


class Build(NamedTuple):
    """The majority's history, a batch that only the primary has, and the last claimant of the checkpoint."""

    history: History = ()
    local: Batch | None = None
    fence: int = 0


class Serving(NamedTuple):
    """The build that readers use, and the epoch of its cache keys."""

    build: int
    epoch: int


class Backup(NamedTuple):
    """The length of the first build's history in the backup, and the epoch that the backup names."""

    length: int
    epoch: int


class Mark(NamedTuple):
    """A watermark, without its clock. An epoch belongs to one build."""

    epoch: int
    seq: int
    batch: int
    upto: int


STUCK: Final = Mark(
    -1, -1, -1, -1
)  # in a memory, neither a watermark nor none: see `error_forgets_watermark`

LEASE: Final = 0
VALUE: Final = 1
ABSENT: Final = 2
NOBODY: Final = -1  # the token of every lease whose reader has given up


class Value(NamedTuple):
    """The value of a Redis key. `number`: version or lease token. `content`: the last transaction seen."""

    kind: int
    number: int
    content: int = 0


Values = tuple[Value | None, ...]  # by key


class Redis(NamedTuple):
    """The watermark, and the keys of each epoch that has any."""

    mark: Mark | None = None
    epochs: tuple[tuple[int, Values], ...] = ()


# A projector's phases, named after its last step.
DOWN: Final = 0
IDLE: Final = 1
COMMITTING: Final = 2
FOUND: Final = 3
BROKEN: Final = 4
ALLOCATED: Final = 5
PROBED: Final = 6
READ_BACK: Final = 7
HALF_APPLIED: Final = 8
SNAPSHOT: Final = 9
CAUGHT_UP: Final = 10  # with a new build, and nobody projects into the former one
OUTRUN: Final = 11  # with a new build, and another projector has taken the lease


class Position(NamedTuple):
    """A projector's position in a build."""

    build: int
    seq: int
    batch: int
    upto: int


NOWHERE: Final = Position(0, 0, 0, 0)


class Projector(NamedTuple):
    """A projector's memory: position, last known watermark, and the batch under way."""

    phase: int = DOWN
    at: Position = NOWHERE
    mark: Mark | None = None
    epoch: int = 0
    batch: Batch | None = None
    touched: tuple[int, ...] = ()
    present: tuple[int, ...] = ()
    values: Values = ()  # of the touched keys


# A reader's phases, named likewise.
OUT: Final = 0
LEASED: Final = 1
KNOWS_MARK: Final = 2
VIEWED: Final = 3
HAS_VALUE: Final = 4


class View(NamedTuple):
    """A checkpoint read: documents read after it are at least as new."""

    build: int
    seq: int
    upto: int


class Reader(NamedTuple):
    """One miss under way: key and epoch of its lease, the watermark, the checkpoint, the value."""

    phase: int = OUT
    key: int = 0
    epoch: int = 0
    mark: Mark | None = None
    view: View | None = None
    value: Value | None = None


class Tag(NamedTuple):
    """An ETag that a client keeps, and the content that it named."""

    epoch: int
    version: int
    content: int


class Answer(NamedTuple):
    """An answer: the last transaction that it claims, and the last one among those that touched the key."""

    key: int
    claimed: int
    content: int
    tag: Tag | None


class State(NamedTuple):
    """The whole state. A backup is restored at most once."""

    builds: tuple[Build, ...]
    serving: Serving
    redis: Redis
    replica: Redis
    backup: Backup | None
    projectors: tuple[Projector, ...]
    readers: tuple[Reader, ...]
    tag: Tag | None


Move = Step[State, Answer]
Moves = Iterator[Move]


def upto_of(history: History, seq: int) -> int:
    return history[seq - 1].upto if seq else 0


def batch_of(history: History, seq: int) -> int | None:
    """The id of a batch in the journal. 0 stands for the batch before the first."""
    if seq == 0:
        return 0
    return history[seq - 1].id if seq <= len(history) else None


def with_build(state: State, number: int, build: Build) -> State:
    return state._replace(builds=(*state.builds[:number], build, *state.builds[number + 1 :]))


def with_redis(state: State, redis: Redis) -> State:
    builds, serving, _, replica, backup, projectors, readers, tag = state
    return State(builds, serving, redis, replica, backup, projectors, readers, tag)


def with_projector(state: State, who: int, projector: Projector) -> State:
    builds, serving, redis, replica, backup, projectors, readers, tag = state
    projectors = (*projectors[:who], projector, *projectors[who + 1 :])
    return State(builds, serving, redis, replica, backup, projectors, readers, tag)


def with_reader(state: State, who: int, reader: Reader) -> State:
    builds, serving, redis, replica, backup, projectors, readers, tag = state
    readers = (*readers[:who], reader, *readers[who + 1 :])
    return State(builds, serving, redis, replica, backup, projectors, readers, tag)


def with_values(redis: Redis, epoch: int, values: Values) -> Redis:
    others = [(known, kept) for known, kept in redis.epochs if known != epoch]
    if any(value is not None for value in values):
        others.append((epoch, values))
    return Redis(redis.mark, tuple(sorted(others, key=lambda kept: kept[0])))
