"""What a row change means for the read model, before anything is merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DocumentId = int | str
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Put:
    """The row exists and looks like this: `fields` are all its projected fields."""

    collection: str
    id: DocumentId
    fields: Fields


@dataclass(frozen=True)
class Remove:
    """The row is gone; `fields` names what it had. Its counters stay: they belong to the id."""

    collection: str
    id: DocumentId
    fields: Fields


@dataclass(frozen=True)
class Increment:
    """A counter of a document changes, whether or not its row exists."""

    collection: str
    id: DocumentId
    counter: str
    by: int


@dataclass(frozen=True)
class Invalidate:
    """A cached list may have changed."""

    key: str


Mutation = Put | Remove | Increment | Invalidate
