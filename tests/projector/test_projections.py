"""What each row change means: counters belong to ids, keys move rows only, lists change only when they must."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from binlog_projector.batch import MAX_KEYS, Batch, Batcher, DocumentChange, keys_of
from binlog_projector.changes import Position, RowChange, Transaction
from binlog_projector.errors import SourceUnavailable, UnprojectableRow
from binlog_projector.mutations import Increment, Invalidate, Put
from binlog_projector.projections import COUNTERS, PROJECTIONS, hashtags, project
from reader.read_model import COLLECTIONS
from tidemark.gtid import EMPTY, Gtid
from writer.schema import TABLES

NOON = datetime(2026, 11, 23, 12, 0, 0, 5)
SOURCE = "aaaaaaaa-0000-0000-0000-000000000001"


def post(id: int = 1, author: int = 7, body: str = "hi") -> dict[str, Any]:
    return {"id": id, "author_id": author, "body": body, "created_at": NOON, "updated_at": NOON}


def comment(id: int, post_id: int, body: str = "c") -> dict[str, Any]:
    return {**post(id, 7, body), "post_id": post_id}


def like(post_id: int, user: int) -> dict[str, Any]:
    return {"post_id": post_id, "user_id": user, "created_at": NOON}


def mutations(table: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[object]:
    return list(project(RowChange(table, before, after)))


def folded(*changes: RowChange) -> Batch:
    batch = Batch(EMPTY)
    for change in changes:
        batch.fold(project(change))
    return batch


def test_every_table_has_a_projection_and_every_counter_a_rule() -> None:
    assert PROJECTIONS.keys() == TABLES.keys() == COLLECTIONS.keys()
    declared = {(name, field) for name, collection in COLLECTIONS.items() for field in collection.counters}
    assert {(counter.collection, counter.field) for counter in COUNTERS} == declared


def test_times_keep_their_microseconds() -> None:
    put = mutations("posts", None, post())[0]
    assert isinstance(put, Put)
    assert put.fields["created_at"] == "2026-11-23T12:00:00.000005Z"


def test_a_new_post_counts_for_its_author_and_enters_the_list() -> None:
    found = mutations("posts", None, post())
    assert Increment("users", 7, "post_count", 1) in found
    assert Invalidate("user:7:posts") in found


def test_an_edit_touches_the_document_only() -> None:
    found = mutations("posts", post(), post(body="#new"))
    assert [type(mutation) for mutation in found] == [Put]
    assert keys_of(found) == {"post:1"}  # type: ignore[arg-type]


def test_a_changed_primary_key_moves_the_row_and_leaves_the_counters() -> None:
    batch = folded(
        RowChange("likes", None, like(1, 9)),
        RowChange("posts", None, post(1)),
        RowChange("posts", post(1), post(2)),
    )
    old, new = batch.documents["posts"][1], batch.documents["posts"][2]
    assert (old.put, old.remove is not None, old.increments) == (None, True, {"like_count": 1})
    assert (new.put is not None, new.increments) == (True, {})


def test_a_comment_that_moves_to_another_post_counts_there() -> None:
    found = mutations("comments", comment(5, 1), comment(5, 2))
    assert Increment("posts", 1, "comment_count", -1) in found
    assert Increment("posts", 2, "comment_count", 1) in found
    assert Invalidate("post:1:comments") in found and Invalidate("post:2:comments") in found


def test_trace_13_replace_against_a_unique_key_is_a_delete_and_a_key_change() -> None:
    """MySQL logs REPLACE INTO users VALUES (1, 'b') as DELETE of 1 and UPDATE of 2 -> 1."""
    user = {"subject": "s", "handle": "h", "display_name": "d", "bio": "", "created_at": NOON, "updated_at": NOON}
    one, two = {"id": 1, **user}, {"id": 2, **user, "handle": "b"}
    batch = folded(RowChange("users", one, None), RowChange("users", two, {**two, "id": 1}))
    assert batch.documents["users"][1].put is not None
    assert batch.documents["users"][2].remove is not None


def test_a_like_and_its_unlike_add_up_to_nothing() -> None:
    batch = folded(RowChange("likes", None, like(1, 9)), RowChange("likes", like(1, 9), None))
    assert batch.documents["posts"][1].increments == {"like_count": 0}
    removed = batch.documents["likes"]["1:9"]
    assert removed == DocumentChange(remove=removed.remove)


def test_deleted_and_made_again_is_there() -> None:
    batch = folded(RowChange("posts", post(), None), RowChange("posts", None, post(body="again")))
    change = batch.documents["posts"][1]
    assert change.put is not None and change.put["body"] == "again" and change.remove is None


def test_an_unprojectable_row_is_named() -> None:
    with pytest.raises(UnprojectableRow, match=r"row \{'id': 1\} of table posts .*updated_at"):
        mutations("posts", None, {**post(), "updated_at": None})
    without = post()
    del without["body"]
    with pytest.raises(UnprojectableRow, match="body"):
        mutations("posts", None, without)


def test_hashtags_are_words_once_each() -> None:
    assert hashtags("#One two #two #one a#b &#39; #drei_3 #über") == ["one", "two", "drei_3", "über"]
    assert hashtags("no tags # here") == []


class Waiting:
    """A queue that holds what it was given, then raises."""

    def __init__(self, transactions: Iterable[Transaction], error: Exception | None = None) -> None:
        self.items: list[Transaction | Exception] = [*transactions, *([error] if error else [])]

    def get(self, timeout: float) -> Transaction | None:
        if not self.items:
            return None
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def transaction(number: int, *changes: RowChange) -> Transaction:
    return Transaction(Gtid(SOURCE, number), number, number, changes, Position("binlog.1", number))


def test_waiting_transactions_become_one_batch() -> None:
    likes = [transaction(n, RowChange("likes", None, like(1, n))) for n in range(1, 101)]
    batch = Batcher(Waiting([*likes, transaction(101)]), project).next(EMPTY, 0)
    assert batch is not None
    assert batch.documents["posts"][1].increments == {"like_count": 100}
    assert (batch.transactions, batch.rows, str(batch.gtid_set)) == (101, 100, f"{SOURCE}:1-101")
    assert list(batch.keys) == ["post:1", "post:1:likes"]
    assert batch.anchor is not None and batch.anchor.gtid.number == 101


def test_a_batch_never_has_too_many_keys_unless_one_transaction_has() -> None:
    wide = transaction(1, *(RowChange("posts", None, post(n, author=n)) for n in range(1, 600)))
    narrow = transaction(2, *(RowChange("posts", None, post(n, author=n)) for n in range(1000, 1100)))
    huge = transaction(3, *(RowChange("posts", None, post(n, author=n)) for n in range(2000, 3000)))
    batcher = Batcher(Waiting([wide, narrow, huge]), project)
    sizes = []
    while (batch := batcher.next(EMPTY, 0)) is not None:
        sizes.append(len(batch.keys))
    assert sizes == [1797, 300, 3000] and sizes[0] <= MAX_KEYS


def test_what_came_before_an_error_is_applied_first() -> None:
    batcher = Batcher(Waiting([transaction(1)], SourceUnavailable("gone")), project)
    assert batcher.next(EMPTY, 0) is not None
    with pytest.raises(SourceUnavailable):
        batcher.next(EMPTY, 0)
