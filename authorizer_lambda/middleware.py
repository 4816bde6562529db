"""The local replacement for API Gateway: ASGI middleware that refuses requests without a fitting token."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from authorizer_lambda.jwks import RETRY_SECONDS, Jwks, KeysUnavailable
from authorizer_lambda.policy import required_scope
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import Claims, InvalidToken, MissingToken, bearer_token, key_id, verify
from tidemark.problem import Problem, problem_response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
OnDecision = Callable[[str, str], None]

CLAIMS = "tidemark.claims"
JUDGE = "tidemark.judge"
SUBPROTOCOL = "bearer."
CHALLENGE = 'Bearer realm="tidemark"'
POLICY_VIOLATION = 1008


def _uncounted(source: str, result: str) -> None:
    pass


class BearerAuthMiddleware:
    """Answers 401, 403 or 503 itself; on success `scope["tidemark.claims"]` holds the `Claims`.

    Requests for exactly one of `public_paths` pass unchecked, and so does lifespan. WebSockets are refused
    unless `websockets`. Their token may come as the subprotocol `bearer.TOKEN`, because browsers set no
    headers. One without any token passes without claims: the app gets it in a message, and asks the
    coroutine `scope["tidemark.judge"](token)`, which gives the claims or raises Problem.
    `clock` gives Unix seconds. `on_decision(source, result)` is called for each decision: source `cache` or
    `verify`; result `allow`, `unauthorized`, `forbidden` or `unavailable`.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: AuthSettings,
        *,
        public_paths: frozenset[str],
        websockets: bool = False,
        clock: Callable[[], float] = time.time,
        on_decision: OnDecision = _uncounted,
    ) -> None:
        self._app = app
        self._public_paths = public_paths
        self._websockets = websockets
        self._on_decision = on_decision
        self._tokens = VerifiedTokens(settings, clock)
        self._keys = KeyFetcher(settings, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket" and self._websockets:
            scope[JUDGE] = self._judge
            offered = [one for one in scope["subprotocols"] if one.startswith(SUBPROTOCOL)]
            values = _authorization(scope) or [_bearer(one.removeprefix(SUBPROTOCOL)) for one in offered]
            await (
                self._authorize(scope, receive, send, values) if values else self._app(scope, receive, send)
            )
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif scope["path"] in self._public_paths:
            await self._app(scope, receive, send)
        else:
            await self._authorize(scope, receive, send, _authorization(scope))

    async def _authorize(self, scope: Scope, receive: Receive, send: Send, values: list[bytes]) -> None:
        try:
            scope[CLAIMS] = await self._claims(values, scope.get("method", "GET"))
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _judge(self, token: str) -> Claims:
        return await self._claims([_bearer(token)], "GET")

    async def _claims(self, values: list[bytes], method: str) -> Claims:
        """The claims of a request that may pass, by its Authorization headers. Raises Problem."""
        try:
            claims, source = self._tokens.recall(values), "cache"
            if claims is None:
                await self._keys.ready_for(bearer_token(values))
                claims, source = self._tokens.verify(values), "verify"
        except InvalidToken as error:
            self._on_decision("verify", "unauthorized")
            raise refused_token(error) from error
        except KeysUnavailable as error:
            self._on_decision("verify", "unavailable")
            raise no_keys() from error
        needed = required_scope(method)
        allowed = needed in claims.scopes
        self._on_decision(source, "allow" if allowed else "forbidden")
        if not allowed:
            raise refused_scope(needed)
        return claims


def _authorization(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"authorization"]


def _bearer(token: str) -> bytes:
    return f"Bearer {token}".encode("latin-1", "replace")


class VerifiedTokens:
    """An LRU cache of `capacity` verified headers, by digest. Refusals are not cached.

    An entry is valid until `exp`, and at most for `cache_seconds` after its verification.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], float], capacity: int = 10_000) -> None:
        self._settings = settings
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[bytes, tuple[Claims, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, values: Sequence[bytes]) -> Claims | None:
        """Return the cached claims of the only Authorization header, or None."""
        if len(values) != 1:
            return None
        digest = _digest(values[0])
        if (entry := self._entries.get(digest)) is None:
            return None
        if self._clock() < entry[1]:
            self._entries.move_to_end(digest)
            return entry[0]
        del self._entries[digest]
        return None

    def verify(self, values: Sequence[bytes]) -> Claims:
        """Return and cache the claims of the only header. Raises InvalidToken, KeysUnavailable."""
        now = self._clock()
        claims = verify(bearer_token(values), self._settings, now)
        self._remember(_digest(values[0]), claims, now)
        return claims

    def _remember(self, digest: bytes, claims: Claims, now: float) -> None:
        good_until = min(claims.expires_at, now + self._settings.cache_seconds)
        if now < good_until:
            self._entries[digest] = claims, good_until
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


class KeyFetcher:
    """Fetches a JWKS in a thread, one fetch at a time; only requests without their key wait."""

    def __init__(self, settings: AuthSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._fetch: asyncio.Task[None] | None = None

    async def ready_for(self, token: str) -> None:
        """Fetch the key of this token if it is missing. Raises InvalidToken."""
        if isinstance(jwks := self._settings.key, Jwks):
            await self._ready(jwks, key_id(token, self._settings), self._clock())

    async def _ready(self, jwks: Jwks, kid: str, now: float) -> None:
        if self._fetch is None and jwks.is_due(kid, now):
            self._fetch = asyncio.create_task(asyncio.to_thread(jwks.fetch, now))
            self._fetch.add_done_callback(self._forget)
        if self._fetch is not None and not jwks.has(kid, now):
            await asyncio.shield(self._fetch)  # a client that leaves does not cancel it for others

    def _forget(self, fetch: asyncio.Task[None]) -> None:
        self._fetch = None


def refused_token(error: InvalidToken) -> Problem:
    """The challenge names no error if the request has no credentials (RFC 6750, 3.1)."""
    if isinstance(error, MissingToken):
        detail, challenge = f"A bearer token is needed: {error.reason}.", CHALLENGE
    else:
        detail, challenge = (
            f"The bearer token is refused: {error.reason}.",
            f'{CHALLENGE}, error="invalid_token"',
        )
    return Problem(401, "unauthorized", detail, headers={"www-authenticate": challenge})


def refused_scope(needed: str) -> Problem:
    challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'
    detail = f"The token lacks the scope {needed}."
    return Problem(403, "insufficient-scope", detail, headers={"www-authenticate": challenge})


def no_keys() -> Problem:
    detail, retry = "Tokens cannot be verified now: there are no keys.", str(RETRY_SECONDS)
    return Problem(503, "keys-unavailable", detail, headers={"retry-after": retry})
