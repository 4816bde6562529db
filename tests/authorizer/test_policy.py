"""The policy states all rights of the token, so API Gateway can use it for every later request."""

from __future__ import annotations

import json

import pytest

from authorizer_lambda.policy import MalformedArn, iam_policy, required_scope, simple_answer
from authorizer_lambda.tokens import Claims
from tests.authorizer.forging import NOW
from tests.authorizer.gateway import METHODS, STAGE, allows

PATHS = ("", "post/7", "post/7/comments", "feed", "user/a:b", "hashtag/*", "a/../b", "GET/x")
SCOPE_SETS = [
    frozenset(scopes) for scopes in ((), ("read",), ("write",), ("read", "write"), ("admin",), ("READ", "*"))
]


def _claims(*scopes: str) -> Claims:
    return Claims("jane", frozenset(scopes), NOW + 600, NOW)


@pytest.mark.parametrize("scopes", SCOPE_SETS, ids=sorted)
@pytest.mark.parametrize(
    "asked", [f"{STAGE}/{method}/{path}" for method in METHODS for path in ("", "feed", "*")]
)
def test_a_policy_cached_for_one_request_is_right_for_every_other(scopes: frozenset[str], asked: str) -> None:
    answer = iam_policy(_claims(*scopes), asked)
    for method in METHODS:
        for path in PATHS:
            assert allows(answer, f"{STAGE}/{method}/{path}") == (required_scope(method) in scopes), (
                method,
                path,
            )


def test_the_policy_is_the_same_for_every_path_and_method() -> None:
    policies = {
        json.dumps(iam_policy(_claims("read"), f"{STAGE}/{tail}"))
        for tail in ("GET/a", "POST/b/*", "DELETE/?", "")
    }
    assert len(policies) == 1


@pytest.mark.parametrize(
    "elsewhere",
    [
        STAGE.replace("/prod", "/test") + "/GET/feed",
        STAGE.replace("/prod", "/production") + "/GET/feed",
        STAGE.replace("a1b2c3d4e5", "zzzzzzzzzz") + "/GET/feed",
        STAGE.replace("123456789012", "210987654321") + "/GET/feed",
        f"{STAGE}/$connect",
        f"{STAGE}/OPTIONS/feed",
        f"{STAGE}/get/feed",
    ],
)
def test_a_policy_covers_only_its_stage_and_the_six_methods(elsewhere: str) -> None:
    assert not allows(iam_policy(_claims("read", "write"), f"{STAGE}/GET/feed"), elsewhere)


def test_a_token_without_rights_is_denied_explicitly() -> None:
    (statement,) = iam_policy(_claims(), f"{STAGE}/GET/feed")["policyDocument"]["Statement"]
    assert statement == {"Effect": "Deny", "Action": "execute-api:Invoke", "Resource": [f"{STAGE}/*"]}


def test_the_whole_answer_is_what_api_gateway_documents() -> None:
    assert iam_policy(_claims("read", "other"), f"{STAGE}/GET/feed") == {
        "principalId": "jane",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "execute-api:Invoke",
                    "Resource": [f"{STAGE}/GET/*", f"{STAGE}/HEAD/*"],
                }
            ],
        },
        "context": {"sub": "jane", "scope": "other read", "exp": NOW + 600},
    }


@pytest.mark.parametrize(
    "stage",
    [
        STAGE,
        "arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:abc/v1",
        "arn:aws-cn:execute-api:cn-north-1:123456789012:abc/v_1-2",
        "arn:aws:execute-api:us-east-1:123456789012:abcdef123/$default",
    ],
)
def test_every_partition_and_the_default_stage_are_known(stage: str) -> None:
    answer = iam_policy(_claims("read"), f"{stage}/POST/post")
    assert allows(answer, f"{stage}/GET/post") and not allows(answer, f"{stage}/POST/post")


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "*",
        STAGE,
        "arn:aws:execute-api:eu-central-1:123456789012:*/prod/GET/feed",
        "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/*/GET/feed",
        "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/pro?/GET/feed",
        "arn:aws:execute-api:*:123456789012:a1b2c3d4e5/prod/GET/feed",
        "arn:aws:execute-api:eu-central-1:*:a1b2c3d4e5/prod/GET/feed",
        "arn:*:execute-api:eu-central-1:123456789012:a1b2c3d4e5/prod/GET/feed",
        "arn:aws:lambda:eu-central-1:123456789012:function:authorizer",
        f"x{STAGE}/GET/feed",
    ],
)
def test_an_arn_that_is_malformed_or_a_wildcard_gets_no_policy(arn: str) -> None:
    with pytest.raises(MalformedArn):
        iam_policy(_claims("read", "write"), arn)


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "get", "", "G\u0415T", "PURGE"])
def test_an_unknown_method_needs_the_stronger_right(method: str) -> None:
    assert required_scope(method) == "write"


@pytest.mark.parametrize("method", METHODS)
def test_the_simple_answer_is_for_the_method_asked(method: str) -> None:
    assert simple_answer(_claims("read"), method)["isAuthorized"] == (method in ("GET", "HEAD"))
    assert simple_answer(_claims("write"), method)["isAuthorized"] == (method not in ("GET", "HEAD"))
    assert simple_answer(_claims("read", "write"), method) == {
        "isAuthorized": True,
        "context": {"sub": "jane", "scope": "read write", "exp": NOW + 600},
    }
