"""A small ASGI server and application: a test sees every message between them and the middleware."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from authorizer_lambda.middleware import BearerAuthMiddleware, Message, Receive, Scope, Send
from authorizer_lambda.settings import AuthSettings
from tests.authorizer.forging import NOW, SETTINGS


@dataclass
class Reply:
    """The client's answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


class Service:
    """An application behind the middleware. The test sets the clock `now`.

    `decisions` are the middleware's; `reached` are the scopes of requests that it let through.
    """

    def __init__(self, settings: AuthSettings = SETTINGS) -> None:
        self.now = float(NOW)
        self.reached: list[Scope] = []
        self.decisions: list[tuple[str, str]] = []
        self.guarded = BearerAuthMiddleware(
            self._application,
            settings,
            public_paths=frozenset({"/openapi.json"}),
            clock=lambda: self.now,
            on_decision=lambda source, result: self.decisions.append((source, result)),
        )

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    def request(
        self, *authorization: str, method: str = "GET", path: str = "/feed", query: str = ""
    ) -> Reply:
        return asyncio.run(self.reply(*authorization, method=method, path=path, query=query))

    async def reply(
        self, *authorization: str, method: str = "GET", path: str = "/feed", query: str = ""
    ) -> Reply:
        headers = [(b"host", b"x"), *((b"authorization", value.encode("latin-1")) for value in authorization)]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": headers,
        }
        reply = Reply()
        for message in await self._call(scope):
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message["body"]
        return reply

    def exchange(self, scope: Scope) -> list[Message]:
        """Hand the scope to the middleware and return what was sent."""
        return asyncio.run(self._call(scope))

    async def _call(self, scope: Scope) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self.guarded(scope, receive, send)
        return sent
