"""Fields of documents that no column has: each is made of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from binlog_projector.domain.changes import Row
from tidemark.handles import handles
from tidemark.hashtags import hashtags

NOT_COPIED = frozenset({"post_author_id"})  # columns that documents do not get as they are


@dataclass(frozen=True)
class Made:
    """A field, and the columns that decide its value.

    `is_equal`: a list of texts; MySQL's collation calls the column equal to each of them.
    """

    columns: tuple[str, ...]
    value: Callable[[Row], Any]
    is_equal: bool = False


def told(actor: str) -> Made:
    """Whom a row tells of a deed: the post's author, unless it is the author's own. None: nobody."""

    def value(row: Row) -> int | None:
        author: int | None = row["post_author_id"]
        return None if author == row[actor] else author

    return Made(("post_author_id", actor), value)


tags_of = lru_cache(maxsize=64)(hashtags)  # a document and the lists that it is in want them
MADE: Mapping[str, Mapping[str, Made]] = {  # table -> field -> how
    "users": {"handles": Made(("handle",), lambda row: handles(row["handle"]), is_equal=True)},
    "posts": {"hashtags": Made(("body",), lambda row: tags_of(row["body"]))},
    "comments": {"told": told("author_id")},
    "likes": {"told": told("user_id")},
}
