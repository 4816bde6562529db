"""API Gateway's side: its events, and how it reads the policy that it may have cached."""

from __future__ import annotations

import re
from typing import Any

STAGE = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/prod"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def token_event(authorization: str, arn: str = f"{STAGE}/GET/post/7") -> dict[str, Any]:
    return {"type": "TOKEN", "authorizationToken": authorization, "methodArn": arn}


def request_event(*authorization: str, arn: str = f"{STAGE}/GET/post/7") -> dict[str, Any]:
    """REST APIs keep header names as the client wrote them, and only multiValueHeaders shows doubled ones."""
    return {
        "type": "REQUEST",
        "methodArn": arn,
        "httpMethod": "GET",
        "path": "/post/7",
        "headers": {"Accept": "*/*"} | ({"Authorization": authorization[-1]} if authorization else {}),
        "multiValueHeaders": {"Accept": ["*/*"]} | ({"Authorization": list(authorization)} if authorization else {}),
        "queryStringParameters": {},
        "requestContext": {"httpMethod": "GET", "stage": "prod"},
    }


def http_api_1_event(authorization: str) -> dict[str, Any]:
    return request_event(authorization) | {"version": "1.0", "identitySource": authorization}


def http_api_2_event(authorization: str | None, method: str = "GET") -> dict[str, Any]:
    """HTTP APIs write header names in lower case and join doubled ones with a comma."""
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": f"{STAGE}/{method}/post/7",
        "identitySource": [authorization],
        "headers": {"accept": "*/*"} | ({"authorization": authorization} if authorization is not None else {}),
        "requestContext": {"http": {"method": method, "path": "/post/7"}, "stage": "prod"},
    }


def allows(answer: dict[str, Any], arn: str) -> bool:
    """IAM's evaluation: an explicit Deny wins, nothing matching is a Deny; `*` and `?` are wildcards."""
    effects = [
        statement["Effect"]
        for statement in answer["policyDocument"]["Statement"]
        if statement["Action"] == "execute-api:Invoke"
        and any(_pattern(resource).fullmatch(arn) for resource in statement["Resource"])
    ]
    return "Allow" in effects and "Deny" not in effects


def _pattern(resource: str) -> re.Pattern[str]:
    return re.compile(re.escape(resource).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
