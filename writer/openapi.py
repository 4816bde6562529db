"""The OpenAPI 3.1 document, generated from the table of endpoints and the types that check requests."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from tidemark import openapi
from tidemark.consistency_token import HEADER as TOKEN
from tidemark.http import MAX_BODY_BYTES, MAX_BODY_SECONDS
from tidemark.ids import ID
from tidemark.problem import MEDIA_TYPE, ProblemDocument
from tidemark.strict_protocol import MAX_HEAD_BYTES
from writer.endpoints import ENDPOINTS, Endpoint
from writer.idempotency import HEADER

OF_ALL = (401, 403, 409, 429, 431, 500, 503)
OF_PATH_IDS = (404,)
OF_BODIES = (400, 408, 413, 415, 422)
Json = dict[str, Any]

REASONS = {
    400: "The body is not JSON or has a member twice, or the Idempotency-Key is malformed",
    401: "No bearer token, or one that is not accepted",
    403: "The token lacks the scope `write`, or the thing belongs to somebody else",
    404: "What the path names does not exist",
    408: f"The body took longer than {MAX_BODY_SECONDS:g} s",
    409: "You have no profile yet (create it with PUT /user/me), it is being deleted, or the handle is taken",
    413: f"The body has more than {MAX_BODY_BYTES} bytes",
    415: "The body is not application/json, or it is encoded",
    422: "Fields are not acceptable; `errors` names each",
    429: "The caller has sent too many commands",
    431: f"The head has more than {MAX_HEAD_BYTES} bytes",
    500: "The service failed; the request id finds the reason in its log",
    503: "Busy, or MySQL does not answer: repeat the request, "
    "unless the problem is `outcome-unknown` or `ids-exhausted`",
}
ANSWERS = {202: "Readers do not see it any more, but rows are left: repeat the request until 204"}
HEADERS: dict[str, Json] = {
    "X-Request-Id": {
        "description": "Finds the request in the logs",
        "required": True,
        "schema": {"type": "string"},
    },
    TOKEN: {
        "description": "Send it with reads within a minute: they contain this write. "
        "Also a cookie for browsers",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "The path of what was created",
        "required": True,
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "The challenge of RFC 6750",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds; absent if the outcome is unknown, or ids are exhausted",
        "schema": {"type": "string"},
    },
}
ID_PARAMETER: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": openapi.FIELDS["id"][0],
    "schema": {"type": "string", "pattern": ID.pattern},
    "example": openapi.FIELDS["id"][1],
}
KEY_PARAMETER: Json = {
    "name": HEADER,
    "in": "header",
    "description": "The same key with the same request within 24 hours gets the same answer "
    "and changes nothing more",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]*$"},
}


def document() -> Json:
    """The document as JSON values."""
    paths: dict[str, Json] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    components = {
        "schemas": _schemas(),
        "headers": HEADERS,
        "responses": {f"Problem{status}": _problem(status) for status in REASONS},
    }
    description = "Commands. A reader shows what they did within moments."
    return openapi.document("Tidemark writer", description, "write", paths, components)


def _operation(endpoint: Endpoint[Any]) -> Json:
    operation: Json = {
        "tags": [openapi.tag_of(endpoint.path)],
        "operationId": endpoint.handler.__name__,
        "summary": (endpoint.handler.__doc__ or "").partition(".")[0],
        "parameters": _parameters(endpoint),
        "responses": {
            **{str(status): _answer(status, body) for status, body in endpoint.answers.items()},
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in _problems(endpoint)
            },
        },
    }
    if endpoint.body:
        operation["requestBody"] = {"required": True, "content": _content("application/json", endpoint.body)}
    return operation


def _parameters(endpoint: Endpoint[Any]) -> list[Json]:
    return [
        *([ID_PARAMETER] if "{id}" in endpoint.path else []),
        *([KEY_PARAMETER] if endpoint.method == "POST" else []),
    ]


def _problems(endpoint: Endpoint[Any]) -> list[int]:
    of_id = OF_PATH_IDS if "{id}" in endpoint.path else ()
    of_body = OF_BODIES if endpoint.body else ()
    return sorted({*OF_ALL, *of_id, *of_body, *endpoint.problems})


def _answer(status: int, body: type[msgspec.Struct] | None) -> Json:
    special = {201: ["Location"], 202: ["Retry-After"]}.get(status, [])
    answer = _response(ANSWERS.get(status, HTTPStatus(status).phrase), "X-Request-Id", TOKEN, *special)
    return answer | {"content": _content("application/json", body)} if body else answer


def _problem(status: int) -> Json:
    common = [] if status == 431 else ["X-Request-Id"]  # 431 comes before there is a request
    special = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    return _response(REASONS[status], *common, *special) | {"content": _content(MEDIA_TYPE, ProblemDocument)}


def _response(description: str, *headers: str) -> Json:
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
    }


def _content(media_type: str, body: type[msgspec.Struct]) -> Json:
    return {media_type: {"schema": {"$ref": openapi.REF.format(name=body.__name__)}}}


def _schemas() -> Json:
    sent = [endpoint.body for endpoint in ENDPOINTS if endpoint.body]
    answered = [body for endpoint in ENDPOINTS for body in endpoint.answers.values() if body]
    schemas = openapi.schemas([*sent, *answered])
    for body in sent:
        if not schemas[body.__name__]["required"]:
            schemas[body.__name__]["minProperties"] = 1
    return schemas
