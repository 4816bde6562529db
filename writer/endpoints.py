"""HTTP for commands: the table of endpoints, and the path from a request to its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from authorizer_lambda.middleware import CLAIMS
from tidemark.consistency_token import HEADER, ConsistencyKeys, cookie, sign
from tidemark.gtid import GtidSet
from tidemark.ids import ID
from tidemark.problem import Problem
from writer import commands, handlers, metrics
from writer.bodies import decoded
from writer.commands import Answer, Command
from writer.database import Committed, Database, Session
from writer.deletion import delete_profile
from writer.errors import RETRY_AFTER
from writer.idempotency import IdempotencyKey, once

log = structlog.get_logger()
C = TypeVar("C", bound=Command)
MORE_SECONDS = 5.0  # for a command that takes several transactions; then the client repeats it


@dataclass(frozen=True)
class Endpoint(Generic[C]):
    """Method and path, the command and its handler, its answers (status -> body) and its own problems."""

    method: str
    path: str
    command: type[C]
    handler: Callable[[Session, C], Answer]
    answers: Mapping[int, type[msgspec.Struct] | None] = field(default_factory=lambda: {204: None})
    problems: tuple[int, ...] = ()

    @cached_property
    def body(self) -> type[msgspec.Struct] | None:
        """The type of the request's body: the command without the subject and the ids of the path."""
        fields = [
            (given.encode_name, given.type, given.default)
            if given.default is not msgspec.NODEFAULT
            else (given.encode_name, given.type)
            for given in msgspec.structs.fields(self.command)
            if given.name != "subject" and f"{{{given.encode_name}}}" not in self.path
        ]
        name = f"{self.command.__name__}Body"
        return msgspec.defstruct(name, fields, forbid_unknown_fields=True) if fields else None


ENDPOINTS = (
    Endpoint(
        "PUT",
        "/user/me",
        commands.PutProfile,
        handlers.put_profile,
        {200: commands.Profile, 201: commands.Profile},
    ),
    Endpoint("PATCH", "/user/me", commands.EditProfile, handlers.edit_profile, {200: commands.Profile}),
    Endpoint("DELETE", "/user/me", commands.DeleteProfile, delete_profile, {202: None, 204: None}),
    Endpoint("POST", "/post", commands.WritePost, handlers.write_post, {201: commands.Post}),
    Endpoint("PATCH", "/post/{id}", commands.EditPost, handlers.edit_post, {200: commands.Post}, (403,)),
    Endpoint("DELETE", "/post/{id}", commands.DeletePost, handlers.delete_post, problems=(403,)),
    Endpoint(
        "POST", "/post/{id}/comment", commands.WriteComment, handlers.write_comment, {201: commands.Comment}
    ),
    Endpoint(
        "PATCH", "/comment/{id}", commands.EditComment, handlers.edit_comment, {200: commands.Comment}, (403,)
    ),
    Endpoint("DELETE", "/comment/{id}", commands.DeleteComment, handlers.delete_comment, problems=(403,)),
    Endpoint("PUT", "/post/{id}/like", commands.LikePost, handlers.like_post),
    Endpoint("DELETE", "/post/{id}/like", commands.UnlikePost, handlers.unlike_post),
    Endpoint("PUT", "/user/{id}/follow", commands.FollowUser, handlers.follow_user, problems=(422,)),
    Endpoint("DELETE", "/user/{id}/follow", commands.UnfollowUser, handlers.unfollow_user),
    Endpoint("PUT", "/user/me/notifications/read", commands.ReadNotifications, handlers.read_notifications),
)


BY_ROUTE: Mapping[tuple[str, str], Endpoint[Any]] = {(each.method, each.path): each for each in ENDPOINTS}


def routes() -> list[Route]:
    """One route per path: the answer to a wrong method then lists all right ones."""
    paths = dict.fromkeys(each.path for each in ENDPOINTS)
    return [
        Route(path, respond, methods=[method for method, its in BY_ROUTE if its == path]) for path in paths
    ]


async def respond(request: Request) -> Response:
    """Carry out the request's command. Raises Problem."""
    endpoint = BY_ROUTE[request.method, request.scope["route"].path]
    try:
        done = await _carry_out(request, endpoint)
    except Problem as problem:
        _note(endpoint, problem.name)
        raise
    answer = done.result
    _note(endpoint, "replayed" if answer.replayed else "done", done.gtids)
    headers = {"Location": answer.location} if answer.location else {}
    if answer.status == HTTPStatus.ACCEPTED:
        headers |= RETRY_AFTER
    response = Response(answer.body, answer.status, headers, "application/json" if answer.body else None)
    _let_read_own_write(response, done.gtids, request.state.consistency_keys)
    return response


def _let_read_own_write(response: Response, gtids: str, keys: ConsistencyKeys) -> None:
    """Add a token for the reader: a header for programs and a cookie for browsers."""
    if gtids:
        token = sign(GtidSet.parse(gtids), keys, time.time())
        response.headers[HEADER] = token
        response.headers.append("set-cookie", cookie(token))


def _note(endpoint: Endpoint[C], result: str, gtids: str = "") -> None:
    """Count and log the command. The GTID leads from the request's id to the projector's log."""
    metrics.COMMANDS.add(endpoint.handler.__name__, result)
    log.info("command", command=endpoint.handler.__name__, result=result, gtids=gtids)


async def _carry_out(request: Request, endpoint: Endpoint[C]) -> Committed[Answer]:
    subject = request.scope[CLAIMS].subject
    request.state.limits.count(subject)
    body = await _body(request) if endpoint.body else b""
    command = _command(endpoint, subject, request.path_params, body)
    database: Database = request.state.database
    if endpoint.method != "POST":
        return await _until_done(database, lambda db: endpoint.handler(db, command))
    key = IdempotencyKey.of(request, subject, body)
    if key is None:
        return await database.run(lambda db: endpoint.handler(db, command), repeatable=False)
    return await database.run(
        lambda db: once(db, key, lambda db: endpoint.handler(db, command)), repeatable=True
    )


async def _until_done(database: Database, work: Callable[[Session], Answer]) -> Committed[Answer]:
    """Run `work` in one transaction, and in further ones while it answers 202 and there is time."""
    deadline = time.monotonic() + MORE_SECONDS
    while True:
        done = await database.run(work, repeatable=True)
        if done.result.status != HTTPStatus.ACCEPTED or time.monotonic() >= deadline:
            return done


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "unsupported-media-type", "Send the body as application/json.")
    codings = ",".join(request.headers.getlist("content-encoding")).lower()
    if {coding.strip() for coding in codings.split(",")} - {"", "identity"}:
        accepted = {"Accept-Encoding": "identity"}  # RFC 9110, 15.5.16
        raise Problem(
            415, "unsupported-content-encoding", "Send the body as it is, without encoding.", headers=accepted
        )
    return await request.body()


def _command(endpoint: Endpoint[C], subject: str, path_ids: Mapping[str, str], body: bytes) -> C:
    ids = {name: _id(text) for name, text in path_ids.items()}
    fields = msgspec.to_builtins(decoded(body, endpoint.body)) if endpoint.body else {}
    return msgspec.convert({"subject": subject, **ids, **fields}, endpoint.command)


def _id(text: str) -> int:
    if not ID.fullmatch(text):
        raise Problem(404, "not-found", "There is nothing here: an id is a whole number.")
    return int(text)
