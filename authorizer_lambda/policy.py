"""The rights of a token's scopes: as a name, as an IAM policy for API Gateway, as a boolean for HTTP APIs."""

from __future__ import annotations

import re
from typing import Any

from authorizer_lambda.tokens import Claims

METHODS = {"read": ("GET", "HEAD"), "write": ("POST", "PUT", "PATCH", "DELETE")}
STAGE_ARN = re.compile(
    r"(arn:aws[a-z-]*:execute-api:[a-z0-9-]+:[0-9]{12}:[a-z0-9]+/(?:[A-Za-z0-9_-]+|\$default))/"
)


class MalformedArn(ValueError):
    """The event's methodArn or routeArn is no API Gateway method: nothing can be allowed."""


def required_scope(method: str) -> str:
    """Return `read` for GET and HEAD, else `write`: an unknown method needs the stronger right."""
    return "read" if method in METHODS["read"] else "write"


def iam_policy(claims: Claims, arn: str) -> dict[str, Any]:
    """Return the answer for REST APIs, HTTP APIs 1.0, and 2.0 without simple responses. Raises MalformedArn.

    API Gateway caches the policy by token and applies it to every method and path. So the policy states all
    rights of the token. From the event's ARN it takes the stage only: the client chooses the path, and a `*`
    in a path would be a wildcard.
    """
    stage = _stage(arn)
    allowed = [
        f"{stage}/{verb}/*" for scope, verbs in METHODS.items() if scope in claims.scopes for verb in verbs
    ]
    effect, resources = ("Allow", allowed) if allowed else ("Deny", [f"{stage}/*"])
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": resources}
    return {
        "principalId": claims.subject,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": _context(claims),
    }


def simple_answer(claims: Claims, method: str) -> dict[str, Any]:
    """Return the answer for HTTP APIs 2.0 with simple responses enabled.

    A boolean does not name its method. So with caching on, `$context.routeKey` must be an identity source.
    """
    return {"isAuthorized": required_scope(method) in claims.scopes, "context": _context(claims)}


def _stage(arn: str) -> str:
    if not (match := STAGE_ARN.match(arn)):
        raise MalformedArn("the ARN is not that of an execute-api stage")
    return match[1]


def _context(claims: Claims) -> dict[str, str | int]:
    """REST APIs allow strings, numbers and booleans only. With `exp` a backend can refuse a cached Allow."""
    return {"sub": claims.subject, "scope": " ".join(sorted(claims.scopes)), "exp": claims.expires_at}
