"""The OpenAPI 3.1 document, made from the types of the answers and from LISTINGS."""

from __future__ import annotations

from collections.abc import Iterable
from types import GenericAlias
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reader.notifications import UserNotificationPage
from reader.read_model.declarations import (
    ENTITIES,
    LISTINGS,
    MAX_FOLLOWEES,
    PAGE_LIMIT_MAX,
    POST,
    VIEWED,
    Post,
)
from reader.read_model.entities import PAGE_LIMIT, Entity
from tidemark import openapi
from tidemark.http import EVENT_STREAM
from tidemark.problem import MEDIA_TYPE
from tidemark.strict_protocol import MAX_HEAD_BYTES

Json = dict[str, Any]

TYPES = {name: entity.shown for name, entity in ENTITIES.items()}
PAGES = {
    name: msgspec.defstruct(
        f"{shown.__name__}Page", [("items", GenericAlias(list, shown)), ("next", str | None)]
    )
    for name, shown in TYPES.items()
}

FEED_PAGE = msgspec.defstruct(
    "FeedPage", [("items", list[Post]), ("next", str | None), ("complete", bool, True)]
)

NOTIFICATIONS = (
    "Who followed the caller, liked or commented on a post of the caller's, or mentioned the caller, newest "
    "first. Only the caller sees it. `unread_count` is at most 50"
)
HEADERS: dict[str, str] = {
    "Freshness": 'as-of="...": this answer contains everything that MySQL had committed by that time '
    "(MySQL's clock); `stale`: that time is long ago; `in-parts`: with a part of a large transaction",
    "Cache-Status": "Where the answer came from (RFC 9211)",
    "Consistency-Token": "If the request had a token: that of this answer's moment. Send it with later reads",
    "Set-Cookie": "The same, if the token came in the cookie",
    "ETag": "Names exactly this answer: repeat it in If-None-Match",
    "Link": 'rel="next": the following page, if there is one',
    "Preference-Applied": "`wait` as it was applied, if the request preferred one",
    "Retry-After": "Seconds",
    "WWW-Authenticate": "The reason of the refusal (RFC 6750)",
}
FEED = (
    "The newest posts of the caller and of the users that the caller follows. `complete` is false if they "
    f"are more than {MAX_FOLLOWEES:,}: then only the most recently followed ones count"
)
EVENTS = (
    "The same read, kept current, if the request accepts it and names no page. `state`: JSON with status, "
    "as_of, etag and body, at first and when the body has changed; `changed`: the same without status and "
    "body; `tide`: all up to as_of was sent; `end`: the stream ends, with its reason"
)
PROVENANCE = ("Freshness", "Cache-Status")
SESSION = ("Consistency-Token", "Set-Cookie", "Preference-Applied")
PROBLEMS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("A query parameter or the consistency token is wrong; `errors` names each", ()),
    401: ("There is no valid bearer token", ("WWW-Authenticate",)),
    403: ("The token lacks the scope `read`", ("WWW-Authenticate",)),
    404: ("There is no such document", (*PROVENANCE, *SESSION)),
    429: ("The caller has too many streams", ("Retry-After",)),
    431: (f"The head has more than {MAX_HEAD_BYTES} bytes", ()),
    500: ("The service failed; the request id finds the reason in its log", ()),
    503: ("The stores cannot answer now, or not as recently as the request demands", ("Retry-After",)),
}
WITHOUT_PARENT = tuple(code for code in PROBLEMS if code != 404)  # a list that is always there


def document() -> Json:
    """The whole document."""
    components = {
        "schemas": openapi.schemas([*TYPES.values(), *PAGES.values(), FEED_PAGE, UserNotificationPage]),
        "headers": {
            name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
        },
    }
    return openapi.document(
        "Tidemark reader", "Reads that prove how fresh they are.", "read", _paths(), components
    )


def _paths() -> Json:
    reads = {
        "/post/{id}": _operation("get_post", "A post", "Post", [_path("id"), INCLUDE], PROBLEMS),
        "/user/{id}": _operation("get_user", "A user", "User", [_path("id"), INCLUDE], PROBLEMS),
        "/user/me": _operation("get_own_user", "The caller's own user", "User", [INCLUDE], PROBLEMS),
        "/user/by-handle/{handle}": _operation(
            "get_user_by_handle", "The user with a handle", "User", [_path("handle"), INCLUDE], PROBLEMS
        ),
        "/user/me/notifications": _operation(
            "list_notifications",
            NOTIFICATIONS,
            UserNotificationPage.__name__,
            PAGING,
            WITHOUT_PARENT,
            ("Link",),
        ),
        **{
            listing.path: _list(
                f"list_{listing.parent.name}_{listing.name}",
                f"The {listing.name} of a {listing.parent.name}: {listing.item.collection}, latest first",
                listing.item,
            )
            for listing in LISTINGS
        },
        "/posts": _list("list_posts", "The newest posts of all", POST, "", WITHOUT_PARENT),
        "/feed": _operation(
            "get_feed", FEED, FEED_PAGE.__name__, [*PAGING, ORDER, INCLUDE], WITHOUT_PARENT, ("Link",)
        ),
        "/hashtag/{tag}": _list(
            "list_hashtag_posts",
            "The newest posts with a hashtag, in any case and Unicode form",
            POST,
            "tag",
            WITHOUT_PARENT,
        ),
        "/openapi.json": {
            "operationId": "get_openapi",
            "summary": "This document",
            "security": [],
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {}}}}},
        },
    }
    return {path: {"get": {"tags": [openapi.tag_of(path)], **read}} for path, read in reads.items()}


def _list(id: str, summary: str, item: Entity, name: str = "id", problems: Iterable[int] = PROBLEMS) -> Json:
    viewed = [INCLUDE] if item.name in VIEWED else []
    parameters = [*([_path(name)] if name else []), *PAGING, *viewed]
    return _operation(id, summary, PAGES[item.name].__name__, parameters, problems, ("Link",))


def _operation(
    id: str,
    summary: str,
    schema: str,
    parameters: list[Json],
    problems: Iterable[int],
    headers: tuple[str, ...] = (),
) -> Json:
    known = (*PROVENANCE, *SESSION, "ETag")
    found = _response("OK", (*known, *headers), "application/json", schema)
    found["content"][EVENT_STREAM.decode()] = {"schema": {"type": "string", "description": EVENTS}}
    return {
        "operationId": id,
        "summary": summary,
        "parameters": [*parameters, IF_NONE_MATCH, LAST_EVENT_ID, *CONSISTENCY],
        "responses": {
            "200": found,
            "304": _response("The version in If-None-Match is still current", known),
            **{
                str(code): _response(PROBLEMS[code][0], PROBLEMS[code][1], MEDIA_TYPE, "ProblemDocument")
                for code in sorted({*problems, 429})
            },
        },
    }


def _response(description: str, headers: Iterable[str], media_type: str = "", schema: str = "") -> Json:
    content = (
        {"content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}} if schema else {}
    )
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    return {"description": description, **({"headers": named} if named else {}), **content}


def _path(name: str) -> Json:
    example = {"tag": "water"}.get(name) or openapi.FIELDS[name][1]
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}


CONSISTENCY: list[Json] = [
    {
        "name": "Consistency-Token",
        "in": "header",
        "description": "From the writer's answer: this read then contains that write. The cookie works too",
        "schema": {"type": "string"},
    },
    {
        "name": "Cache-Control",
        "in": "header",
        "description": "`max-age=SECONDS`, 1 or more: the answer is not older, by its Freshness (RFC 9111)",
        "schema": {"type": "string"},
    },
    {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=SECONDS`: how long to wait for the write to arrive (RFC 7240). "
        "`return=minimal`: a stream of events without bodies",
        "schema": {"type": "string"},
    },
]
PAGING: list[Json] = [
    {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT_MAX, "default": PAGE_LIMIT},
    },
    {
        "name": "cursor",
        "in": "query",
        "description": "`next` of the page before",
        "schema": {"type": "string"},
    },
]
ORDER: Json = {
    "name": "order",
    "in": "query",
    "description": "`hot`: the newest 100 posts, the hottest first",
    "schema": {"type": "string", "enum": ["hot"]},
}
INCLUDE: Json = {
    "name": "include",
    "in": "query",
    "description": "`viewer`: each post and user has `viewer`, what it is to the caller",
    "schema": {"type": "string", "enum": ["viewer"]},
}
IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of the answer that the client has",
    "schema": {"type": "string"},
}
LAST_EVENT_ID: Json = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "For a stream: the ETag of the state that the client has",
    "schema": {"type": "string"},
}
OPENAPI = msgspec.json.encode(document())


async def serve(request: Request) -> Response:
    return Response(OPENAPI, media_type="application/json")
