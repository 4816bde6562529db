"""From an answer to status, headers (freshness, origin, version) and body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from starlette.types import Scope

from reader.asked import Query
from reader.composing import Answer
from reader.consistency import Consistency
from reader.demands import IF_NONE_MATCH, NO_DEMANDS, Need, conditions_of, demands_of, is_known
from reader.errors import not_found
from reader.live.connections import Connections
from reader.metrics import ReaderMetrics
from reader.paging import next_url
from reader.settings import ReaderSettings
from tidemark import consistency_token
from tidemark.consistency_token import ConsistencyKeys, cookie, sign
from tidemark.gtid import GtidSet

COMMON = (
    (b"cache-control", b"private, no-cache"),
    (b"vary", b"Authorization, Consistency-Token, Cookie"),
)
JSON = (b"content-type", b"application/json")
HEADER = consistency_token.HEADER.lower().encode()
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Services:
    """The objects that endpoints use; `clock` gives Unix seconds."""

    consistency: Consistency
    connections: Connections
    settings: ReaderSettings
    metrics: ReaderMetrics
    clock: Callable[[], float]


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
        raise not_found(*absent, {name.decode(): value.decode() for name, value in headers})
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
