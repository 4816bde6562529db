"""A watched read: its latest state, what this depends on, and who watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from reader.asked import EntityQuery, FeedQuery, HotQuery, ListQuery, Plain, Query, UserQuery, ViewedQuery
from reader.composing import Answer
from reader.read_model.cached_values import Watermark
from reader.read_model.declarations import USER
from tidemark.gtid import GtidSet
from tidemark.problem import Problem, problem_response

PACE_SECONDS = 0.1  # between two states of a read
FEED_PACE_SECONDS = 1.0


class Watched(msgspec.Struct, frozen=True):
    """A read that can be watched. `absent`: the answer if there is none.

    Equal keys are one read: path, query string, and the caller if it matters.
    """

    key: tuple[str, str, str]
    query: Query
    absent: Problem


class Touch(NamedTuple):
    """A batch that changed a read: the moment before the batch, and when it came (0: nobody knows)."""

    before: Watermark
    at: float


class State:
    """The answer of a GET at `moment`, and later as long as the watch is not due.

    `lacks`: the first batch that this state has not, once the watch has another one.
    """

    def __init__(self, answer: Answer, absent: Problem) -> None:
        self.moment = answer.moment
        self.status = absent.status if answer.body is None else 200
        self.body = bytes(problem_response(absent).body) if answer.body is None else answer.body
        self.etag = "" if answer.body is None else f'"{answer.version}"'
        self.lacks: Touch | None = None
        self._encoded_at = self.moment
        self._encoded: dict[Hashable, bytes] = {}

    def shows_as(self, other: State) -> bool:
        return self.body == other.body and self.status == other.status

    def goes_on(self, later: State) -> None:
        """Another composition shows the same."""
        self.moment, self.etag = later.moment, later.etag
        self.forget_encoded()

    def encoded(self, moment: Watermark, form: Hashable, encode: Callable[[], bytes]) -> bytes:
        """Encoded once for all who get it at one moment in one form."""
        if self._encoded_at is not moment:
            self._encoded_at = moment
            self.forget_encoded()
        found = self._encoded.get(form)
        if found is None:
            found = self._encoded[form] = encode()
        return found

    def forget_encoded(self) -> None:
        self._encoded.clear()

    def data(self, moment: Watermark) -> bytes:
        """One line, as JSON is."""
        in_parts = b',"in_parts":true' if moment.open else b""
        head = b'{"status":%d,"as_of":"%s","etag":%s' % (self.status, as_of(moment), self._tag)
        return head + in_parts + b',"body":' + self.body + b"}"

    def change(self, moment: Watermark) -> bytes:
        """The same without the body."""
        return b'{"as_of":"%s","etag":%s}' % (as_of(moment), self._tag)

    @property
    def _tag(self) -> bytes:
        return msgspec.json.encode(self.etag or None)


class Has(NamedTuple):
    """`sent`: the latest state and its moment; the last state's and tide's moments; this tide's time."""

    sent: tuple[State, Watermark] | None
    shown: Watermark | None
    told: Watermark | None
    told_at: float


class Told:
    """A message to one client, for `others` that had the same before. `count` counts a state."""

    __slots__ = ("count", "had", "has", "others", "piece")

    def __init__(self, had: Has, has: Has, piece: bytes, count: Callable[[int], None] | None) -> None:
        self.had = had  # kept, because its identity stands for it
        self.has = has
        self.piece = piece
        self.count = count
        self.others = 0


class Turn:
    """A turn of the event loop: nothing changes in it but what clients have. `told`: had -> was sent."""

    def __init__(self, tide: Watermark | None, now: float) -> None:
        self.tide = tide
        self.now = now
        self.told: dict[Hashable, Told] = {}

    def end(self) -> None:
        for told in self.told.values():
            if told.count is not None:
                told.count(told.others)


class Subscriber(Protocol):
    """A client's interest in a watch."""

    def tell(self, turn: Turn) -> None:
        """The watch has another state: send it, now or later. Only the latest counts."""


class Watch:
    """One read that somebody watches. It is due iff a key was named after its state's moment.

    `before`: the moment before the first such message, while it is due. `touched_at`: when this came.
    """

    __slots__ = (
        "absent",
        "before",
        "composing",
        "counts",
        "key",
        "keys",
        "not_before",
        "pace",
        "query",
        "queued",
        "state",
        "subscribers",
        "touched_at",
    )

    def __init__(self, watched: Watched) -> None:
        self.key = watched.key
        self.query = watched.query
        self.absent = watched.absent
        self.subscribers: dict[Subscriber, None] = {}
        self.keys: tuple[str, ...] = ()
        self.state: State | None = None
        self.before: Watermark | None = None
        self.touched_at = 0.0
        self.not_before = 0.0  # the next state comes no earlier
        self.composing: asyncio.Task[None] | None = None
        self.queued = False
        query = self.query.query if isinstance(self.query, ViewedQuery) else self.query
        self.pace = FEED_PACE_SECONDS if isinstance(query, FeedQuery | HotQuery) else PACE_SECONDS
        self.counts = _shows_counters_of_users(query)

    def ignores(self, name: str) -> bool:
        """Whether a change of the counters alone does not change this read: authors are shown without."""
        return not self.counts and name.startswith(f"{USER.name}:")


def _shows_counters_of_users(query: Plain) -> bool:
    match query:
        case UserQuery():
            return True
        case EntityQuery(entity):
            return entity is USER
        case ListQuery(listing):
            return listing.item is USER
    return False


def as_of(moment: Watermark) -> bytes:
    """As `Freshness` shows it: in ms, rounded down."""
    return f"{moment.as_of[:23]}Z".encode()


def follows(moment: Watermark, *others: Watermark | None) -> bool:
    for other in others:
        if other is not None and not (moment.as_of >= other.as_of and contains(moment, other)):
            return False
    return True


def contains(one: Watermark, other: Watermark) -> bool:
    return one is other or _contains(one.gtid_set, other.gtid_set)


@lru_cache(maxsize=1024)
def _contains(one: str, other: str) -> bool:
    return GtidSet.parse(one) >= GtidSet.parse(other)
