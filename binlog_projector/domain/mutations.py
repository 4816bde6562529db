"""Mutations: the effects of a row change on the read model, before they are merged.

They form no reference cycles, so Python's garbage collector need not look at them (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from reader.read_model.scans import EdgeId

DocumentId = int | str | EdgeId
Fields = Mapping[str, Any]


class Put(msgspec.Struct, frozen=True, gc=False):
    """The row exists with these `fields`: all its projected ones. `new`: it did not exist before."""

    collection: str
    id: DocumentId
    fields: Fields
    new: bool = False


class Remove(msgspec.Struct, frozen=True, gc=False):
    """The row is gone. `fields`: those it had. Its counters stay, because they belong to the id."""

    collection: str
    id: DocumentId
    fields: Fields


class Increment(msgspec.Struct, frozen=True, gc=False):
    """A counter of a document changes, whether or not its row exists."""

    collection: str
    id: DocumentId
    counter: str
    by: int


class Invalidate(msgspec.Struct, frozen=True, gc=False):
    """A cached list may have changed."""

    key: str


Mutation = Put | Remove | Increment | Invalidate
