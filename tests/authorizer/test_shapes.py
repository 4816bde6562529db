"""Our events and answers of API Gateway agree with AWS's own models, aws-lambda-powertools."""

from __future__ import annotations

from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.api_gateway_authorizer_event import (
    APIGatewayAuthorizerResponse,
    APIGatewayAuthorizerResponseV2,
    APIGatewayRouteArn,
    parse_api_gateway_arn,
)
from aws_lambda_powertools.utilities.parser.models import (
    ApiGatewayAuthorizerRequest,
    ApiGatewayAuthorizerRequestV2,
    ApiGatewayAuthorizerToken,
    APIGatewayProxyEventV2Model,
)
from pydantic import BaseModel

from authorizer_lambda.handler import authorize
from authorizer_lambda.policy import METHODS
from tests.authorizer.forging import NOW, SETTINGS, good_token
from tests.authorizer.gateway import STAGE, http_api_1_event, http_api_2_event, request_event, token_event

GOOD = f"Bearer {good_token()}"
EVENTS: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (ApiGatewayAuthorizerToken, token_event(GOOD)),
    (ApiGatewayAuthorizerRequest, request_event(GOOD)),
    (ApiGatewayAuthorizerRequest, http_api_1_event(GOOD)),
    (ApiGatewayAuthorizerRequestV2, http_api_2_event(GOOD)),
]


@pytest.mark.parametrize(("model", "event"), EVENTS)
def test_the_events_of_these_tests_are_those_that_api_gateway_sends(
    model: type[BaseModel], event: dict[str, Any]
) -> None:
    model.model_validate(event)


@pytest.mark.parametrize("scopes", [("read",), ("write",), ("read", "write"), ()])
@pytest.mark.parametrize("event", [token_event, request_event, http_api_1_event])
def test_the_policy_is_the_one_that_powertools_would_write(event: Any, scopes: tuple[str, ...]) -> None:
    context = {"sub": "jane", "scope": " ".join(scopes), "exp": NOW + 600}
    expected = APIGatewayAuthorizerResponse.from_route_arn(f"{STAGE}/GET/post/7", "jane", context)
    for scope in scopes:
        for method in METHODS[scope]:
            expected.allow_all_routes(method)
    if not scopes:
        expected.deny_all_routes()
    answer = authorize(event(f"Bearer {good_token(scope=' '.join(scopes))}"), SETTINGS, NOW)
    if not scopes:  # powertools names every method of the stage, we name the stage: IAM treats both alike
        answer["policyDocument"]["Statement"][0]["Resource"] = [f"{STAGE}/*/*"]
    assert answer == expected.asdict()


@pytest.mark.parametrize(("scope", "allowed"), [("read", True), ("write", False)])
def test_the_simple_answer_is_the_one_that_powertools_would_write(scope: str, allowed: bool) -> None:
    expected = APIGatewayAuthorizerResponseV2(allowed, {"sub": "jane", "scope": scope, "exp": NOW + 600})
    answer = authorize(http_api_2_event(f"Bearer {good_token(scope=scope)}"), SETTINGS, NOW)
    assert answer == expected.asdict()


def test_a_lambda_backend_finds_the_context_where_aws_puts_it() -> None:
    answer = authorize(http_api_2_event(GOOD), SETTINGS, NOW)
    request = http_api_2_event(GOOD) | {"isBase64Encoded": False}
    request["requestContext"]["authorizer"] = {"lambda": answer["context"]}
    found = APIGatewayProxyEventV2Model.model_validate(request).requestContext.authorizer
    assert found and found.lambda_value == {"sub": "jane", "scope": "read write", "exp": NOW + 600}


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
@pytest.mark.parametrize("stage", ["prod", "$default", "v_1-2"])
def test_every_arn_that_powertools_builds_is_understood(partition: str, stage: str) -> None:
    arn = APIGatewayRouteArn("eu-central-1", "123456789012", "abc123", stage, "GET", "post/7", partition).arn
    answer = authorize(token_event(GOOD, arn), SETTINGS, NOW)
    resources = answer["policyDocument"]["Statement"][0]["Resource"]
    parsed = [parse_api_gateway_arn(resource) for resource in resources]
    assert {(each.partition, each.api_id, each.stage, each.resource) for each in parsed} == {
        (partition, "abc123", stage, "*")
    }
