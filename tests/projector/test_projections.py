"""The effect of each row change: counters belong to ids, keys move rows only, lists change only if needed."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from binlog_projector.binlog.parts import MAX_ROWS
from binlog_projector.domain.batch import Batch
from binlog_projector.domain.changes import BinlogPosition, RowChange, Transaction
from binlog_projector.domain.mutations import Increment, Invalidate, Put
from binlog_projector.domain.projections import COUNTERS, PROJECTIONS, identity, project
from binlog_projector.errors import SourceUnavailable, UnprojectableRow
from binlog_projector.leading.batcher import MAX_KEYS, WAITING_BYTES, WAITING_ROWS, Batcher
from reader.read_model.declarations import COLLECTIONS, ENTITIES, LISTS
from tests.support.harness import wait_until
from tidemark.gtid import EMPTY, Gtid
from writer.schema import TABLES

NOON = datetime(2026, 11, 23, 12, 0, 0, 5)
SOURCE = "aaaaaaaa-0000-0000-0000-000000000001"


def post(id: int = 1, author: int = 7, body: str = "hi") -> dict[str, Any]:
    return {"id": id, "author_id": author, "body": body, "created_at": NOON, "updated_at": NOON}


def comment(id: int, post_id: int, body: str = "c", tells: int | None = None) -> dict[str, Any]:
    return {**post(id, 7, body), "post_id": post_id, "post_author_id": tells}


def like(post_id: int, user: int, tells: int | None = None) -> dict[str, Any]:
    """`tells`: the post's author; None as in a row of an older writer."""
    return {"post_id": post_id, "user_id": user, "created_at": NOON, "post_author_id": tells}


def mutations(table: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[object]:
    return list(project(RowChange(table, before, after)))


def folded(*changes: RowChange) -> Batch:
    batch = Batch(EMPTY)
    for change in changes:
        batch.fold(project(change))
    return batch


def test_a_collection_has_the_name_of_its_table() -> None:
    assert PROJECTIONS.keys() == TABLES.keys() == COLLECTIONS.keys()
    assert all(collection.name == name for name, collection in COLLECTIONS.items())
    assert {entity.collection for entity in ENTITIES.values()} <= COLLECTIONS.keys()
    assert {one.collection for one in LISTS} == COLLECTIONS.keys()


def test_a_projection_copies_the_columns_of_its_table() -> None:
    more: dict[str, dict[str, Any]] = {
        "posts": {"hashtags": ["x"]},
        "users": {"handles": ["#x"]},
        "likes": {"told": None},
        "comments": {"told": None},
    }
    for name, table in TABLES.items():
        row = {column: NOON if column.endswith("_at") else "#x" for column in table.columns}
        copied = {column: "2026-11-23T12:00:00.000005Z" if column.endswith("_at") else "#x" for column in row}
        others = {*identity(table), "post_author_id"}
        copied = {column: value for column, value in copied.items() if column not in others}
        assert PROJECTIONS[name](row) == {**copied, **more.get(name, {})}


def test_every_counter_has_a_rule() -> None:
    declared = {(name, field) for name, collection in COLLECTIONS.items() for field in collection.counters}
    assert {(counter.collection, counter.field) for counter in COUNTERS} == declared


@pytest.mark.parametrize(
    ("table", "row", "named"),
    [
        (
            "posts",
            post(2**63),
            "row {'id': 9223372036854775808} of table posts .*: id is 9223372036854775808",
        ),
        ("posts", post(1, 2**63), "row {'id': 1} of table posts .*: author_id is 9223372036854775808"),
        (
            "comments",
            comment(1, 2**64 - 1),
            "row {'id': 1} of table comments .*: post_id is 18446744073709551615",
        ),
        (
            "likes",
            like(1, 2**63),
            "row {'post_id': 1, 'user_id': 9223372036854775808} of table likes .*: user_id is",
        ),
    ],
)
def test_a_number_that_mongodb_cannot_hold_is_named(table: str, row: dict[str, Any], named: str) -> None:
    with pytest.raises(UnprojectableRow, match=named):
        mutations(table, None, row)
    largest = {
        column: min(value, 2**63 - 1) if isinstance(value, int) else value for column, value in row.items()
    }
    assert mutations(table, None, largest)


def test_times_keep_their_microseconds() -> None:
    put = mutations("posts", None, post())[0]
    assert isinstance(put, Put)
    assert put.fields["created_at"] == "2026-11-23T12:00:00.000005Z"
    edge = mutations("likes", None, like(1, 9))[0]
    assert isinstance(edge, Put)
    assert edge.id == (1, 1_795_435_200_000_005, 9)


def test_an_edge_that_gets_another_time_is_another_document() -> None:
    """Were the `Put` not new, its update would meet no document, and the batch would be written again."""
    later = {**like(1, 9), "created_at": NOON + timedelta(microseconds=1)}
    batch = folded(RowChange("likes", like(1, 9), later))
    old, new = batch.documents["likes"].values()
    nobody = {"told": None}
    assert (old.put, old.remove, new.put, new.new) == (None, nobody, nobody, True)
    assert batch.keys == ("post:1:likes",)  # the order of `liked` is that of posts


def test_keys_of_which_only_counters_change_are_named_apart() -> None:
    """A row's own change or a repair of its key names it among the others, once."""
    liked, edited = RowChange("likes", None, like(1, 9)), RowChange("posts", post(), post(body="new #x"))
    lists = ("post:1:likes", "user:9:liked")
    assert (folded(liked).keys, folded(liked).counted) == (lists, ("post:1",))
    both = folded(liked, edited)
    assert (both.keys, both.counted) == (("post:1", *lists, "hashtag:78"), ())
    repaired = Batch(EMPTY)
    repaired.fold([Increment("posts", 1, "like_count", 1), Invalidate("post:1")])
    assert (repaired.keys, repaired.counted) == (("post:1",), ())


def test_a_new_post_counts_for_its_author_and_enters_the_list() -> None:
    found = mutations("posts", None, post())
    assert Increment("users", 7, "post_count", 1) in found
    assert Invalidate("user:7:posts") in found and Invalidate("everybody:posts") in found


def test_an_edit_touches_the_document_and_the_hashtags_of_both_texts() -> None:
    found = mutations("posts", post(body="old"), post(body="new"))
    assert [type(mutation) for mutation in found] == [Put]
    assert folded(RowChange("posts", post(body="#a"), post(body="#b:"))).keys == (
        *("post:1", "hashtag:61", "hashtag:62"),
    )


def test_a_users_row_touches_the_keys_of_its_subject_and_handle() -> None:
    """Once it comes, goes, or gets another one. A handle that is not ASCII has no key."""
    user = {"id": 7, "subject": "a:b", "handle": "Ab", "display_name": "", "bio": ""}
    one = {**user, "created_at": NOON, "updated_at": NOON}
    other = {**one, "subject": "c"}
    renamed, foreign = {**one, "handle": "aB_"}, {**one, "handle": "\N{KELVIN SIGN}b"}
    for before, after, keys in (
        (None, one, ["subject:613a62", "handle:6162"]),
        (one, {**one, "bio": "b"}, []),
        (one, other, ["subject:613a62", "subject:63"]),
        (other, None, ["subject:63", "handle:6162"]),
        (one, renamed, ["handle:6162", "handle:61625f"]),
        (one, foreign, ["handle:6162"]),
        (foreign, renamed, ["handle:61625f"]),
    ):
        found = mutations("users", before, after)
        assert [mutation.key for mutation in found if isinstance(mutation, Invalidate)] == keys


def test_a_follow_touches_all_lists_of_both() -> None:
    follow = {"follower_id": 1, "followee_id": 2, "created_at": NOON}
    assert {*folded(RowChange("follows", None, follow)).keys} == {
        *("user:1:following", "user:1:followees", "user:2:followers", "user:2:notifications"),
    }


@pytest.mark.parametrize(
    ("table", "before", "after", "told"),
    [
        ("likes", None, like(1, 9, tells=7), {7}),
        ("likes", like(1, 9, tells=7), None, {7}),
        ("likes", None, like(1, 7, tells=7), set()),
        ("likes", None, like(1, 9), set()),
        ("likes", like(1, 9), like(1, 9, tells=7), {7}),
        ("comments", None, comment(5, 1, tells=8), {8}),
        ("comments", comment(5, 1, tells=8), comment(5, 2, tells=9), {8, 9}),
        ("comments", comment(5, 1, tells=8), comment(5, 1, "edited", tells=8), set()),
        ("comments", comment(5, 1, tells=8), comment(5, 2, tells=8), {8}),
        ("comments", None, comment(5, 1, tells=7), set()),
        (
            "mentions",
            None,
            {"user_id": 3, "id": 1, "author_id": 7, "post_id": 1, "comment_id": None, "created_at": NOON},
            {3},
        ),
        ("notification_reads", None, {"user_id": 3, "until": NOON}, {3}),
    ],
)
def test_a_deed_touches_the_notifications_of_whom_it_tells(
    table: str, before: dict[str, Any] | None, after: dict[str, Any] | None, told: set[int]
) -> None:
    """Nobody of one's own deed, nor a row without the post's author."""
    keys = {mutation.key for mutation in mutations(table, before, after) if isinstance(mutation, Invalidate)}
    assert {key for key in keys if key.endswith(":notifications")} == {
        f"user:{user}:notifications" for user in told
    }


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


def test_replace_against_a_unique_key_is_delete_and_key_change() -> None:
    """Trace 13. MySQL logs REPLACE INTO users VALUES (1, 'b') as DELETE of 1 and UPDATE of 2 -> 1."""
    user = {
        "subject": "s",
        "handle": "h",
        "display_name": "d",
        "bio": "",
        "created_at": NOON,
        "updated_at": NOON,
    }
    one, two = {"id": 1, **user}, {"id": 2, **user, "handle": "b"}
    batch = folded(RowChange("users", one, None), RowChange("users", two, {**two, "id": 1}))
    assert batch.documents["users"][1].put is not None
    assert batch.documents["users"][2].remove is not None


def test_a_like_and_its_unlike_add_up_to_nothing() -> None:
    batch = folded(RowChange("likes", None, like(1, 9)), RowChange("likes", like(1, 9), None))
    assert batch.documents["posts"][1].increments == {}
    (removed,) = batch.documents["likes"].values()
    assert (removed.put, removed.remove, removed.increments) == (None, {"told": None}, {})


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


def transaction(number: int, *changes: RowChange) -> Transaction:
    return Transaction(
        Gtid(SOURCE, number), number, number, changes, BinlogPosition("binlog.1", number), size=100
    )


def new_posts(number: int, count: int) -> Transaction:
    """A transaction of new posts, each with its own author: four keys each, one of them the same."""
    ids = range(number * MAX_KEYS, number * MAX_KEYS + count)
    return transaction(number, *(RowChange("posts", None, post(id, author=id)) for id in ids))


def batches(*transactions: Transaction) -> list[Batch]:
    """The batches that wait after all transactions."""
    batcher = Batcher(EMPTY, project)
    for each in transactions:
        batcher.add(each)
    found = []
    while (batch := batcher.take(0)) is not None:
        found.append(batch)
    return found


def test_waiting_transactions_become_one_batch() -> None:
    likes = [transaction(n, RowChange("likes", None, like(1, n))) for n in range(1, 101)]
    (batch,) = batches(*likes, transaction(101))
    assert batch.documents["posts"][1].increments == {"like_count": 100}
    assert (batch.transactions, batch.rows, str(batch.gtid_set)) == (101, 100, f"{SOURCE}:1-101")
    lists = ("post:1:likes", *(f"user:{n}:liked" for n in range(1, 101)))
    assert (batch.keys, batch.counted) == (lists, ("post:1",))
    assert batch.anchor is not None and batch.anchor.gtid.number == 101


def test_a_batch_exceeds_its_limits_only_for_one_transaction() -> None:
    third = MAX_KEYS // 12
    found = batches(new_posts(1, third), new_posts(2, third), new_posts(3, third), new_posts(4, MAX_ROWS + 1))
    assert [batch.transactions for batch in found] == [3, 1]
    assert len(found[0].keys) <= MAX_KEYS and found[1].rows > MAX_ROWS
    assert [str(batch.gtid_set) for batch in found] == [f"{SOURCE}:1-3", f"{SOURCE}:1-4"]


@pytest.mark.parametrize("rows", [0, WAITING_ROWS // 2], ids=["bytes", "rows"])
def test_a_full_batcher_makes_the_source_wait_until_some_is_taken(rows: int) -> None:
    batcher, unlike = Batcher(EMPTY, project), RowChange("likes", like(1, 1), None)
    added: list[int] = []

    def stream() -> None:
        for number in range(1, 5):
            batcher.add(
                structs.replace(transaction(number, *[unlike] * rows), size=0 if rows else WAITING_BYTES // 2)
            )
            added.append(number)

    thread = threading.Thread(target=stream)
    thread.start()
    wait_until(lambda: len(added) == 1 and len(batcher.waiting) == 2, "the source to wait")
    taken = [batcher.take(10) for _ in range(4)]
    thread.join()
    assert [batch and batch.transactions for batch in taken] == [1, 1, 1, 1]
    assert added == [1, 2, 3, 4] and (batcher.size, batcher.rows) == (0, 0)


def test_a_transaction_after_a_pause_waits_for_nothing() -> None:
    batcher = Batcher(EMPTY, project, interval_seconds=60)
    batcher.add(transaction(1))
    began = time.monotonic()
    assert batcher.take(0) is not None
    assert time.monotonic() - began < 5


def test_what_comes_within_the_interval_shares_a_commit() -> None:
    batcher = Batcher(EMPTY, project, interval_seconds=0.5)
    batcher.add(transaction(1))
    first, began = batcher.take(0), time.monotonic()
    batcher.add(transaction(2))
    adding = threading.Timer(0.1, lambda: batcher.add(transaction(3)))
    adding.start()
    shared = batcher.take(10)
    adding.join()
    assert [batch and batch.transactions for batch in (first, shared)] == [1, 2]
    assert 0.4 < time.monotonic() - began < 5


def test_a_full_batch_and_the_end_of_the_stream_wait_for_no_interval() -> None:
    batcher = Batcher(EMPTY, project, interval_seconds=60)
    began = time.monotonic()
    for number in range(1, 4):
        batcher.add(new_posts(number, MAX_ROWS))
    assert [batch and batch.transactions for batch in (batcher.take(0), batcher.take(0))] == [1, 1]
    batcher.fail(SourceUnavailable("gone"))
    assert batcher.take(0) is not None
    assert time.monotonic() - began < 5


def test_what_came_before_an_error_is_applied_first() -> None:
    batcher = Batcher(EMPTY, project)
    batcher.add(transaction(1))
    batcher.fail(SourceUnavailable("gone"))
    assert batcher.take(0) is not None
    with pytest.raises(SourceUnavailable):
        batcher.take(0)
