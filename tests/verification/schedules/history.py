"""MySQL's transactions in one schedule, and the content of each watched key after each of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from binlog_projector.domain.batch import Batch
from binlog_projector.domain.changes import BinlogPosition, Row, RowChange, Transaction
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.projections import COUNTERS, PROJECTIONS, document_id, project
from reader.asked import EntityQuery, FeedQuery, HashtagQuery, ListQuery, Query
from reader.paging import FIRST_PAGE, Page
from reader.parts import Wanted
from reader.read_model.cached_values import Entry, encode_entity, encode_page
from reader.read_model.declarations import COMMENT, POST, POST_COMMENTS, USER
from reader.read_model.entities import Document, Entity
from reader.read_model.scans import CachedList
from tidemark.gtid import Gtid, GtidSet
from writer.schema import TABLES

SOURCE = "00000000-0000-0000-0000-000000000001"
START = datetime(2026, 11, 23)
COMMENTS = 3
HEADER_BYTES = 17  # kind and version
Content = bytes | None  # of a cached value behind its version; None: known to be absent
Documents = dict[tuple[str, DocumentId], dict[str, Any]]


def content_of(entry: Entry) -> Content:
    return entry.head + b"\n" + entry.body if entry.present else None


def entity_content(entity: Entity, document: Document) -> bytes:
    return encode_entity(entity, {**document, "v": 0})[HEADER_BYTES:]


def batch_of(gtid_set: GtidSet, transactions: Iterable[Transaction]) -> Batch:
    batch = Batch(gtid_set)
    for transaction in transactions:
        batch.add(transaction, [mutation for change in transaction.changes for mutation in project(change)])
    return batch


class History:
    """One post, its author and comments. `opening` makes the first rows; each of `changes` is a transaction.

    `states[2 * n]` maps each watched key to its content after n transactions, the next state after one change
    more.
    """

    def __init__(self, id: int, chance: random.Random) -> None:
        self.id = id
        self.opened_seq = 0  # of the batch that made the rows of `opening`
        self._comments = [id * 10 + at for at in range(1, COMMENTS + 1)]
        self.wanted = (
            *(Wanted(POST, id), Wanted(USER, id), Wanted(POST_COMMENTS, id)),
            *(Wanted(COMMENT, comment) for comment in self._comments),
        )
        self.queries: dict[str, Query] = {
            "post": EntityQuery(POST, id),
            "user": EntityQuery(USER, id),
            "comments": ListQuery(POST_COMMENTS, id, FIRST_PAGE),
            "a comment": ListQuery(POST_COMMENTS, id, Page(1)),
            "hashtag": HashtagQuery(f"t{id}", FIRST_PAGE),
            "feed": FeedQuery(f"s{id}", FIRST_PAGE),
        }
        self._chance = chance
        self._writes = 0
        self._tables: dict[str, dict[DocumentId, Row]] = {name: {} for name in TABLES}
        self.opening = self._opening()
        self.states = [self._state()]
        self.changes: list[tuple[RowChange, ...]] = []
        for _ in range(chance.choice((2, 2, 3, 4))):
            self.changes.append(self._transaction())

    def transactions(self, after: int) -> list[Transaction]:
        """The transactions as a stream behind transaction number `after` delivers them."""
        return [_transaction(after + number, changes) for number, changes in enumerate(self.changes, 1)]

    def answer(self, asked: str, state: int) -> Any:
        """The JSON of the query's answer in this state (of a cursor, whether there is one); None: nothing."""
        if asked == "user":
            return self._json(USER.key(self.id), state)
        post = self._json(POST.key(self.id), state)
        if asked in ("hashtag", "feed"):
            shown = post and (post["hashtags"] or asked == "feed")
            return {"items": [post] if shown else [], "next": False}
        if asked == "post" or post is None:
            return post
        ids = [id for id in self._part(POST_COMMENTS.key(self.id), state)[1].decode().split(",") if id]
        shown = ids[:1] if asked == "a comment" else ids
        items = [self._json(COMMENT.key(int(id)), state) for id in shown]
        return {"items": items, "next": len(shown) < len(ids)}

    def _json(self, key: str, state: int) -> Any:
        """The entity as its answer shows it."""
        if self.states[state][key] is None:
            return None
        head, body = self._part(key, state)
        shown = msgspec.json.decode(body)
        if not key.startswith(USER.name):
            shown["author"] = msgspec.json.decode(self._part(USER.key(int(head.split()[0])), state)[0])
        return shown

    def _part(self, key: str, state: int) -> tuple[bytes, bytes]:
        head, _, body = (self.states[state][key] or b"").partition(b"\n")
        return head, body

    def _opening(self) -> tuple[RowChange, ...]:
        rows = [self._rename()]
        rows += [self._toggle_post()] if self._chance.random() < 0.85 else []
        rows += [self._toggle_comment()] if self._chance.random() < 0.5 else []
        return tuple(rows)

    def _transaction(self) -> tuple[RowChange, ...]:
        kinds = (
            [self._toggle_comment] * 3
            + [self._edit_comment] * 2
            + [self._toggle_like, self._toggle_post, self._rename]
        )
        if self.id in self._tables["posts"]:
            kinds += [self._edit_post] * 3
        first, *others = self._chance.choices(kinds, k=self._chance.choice((1, 1, 1, 2)))
        changes = [first()]
        self.states.append(self._state())
        changes += [kind() for kind in others]
        self.states.append(self._state())
        return tuple(changes)

    def _edit_post(self) -> RowChange:
        times = self._times() if self.id not in self._tables["posts"] else {"updated_at": self._now()}
        body = f"text {self._writes} {self._chance.choice(('', f'#t{self.id}'))}"
        return self._put("posts", {"id": self.id, "author_id": self.id, "body": body, **times})

    def _toggle_post(self) -> RowChange:
        return self._remove("posts", self.id) or self._edit_post()

    def _toggle_like(self) -> RowChange:
        user = self._chance.randint(1, 3)
        row = {"post_id": self.id, "post_author_id": self.id, "user_id": user, "created_at": self._now()}
        likes = self._tables["likes"].items()
        liked = next((key for key, one in likes if (one["post_id"], one["user_id"]) == (self.id, user)), 0)
        return self._remove("likes", liked) or self._put("likes", row)

    def _toggle_comment(self) -> RowChange:
        id = self._chance.choice(self._comments)
        ids = {"id": id, "post_id": self.id, "post_author_id": self.id, "author_id": self.id}
        row = {**ids, "body": "comment", **self._times()}
        return self._remove("comments", id) or self._put("comments", row)

    def _edit_comment(self) -> RowChange:
        if not (there := self._tables["comments"]):
            return self._toggle_comment()
        row = there[self._chance.choice([*there])]
        text = {"body": f"comment {self._writes}", "updated_at": self._now()}
        return self._put("comments", {**row, **text})

    def _rename(self) -> RowChange:
        names = {
            "subject": f"s{self.id}",
            "handle": f"h{self.id}",
            "display_name": f"name {self._writes}",
            "bio": "",
        }
        return self._put("users", {"id": self.id, **names, **self._times()})

    def _put(self, table: str, row: Row) -> RowChange:
        key = document_id(table, row)
        before = self._tables[table].get(key)
        self._tables[table][key] = {**(before or {}), **row}
        return RowChange(table, before, self._tables[table][key])

    def _remove(self, table: str, key: DocumentId) -> RowChange | None:
        before = self._tables[table].pop(key, None)
        return RowChange(table, before, None) if before else None

    def _times(self) -> dict[str, datetime]:
        return {"created_at": self._now(), "updated_at": self._now()}

    def _now(self) -> datetime:
        self._writes += 1
        return START + timedelta(seconds=self._writes)

    def _state(self) -> dict[str, Content]:
        return {one.key: self._content(one.kind, one.id) for one in self.wanted}

    def _content(self, kind: Entity | CachedList, id: int | str) -> Content:
        if isinstance(kind, CachedList):
            ids = [row["id"] for row in self._tables[kind.collection].values() if row[kind.by] == id]
            return encode_page(0, sorted(ids, reverse=True), None)[HEADER_BYTES:]
        row = self._tables[kind.collection].get(id)
        return entity_content(kind, self._document(kind.collection, id, row)) if row else None

    def _document(self, collection: str, id: int | str, row: Row) -> Document:
        counts = {
            counter.field: sum(one[counter.by] == id for one in self._tables[counter.table].values())
            for counter in COUNTERS
            if counter.collection == collection
        }
        return {"_id": id, **PROJECTIONS[collection](row), **counts}


def _transaction(number: int, changes: tuple[RowChange, ...]) -> Transaction:
    return Transaction(Gtid(SOURCE, number), number, number, changes, BinlogPosition("schedule", number))


def opening_of(histories: Iterable[History], number: int) -> Transaction:
    """One transaction that makes the opening rows of several histories."""
    return _transaction(number, tuple(change for history in histories for change in history.opening))


def last_number(gtid_set: str) -> int:
    """The number of the last transaction in the set."""
    last = GtidSet.parse(gtid_set).last_of(SOURCE)
    return last.number if last else 0
