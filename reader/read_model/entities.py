"""The kinds of things that are declared: entities with their JSON, and lists that a parent entity owns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, NewType

import msgspec
from msgspec import structs

from reader.read_model.scans import CachedList
from tidemark.ids import Id

PAGE_LIMIT = 20  # of the first page
Document = Mapping[str, Any]
Count = NewType("Count", int)  # of rows; the projector keeps it by increments
AUTHOR, VIEWER = "author", "viewer"  # fields that come from other documents


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A document that is cached under its own key. `head`: the bytes that a reader needs before the body.

    `shown` declares its fields. JSON, OpenAPI type and counters are derived from it. The document has the
    same names, but `_id` for the id. Author and viewer come from other documents, when an answer is made.
    """

    name: str
    collection: str
    shown: type[msgspec.Struct]
    to_head: Callable[[Document], bytes]

    def key(self, id: int) -> str:
        return f"{self.name}:{id}"

    @property
    def label(self) -> str:
        return self.name

    @cached_property
    def to_json(self) -> Callable[[Document], dict[str, Any]]:
        """Makes the JSON of a document, without author and viewer."""
        return json_of(self.shown)

    @cached_property
    def counters(self) -> tuple[str, ...]:
        return tuple(field.name for field in structs.fields(self.shown) if field.type is Count)


@dataclass(frozen=True, kw_only=True)
class OwnedList(CachedList):
    """A list of a `parent`, by the parent's id."""

    parent: Entity
    limit: int = PAGE_LIMIT

    def key(self, value: int) -> str:
        return f"{self.parent.name}:{value}:{self.name}"

    def value(self, text: str) -> int:
        return int(text)

    @cached_property
    def label(self) -> str:
        return f"{self.parent.name}_{self.name}"


@dataclass(frozen=True, kw_only=True)
class Listing(OwnedList):
    """A list whose pages are answers. If it is cached beyond the first page, its order is that of ids."""

    path: str
    item: Entity


def is_present(document: Document | None) -> bool:
    """False for no document and for a stub: readers see neither."""
    return document is not None and "created_at" in document


def json_of(shown: type[msgspec.Struct]) -> Callable[[Document], dict[str, Any]]:
    """A function that takes the fields of `shown` from a document, ids as text, without author and viewer."""
    fields = [field for field in structs.fields(shown) if field.name not in (AUTHOR, VIEWER)]
    names = [field.name for field in fields]
    ids = [field.name for field in fields if field.type == Id]
    values = itemgetter(*("_id" if name == "id" else name for name in names))

    def to_json(document: Document) -> dict[str, Any]:
        json = dict(zip(names, values(document), strict=True))
        for name in ids:
            json[name] = str(json[name])
        return json

    return to_json
