"""The OpenAPI document describes the service as it is."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.conftest import AUTH
from tests.support.tokens import AUTH_SETTINGS
from tests.writer.people import Writer
from tidemark.settings import load
from writer.app import create_app
from writer.settings import WriterSettings

ENVIRONMENT = {**AUTH, "TIDEMARK_WRITER_MYSQL_URL": "mysql://u:p@127.0.0.1:1/tidemark"}
APP = create_app(load(WriterSettings, ENVIRONMENT), AUTH_SETTINGS)


@pytest.fixture(scope="module")
def document() -> Any:
    """The document as served without a token and without MySQL."""
    answer = TestClient(APP).get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method.upper(), path, it) for path, item in document["paths"].items() for method, it in item.items()
    ]


def test_it_is_valid_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_the_routes_of_the_application_and_no_others(document: Any) -> None:
    routes = {
        (method, route.path)
        for route in APP.routes
        if isinstance(route, Route) and route.path not in ("/openapi.json", "/problems/{name}")
        for method in route.methods or ()
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes
    assert ("PUT", "/post/{id}/like") in routes


def test_bodies_are_described_by_the_rules_that_check_them(document: Any) -> None:
    body = document["paths"]["/post/{id}/comment"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    schema = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert schema["properties"].keys() == {"body"}
    assert schema["additionalProperties"] is False
    assert (schema["properties"]["body"]["minLength"], schema["properties"]["body"]["maxLength"]) == (1, 1000)


def test_a_patch_of_a_profile_needs_any_of_its_fields(document: Any) -> None:
    schema = document["components"]["schemas"]["EditProfileBody"]
    assert schema["properties"].keys() == {"handle", "display_name", "bio"}
    assert (schema["required"], schema["minProperties"]) == ([], 1)


def test_every_operation_needs_a_token_and_says_how_it_can_fail(document: Any) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for _, path, operation in operations(document):
        assert operation["summary"]
        assert {"401", "403", "409", "431", "500", "503"} <= operation["responses"].keys()
        assert ("404" in operation["responses"]) == ("{id}" in path)
        assert operation.keys().isdisjoint({"security"})
    assert document["security"] == [{"bearer": ["write"]}]


def test_posts_take_a_key_and_answer_with_a_location(document: Any) -> None:
    for method, _, operation in operations(document):
        takes_key = "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
        assert takes_key == (method == "POST")
        if "201" in operation["responses"]:
            assert "Location" in operation["responses"]["201"]["headers"]


def test_answers_are_as_described(document: Any, writer: Writer) -> None:
    jane = writer.person()
    post = jane.post()
    for path, answer in (
        ("/user/me", jane.send("PUT", "/user/me", {"handle": "as_described", "display_name": "Jane"})),
        ("/user/me", jane.send("PATCH", "/user/me", {"bio": "x"})),
        ("/user/me", jane.send("PATCH", "/user/me", {})),
        ("/user/me", writer.person().send("DELETE", "/user/me")),
        ("/post", jane.send("POST", "/post", {"body": "x"})),
        ("/post", jane.send("POST", "/post", {"body": ""})),
        ("/post", writer.http.post("/post")),
        ("/post/{id}", jane.send("PATCH", f"/post/{post}", {"body": "y"})),
        ("/post/{id}/comment", comment := jane.send("POST", f"/post/{post}/comment", {"body": "x"})),
        ("/comment/{id}", jane.send("PATCH", comment.headers["location"], {"body": "y"})),
        ("/post/{id}/like", jane.send("PUT", f"/post/{post}/like")),
        ("/post/{id}/like", jane.send("PUT", "/post/9999999999/like")),
        ("/user/{id}/follow", jane.send("PUT", f"/user/{jane.id}/follow")),
    ):
        assert_as_described(document, document["paths"][path][answer.request.method.lower()], answer)


def assert_as_described(document: Any, operation: Any, answer: httpx2.Response) -> None:
    described = resolved(document, operation["responses"][str(answer.status_code)])
    for name, header in described["headers"].items():
        assert name in answer.headers or not resolved(document, header).get("required")
    content = described.get("content", {})
    assert answer.headers.get("content-type") == next(iter(content), None)
    for it in content.values():
        OAS31Validator({**it["schema"], "components": document["components"]}).validate(answer.json())


def resolved(document: Any, part: Any) -> Any:
    for name in part.get("$ref", "").split("/")[1:]:
        document = document[name]
    return document if "$ref" in part else part
