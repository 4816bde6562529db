"""Judges answers: each must be MySQL's state at some point, no older than its bound or its token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from reader.read_model.declarations import AUTHORED, ENTITIES, LISTINGS, POST, USER
from reader.read_model.entities import Entity
from tests.verification.torture.history import (
    EVERYBODY,
    HANDLE,
    SUBJECT,
    TAGGED,
    Clock,
    History,
    Key,
    path,
)
from tidemark.gtid import EMPTY, GtidSet

CALLER = "s0"  # the subject of all reads
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
        """At one point of the window, all parts of the answer were so."""
        window = self.window(answer)
        point = window.first
        while point <= window.last:
            state = State(self.history, point)
            if _shown(state, answer.path) == _without_cursor(answer.body):
                return True
            point = state.next_change
        return False


class State:
    """MySQL after transaction number `point`. `next_change`: the next one that touched what was read here."""

    def __init__(self, history: History, point: int) -> None:
        self._versions = history.versions
        self._point = point
        self.next_change = history.transactions + 1

    def get(self, key: Key) -> Any:
        versions = self._versions[key]
        self.next_change = min(self.next_change, versions.next_after(self._point, self.next_change))
        return versions.between(self._point, self._point)[0]


def _shown(state: State, address: str) -> Any:
    """The body of the right answer; None for a 404."""
    _, kind, *rest = address.split("/")
    if kind == TAGGED:
        return _page(state, (TAGGED, normalize("NFC", rest[0].lower())), POST)
    if kind == "posts":
        return _page(state, (EVERYBODY, ""), POST)
    if rest[0] in ("me", "by-handle"):
        found = state.get((SUBJECT, CALLER) if rest[0] == "me" else (HANDLE, rest[1].lower()))
        return _entity(state, USER, found[0]) if found else None
    entity, id = ENTITIES[kind], int(rest[0])
    if len(rest) == 1:
        return _entity(state, entity, id)
    if state.get((entity.collection, id)) is None:
        return None
    listing = next(one for one in LISTINGS if one.path.format(id=id) == address)
    return _page(state, (path(listing), id), listing.item)


def _page(state: State, key: Key, item: Entity) -> Any:
    shown = (_entity(state, item, id) for id in state.get(key) or ())
    return {"items": [one for one in shown if one is not None]}


def _entity(state: State, entity: Entity, id: int) -> Any:
    document = state.get((entity.collection, id))
    if document is None:
        return None
    shown = entity.to_json(document)
    if entity.name not in AUTHORED:
        return shown
    return {**shown, "author": _author(state.get((USER.collection, document["author_id"])))}


def _without_cursor(body: Any) -> Any:
    return {"items": body["items"]} if body is not None and "items" in body else body


def _author(document: Any) -> dict[str, Any] | None:
    if document is None:
        return None
    return {
        "id": str(document["_id"]),
        "handle": document["handle"],
        "display_name": document["display_name"],
    }
