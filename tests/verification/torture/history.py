"""MySQL's whole history from its binlog: every document and list after each transaction."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from binlog_projector.domain.changes import Row, RowChange, Transaction
from binlog_projector.domain.projections import COUNTERS, PROJECTIONS, document_id
from reader.read_model.declarations import COLLECTIONS, LISTINGS
from reader.read_model.entities import Listing
from tests.support.oracle import hashtags_of
from tests.verification.torture.effects import Effect
from tidemark.gtid import Gtid, GtidSet
from writer.schema import TABLES

Key = tuple[str, Any]  # collection and id, or list and parent's id
TAGGED, EVERYBODY, SUBJECT, HANDLE = "hashtag", "everybody", "subject", "handle"  # lists without a parent
TOLD, READ = "told", "read"  # a user's notifications, and up to when they are read
KEPT = 300  # ids of a list: more than any page that is asked for reaches
PAIRS = "pair"  # the key of an edge has its collection and both ids


class Deed(NamedTuple):
    """A notification; the first four fields are its place. `kind`: 1 follow, 2 like, 3 comment, 4 mention."""

    created_at: str
    kind: int
    id: int
    of: int  # the post, or the followed user
    actor: int
    comment: int | None = None


@dataclass
class Versions:
    """The values of one key: `values[n]` from transaction `since[n]` on. None: absent."""

    since: list[int] = field(default_factory=lambda: [0])
    values: list[Any] = field(default_factory=lambda: [None])

    def add(self, index: int, value: Any) -> None:
        if value == self.values[-1]:
            return
        if self.since[-1] == index:
            self.values[-1] = value
        else:
            self.since.append(index)
            self.values.append(value)

    def next_after(self, point: int, otherwise: int) -> int:
        """The first transaction behind `point` that changed the value."""
        at = bisect_right(self.since, point)
        return self.since[at] if at < len(self.since) else otherwise

    def between(self, first: int, last: int) -> list[Any]:
        """Every value after any of the transactions from `first` to `last`."""
        return self.values[max(0, bisect_right(self.since, first) - 1) : bisect_right(self.since, last)]


@dataclass(frozen=True)
class Observed:
    """All of `executed` was committed by `now` (MySQL's clock)."""

    now: str
    executed: GtidSet


class History:
    """The versions of every key. An index counts transactions.

    `effects`: the effects of transactions on tables without row events.
    """

    def __init__(
        self, transactions: Iterable[Transaction], effects: Mapping[Gtid, Effect] | None = None
    ) -> None:
        self.versions: dict[Key, Versions] = defaultdict(Versions)
        self.index_of: dict[Gtid, int] = {}
        self.rows = 0
        tables = _Tables()
        for index, transaction in enumerate(transactions, start=1):
            self.index_of[transaction.gtid] = index
            effect = (effects or {}).get(transaction.gtid)
            changes = tables.changes(effect) if effect else transaction.changes
            self.rows += len(changes)
            for key, value in tables.apply(changes):
                self.versions[key].add(index, value)

    @property
    def transactions(self) -> int:
        return len(self.index_of)

    def index(self, gtids: GtidSet) -> int:
        """The index of the transaction with which all of `gtids` had happened."""
        ends = (Gtid(source, last) for source, spans in gtids.intervals.items() for _, last in spans)
        return max((self.index_of[gtid] for gtid in ends), default=0)


class Clock:
    """The transactions committed at a moment, from observations in the order of time."""

    def __init__(self, history: History, observations: Iterable[Observed]) -> None:
        ordered = sorted(observations, key=lambda one: one.now)
        self.moments = [one.now for one in ordered]
        self.indexes = [history.index(one.executed) for one in ordered]
        self.end = history.transactions

    def at_least(self, moment: str) -> int:
        """The number of transactions certainly committed at that moment."""
        at = bisect_right(self.moments, moment) - 1
        return self.indexes[at] if at >= 0 else 0

    def at_most(self, moment: str) -> int:
        """The number of transactions that may have been committed at that moment."""
        at = bisect_left(self.moments, moment)
        return self.indexes[at] if at < len(self.indexes) else self.end


class _Tables:
    """The state of MySQL, folded row change by row change, independent of the projector's implementation."""

    def __init__(self) -> None:
        self.raw: dict[str, dict[Any, Row]] = {name: {} for name in COLLECTIONS}
        self.rows: dict[str, dict[Any, Mapping[str, Any]]] = {name: {} for name in COLLECTIONS}
        self.counts: dict[tuple[str, str, Any], int] = defaultdict(int)
        self.lists: dict[Key, dict[Any, tuple[Any, int]]] = defaultdict(dict)

    def changes(self, effect: Effect) -> list[RowChange]:
        """Row changes with the same effect on the present rows."""
        return [RowChange(effect.table, row, effect.becomes(row)) for row in self.raw[effect.table].values()]

    def apply(self, changes: Iterable[RowChange]) -> Iterator[tuple[Key, Any]]:
        """Keys that the changes of one transaction may have touched, with their values afterwards."""
        touched: set[Key] = set()
        for change in changes:
            for row, by in ((change.before, -1), (change.after, 1)):
                if row is not None:
                    touched |= self._fold(change.table, row, by)
        for key in touched:
            yield key, self._document(*key) if key[0] in COLLECTIONS else self._page(key)

    def _fold(self, table: str, row: Mapping[str, Any], by: int) -> set[Key]:
        id, fields = document_id(table, row), {**PROJECTIONS[table](row)}
        if table == "posts":
            fields["hashtags"] = hashtags_of(row["body"])
        if by > 0:
            self.rows[table][id], self.raw[table][id] = fields, row
        else:
            self.rows[table].pop(id, None)
            self.raw[table].pop(id, None)
        touched: set[Key] = {(table, id)}
        for counter in COUNTERS:
            if counter.table == table:
                self.counts[counter.collection, counter.field, row[counter.by]] += by
                touched.add((counter.collection, row[counter.by]))
        document = {**row, **fields, "_id": id}
        for listing in LISTINGS:
            if listing.collection == table:
                place = tuple(document[name] for name, _ in listing.order)
                touched.add(
                    self._list(
                        (path(listing), document[listing.by]), id, place, document[listing.item_id], by
                    )
                )
        keys: list[Key] = [(TAGGED, tag) for tag in fields.get("hashtags", ())]
        if table == "posts":
            keys.append((EVERYBODY, ""))
        if table == "users":
            keys += [(SUBJECT, row["subject"]), (HANDLE, row["handle"].lower())]
        if COLLECTIONS[table].edge:
            keys.append((PAIRS, (table, *(row[column] for column in TABLES[table].primary_key))))
        touched |= {self._list(key, id, (id,), id, by) for key in keys}
        touched |= {*self._tell(table, id, row, by)}
        return touched

    def _tell(self, table: str, id: Any, row: Row, by: int) -> Iterator[Key]:
        if table == "notification_reads":
            yield self._list((READ, row["user_id"]), id, (), _text(row["until"]), by)
        user, deed = _deed(table, row)
        if deed is not None and deed.actor != user:
            yield self._list((TOLD, user), (table, id), deed[:4], deed, by)

    def _list(self, key: Key, id: Any, place: tuple[Any, ...], item: Any, by: int) -> Key:
        if by > 0:
            self.lists[key][id] = (place, item)
        else:
            self.lists[key].pop(id, None)
        return key

    def _document(self, collection: str, id: Any) -> dict[str, Any] | None:
        fields = self.rows[collection].get(id)
        if fields is None:
            return None
        counters = COLLECTIONS[collection].counters
        return {"_id": id, **fields, **{name: self.counts[collection, name, id] for name in counters}}

    def _page(self, key: Key) -> tuple[int, ...]:
        return tuple(item for _, item in heapq.nlargest(KEPT, self.lists[key].values()))


def path(listing: Listing) -> str:
    """The list's name in the keys of a history."""
    return f"{listing.parent.name}:{listing.name}"


def _deed(table: str, row: Row) -> tuple[int | None, Deed | None]:
    """Whom the row tells of what; None: nobody."""
    match table:
        case "follows":
            told, *deed = row["followee_id"], 1, row["follower_id"], row["followee_id"], row["follower_id"]
        case "likes":
            told, *deed = row["post_author_id"], 2, row["user_id"], row["post_id"], row["user_id"]
        case "comments":
            id = row["id"]
            told, *deed = row["post_author_id"], 3, id, row["post_id"], row["author_id"], id
        case "mentions":
            told, *deed = row["user_id"], 4, row["id"], row["post_id"], row["author_id"], row["comment_id"]
        case _:
            return None, None
    return told, Deed(_text(row["created_at"]), *deed)


def _text(time: datetime) -> str:
    return f"{time.isoformat(timespec='microseconds')}Z"
