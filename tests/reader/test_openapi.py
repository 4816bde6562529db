"""The OpenAPI document: valid, complete, and true of the answers."""

from __future__ import annotations

from typing import Any

import httpx2
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from reader.app import ROUTES
from reader.openapi import document
from tests.reader.conftest import RunningReader
from tests.reader.test_lists import populate
from tests.reader.world import World

SOMETIMES = {
    "Consistency-Token",
    "Set-Cookie",
    "Link",
    "Preference-Applied",
}  # headers of only some answers of an operation


def test_the_document_is_valid() -> None:
    validate(document())


def test_routes_and_document_agree() -> None:
    assert {route.path for route in ROUTES} == set(document()["paths"])


def assert_described(answer: httpx2.Response, template: str) -> None:
    """Assert that status, headers, media type and body are those of the document."""
    described = document()
    response = described["paths"][template]["get"]["responses"][str(answer.status_code)]
    for name in set(described["components"]["headers"]) - SOMETIMES:
        assert (name in answer.headers) <= (name in response.get("headers", {})), name
    required = set(response.get("headers", {})) - SOMETIMES
    assert required <= {name for name in required if name in answer.headers}
    if "content" not in response:
        assert answer.content == b""
        return
    content = response["content"][answer.headers["content-type"]]
    schema: dict[str, Any] = {**content["schema"], "components": described["components"]}
    OAS31Validator(strict(schema)).validate(answer.json())


def strict(schema: Any) -> Any:
    """The same schema without further properties."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = (
        {"additionalProperties": False} if schema.get("type") == "object" and "properties" in schema else {}
    )
    return {**{name: strict(value) for name, value in schema.items()}, **closed}


def test_actual_answers_are_those_that_are_described(
    api: httpx2.Client, running_reader: RunningReader, world: World
) -> None:
    populate(world)
    world.post(1000, author_id=999, body="#sea")
    seen = set()
    for template in document()["paths"]:
        if template == "/openapi.json":
            continue
        for id, query in (
            ("1", {}),
            ("1", {"limit": "2"}),
            ("1000", {}),
            ("12345", {}),
            ("1", {"limit": "0"}),
            ("1", {"include": "viewer"}),
            ("1", {"include": "everything"}),
        ):
            path = template.format(id=id, tag="sea", handle=f"user_{id}")
            for known in ("", api.get(path, params=query).headers.get("etag", "")):
                answer = api.get(path, params=query, headers={"if-none-match": known})
                assert_described(answer, template)
                seen.add(answer.status_code)
        with running_reader.anonymous() as nobody, running_reader.client(scope="write") as writer:
            for client in (nobody, writer):
                answer = client.get(template.format(id=1, tag="sea", handle="user_1"))
                assert_described(answer, template)
                seen.add(answer.status_code)
    world.database["control"].delete_many({})
    world.cache.flushall()
    answer = api.get("/post/1")
    assert_described(answer, "/post/{id}")
    assert seen | {answer.status_code} == {200, 304, 400, 401, 403, 404, 503}
