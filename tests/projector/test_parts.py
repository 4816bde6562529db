"""Trace 14: a transaction too large for a batch comes in parts, and no applied row is delivered again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import pytest
from msgspec import structs

from binlog_projector.binlog import parts
from binlog_projector.domain.batch import Batch
from binlog_projector.domain.changes import RowChange, Transaction
from binlog_projector.domain.mutations import Mutation
from binlog_projector.domain.projections import project
from binlog_projector.errors import PositionLost, SourceBehind, UnprojectableRow, UnsupportedEvent
from binlog_projector.leading.batcher import Batcher
from binlog_projector.mysql.connections import Connection
from binlog_projector.mysql.source import MySqlSource
from binlog_projector.stores import mongodb
from binlog_projector.stores.audit_store import StoredView
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from ops.stack import Stack
from reader.read_model.control import Anchor, Partial
from tests.projector.reading import executed
from tests.support.harness import run_sql
from tests.support.received import Received
from tidemark.gtid import Gtid, GtidSet
from tidemark.hashtags import hashtags

ROWS = 30
LATER = 5  # rows of the next transaction


@pytest.fixture
def source(stack: Stack) -> MySqlSource:
    return MySqlSource(stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"], 7332)


@pytest.fixture
def before(connection: Connection) -> GtidSet:
    """The GTIDs committed before one transaction of `ROWS` rows and a smaller one."""
    before = executed(connection)
    comment = "INSERT INTO comments (post_id, author_id, body) VALUES (1, 1, 'c')"
    likes = [f"INSERT INTO likes (post_id, user_id) VALUES ({n}, 1), ({n}, 2)" for n in range(1, ROWS // 3)]
    run_sql(connection, "BEGIN", *likes, "UPDATE posts SET body = '' WHERE id < 12", comment, "COMMIT")
    run_sql(connection, f"UPDATE users SET bio = 'b' WHERE id <= {LATER}")
    return before


def delivered(
    source: MySqlSource, applied: GtidSet, partials: Sequence[Partial] = (), anchor: Anchor | None = None
) -> Iterator[Transaction]:
    received = Received()
    with contextlib.closing(source.stream(applied, anchor, partials)) as stream:
        stream.start(received)
        while True:
            yield received.next()


def until_whole(delivered: Iterable[Transaction]) -> list[Transaction]:
    """All parts of one transaction."""
    found = []
    for each in delivered:
        found.append(each)
        if each.partial is None:
            break
    return found


def rows_of(parts: Iterable[Transaction]) -> list[RowChange]:
    return [change for part in parts for change in part.changes]


def in_parts(
    source: MySqlSource, before: GtidSet, monkeypatch: pytest.MonkeyPatch, rows: int
) -> list[Transaction]:
    monkeypatch.setattr(parts, "MAX_ROWS", rows)
    return until_whole(delivered(source, before))


def test_a_restart_in_a_transaction_goes_on_with_the_next_row(
    source: MySqlSource, before: GtidSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts may have another size after the restart."""
    (whole,) = until_whole(delivered(source, before))
    found = in_parts(source, before, monkeypatch, 3)
    assert len(found) > 5 and rows_of(found) == [*whole.changes] and len(whole.changes) == ROWS
    assert {part.gtid for part in found} == {whole.gtid}
    for number, part in enumerate(found[:-1], start=1):
        assert part.partial is not None and part.partial.rows == len(rows_of(found[:number]))
        monkeypatch.setattr(parts, "MAX_ROWS", number)
        rest = until_whole(delivered(source, before, [part.partial]))
        assert rows_of(rest) == rows_of(found[number:])
        assert rest[0].rows_before == part.partial.rows and rest[-1].gtid == whole.gtid
    monkeypatch.undo()
    monkeypatch.setattr(parts, "MAX_BYTES", whole.size // 4)
    found = until_whole(delivered(source, before))
    assert len(found) > 2 and rows_of(found) == [*whole.changes]


def test_a_bulk_insert_of_hashtags_comes_in_parts_that_the_journal_holds(
    source: MySqlSource, connection: Connection
) -> None:
    """In form C each of these letters takes twice its bytes, and a key is in hex."""
    start = executed(connection)
    tag = "\u0958" * 28
    texts = [f"#{tag}{number:04}" for number in range(12_000)]
    bodies = [" ".join(texts[at : at + 30]) for at in range(0, len(texts), 30)]
    values = ", ".join(f"(1, '{body}')" for body in bodies)
    run_sql(connection, "SET NAMES utf8mb4", f"INSERT INTO posts (author_id, body) VALUES {values}")
    found = until_whole(delivered(source, start))
    inserted = [[change.after["body"] for change in part.changes if change.after] for part in found]
    assert [body for part in inserted for body in part] == bodies
    counts = [sum(len(hashtags(body)) for body in part) for part in inserted]
    assert sum(counts) == len(texts) and len(counts) == 2 and counts[0] <= parts.MAX_HASHTAGS + 30


def test_a_transaction_after_one_in_parts_is_whole_again(
    source: MySqlSource, before: GtidSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds behind an anchor that comes in parts."""
    anchor = in_parts(source, before, monkeypatch, LATER)[-1]
    applied = before.with_gtid(anchor.gtid)
    (next_one,) = until_whole(
        delivered(source, applied, anchor=Anchor(anchor.gtid, anchor.original_commit_us))
    )
    assert len(next_one.changes) == LATER and next_one.rows_before == 0


def test_other_rows_under_the_same_gtid_are_another_history(
    source: MySqlSource, before: GtidSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = in_parts(source, before, monkeypatch, 6)[1].partial
    assert applied is not None
    for other in ({"crc": 1}, {"original_commit_us": 1}, {"rows": ROWS + 1}):
        with pytest.raises(PositionLost, match=r"rows were applied, .* another history.*rebuild"):
            next(delivered(source, before, [structs.replace(applied, **other)]))


def test_a_source_without_a_partly_applied_transaction_is_behind(
    source: MySqlSource, before: GtidSet
) -> None:
    """It was promoted before it had received that transaction, whose applied part will never become whole."""
    lost = Partial(Gtid("aaaaaaaa-0000-0000-0000-000000000001", 5), 1, 1, 1)
    with pytest.raises(SourceBehind, match="lacks aaaaaaaa-0000-0000-0000-000000000001:5"):
        source.stream(before, None, [lost])


def test_a_statement_among_the_parts_says_how_much_was_applied(
    source: MySqlSource, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 2)
    start = executed(connection)
    like = "INSERT INTO likes (post_id, user_id, post_author_id) VALUES ({0}, 1, NULL), ({0}, 2, NULL)"
    run_sql(connection, "SET binlog_row_image = MINIMAL", "BEGIN", *map(like.format, range(1, 5)))
    run_sql(connection, "UPDATE users SET bio = 'x'", "COMMIT", "SET binlog_row_image = FULL")
    stream = delivered(source, start)
    assert [next(stream).rows_before for _ in range(2)] == [0, 4]
    with pytest.raises(UnsupportedEvent, match=r"partial row image.*its first 8 rows were applied\)$"):
        next(stream)


def test_a_mended_projector_goes_on_at_the_row_that_stopped(
    source: MySqlSource, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 4)
    start = executed(connection)
    like = "INSERT INTO likes (post_id, user_id, created_at) VALUES ({0}, 1, '{1}-01-01'), ({0}, 2, NOW())"
    years = [*["2026"] * 10, "0000", *["2026"] * 10]
    statements = [like.format(post, year) for post, year in enumerate(years, start=1)]
    run_sql(connection, "SET sql_mode = 'ALLOW_INVALID_DATES'", "BEGIN", *statements, "COMMIT")
    first = Batcher(start, project)
    with pytest.raises(UnprojectableRow, match=r"its first 18 rows were applied\)$"):
        for part in delivered(source, start):
            first.add(part)
    applied = first.take(0)
    assert applied is not None and applied.partial is not None and applied.gtid_set == start

    def mended(change: RowChange) -> Iterable[Mutation]:
        return [] if isinstance((change.after or {})["created_at"], str) else project(change)

    second = Batcher(start, mended)
    for part in until_whole(delivered(source, start, [applied.partial])):
        second.add(part)
    rest = second.take(0)
    assert rest is not None and rest.gtid_set == executed(connection)
    assert (applied.rows, rest.rows, len(rest.documents["likes"])) == (18, 24, 23)


def test_a_checkpoint_contains_a_transaction_only_when_it_is_whole(
    stack: Stack, source: MySqlSource, before: GtidSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any leader and any build. The journal tells an audit the keys that the earlier parts touched."""
    *begun, last = in_parts(source, before, monkeypatch, 8)
    with mongodb.connect(stack.environment()["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client:
        control = ControlStore(client, 1)
        documents = control.create_build(1)
        documents.commit(Batch(before), "2026")
        for epoch, part in enumerate(begun, start=2):
            documents.commit(batch_of(documents, part), "2026")
            documents.serve(None, "2026")
            documents = control.open_build(documents.build, epoch)
            assert documents.position.gtid_set == before and documents.position.partials == (part.partial,)
            assert touched_since(documents, before) >= {"post:1", "post:1:likes"}
            assert touched_since(documents, before.with_gtid(last.gtid)) == set()
        assert view(documents).repaired_since(1).keys == frozenset()
        documents.commit(batch_of(documents, last), "2026")
        assert (
            documents.position.gtid_set == before.with_gtid(last.gtid) and documents.position.partials == ()
        )
        assert touched_since(documents, before) >= {"post:1", "post:1:comments"}


def batch_of(documents: DocumentStore, part: Transaction) -> Batch:
    batch = Batch(documents.position.gtid_set)
    batch.add(part, [mutation for change in part.changes for mutation in project(change)])
    return batch


def view(documents: DocumentStore) -> StoredView:
    return StoredView(documents.database, None, documents.position.checkpoint)


def touched_since(documents: DocumentStore, gtid_set: GtidSet) -> set[str]:
    return set(view(documents).touched_since(gtid_set).keys or ())
