"""The endpoints: what a request asks for, and what an answer says about itself (freshness, origin, version)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from authorizer_lambda.middleware import CLAIMS
from reader.consistency import Ask, Consistency, need_of
from reader.metrics import ReaderMetrics
from reader.openapi import OPENAPI
from reader.paging import MAX_ID, NEWEST_FIRST, requested_page
from reader.parts import oldest, worst
from reader.queries import Answer
from reader.read_model import Entity, Listing
from reader.settings import ReaderSettings
from tidemark.problem import Problem

ID = re.compile(r"[1-9][0-9]{0,18}")
ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
COMMON = {"cache-control": "private, no-cache", "vary": "Authorization, Consistency-Token, Cookie"}
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Services:
    """What endpoints work with; `clock` gives Unix seconds."""

    consistency: Consistency
    settings: ReaderSettings
    metrics: ReaderMetrics
    clock: Callable[[], float]


class EntityEndpoint:
    """One document, as raw ASGI: most reads come this way, without Starlette's wrapping of functions."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        id = path_id(request)
        response = await respond(request, lambda queries: queries.entity(self.entity, id))
        await response(scope, receive, send)


def listing_endpoint(listing: Listing) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        page, id = requested_page(request.query_params, listing.order), path_id(request)
        return await respond(request, lambda queries: queries.listing(listing, id, page))

    return endpoint


async def feed(request: Request) -> Response:
    page = requested_page(request.query_params, NEWEST_FIRST)
    return await respond(request, lambda queries: queries.feed(request.scope[CLAIMS].subject, page))


async def hashtag(request: Request) -> Response:
    page = requested_page(request.query_params, NEWEST_FIRST)
    return await respond(request, lambda queries: queries.hashtag(request.path_params["tag"], page))


async def openapi(request: Request) -> Response:
    return Response(OPENAPI, media_type="application/json")


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def path_id(request: Request) -> int:
    """Raises Problem 404: what is no id names nothing, now and later."""
    text = request.path_params["id"]
    if not ID.fullmatch(text) or int(text) > MAX_ID:
        raise _not_found({})
    return int(text)


async def respond(request: Request, ask: Ask) -> Response:
    """200, 304 or, for an absent thing, Problem 404: each says how fresh it is and where it came from."""
    its = services(request)
    need = need_of(request, its.settings.consistency_keys, its.clock(), its.settings.max_wait_seconds)
    answer = await its.consistency.answer(ask, need)
    headers = {**COMMON, **_provenance(its, answer)}
    if need is not None and need.preferred:
        headers["preference-applied"] = f"wait={need.wait_seconds:g}"
    if answer.body is None:
        raise _not_found(headers)
    headers["etag"] = f'"{answer.version}"'
    if _is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    if answer.next_cursor:
        headers["link"] = f'<{_next_url(request, answer.next_cursor)}>; rel="next"'
    return Response(answer.body, headers=headers, media_type="application/json")


def _not_found(headers: dict[str, str]) -> Problem:
    return Problem(404, "not-found", "There is nothing here.", headers=headers)


def _provenance(services: Services, answer: Answer) -> dict[str, str]:
    """`Freshness: as-of="..."` (MySQL's clock, ms, rounded down; `stale` if too long ago) and `Cache-Status`
    (RFC 9211). Both are structured fields (RFC 9651)."""
    as_of = oldest(answer.parts).as_of
    bound_seconds = max(0.0, services.clock() - datetime.fromisoformat(as_of).timestamp())
    services.metrics.freshness.observe(bound_seconds)
    stale = ", stale" if bound_seconds > services.settings.max_staleness_seconds else ""
    return {"freshness": f'as-of="{as_of[:23]}Z"{stale}', "cache-status": worst(answer.parts).cache_status}


def _is_known(request: Request, tag: str) -> bool:
    """If-None-Match: RFC 9110, 13.1.2, compares weakly, so a W/ before a tag means nothing."""
    known = ", ".join(request.headers.getlist("if-none-match"))
    return known.strip() == "*" or tag in ENTITY_TAG.findall(known)


def _next_url(request: Request, cursor: str) -> str:
    limit = request.query_params.get("limit")
    query = {**({"limit": limit} if limit else {}), "cursor": cursor}
    return f"{quote(request.scope['path'])}?{urlencode(query)}"
