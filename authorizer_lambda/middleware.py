"""The local stand-in for API Gateway: ASGI middleware that lets no request through without a token for its method."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from authorizer_lambda.policy import required_scope
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import Claims, InvalidToken, MissingToken, bearer_token, verify

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
OnDecision = Callable[[str, str], None]

CLAIMS = "tidemark.claims"
CHALLENGE = 'Bearer realm="tidemark"'
POLICY_VIOLATION = 1008


def _uncounted(source: str, result: str) -> None:
    pass


class BearerAuthMiddleware:
    """Answers 401 or 403 itself; on success `scope["tidemark.claims"]` holds the `Claims`.

    `public_paths` are compared whole and pass unchecked; lifespan passes; websockets are refused. `clock` gives Unix
    seconds. `on_decision(source, result)` hears of each decision: source `cache` or `verify`, result `allow`,
    `unauthorized` or `forbidden`.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: AuthSettings,
        *,
        public_paths: frozenset[str],
        clock: Callable[[], float] = time.time,
        on_decision: OnDecision = _uncounted,
    ) -> None:
        self._app = app
        self._public_paths = public_paths
        self._on_decision = on_decision
        self._tokens = VerifiedTokens(settings, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif scope["path"] in self._public_paths:
            await self._app(scope, receive, send)
        else:
            await self._authorize(scope, receive, send)

    async def _authorize(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            token = bearer_token([value for name, value in scope["headers"] if name == b"authorization"])
            claims, source = self._tokens.claims(token)
        except InvalidToken as error:
            self._on_decision("verify", "unauthorized")
            await _refuse_token(send, error)
            return
        needed = required_scope(scope["method"])
        allowed = needed in claims.scopes
        self._on_decision(source, "allow" if allowed else "forbidden")
        if not allowed:
            await _refuse_scope(send, needed)
            return
        scope[CLAIMS] = claims
        await self._app(scope, receive, send)


class VerifiedTokens:
    """Remembers tokens that were verified, the latest used `capacity` of them, by digest; never a failure.

    An entry counts until `cache_seconds` after its verification or `exp`, whichever comes first.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], float], capacity: int = 10_000) -> None:
        self._settings = settings
        self._clock = clock
        self._capacity = capacity
        self._entries: OrderedDict[bytes, tuple[Claims, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def claims(self, token: str) -> tuple[Claims, str]:
        """Return the token's claims and where they come from, `cache` or `verify`. Raises InvalidToken."""
        now = self._clock()
        digest = hashlib.sha256(token.encode()).digest()
        entry = self._entries.get(digest)
        if entry and now < entry[1]:
            self._entries.move_to_end(digest)
            return entry[0], "cache"
        self._entries.pop(digest, None)
        claims = verify(token, self._settings, now)
        self._remember(digest, claims, now)
        return claims, "verify"

    def _remember(self, digest: bytes, claims: Claims, now: float) -> None:
        good_until = min(claims.expires_at, now + self._settings.cache_seconds)
        if now < good_until:
            self._entries[digest] = claims, good_until
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


async def _refuse_token(send: Send, error: InvalidToken) -> None:
    """RFC 6750, 3.1: a request without credentials is told no error code."""
    if isinstance(error, MissingToken):
        await _send_problem(send, HTTPStatus.UNAUTHORIZED, f"A bearer token is needed: {error.reason}.", CHALLENGE)
        return
    challenge = f'{CHALLENGE}, error="invalid_token"'
    await _send_problem(send, HTTPStatus.UNAUTHORIZED, f"The bearer token is refused: {error.reason}.", challenge)


async def _refuse_scope(send: Send, needed: str) -> None:
    challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'
    await _send_problem(send, HTTPStatus.FORBIDDEN, f"The token lacks the scope {needed}.", challenge)


async def _send_problem(send: Send, status: HTTPStatus, detail: str, challenge: str) -> None:
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body = json.dumps(problem).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", challenge.encode()),
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
