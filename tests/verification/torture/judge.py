"""Judges answers: each must be MySQL's state at some point, no older than its bound or its token."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import normalize
from urllib.parse import parse_qsl, unquote, urlencode

from reader.read_model.declarations import (
    AUTHORED,
    ENTITIES,
    LISTINGS,
    POST,
    USER,
    USER_FOLLOWING,
    USER_POSTS,
)
from reader.read_model.entities import PAGE_LIMIT, Entity
from tests.verification.torture.history import (
    EVERYBODY,
    HANDLE,
    PAIRS,
    READ,
    SUBJECT,
    TAGGED,
    TOLD,
    Clock,
    Deed,
    History,
    Key,
    path,
)
from tidemark.gtid import EMPTY, GtidSet

KINDS = ("follow", "like", "comment", "mention")
COUNTED = 50  # the newest notifications; only these count as unread
VISIBLE_WITHIN_SECONDS = 0.5  # MySQL shows a row a moment before its GTID counts as executed


@dataclass(frozen=True)
class Answer:
    """An answer. `body`: None for a 404. `token`: of the request. `received`: by MySQL's clock.

    `subject`: who asked for it.
    """

    path: str
    body: Any
    as_of: str
    token: GtidSet = EMPTY
    received: str = "9999"
    origin: str = ""
    subject: str = ""


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
        return self.point(answer) is not None

    def point(self, answer: Answer, since: int = 0) -> int | None:
        """The first point of the window, from `since` on, at which all parts of the answer were so."""
        window, body = self.window(answer), _without_cursor(answer.body)
        point = max(window.first, since)
        while point <= window.last:
            state = State(self.history, point)
            if _shown(state, answer.path, answer.subject) == body:
                return point
            point = state.next_change
        return None


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


def _shown(state: State, address: str, subject: str) -> Any:
    """The body of the right answer; None for a 404."""
    path_part, _, query = address.partition("?")
    asked = dict(parse_qsl(query))
    if asked.get("include"):
        return _viewed(state, _shown(state, _without_include(address), subject), subject)
    limit, after = int(asked.get("limit", PAGE_LIMIT)), _decoded(asked.get("cursor", ""))
    _, kind, *rest = unquote(path_part).split("/")
    if kind == "feed":
        ids = _hottest(state, subject, after) if asked.get("order") == "hot" else _feed(state, subject, after)
        return _page(state, ids, POST, limit)
    if kind == TAGGED:
        tagged = state.get((TAGGED, normalize("NFC", rest[0].lower()))) or ()
        return _page(state, _behind(tagged, after), POST, limit)
    if kind == "posts":
        return _page(state, _behind(state.get((EVERYBODY, "")) or (), after), POST, limit)
    if rest[-1] == "notifications":
        return _notifications(state, subject, after, limit)
    if rest[0] in ("me", "by-handle"):
        found = state.get((SUBJECT, subject) if rest[0] == "me" else (HANDLE, rest[1].lower()))
        return _entity(state, USER, found[0]) if found else None
    entity, id = ENTITIES[kind], int(rest[0])
    if len(rest) == 1:
        return _entity(state, entity, id)
    if state.get((entity.collection, id)) is None:
        return None
    listing = next(one for one in LISTINGS if one.path.format(id=id) == path_part)
    return _page(state, state.get((path(listing), id)) or (), listing.item, limit)


def _without_include(address: str) -> str:
    path_part, _, query = address.partition("?")
    return f"{path_part}?{urlencode([one for one in parse_qsl(query) if one[0] != 'include'])}"


def _viewed(state: State, body: Any, subject: str) -> Any:
    """The body, with each post or user what it is to the caller."""
    if body is None:
        return None
    if "items" in body:
        return {**body, "items": [_viewed(state, item, subject) for item in body["items"]]}
    me, id = (state.get((SUBJECT, subject)) or (0,))[0], int(body["id"])
    if "author" in body:
        return {**body, "viewer": {"liked": _is(state, "likes", id, me)}}
    both = {"following": _is(state, "follows", me, id), "followed_by": _is(state, "follows", id, me)}
    return {**body, "viewer": both}


def _is(state: State, table: str, one: int, other: int) -> bool:
    """Whether there is an edge with this primary key."""
    return bool(state.get((PAIRS, (table, one, other))))


def _feed(state: State, subject: str, after: Sequence[int]) -> list[int]:
    """The posts of the subject's user and of those whom this one follows, the newest first."""
    users = state.get((SUBJECT, subject)) or ()
    authors = {
        author for user in users for author in (user, *(state.get((path(USER_FOLLOWING), user)) or ()))
    }
    posts = {id for author in authors for id in state.get((path(USER_POSTS), author)) or ()}
    return _behind(sorted(posts, reverse=True), after)


def _hottest(state: State, subject: str, after: Sequence[int]) -> list[int]:
    """The newest 100 of the feed, those of the cursor's window, by rank."""
    newest = _feed(state, subject, [after[2] + 1] if after else [])[:100]
    places = sorted(((_rank(state.get((POST.collection, id))), id) for id in newest), reverse=True)
    return [id for rank, id in places if not after or (rank, id) < (after[0], after[1])]


def _rank(post: Mapping[str, Any]) -> int:
    """By the digits of the points: the first four, after which eighths no longer count."""
    digits = f"{1 + post['like_count'] + 2 * post['comment_count']:b}"
    eighths = 8 * (len(digits) - 2) + int((digits + "000")[:4], 2)
    return math.floor(datetime.fromisoformat(post["created_at"]).timestamp()) + 1_693 * eighths


def _notifications(state: State, subject: str, after: Sequence[Any], limit: int) -> dict[str, Any]:
    if not (users := state.get((SUBJECT, subject))):
        return {"items": [], "next": False, "unread_count": 0}
    (user,) = users
    deeds, (until,) = state.get((TOLD, user)) or (), state.get((READ, user)) or ("",)
    behind = [deed for deed in deeds if not after or deed[:4] < tuple(after)]
    items = [_notification(state, deed) for deed in behind[:limit]]
    unread = sum(deed.created_at > until for deed in deeds[:COUNTED])
    return {"items": items, "next": len(behind) > limit, "unread_count": unread}


def _notification(state: State, deed: Deed) -> dict[str, Any]:
    return {
        "kind": KINDS[deed.kind - 1],
        "created_at": deed.created_at,
        "actor": _author(state.get((USER.collection, deed.actor))),
        "post_id": None if KINDS[deed.kind - 1] == "follow" else str(deed.of),
        "comment_id": str(deed.comment) if deed.comment else None,
    }


def _behind(ids: Sequence[int], after: Sequence[int]) -> list[int]:
    return [id for id in ids if not after or id < after[0]]


def _decoded(cursor: str) -> list[Any]:
    values: list[Any] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)) or "[]")
    return values


def _page(state: State, ids: Sequence[int], item: Entity, limit: int) -> Any:
    shown = (_entity(state, item, id) for id in ids[:limit])
    return {"items": [one for one in shown if one is not None], "next": len(ids) > limit}


def _entity(state: State, entity: Entity, id: int) -> Any:
    document = state.get((entity.collection, id))
    if document is None:
        return None
    shown = entity.to_json(document)
    if entity.name not in AUTHORED:
        return shown
    return {**shown, "author": _author(state.get((USER.collection, document["author_id"])))}


def _without_cursor(body: Any) -> Any:
    """Of a cursor, whether there is one."""
    return {**body, "next": body.get("next") is not None} if body is not None and "items" in body else body


def _author(document: Any) -> dict[str, Any] | None:
    if document is None:
        return None
    return {
        "id": str(document["_id"]),
        "handle": document["handle"],
        "display_name": document["display_name"],
    }
