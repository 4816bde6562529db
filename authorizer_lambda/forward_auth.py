"""The Lambda's decision over HTTP, for a reverse proxy that asks before each request (nginx: auth_request).

`GET /authorize`, with the client's Authorization header and its method in X-Original-Method, gives 204, 401
or 403; 503 if there are no keys; 500 for an unforeseen error, which nginx answers with 503. Decisions are
not kept, so none outlives its token.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from starlette.responses import Response

from authorizer_lambda.handler import decide
from authorizer_lambda.jwks import KeysUnavailable
from authorizer_lambda.middleware import (
    KeyFetcher,
    Receive,
    Scope,
    Send,
    no_keys,
    refused_scope,
    refused_token,
)
from authorizer_lambda.policy import required_scope
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import InvalidToken, bearer_token
from tidemark.problem import Problem, problem_response

STAGE = "arn:aws:execute-api:local:000000000000:selfhosted/live"  # a policy must name a stage
LOG = logging.getLogger(__name__)
METHOD = re.compile("[A-Z]{1,16}")
Headers = Iterable[tuple[bytes, bytes]]


class ForwardAuth:
    """The ASGI application; `/healthz` answers 204. A refusal is the problem that the services answer."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._keys = KeyFetcher(settings, time.time)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._judge(scope["path"], scope["headers"])
            response = Response(status_code=204)
        except Problem as problem:
            response = problem_response(problem)
        await response(scope, receive, send)

    async def _judge(self, path: str, headers: Headers) -> None:
        """Raises Problem for a request that may not pass."""
        if path == "/healthz":
            return
        methods = [value.decode("latin-1") for name, value in headers if name == b"x-original-method"]
        if path != "/authorize" or len(methods) != 1 or not METHOD.fullmatch(methods[0]):
            raise Problem(404, "unknown-path", "Ask at /authorize, with one X-Original-Method.")
        await self._decide(
            methods[0], [value.decode("latin-1") for name, value in headers if name == b"authorization"]
        )

    async def _decide(self, method: str, authorizations: list[str]) -> None:
        arn = f"{STAGE}/{method}/"
        event = {"type": "REQUEST", "methodArn": arn, "multiValueHeaders": {"Authorization": authorizations}}
        try:
            await self._keys.ready_for(bearer_token(authorizations))
            allowed = _allows(decide(event, self._settings), arn)
        except KeysUnavailable as error:
            raise no_keys() from error
        except Exception as error:
            cause = error.__context__ or error  # `decide` hides its reason from API Gateway
            for each in (error, cause):
                if isinstance(each, InvalidToken):
                    raise refused_token(each) from error
            LOG.error("undecided: %s", _kind_and_place(cause))
            raise Problem(500, "internal-error", "The authorizer failed; its log names the error.") from error
        if not allowed:
            raise refused_scope(required_scope(method))


def _kind_and_place(error: BaseException) -> str:
    """Without the error's own text, which may quote the token."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename}:{place.lineno}"


def _allows(answer: dict[str, Any], arn: str) -> bool:
    """Evaluate as IAM does: a statement allows the method, and no statement denies it."""
    effects = {
        statement["Effect"]
        for statement in answer["policyDocument"]["Statement"]
        if any(fnmatchcase(arn, resource) for resource in statement["Resource"])
    }
    return effects == {"Allow"}
