"""Scans: the orders in which documents are read. Edges: documents stored in the order of one scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

Order = tuple[tuple[str, int], ...]
EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A walk through one index, from the documents of one value of `by`, in `order`, to ids of items.

    `_id` stands for the id of the document itself.
    """

    collection: str
    by: str
    order: Order
    item_id: str

    @property
    def index(self) -> Order:
        return ((self.by, 1), *self.order)


class EdgeId(NamedTuple):
    """An edge's `_id`, in MongoDB {p, t, u} in this order: the list's owner, the time, the listed item.

    `t`: microseconds since 1970. MongoDB's dates keep only milliseconds, and text takes twice the room.
    """

    p: int
    t: int
    u: int

    def __str__(self) -> str:
        return f"{self.p}:{self.t}:{self.u}"


@dataclass(frozen=True)
class Edge:
    """Which columns of a row are p, t and u."""

    p: str
    t: str
    u: str

    @property
    def columns(self) -> tuple[str, str, str]:
        return self.p, self.t, self.u

    @cached_property
    def keys(self) -> dict[str, str]:
        """Column -> its name in `_id`."""
        return dict(zip(self.columns, EdgeId._fields, strict=True))

    def path(self, column: str) -> str:
        return f"_id.{self.keys[column]}"

    def index(self, columns: Order) -> Order:
        """The documents' index for an index of columns."""
        return tuple((self.path(column), way) for column, way in columns)

    def id(self, row: Mapping[str, Any]) -> EdgeId:
        """Raises TypeError if the row has no date and time."""
        moment = row[self.t]
        if not isinstance(moment, datetime):
            raise TypeError(f"{self.t} is {moment!r}, not a date and time")
        return EdgeId(row[self.p], (moment - EPOCH) // MICROSECOND, row[self.u])

    def pair(self, id: EdgeId) -> dict[str, int]:
        return {self.p: id.p, self.u: id.u}


def time_text(microseconds: int) -> str:
    """A time as in entities, with all six digits."""
    return (EPOCH + microseconds * MICROSECOND).isoformat(timespec="microseconds") + "Z"


def microseconds(text: str) -> int:
    """The inverse of `time_text`. Raises ValueError."""
    return (datetime.fromisoformat(text.removesuffix("Z")) - EPOCH) // MICROSECOND
