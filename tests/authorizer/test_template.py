"""The SAM template, expanded as AWS expands it, deploys the system of docs/lambda.md."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

import reader.openapi
import writer.openapi
from authorizer_lambda import settings
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import SHAPE
from ops.stack.fetch.pinned import PYTHON
from tests.authorizer import keys
from tests.authorizer.attacks import ATTACKS
from tests.authorizer.forging import AUDIENCE, ISSUER, good_token

TEMPLATE = Path(settings.__file__).with_name("template.yaml")
SOURCE: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
GIVEN = {"DecisionSeconds": 45, "PythonVersion": PYTHON, "Architecture": "arm64"}


class NoManagedPolicies:
    def load(self) -> dict[str, str]:
        return {}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """Name -> resource, after the transform, with some parameters given."""
    from samtranslator.translator.transform import transform  # takes a second, in every worker

    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    expanded: dict[str, Any] = transform(yaml_parse(TEMPLATE.read_text()), GIVEN, NoManagedPolicies())
    patch.undo()
    found: dict[str, Any] = expanded["Resources"]
    return found


def _only(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (each for each in resources.values() if each["Type"] == kind)
    properties: dict[str, Any] = found["Properties"]
    return properties


def _operation(resources: dict[str, Any], method: str) -> dict[str, Any]:
    ((path, operations),) = _only(resources, "AWS::ApiGateway::RestApi")["Body"]["paths"].items()
    assert path == "/{proxy+}"
    found: dict[str, Any] = operations.get(method, operations["x-amazon-apigateway-any-method"])
    return found


@pytest.mark.parametrize(("service", "url"), [(reader.openapi, "ReaderUrl"), (writer.openapi, "WriterUrl")])
def test_every_route_of_both_services_is_reached_and_asks_the_authorizer(
    service: Any, url: str, resources: dict[str, Any]
) -> None:
    methods = {method for operations in service.document()["paths"].values() for method in operations}
    methods -= {"parameters"}
    assert methods <= {"get", "put", "post", "patch", "delete"}
    for method in methods:
        operation = _operation(resources, method)
        integration = operation["x-amazon-apigateway-integration"]
        assert integration["uri"] == {"Fn::Sub": f"${{{url}}}/{{proxy}}"}
        assert integration["type"] == "http_proxy" and integration["httpMethod"] in (method.upper(), "ANY")
        assert operation["security"] == [{"Jwt": []}]


def test_no_method_is_open(resources: dict[str, Any]) -> None:
    body = _only(resources, "AWS::ApiGateway::RestApi")["Body"]
    for operations in body["paths"].values():
        assert all(operation["security"] == [{"Jwt": []}] for operation in operations.values())


def test_a_decision_is_cached_by_whole_token_for_at_most_60s(
    resources: dict[str, Any],
) -> None:
    scheme = _only(resources, "AWS::ApiGateway::RestApi")["Body"]["components"]["securitySchemes"]["Jwt"]
    assert (scheme["in"], scheme["name"]) == ("header", "Authorization")
    authorizer = scheme["x-amazon-apigateway-authorizer"]
    assert (authorizer["type"], authorizer["authorizerResultTtlInSeconds"]) == (
        "token",
        GIVEN["DecisionSeconds"],
    )
    seconds = SOURCE["Parameters"]["DecisionSeconds"]
    assert (seconds["Default"], seconds["MinValue"], seconds["MaxValue"]) == (60, 0, 60)


def test_a_header_without_jwt_is_refused_before_the_function_is_asked(resources: dict[str, Any]) -> None:
    scheme = _only(resources, "AWS::ApiGateway::RestApi")["Body"]["components"]["securitySchemes"]["Jwt"]
    expression = re.compile(
        scheme["x-amazon-apigateway-authorizer"]["identityValidationExpression"], re.ASCII
    )
    for bearer in ("Bearer", "bearer", "BEARER"):
        assert expression.fullmatch(f"{bearer} {good_token()}")
    for token in ("", "x", "Bearer", "Basic YTpi", f"Bearer {good_token()},x", f"Bearer  {good_token()}"):
        assert not expression.fullmatch(token)
    for attack in ATTACKS:
        assert SHAPE.fullmatch(attack.token) is None or expression.fullmatch(f"Bearer {attack.token}")


def test_api_gateway_may_call_the_function_and_nobody_else(resources: dict[str, Any]) -> None:
    permission = _only(resources, "AWS::Lambda::Permission")
    assert permission["FunctionName"] == {"Fn::GetAtt": ["Authorizer", "Arn"]}
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["SourceArn"]["Fn::Sub"][0].endswith("/authorizers/*")
    role = _only(resources, "AWS::IAM::Role")
    assert [arn.rpartition("/")[2] for arn in role["ManagedPolicyArns"]] == ["AWSLambdaBasicExecutionRole"]


def test_the_function_is_the_package_with_settings_that_it_accepts(resources: dict[str, Any]) -> None:
    function = _only(resources, "AWS::Lambda::Function")
    module, _, name = function["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
    assert function["Architectures"] == [{"Ref": "Architecture"}] or function["Architectures"] == ["arm64"]
    assert SOURCE["Resources"]["Authorizer"]["Properties"]["Runtime"] == {"Fn::Sub": "python${PythonVersion}"}
    assert PYTHON in SOURCE["Parameters"]["PythonVersion"]["AllowedValues"]
    assert function["Timeout"] < 10, "HTTP APIs wait 10 seconds for an authorizer"
    given = {
        "Algorithm": "ES256",
        "Issuer": ISSUER,
        "Audience": AUDIENCE,
        "JwksUrl": "https://id.example/keys",
    }
    variables = function["Environment"]["Variables"]
    environ = {name: given.get(value.get("Ref", ""), "") for name, value in variables.items()}
    assert AuthSettings.from_environ(environ).algorithm == "ES256"
    pem = {"PublicKey": keys.public_pem(keys.private_key("ES256")), "JwksUrl": ""}
    environ = {name: (given | pem).get(value.get("Ref", ""), "") for name, value in variables.items()}
    assert AuthSettings.from_environ(environ).algorithm == "ES256"


def test_a_secret_comes_from_secrets_manager_and_stands_in_no_parameter() -> None:
    variables = SOURCE["Resources"]["Authorizer"]["Properties"]["Environment"]["Variables"]
    condition, reference, without = variables["TIDEMARK_AUTH_SECRET"]["Fn::If"]
    assert (condition, without) == ("HasSecret", "")
    assert reference == {"Fn::Sub": "{{resolve:secretsmanager:${SecretName}}}"}


def test_requests_are_limited_and_logged_without_their_tokens(resources: dict[str, Any]) -> None:
    stage = _only(resources, "AWS::ApiGateway::Stage")
    (everything,) = stage["MethodSettings"]
    assert (everything["ResourcePath"], everything["HttpMethod"]) == ("/*", "*")
    assert (
        everything["ThrottlingRateLimit"]
        == everything["ThrottlingBurstLimit"]
        == {"Ref": "RequestsPerSecond"}
    )
    assert everything["DataTraceEnabled"] is False
    fields = json.loads(stage["AccessLogSetting"]["Format"])
    assert fields["sub"] == "$context.authorizer.sub" and fields["status"] == "$context.status"
    assert "header" not in str(fields).lower() and "querystring" not in str(fields).lower()
    logs = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::Logs::LogGroup"]
    assert [log["RetentionInDays"] for log in logs] == [30, 30]


def test_a_refusal_is_challenged_as_rfc_6750_wants(resources: dict[str, Any]) -> None:
    responses = _only(resources, "AWS::ApiGateway::RestApi")["Body"]["x-amazon-apigateway-gateway-responses"]
    (header,) = responses["UNAUTHORIZED"]["responseParameters"].items()
    assert header == ("gatewayresponse.header.WWW-Authenticate", "'Bearer realm=\"tidemark\"'")
