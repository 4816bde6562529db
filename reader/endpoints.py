"""The endpoints: from a request to a query, and from an answer to headers (freshness, origin, version)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from starlette.types import Receive, Scope, Send

from authorizer_lambda.middleware import CLAIMS
from reader.asked import (
    EntityQuery,
    EverybodyQuery,
    FeedQuery,
    HashtagQuery,
    HotQuery,
    ListQuery,
    NotificationsQuery,
    Plain,
    Query,
    UserQuery,
    ViewedQuery,
)
from reader.composing import Answer
from reader.consistency import Consistency
from reader.demands import IF_NONE_MATCH, NO_DEMANDS, Need, conditions_of, demands_of, is_known
from reader.feed import HOTTEST_FIRST
from reader.metrics import ReaderMetrics
from reader.paging import Page, next_url, query_of, requested_page
from reader.read_model.declarations import NEWEST_FIRST, USERS_BY_HANDLE, USERS_BY_SUBJECT, VIEWED
from reader.read_model.entities import Entity, Listing
from reader.read_model.notifications import CURSOR
from reader.read_model.scans import Order
from reader.settings import ReaderSettings
from tidemark import consistency_token
from tidemark.consistency_token import ConsistencyKeys, cookie, sign
from tidemark.gtid import GtidSet
from tidemark.handles import HANDLE
from tidemark.hashtags import canonical
from tidemark.ids import ID, MAX_ID
from tidemark.problem import Problem

COMMON = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Authorization, Consistency-Token, Cookie"),
)
NOTHING = "not-found", "There is nothing here."  # the code and detail of a 404
NO_PROFILE = "unknown-user", "You have no profile yet: create it with PUT /user/me."
JSON = (b"content-type", b"application/json")
HEADER = consistency_token.HEADER.lower().encode()
VIEWER, HOT = b"include=viewer", b"order=hot"
KEPT = frozenset({b"", VIEWER, HOT})  # query strings of which answers are kept ready
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Services:
    """The objects that endpoints use; `clock` gives Unix seconds."""

    consistency: Consistency
    settings: ReaderSettings
    metrics: ReaderMetrics
    clock: Callable[[], float]


class Read:
    """One kind of read, as raw ASGI: Starlette's requests and responses would take longer than our own code.

    `asked` makes the query of a request. `personal`: the answer is another for each caller. `viewed`: what
    items are to the caller can be included. `absent`: the code and detail of the problem if there is none.
    """

    def __init__(
        self,
        asked: Callable[[Scope], Plain],
        *,
        personal: bool = False,
        viewed: bool = True,
        absent: tuple[str, str] = NOTHING,
    ) -> None:
        self._asked = asked
        self._personal = personal
        self._viewed = viewed
        self._absent = absent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers, body = await respond(scope, self._query, self.kept_as(scope), self._absent)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def kept_as(self, scope: Scope) -> str:
        """All that tells the answer: the path, also by whom it is read, if this matters. Empty: more does.

        A path begins with a slash, and a subject has no space, so no text means two.
        """
        query, path = scope["query_string"], scope["path"]
        if query not in KEPT:
            return ""
        return f"of {scope[CLAIMS].subject} {query.decode()} {path}" if query or self._personal else path

    def _query(self, scope: Scope) -> Query:
        """Raises Problem 400 that names `include`, and those of `asked`."""
        include = query_of(scope).get("include")
        if include is None:
            return self._asked(scope)
        if include != "viewer" or not self._viewed:
            raise Problem(400, "bad-include", "include must be viewer, with posts or users.", "include")
        return ViewedQuery(self._asked(scope), scope[CLAIMS].subject)


def entity(kind: Entity) -> Read:
    return Read(lambda scope: EntityQuery(kind, path_id(scope)))


def listing(kind: Listing) -> Read:
    def asked(scope: Scope) -> Plain:
        page = _page(scope, kind.order)  # first: a bad page is reported before a bad id
        return ListQuery(kind, path_id(scope), page)

    return Read(asked, viewed=kind.item.name in VIEWED)


def caller() -> Read:
    return Read(
        lambda scope: UserQuery(USERS_BY_SUBJECT, scope[CLAIMS].subject), personal=True, absent=NO_PROFILE
    )


def user_by_handle() -> Read:
    def asked(scope: Scope) -> Plain:
        handle = scope["path_params"]["handle"]
        if not re.match(HANDLE, handle):
            raise _not_found([])  # nobody can ever have it
        return UserQuery(USERS_BY_HANDLE, handle.lower())

    return Read(asked)


def everybody() -> Read:
    return Read(lambda scope: EverybodyQuery(_page(scope)))


def feed() -> Read:
    def asked(scope: Scope) -> Plain:
        query, subject = query_of(scope), scope[CLAIMS].subject
        match query.get("order"):
            case None:
                return FeedQuery(subject, requested_page(query, NEWEST_FIRST))
            case "hot":
                return HotQuery(subject, requested_page(query, HOTTEST_FIRST))
        raise Problem(400, "bad-order", "order must be hot. Without it the newest posts come first.", "order")

    return Read(asked, personal=True)


def hashtag() -> Read:
    return Read(lambda scope: HashtagQuery(canonical(scope["path_params"]["tag"]), _page(scope)))


def notifications() -> Read:
    def asked(scope: Scope) -> Plain:
        return NotificationsQuery(scope[CLAIMS].subject, _page(scope, CURSOR))

    return Read(asked, personal=True, viewed=False)


def path_id(scope: Scope) -> int:
    """Raises Problem 404 for a text that is no id: nothing can ever have it."""
    text = scope["path_params"]["id"]
    if not ID.fullmatch(text) or int(text) > MAX_ID:
        raise _not_found([])
    return int(text)


async def respond(
    scope: Scope, asked: Callable[[Scope], Query], path: str, absent: tuple[str, str]
) -> tuple[int, Headers, bytes]:
    """Status 200 or 304, headers and body. Raises Problem 404 if there is no such document.

    All three state their freshness and their origin.
    """
    its: Services = scope["state"]["services"]
    conditions = conditions_of(scope["headers"])
    known = conditions.pop(IF_NONE_MATCH, ())
    keys, longest = its.settings.consistency_keys, its.settings.max_wait_seconds
    demands = demands_of(conditions, keys, its.clock(), longest) if conditions else NO_DEMANDS
    answer = its.consistency.ready(path) if path and demands is NO_DEMANDS else None
    if answer is None:
        answer = await its.consistency.answer(asked(scope), demands, path)
    headers = [*COMMON, *_provenance(its, answer)]
    if demands.need is not None:
        headers += _session(its, demands.need, answer)
    if answer.body is None:
        raise _not_found(headers, absent)
    tag = b'"%s"' % answer.version.encode()
    headers.append((b"etag", tag))
    if is_known(known, tag):
        return 304, headers, b""
    if answer.next_cursor:
        headers.append((b"link", f'<{next_url(scope, answer.next_cursor)}>; rel="next"'.encode()))
    headers += (JSON, (b"content-length", b"%d" % len(answer.body)))
    return 200, headers, answer.body


def _session(its: Services, need: Need, answer: Answer) -> Headers:
    """The token of the answer's own moment: whoever sends it back never reads anything older."""
    token = _token(answer.moment.gtid_set, its.settings.consistency_keys, int(its.clock()))
    headers = [(b"set-cookie", cookie(token).encode()) if need.in_cookie else (HEADER, token.encode())]
    if need.preferred:
        headers.append((b"preference-applied", b"wait=%s" % f"{need.wait_seconds:g}".encode()))
    return headers


@lru_cache(maxsize=16)
def _token(gtids: str, keys: ConsistencyKeys, now: int) -> str:
    """Cached: many answers are of one moment."""
    return sign(GtidSet.parse(gtids), keys, now)


def _not_found(headers: Headers, absent: tuple[str, str] = NOTHING) -> Problem:
    texts = {name.decode(): value.decode() for name, value in headers}
    return Problem(404, *absent, headers=texts)


def _provenance(services: Services, answer: Answer) -> Headers:
    """`Freshness` and `Cache-Status` (RFC 9211); both are structured fields (RFC 9651).

    `as-of` is a time of MySQL's clock, rounded down to ms. `stale`: it is too long ago.
    """
    seconds, as_of = _moment(answer.moment.as_of)
    bound_seconds = max(0.0, services.clock() - seconds)
    services.metrics.freshness.observe(bound_seconds)
    stale = b", stale" if bound_seconds > services.settings.max_staleness_seconds else b""
    parts = b", in-parts" if answer.moment.open else b""
    return [
        (b"freshness", as_of + stale + parts),
        (b"cache-status", answer.origin.cache_status.encode()),
    ]


@lru_cache(maxsize=256)
def _moment(as_of: str) -> tuple[float, bytes]:
    """A time in Unix seconds, and as Freshness shows it. Cached: thousands of answers have the same time."""
    return datetime.fromisoformat(as_of).timestamp(), f'as-of="{as_of[:23]}Z"'.encode()


def _page(scope: Scope, order: Order = NEWEST_FIRST) -> Page:
    return requested_page(query_of(scope), order)
