"""API Gateway's side: its events, and its evaluation of a policy."""

from __future__ import annotations

import re
from typing import Any

ACCOUNT, API = "123456789012", "a1b2c3d4e5"
STAGE = f"arn:aws:execute-api:eu-central-1:{ACCOUNT}:{API}/prod"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def token_event(authorization: str, arn: str = f"{STAGE}/GET/post/7") -> dict[str, Any]:
    return {"type": "TOKEN", "authorizationToken": authorization, "methodArn": arn}


def request_event(*authorization: str, method: str = "GET", path: str = "/post/7") -> dict[str, Any]:
    """REST APIs keep header names as the client wrote them; only multiValueHeaders shows repeated headers."""
    return {
        "type": "REQUEST",
        "methodArn": f"{STAGE}/{method}{path}",
        "resource": "/{proxy+}",
        "httpMethod": method,
        "path": path,
        "headers": {"Accept": "*/*"} | ({"Authorization": authorization[-1]} if authorization else {}),
        "multiValueHeaders": {"Accept": ["*/*"]}
        | ({"Authorization": list(authorization)} if authorization else {}),
        "queryStringParameters": {},
        "multiValueQueryStringParameters": {},
        "pathParameters": {"proxy": path[1:]},
        "stageVariables": {},
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "httpMethod": method,
            "identity": {"sourceIp": "192.0.2.7", "userAgent": "curl"},
            "path": f"/prod{path}",
            "protocol": "HTTP/1.1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "requestTime": "25/Nov/2026:12:00:00 +0000",
            "requestTimeEpoch": 1795608000000,
            "resourceId": "z9y8x7",
            "resourcePath": "/{proxy+}",
            "stage": "prod",
        },
    }


def http_api_1_event(authorization: str, method: str = "GET", path: str = "/post/7") -> dict[str, Any]:
    return request_event(authorization, method=method, path=path) | {
        "version": "1.0",
        "identitySource": authorization,
    }


def http_api_2_event(authorization: str | None, method: str = "GET", path: str = "/post/7") -> dict[str, Any]:
    """HTTP APIs write header names in lower case and join repeated headers with a comma."""
    route = f"{method} /{{proxy+}}"
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": f"{STAGE}/{method}{path}",
        "identitySource": [authorization] if authorization is not None else [],
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "cookies": [],
        "headers": {"accept": "*/*"}
        | ({"authorization": authorization} if authorization is not None else {}),
        "queryStringParameters": {},
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "domainName": f"{API}.execute-api.example",
            "domainPrefix": API,
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.7",
                "userAgent": "curl",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": route,
            "stage": "prod",
            "time": "25/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795608000000,
        },
        "pathParameters": {"proxy": path[1:]},
        "stageVariables": {},
    }


def allows(answer: dict[str, Any], arn: str) -> bool:
    """IAM's evaluation: an explicit Deny wins; without a match, no access; `*` and `?` are wildcards."""
    effects = matching_effects(answer, arn)
    return "Allow" in effects and "Deny" not in effects


def matching_effects(answer: dict[str, Any], arn: str) -> list[str]:
    return [
        statement["Effect"]
        for statement in answer["policyDocument"]["Statement"]
        if statement["Action"] == "execute-api:Invoke"
        and any(_pattern(resource).fullmatch(arn) for resource in statement["Resource"])
    ]


def _pattern(resource: str) -> re.Pattern[str]:
    return re.compile(re.escape(resource).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
