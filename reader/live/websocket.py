"""`/live`: many watched reads on one WebSocket, in JSON messages (docs/live.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec
from starlette.types import Receive, Scope, Send

from authorizer_lambda.middleware import CLAIMS, JUDGE
from authorizer_lambda.tokens import Claims
from reader.errors import DocumentsUnavailable, stores_unavailable
from reader.live.connection import Connection
from reader.live.connections import RETRY_AFTER, Connections
from reader.live.direct import abort_of, direct_of
from reader.live.messages import End, Message, Shown
from reader.live.watch import Watched, as_of
from reader.read_model.cached_values import Watermark
from tidemark.http import check_origin
from tidemark.problem import Problem, problem_response
from tidemark.small_messages import text_frame

SUBPROTOCOL = "tidemark.live"
TOKEN_SECONDS = 5.0
WITHOUT_TOKEN = 1000  # connections that may wait for their token at a time
POLICY_VIOLATION, SERVICE_RESTART = 1008, 1012
Resolve = Callable[[str, Claims], Watched]
_json = msgspec.json.encode


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """A message of a client: one of `watch`, `unwatch` and `token`; the others belong to `watch`."""

    watch: str = ""
    unwatch: str = ""
    token: str = ""
    etag: str = ""
    minimal: bool = False


class Refused(Exception):
    """The client does not keep to the protocol; the connection ends."""


class Gone(Exception):
    """The client has left."""


class Live:
    """The endpoint. `resolve` finds the read of a path, and raises Problem as a GET would."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._without_token = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        its = scope["state"]["services"]
        connections: Connections = its.connections
        accepted = False
        await receive()  # websocket.connect
        try:
            check_origin(scope, its.settings.allowed_origins)
            if scope["query_string"]:  # URLs are logged, and a token might be in it
                raise Problem(400, "no-query", "A token comes as a subprotocol or in the first message.")
            claims: Claims | None = scope.get(CLAIMS)
            if claims is None:
                self._admit_without_token()
                await _accept(scope, send)
                accepted = True
                claims = await self._first_message(scope, receive, send)
            with connections.admit(claims, "websocket", abort_of(scope)) as connection:
                if not accepted:
                    await _accept(scope, send)
                    accepted = True
                await Session(scope, receive, send, connection, connections, claims, self._resolve).run()
        except Problem as problem:
            if accepted:
                await _send(send, b'{"problem":%s}' % _document(problem))
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            else:
                await problem_response(problem)(scope, receive, send)
        except (Gone, OSError):
            return  # it left before it began

    def _admit_without_token(self) -> None:
        if self._without_token >= WITHOUT_TOKEN:
            raise Problem(503, "too-many-streams", "Too many wait for their token.", headers=RETRY_AFTER)

    async def _first_message(self, scope: Scope, receive: Receive, send: Send) -> Claims:
        """The claims of the token in the first message. Raises Problem, Gone."""
        self._without_token += 1
        try:
            async with asyncio.timeout(TOKEN_SECONDS):
                token = (await _frame(receive)).token
            claims: Claims = await scope[JUDGE](token)
        except (TimeoutError, Refused) as error:
            raise Problem(401, "unauthorized", "The first message has to bring a token.") from error
        finally:
            self._without_token -= 1
        await _send(send, b'{"token":"accepted"}')
        return claims


class Session:
    """One connection: a task reads messages and answers them, while states are sent as they come."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        connection: Connection,
        connections: Connections,
        claims: Claims,
        resolve: Resolve,
    ) -> None:
        self._judge: Callable[[str], Awaitable[Claims]] = scope[JUDGE]
        self._direct = direct_of(scope, _frame_of)
        self._receive = receive
        self._sends = send
        self._connection = connection
        self._most_watches = connections.most_watches
        self._claims = claims
        self._resolve = resolve

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            with contextlib.suppress(OSError):
                await self._connection.serve(self._write, self._direct)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()

    async def _read(self) -> None:
        reason = "client"
        try:
            while True:
                await self._answer(await _frame(self._receive))
        except Refused:
            reason = "refused"
        except (Gone, OSError):
            pass
        finally:
            self._connection.end(reason)

    async def _answer(self, frame: Frame) -> None:
        connection, path = self._connection, frame.watch or frame.unwatch
        if frame.unwatch:
            connection.unwatch(path)
            await _send(self._sends, b'{"path":%s,"unwatched":true}' % _json(path))
            return
        try:
            if frame.token:
                await self._renew(frame.token)
            else:
                await self._watch(path, frame)
        except (Problem, DocumentsUnavailable) as error:
            problem = error if isinstance(error, Problem) else stores_unavailable()
            of = b'"path":%s,' % _json(path) if path else b""
            await _send(self._sends, b'{%s"problem":%s}' % (of, _document(problem)))

    async def _watch(self, path: str, frame: Frame) -> None:
        connection = self._connection
        if path not in connection.subscriptions and len(connection.subscriptions) >= self._most_watches:
            raise Problem(429, "too-many-watches", f"A connection has at most {self._most_watches}.")
        known = [frame.etag] if frame.etag else []
        await connection.watch(self._resolve(path, self._claims), path, known=known, minimal=frame.minimal)

    async def _renew(self, token: str) -> None:
        """Reads are watched for one caller, so that another one's token ends the connection."""
        claims = await self._judge(token)
        if claims.subject != self._claims.subject:
            raise Refused
        self._claims = claims
        self._connection.expires(claims.expires_at)
        await _send(self._sends, b'{"token":"accepted"}')

    async def _write(self, message: Message) -> None:
        await _send(self._sends, _text(message))
        if isinstance(message, End):
            code = SERVICE_RESTART if message.reason == "drain" else POLICY_VIOLATION
            await self._sends({"type": "websocket.close", "code": code, "reason": message.reason})


def request_for(path: str, claims: Claims) -> Scope:
    """A GET of a path with its query string. Raises Problem 400 for a text that is none."""
    plain, _, text = path.partition("?")
    if not plain.startswith("/") or not path.isascii():
        raise Problem(400, "bad-path", "A path begins with / and is percent-encoded.", "watch")
    return {
        "type": "http",
        "method": "GET",
        "path": unquote(plain),
        "query_string": text.encode(),
        "headers": [],
        CLAIMS: claims,
    }


async def _accept(scope: Scope, send: Send) -> None:
    """A client that offers subprotocols gets one of them, not its token if it offers another."""
    offered = scope["subprotocols"]
    chosen = SUBPROTOCOL if SUBPROTOCOL in offered else next(iter(offered), None)
    await send({"type": "websocket.accept", "subprotocol": chosen})


async def _frame(receive: Receive) -> Frame:
    """The next message. Raises Gone, and Refused if it is none of this protocol."""
    event = await receive()
    if event["type"] != "websocket.receive":
        raise Gone
    try:
        frame = msgspec.json.decode(event.get("text") or "", type=Frame)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Refused from error
    if sum(map(bool, (frame.watch, frame.unwatch, frame.token))) != 1:
        raise Refused
    return frame


async def _send(send: Send, text: bytes) -> None:
    await send({"type": "websocket.send", "text": text.decode()})


def _frame_of(message: Message) -> bytes:
    return text_frame(_text(message))


def _text(message: Message) -> bytes:
    match message:
        case Shown(subscription, state, moment):
            data = state.change(moment) if subscription.minimal else state.data(moment)
            return b'{"path":%s,' % _json(subscription.path) + data[1:]
        case Watermark():
            return b'{"tide":"%s"}' % as_of(message)
        case End(reason, retry_ms):
            return b'{"end":%s,"retry_ms":%d}' % (_json(reason), retry_ms)
    raise AssertionError(message)


def _document(problem: Problem) -> bytes:
    return bytes(problem_response(problem).body)
