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
from reader.asked import EntityQuery, FeedQuery, HashtagQuery, ListQuery, Query
from reader.composing import Answer
from reader.consistency import Consistency
from reader.demands import NO_DEMANDS, Demands, Need, demands_of
from reader.errors import not_found
from reader.live.connections import Connections
from reader.live.sse import stream, wants_stream
from reader.live.watch import Watched
from reader.metrics import ReaderMetrics
from reader.openapi import OPENAPI
from reader.paging import Page, requested_page
from reader.read_model.declarations import NEWEST_FIRST, Entity, Listing
from reader.read_model.scans import Order
from reader.settings import ReaderSettings
from tidemark import consistency_token
from tidemark.consistency_token import ConsistencyKeys, cookie, sign
from tidemark.gtid import GtidSet
from tidemark.hashtags import canonical
from tidemark.ids import ID, MAX_ID
from tidemark.problem import Problem

ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')
COMMON = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Authorization, Consistency-Token, Cookie"),
)
JSON = (b"content-type", b"application/json")
IF_NONE_MATCH = b"if-none-match"
HEADER = consistency_token.HEADER.lower().encode()
NOT_WATCHED = frozenset({"cursor", "limit"})
CONDITIONS = frozenset({IF_NONE_MATCH, b"cache-control", b"consistency-token", b"cookie", b"prefer"})
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Services:
    """The objects that endpoints use; `clock` gives Unix seconds."""

    consistency: Consistency
    connections: Connections
    settings: ReaderSettings
    metrics: ReaderMetrics
    clock: Callable[[], float]


class Read:
    """One kind of read, as raw ASGI: Starlette's requests and responses would take longer than our own code.

    `asked` makes the query of a request. The path alone, without a query string, tells the answer; if it is
    `personal`, the path and the caller.
    """

    def __init__(self, asked: Callable[[Scope], Query], *, personal: bool = False) -> None:
        self._asked = asked
        self._personal = personal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if wants_stream(scope):
            await self._stream(scope, receive, send)
            return
        path = "" if scope["query_string"] else scope["path"]
        if path and self._personal:
            path = f"{path} {scope[CLAIMS].subject}"
        status, headers, body = await respond(scope, self._asked, path)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def watched(self, scope: Scope) -> Watched:
        """The read as one that is kept current. Raises Problem 400 for a page that is not the usual one."""
        query, text = self._asked(scope), scope["query_string"].decode("latin-1")
        for name in _query(scope).keys() & NOT_WATCHED:
            raise Problem(
                400, "not-watchable", "Only a first page of the usual length is kept current.", name
            )
        subject = scope[CLAIMS].subject if self._personal or text else ""
        return Watched((scope["path"], text, subject), query)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        its: Services = scope["state"]["services"]
        conditions = _conditions(scope["headers"])
        known = conditions.pop(IF_NONE_MATCH, [])
        known += [value for name, value in scope["headers"] if name == b"last-event-id"]
        await stream(
            scope,
            receive,
            send,
            its.connections,
            self.watched(scope),
            demands=_demands(its, conditions) if conditions else NO_DEMANDS,
            known={tag.decode("latin-1") for tag in ENTITY_TAG.findall(b", ".join(known))},
            prefer=conditions.get(b"prefer", ()),
        )


def entity(kind: Entity) -> Read:
    return Read(lambda scope: EntityQuery(kind, path_id(scope)))


def listing(kind: Listing) -> Read:
    def asked(scope: Scope) -> Query:
        page = _page(scope, kind.order)  # first: a bad page is reported before a bad id
        return ListQuery(kind, path_id(scope), page)

    return Read(asked)


def feed() -> Read:
    return Read(lambda scope: FeedQuery(scope[CLAIMS].subject, _page(scope)), personal=True)


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


async def respond(scope: Scope, asked: Callable[[Scope], Query], path: str) -> tuple[int, Headers, bytes]:
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
        raise _not_found(headers)
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


def _not_found(headers: Headers) -> Problem:
    texts = {name.decode(): value.decode() for name, value in headers}
    return not_found(texts)


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
    limit = _query(scope).get("limit")
    query = {**({"limit": limit} if limit else {}), "cursor": cursor}
    return f"{quote(scope['path'])}?{urlencode(query)}"
