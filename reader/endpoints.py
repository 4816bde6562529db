"""The endpoints: from a request to a query, and from an answer to headers (freshness, origin, version)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authorizer_lambda.middleware import CLAIMS
from reader.asked import (
    EntityQuery,
    EverybodyQuery,
    FeedQuery,
    HashtagQuery,
    HotQuery,
    ListQuery,
    Query,
    UserQuery,
)
from reader.composing import Answer
from reader.consistency import Consistency
from reader.demands import NO_DEMANDS, Demands, Need, demands_of
from reader.feed import HOTTEST_FIRST
from reader.metrics import ReaderMetrics
from reader.openapi import OPENAPI
from reader.paging import Page, requested_page
from reader.read_model.declarations import NEWEST_FIRST, USERS_BY_HANDLE, USERS_BY_SUBJECT
from reader.read_model.entities import Entity, Listing
from reader.read_model.scans import Order
from reader.settings import ReaderSettings
from tidemark import consistency_token
from tidemark.consistency_token import ConsistencyKeys, cookie, sign
from tidemark.gtid import GtidSet
from tidemark.handles import HANDLE
from tidemark.hashtags import canonical
from tidemark.ids import ID, MAX_ID
from tidemark.problem import Problem

ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')
COMMON = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Authorization, Consistency-Token, Cookie"),
)
NOTHING = "not-found", "There is nothing here."  # the code and detail of a 404
NO_PROFILE = "unknown-user", "You have no profile yet: create it with PUT /user/me."
JSON = (b"content-type", b"application/json")
IF_NONE_MATCH = b"if-none-match"
HEADER = consistency_token.HEADER.lower().encode()
CONDITIONS = frozenset({IF_NONE_MATCH, b"cache-control", b"consistency-token", b"cookie", b"prefer"})
KEPT = {b"": "", b"order=hot": "?order=hot"}  # query strings of which answers are kept ready
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

    `asked` makes the query of a request. The path, with one of the query strings in KEPT, tells the answer;
    if it is `personal`, the path and the caller. `absent`: the code and detail of the problem if there is none.
    """

    def __init__(
        self,
        asked: Callable[[Scope], Query],
        *,
        personal: bool = False,
        absent: tuple[str, str] = NOTHING,
    ) -> None:
        self._asked = asked
        self._personal = personal
        self._absent = absent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        path = scope["path"] + KEPT[query] if query in KEPT else ""
        if path and self._personal:
            path = f"{path} {scope[CLAIMS].subject}"
        status, headers, body = await respond(scope, self._asked, path, self._absent)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def entity(kind: Entity) -> Read:
    return Read(lambda scope: EntityQuery(kind, path_id(scope)))


def listing(kind: Listing) -> Read:
    def asked(scope: Scope) -> Query:
        page = _page(scope, kind.order)  # first: a bad page is reported before a bad id
        return ListQuery(kind, path_id(scope), page)

    return Read(asked)


def caller() -> Read:
    def asked(scope: Scope) -> Query:
        return UserQuery(USERS_BY_SUBJECT, scope[CLAIMS].subject)

    return Read(asked, personal=True, absent=NO_PROFILE)


def user_by_handle() -> Read:
    def asked(scope: Scope) -> Query:
        handle = scope["path_params"]["handle"]
        if not re.match(HANDLE, handle):
            raise _not_found([])  # nobody can ever have it
        return UserQuery(USERS_BY_HANDLE, handle.lower())

    return Read(asked)


def everybody() -> Read:
    return Read(lambda scope: EverybodyQuery(_page(scope)))


def feed() -> Read:
    def asked(scope: Scope) -> Query:
        query, subject = _query(scope), scope[CLAIMS].subject
        match query.get("order"):
            case None:
                return FeedQuery(subject, requested_page(query, NEWEST_FIRST))
            case "hot":
                return HotQuery(subject, requested_page(query, HOTTEST_FIRST))
        raise Problem(400, "bad-order", "order must be hot. Without it the newest posts come first.", "order")

    return Read(asked, personal=True)


def hashtag() -> Read:
    return Read(lambda scope: HashtagQuery(canonical(scope["path_params"]["tag"]), _page(scope)))


async def openapi(request: Request) -> Response:
    return Response(OPENAPI, media_type="application/json")


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
    conditions = _conditions(scope["headers"])
    known = conditions.pop(IF_NONE_MATCH, ())
    demands = _demands(its, conditions) if conditions else NO_DEMANDS
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
    if _is_known(known, tag):
        return 304, headers, b""
    if answer.next_cursor:
        headers.append((b"link", f'<{_next_url(scope, answer.next_cursor)}>; rel="next"'.encode()))
    headers += (JSON, (b"content-length", b"%d" % len(answer.body)))
    return 200, headers, answer.body


def _demands(its: Services, conditions: Mapping[bytes, Sequence[bytes]]) -> Demands:
    return demands_of(conditions, its.settings.consistency_keys, its.clock(), its.settings.max_wait_seconds)


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


def _conditions(headers: Headers) -> dict[bytes, list[bytes]]:
    """The values of the headers that an answer depends on, by name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in CONDITIONS:
            found.setdefault(name, []).append(value)
    return found


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


def _is_known(known: Sequence[bytes], tag: bytes) -> bool:
    """If-None-Match compares weakly (RFC 9110, 13.1.2): a W/ before a tag is ignored."""
    if not known:
        return False
    tags = b", ".join(known)
    return tags in (b"*", tag) or tags.strip() == b"*" or tag in ENTITY_TAG.findall(tags)


def _page(scope: Scope, order: Order = NEWEST_FIRST) -> Page:
    return requested_page(_query(scope), order)


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def _next_url(scope: Scope, cursor: str) -> str:
    return f"{quote(scope['path'])}?{urlencode({**_query(scope), 'cursor': cursor})}"
