"""API Gateway in front of a Lambda authorizer, as its developer guide describes it; never compared with AWS.

Chapters "Output from a Lambda authorizer", "Configure a Lambda authorizer", "Gateway response types", and for
HTTP APIs "Control access with Lambda authorizers". They define the identity source, the cached policy, IAM's
evaluation, the context, and the status of each outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ops.aws_lambda.emulator import FunctionFailed
from tests.authorizer.gateway import (
    STAGE,
    http_api_1_event,
    http_api_2_event,
    matching_effects,
    request_event,
    token_event,
)

EXPLICIT = "User is not authorized to access this resource with an explicit deny"
IMPLICIT = "User is not authorized to access this resource"
MAX_TTL_SECONDS = 3600


class Kind(NamedTuple):
    """One way to attach an authorizer: its event for (authorization, method, path), its form of answer."""

    name: str
    event: Callable[[str, str, str], dict[str, Any]]
    is_simple: bool = False


REST_TOKEN = Kind("REST TOKEN", lambda token, method, path: token_event(token, f"{STAGE}/{method}{path}"))
REST_REQUEST = Kind(
    "REST REQUEST", lambda token, method, path: request_event(token, method=method, path=path)
)
HTTP_1 = Kind("HTTP API 1.0", http_api_1_event)
HTTP_2_IAM = Kind("HTTP API 2.0 IAM", http_api_2_event)
HTTP_2_SIMPLE = Kind("HTTP API 2.0 simple", http_api_2_event, is_simple=True)


@dataclass(frozen=True)
class Reply:
    """The client's answer, and `$context.authorizer` as a backend would find it."""

    status: int
    message: str | None = None
    context: dict[str, Any] | None = None


class ApiGateway:
    """`invoke` returns the function's answer or raises FunctionFailed. The test sets the clock `now`."""

    def __init__(self, kind: Kind, invoke: Callable[[Any], Any], ttl_seconds: int = 0) -> None:
        assert 0 <= ttl_seconds <= MAX_TTL_SECONDS
        self.kind = kind
        self.ttl_seconds = ttl_seconds
        self.now = 0.0
        self.invocations = 0
        self._invoke = invoke
        self._cache: dict[tuple[str, ...], tuple[Any, float]] = {}

    def request(self, method: str, path: str, authorization: str | None) -> Reply:
        if not authorization:  # the identity source is missing: the function is not asked
            return Reply(401, "Unauthorized")
        try:
            answer = self._answer(method, path, authorization)
        except FunctionFailed as failure:
            return Reply(401, "Unauthorized") if failure.message == "Unauthorized" else Reply(500)
        return self._judge_simple(answer) if self.kind.is_simple else self._judge_policy(answer, method, path)

    def _answer(self, method: str, path: str, authorization: str) -> Any:
        key = (authorization, f"{method} /{{proxy+}}") if self.kind.is_simple else (authorization,)
        answer, good_until = self._cache.get(key, (None, self.now))
        if self.now >= good_until:
            self.invocations += 1
            answer = self._invoke(self.kind.event(authorization, method, path))
            self._cache[key] = answer, self.now + self.ttl_seconds
        return answer

    def _judge_simple(self, answer: Any) -> Reply:
        if not isinstance(answer, dict) or not isinstance(answer.get("isAuthorized"), bool):
            return Reply(500)
        return (
            Reply(200, None, answer.get("context", {})) if answer["isAuthorized"] else Reply(403, "Forbidden")
        )

    def _judge_policy(self, answer: Any, method: str, path: str) -> Reply:
        try:
            effects = matching_effects(answer, f"{STAGE}/{method}{path}")
            context = {"principalId": answer["principalId"], **_passed_on(answer.get("context", {}))}
        except (KeyError, TypeError):
            return Reply(500)
        if "Deny" in effects:
            return Reply(403, EXPLICIT)
        return Reply(200, None, context) if "Allow" in effects else Reply(403, IMPLICIT)


def _passed_on(context: dict[str, Any]) -> dict[str, str]:
    """Numbers and booleans become text; lists and objects are an invalid answer."""
    if not all(isinstance(value, str | int | float | bool) for value in context.values()):
        raise TypeError
    return {name: value if isinstance(value, str) else str(value).lower() for name, value in context.items()}
