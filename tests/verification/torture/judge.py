"""Judges answers: each must be MySQL's state at some point, no older than its bound or its token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from reader.read_model.declarations import AUTHORED, ENTITIES, LISTINGS, POST, USER, Entity
from tests.verification.torture.history import TAGGED, Clock, History, path
from tidemark.gtid import EMPTY, GtidSet

VISIBLE_WITHIN_SECONDS = 0.5  # MySQL shows a row a moment before its GTID counts as executed


@dataclass(frozen=True)
class Answer:
    """An answer. `body`: None for a 404. `token`: of the request. `received`: by MySQL's clock."""

    path: str
    body: Any
    as_of: str
    token: GtidSet = EMPTY
    received: str = "9999"
    origin: str = ""


@dataclass(frozen=True)
class Window:
    """The points of MySQL's history that an answer may show."""

    first: int
    last: int


class Judge:
    """Compares answers with MySQL's whole history."""

    def __init__(self, history: History, clock: Clock) -> None:
        self.history = history
        self.clock = clock

    def stale(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers that were not allowed."""
        return [answer for answer in answers if not self.allows(answer)]

    def window(self, answer: Answer) -> Window:
        first = max(self.clock.at_least(answer.as_of), self.history.index(answer.token))
        return Window(first, max(first, self.clock.at_most(answer.received)))

    def allows(self, answer: Answer) -> bool:
        _, kind, *rest = answer.path.split("/")
        window = self.window(answer)
        if kind == TAGGED:
            return self._is_page((TAGGED, normalize("NFC", rest[0].lower())), POST, answer.body, window)
        entity, id = ENTITIES[kind], int(rest[0])
        if len(rest) == 1:
            return self._is_entity(entity, id, answer.body, window)
        listing = next(one for one in LISTINGS if one.path.format(id=id) == answer.path)
        if answer.body is None:
            return None in self._documents(listing.parent, id, window)
        exists = any(self._documents(listing.parent, id, window))
        return exists and self._is_page((path(listing), id), listing.item, answer.body, window)

    def _documents(self, entity: Entity, id: int, window: Window) -> list[Any]:
        return self.history.versions[entity.collection, id].between(window.first, window.last)

    def _is_entity(self, entity: Entity, id: int, body: Any, window: Window) -> bool:
        return any(
            self._is_document(entity, document, body, window)
            for document in self._documents(entity, id, window)
        )

    def _is_document(self, entity: Entity, document: Any, body: Any, window: Window) -> bool:
        """An author is a separate document, and may be of another point of the window."""
        if document is None or body is None:
            return document is None and body is None
        shown = entity.to_json(document)
        if entity.name not in AUTHORED:
            return bool(shown == body)
        authors = self._documents(USER, document["author_id"], window)
        return any(body == {**shown, "author": _author(author)} for author in authors)

    def _is_page(self, key: tuple[str, Any], item: Entity, body: Any, window: Window) -> bool:
        """Items in the list's order at some point of the window. An item once absent in it may be missing."""
        lists = self.history.versions[key].between(window.first, window.last)
        return any(self._is_list(ids or (), item, body["items"], window) for ids in lists)

    def _is_list(self, ids: Sequence[int], item: Entity, shown: Sequence[Any], window: Window) -> bool:
        left = list(shown)
        for id in ids:
            if left and left[0]["id"] == str(id):
                if not self._is_entity(item, id, left.pop(0), window):
                    return False
            elif None not in self._documents(item, id, window):
                return False
        return not left


def _author(document: Any) -> dict[str, Any] | None:
    if document is None:
        return None
    return {
        "id": str(document["_id"]),
        "handle": document["handle"],
        "display_name": document["display_name"],
    }
