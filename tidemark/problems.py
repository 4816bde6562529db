"""The types of problems. Each type is an address that says, without a token, what is wrong and what to do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tidemark.problem import Problem, title_of

TYPES: dict[str, tuple[str, str]] = {  # name -> statuses, meaning
    "bad-cursor": ("400", "Send a `next` that a page of the same list gave, or none for the first page."),
    "bad-host": ("400", "A request names one host, in one `Host` header."),
    "bad-include": ("400", "`include` can only be `viewer`, and only for posts, users and lists of them."),
    "bad-limit": ("400", "`limit` is a number from 1 to 100."),
    "bad-order": ("400", "`order` can only be `hot`. Without it the newest posts come first."),
    "bad-path": ("400", "A path begins with `/`, is percent-encoded, and has no `//`, `..` or `;`."),
    "being-deleted": ("409", "Your profile is being deleted. Repeat `DELETE /user/me` until it answers 204."),
    "body-too-large": ("413", "A body has at most 32 KiB."),
    "body-too-slow": ("408", "A body must arrive within 10 s."),
    "contended": ("503", "Others change the same things at this moment. Repeat the request."),
    "database-unavailable": (
        "503",
        "The database does not answer, and nothing was changed. Try again later.",
    ),
    "duplicate-member": ("400", "The JSON object has a member twice; `detail` says where."),
    "handle-taken": ("409", "Another user has this handle, in this or another case. Choose another one."),
    "head-too-large": ("431", "The head of the request is too large: send fewer or shorter headers."),
    "ids-exhausted": ("503", "No number is left for a new row. Only the operator can help."),
    "insufficient-scope": (
        "403",
        "The token is valid, but lacks the scope that this request needs: `read` or `write`.",
    ),
    "internal-error": ("500", "The service failed. Give its operator the `X-Request-Id` of the answer."),
    "invalid": ("422", "Fields of the body are not acceptable. `errors` names each, with its rule."),
    "invalid-consistency-token": ("400", "Send one `Consistency-Token`, as an answer gave it, or none."),
    "key-reused": ("422", "This `Idempotency-Key` belongs to another request. Choose a new key."),
    "keys-unavailable": ("503", "The keys that verify tokens cannot be fetched now. Try again later."),
    "malformed-json": ("400", "The body is not well-formed JSON in UTF-8; `detail` says where."),
    "malformed-key": ("400", "An `Idempotency-Key` is one value of 1 to 255 printable ASCII characters."),
    "malformed-request": ("400", "The bytes are no HTTP request."),
    "method-not-allowed": ("405", "The path has other methods; `Allow` lists them."),
    "no-query": ("400", "`/live` takes no query string. A token comes in a subprotocol or a message."),
    "not-found": ("404", "Nothing has this id or name: it was deleted, or never existed."),
    "not-watchable": ("400", "A stream shows a first page of the usual length: no `cursor`, no `limit`."),
    "not-yet-consistent": ("503", "The write of your token has not arrived here in time. Repeat the read."),
    "not-yours": ("403", "Only the author may change or delete a post or comment."),
    "nothing-given": ("422", "Give at least one field to change."),
    "origin-not-allowed": ("403", "The operator has not listed the origin of this page."),
    "outcome-unknown": ("503", "The connection broke during the commit. Read first; repeat if need be."),
    "overloaded": ("503", "The service is busy. Repeat the request later."),
    "self-follow": ("422", "Nobody can follow themselves."),
    "service-unavailable": ("503", "The service behind nginx does not answer. Repeat the request later."),
    "stores-unavailable": ("503", "Neither store can be read now. Repeat the read later."),
    "too-many-commands": ("429", "You write more than one caller may. `Retry-After` says when to go on."),
    "too-many-requests": ("429", "Too many requests come from your address. Slow down, then try again."),
    "too-many-streams": ("429, 503", "You (429) or all callers (503) watch too much here. Come back later."),
    "too-many-watches": ("429", "This WebSocket may watch no more paths. Unwatch some, or open another."),
    "too-old": ("503", "No answer is as recent as `Cache-Control: max-age` demands. Repeat the read later."),
    "unauthorized": ("401", "Send `Authorization: Bearer TOKEN` with a valid token; `detail` has the fault."),
    "unknown-path": ("404", "There is no such path. `/openapi.json` lists all paths."),
    "unknown-transfer-coding": ("501", "The only transfer coding here is `chunked`."),
    "unknown-user": ("404, 409", "You have no profile yet. Create it with `PUT /user/me`."),
    "unsupported-content-encoding": ("415", "Send the body as it is, without encoding."),
    "unsupported-media-type": ("415", "Send the body as `application/json`."),
}
PUBLIC_PATHS = frozenset({"/openapi.json", *(f"/problems/{name}" for name in TYPES)})


async def explain(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in TYPES:
        raise Problem(404, "not-found", "There is no problem of this type.")
    statuses, meaning = TYPES[name]
    return PlainTextResponse(f"{title_of(name)} ({statuses})\n\n{meaning}\n")


ROUTE = Route("/problems/{name}", explain, methods=["GET"])
