"""The Lambda's decision over HTTP, for a reverse proxy that asks before each request (nginx: auth_request).

`GET /authorize`, with the client's Authorization header and its method in X-Original-Method, gives 204, 401
or 403; 503 if there are no keys. Decisions are not kept, so none outlives its token.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from authorizer_lambda.handler import decide
from authorizer_lambda.jwks import KeysUnavailable
from authorizer_lambda.middleware import CHALLENGE, KeyFetcher, Receive, Scope, Send
from authorizer_lambda.policy import required_scope
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import bearer_token

STAGE = "arn:aws:execute-api:local:000000000000:selfhosted/live"  # a policy must name a stage
METHOD = re.compile("[A-Z]{1,16}")
Headers = Iterable[tuple[bytes, bytes]]


class ForwardAuth:
    """The ASGI application; `/healthz` answers 204."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._keys = KeyFetcher(settings, time.time)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _answer(send, *await self._respond(scope["path"], scope["headers"]))

    async def _respond(self, path: str, headers: Headers) -> tuple[HTTPStatus, str]:
        """The status, and the challenge of a refusal."""
        if path == "/healthz":
            return HTTPStatus.NO_CONTENT, ""
        methods = [value.decode("latin-1") for name, value in headers if name == b"x-original-method"]
        if path != "/authorize" or len(methods) != 1 or not METHOD.fullmatch(methods[0]):
            return HTTPStatus.NOT_FOUND, ""
        return await self._decide(
            methods[0], [value.decode("latin-1") for name, value in headers if name == b"authorization"]
        )

    async def _decide(self, method: str, authorizations: list[str]) -> tuple[HTTPStatus, str]:
        arn = f"{STAGE}/{method}/"
        event = {"type": "REQUEST", "methodArn": arn, "multiValueHeaders": {"Authorization": authorizations}}
        try:
            await self._keys.ready_for(bearer_token(authorizations))
            allowed = _allows(decide(event, self._settings), arn)
        except KeysUnavailable:
            return HTTPStatus.SERVICE_UNAVAILABLE, ""
        except Exception:  # noqa: BLE001 - `decide` raises Exception("Unauthorized") for a refusal
            return (
                HTTPStatus.UNAUTHORIZED,
                f'{CHALLENGE}, error="invalid_token"' if authorizations else CHALLENGE,
            )
        if allowed:
            return HTTPStatus.NO_CONTENT, ""
        return (
            HTTPStatus.FORBIDDEN,
            f'{CHALLENGE}, error="insufficient_scope", scope="{required_scope(method)}"',
        )


def _allows(answer: dict[str, Any], arn: str) -> bool:
    """Evaluate as IAM does: a statement allows the method, and no statement denies it."""
    effects = {
        statement["Effect"]
        for statement in answer["policyDocument"]["Statement"]
        if any(fnmatchcase(arn, resource) for resource in statement["Resource"])
    }
    return effects == {"Allow"}


async def _answer(send: Send, status: HTTPStatus, challenge: str) -> None:
    headers = [(b"www-authenticate", challenge.encode())] if challenge else []
    if status != HTTPStatus.NO_CONTENT:
        headers.append((b"content-length", b"0"))
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
