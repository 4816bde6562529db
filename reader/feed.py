"""The feed: a merge of heads, each the newest posts of one author.

The newest k of a union are among the newest k of its parts. So only the k heads with the greatest first ids
can hold a page of k, and a head that is cut is exact down to its last id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reader.paging import Page, encode_cursor
from reader.read_model.cached_values import Entry
from tidemark.ids import MAX_ID


class Ids(NamedTuple):
    """The ids of a page, and the cursor of the next one if there is one."""

    ids: list[int]
    cursor: str | None


def all_of(found: Entry) -> Ids:
    return Ids(found.ids(), found.head.decode() or None)


def page_of(first: Entry, page: Page) -> Ids | None:
    """A page of a cached list, if the list reaches so far.

    A list that is longer than the page is in the order of ids, the greatest first.
    """
    ids = first.ids()
    if page.after:
        ids = [id for id in ids if id < int(page.after[0])]
    if len(ids) > page.limit:
        return _cut(ids, page, more=False)
    if len(ids) < page.limit and first.head:
        return None
    return Ids(ids, first.head.decode() or None)


def newest(heads: Sequence[tuple[int, Entry]], page: Page) -> tuple[list[int], tuple[int, ...]]:
    """The greatest ids that heads of authors have for a page, and one more if there are.

    Also the authors who may have others for this page, below their heads.
    """
    below = int(page.after[0]) if page.after else MAX_ID + 1
    wanted = page.limit + 1
    firsts = [(first, at) for at, (_, head) in enumerate(heads) if (first := _first(head, below))]
    firsts.sort(reverse=True)
    opened = (_ids(heads[at][1], below, wanted) for _, at in firsts[:wanted])
    ids = sorted((id for head in opened for id in head), reverse=True)[:wanted]
    end = ids[-1] if len(ids) == wanted else 0
    return ids, tuple(author for author, head in heads if head.head and _last(head) > end)


def merged(ids: Sequence[int], others: Entry | None, page: Page) -> Ids:
    """The page of `ids` and of a page of others."""
    if others is None:
        return _cut(ids, page, more=False)
    return _cut(sorted({*ids, *others.ids()}, reverse=True), page, more=others.head != b"")


def _cut(ids: Sequence[int], page: Page, *, more: bool) -> Ids:
    shown = [*ids[: page.limit]]
    return Ids(shown, encode_cursor([shown[-1]]) if more or len(ids) > page.limit else None)


def _ids(head: Entry, below: int, wanted: int) -> list[int]:
    """The first ids below the cursor."""
    if below > MAX_ID:
        return [int(id) for id in head.body.split(b",", wanted)[:wanted]]
    return [id for id in head.ids() if id < below][:wanted]


def _first(head: Entry, below: int) -> int:
    """The first id below the cursor; 0 if there is none."""
    if not head.body:
        return 0
    first = int(head.body.partition(b",")[0])
    return first if first < below else next((id for id in head.ids() if id < below), 0)


def _last(head: Entry) -> int:
    return int(head.body.rpartition(b",")[2])
