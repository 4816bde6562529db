"""A client that a generator makes from both OpenAPI documents tells the story of the demo."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openapi_schema_validator import OAS31Validator

import reader.openapi
import writer.openapi
from ops.stack import Stack
from tests.support.services import Services, running_services
from tests.support.tokens import token

DOCUMENTS = {"writer": writer.openapi.document(), "reader": reader.openapi.document()}
OPERATIONS = [
    (side, path, operation)
    for side, document in DOCUMENTS.items()
    for path, item in document["paths"].items()
    for operation in item.values()
]


def test_each_operation_has_a_name_a_summary_and_a_tag() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len({*names}) == len(names)
    for side, path, operation in OPERATIONS:
        assert operation["summary"], path
        assert {*operation["tags"]} <= {tag["name"] for tag in DOCUMENTS[side]["tags"]}, path
    versions = {document["info"]["version"] for document in DOCUMENTS.values()}
    assert len(versions) == 1 and "0" not in versions
    assert all(
        document["servers"] == [{**document["servers"][0], "url": "/"}] for document in DOCUMENTS.values()
    )


def test_each_field_says_what_it_is_with_an_example_that_is_one() -> None:
    for document in DOCUMENTS.values():
        for kind, schema in document["components"]["schemas"].items():
            for name, field in schema.get("properties", {}).items():
                assert "$ref" in field or field.get("description"), (kind, name)
                for example in field.get("examples", ()):
                    OAS31Validator({**field, "components": document["components"]}).validate(example)


class Client:
    """The generated package of a service, with a token."""

    def __init__(self, package: str, url: str, subject: str) -> None:
        self._package = package
        client = importlib.import_module(f"{package}.client").AuthenticatedClient
        self._client = client(base_url=url, token=token(subject), raise_on_unexpected_status=True)

    def close(self) -> None:
        self._client.get_httpx_client().close()

    def call(self, tag: str, operation: str, *arguments: Any, **more: Any) -> Any:
        """The detailed answer of an operation."""
        module = importlib.import_module(f"{self._package}.api.{tag}.{operation}")
        return module.sync_detailed(*arguments, client=self._client, **more)

    def body(self, kind: str, **fields: Any) -> Any:
        return getattr(importlib.import_module(f"{self._package}.models"), kind)(**fields)


@pytest.fixture
def services(stack: Stack) -> Iterator[Services]:
    with running_services(stack) as services:
        yield services


@pytest.fixture
def clients(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], Client]]:
    """Generated from the documents that the services serve."""
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")  # they format
    urls = {"writer": services.writer_url, "reader": services.reader_url}
    for side, url in urls.items():
        (tmp_path / f"{side}.json").write_text(httpx2.get(f"{url}/openapi.json", verify=False).text)
        options = ["--meta=none", "--fail-on-warning", f"--config={tmp_path / 'config.yaml'}"]
        generate = [str(Path(sys.executable).parent / "openapi-python-client"), "generate", *options]
        target = [f"--path={tmp_path / side}.json", f"--output-path={tmp_path / f'generated_{side}'}"]
        subprocess.run([*generate, *target], check=True, capture_output=True)
    monkeypatch.syspath_prepend(tmp_path)
    with contextlib.ExitStack() as made:
        yield lambda side, subject: made.enter_context(
            contextlib.closing(Client(f"generated_{side}", urls[side], subject))
        )


def test_a_generated_client_tells_the_story_of_the_demo(clients: Callable[[str, str], Client]) -> None:
    writing = {name: clients("writer", name) for name in ("jane", "joe")}
    reading = clients("reader", "joe")
    seen = {"token": ""}

    def write(who: str, tag: str, operation: str, *arguments: Any, **more: Any) -> Any:
        answer = writing[who].call(tag, operation, *arguments, **more)
        assert answer.status_code in (200, 201, 204), answer.content
        seen["token"] = answer.headers["Consistency-Token"]
        return answer.parsed

    def read(tag: str, operation: str, *arguments: Any) -> Any:
        return reading.call(tag, operation, *arguments, consistency_token=seen["token"]).parsed

    def profile(who: str, display_name: str) -> Any:
        body = writing[who].body("PutProfileBody", handle=who, display_name=display_name)
        return write(who, "users", "put_profile", body=body)

    jane, joe = profile("jane", "Jane"), profile("joe", "Joe")
    text = writing["jane"].body("WritePostBody", body="High #water at noon")
    post = write("jane", "posts", "write_post", body=text, idempotency_key="k")
    assert read("posts", "get_post", post.id).author.handle == "jane"
    assert [each.id for each in read("hashtag", "list_hashtag_posts", "water").items] == [post.id]

    write(
        "joe", "posts", "write_comment", post.id, body=writing["joe"].body("WriteCommentBody", body="Boots!")
    )
    [comment] = read("posts", "list_post_comments", post.id).items
    assert (comment.body, comment.author.handle) == ("Boots!", "joe")
    write("joe", "posts", "like_post", post.id)
    assert [each.id for each in read("posts", "list_post_likes", post.id).items] == [joe.id]
    write("joe", "posts", "unlike_post", post.id)
    write("jane", "posts", "edit_post", post.id, body=writing["jane"].body("EditPostBody", body="#tide"))
    profile("jane", "Jane Ebb")
    shown = read("posts", "get_post", post.id)
    assert (shown.body, shown.hashtags, shown.like_count, shown.comment_count) == ("#tide", ["tide"], 0, 1)
    assert shown.author.display_name == "Jane Ebb"

    write("joe", "users", "follow_user", jane.id)
    assert [each.id for each in read("feed", "get_feed").items] == [post.id]
    assert [each.id for each in read("users", "list_user_followers", jane.id).items] == [joe.id]
    write("jane", "posts", "delete_post", post.id)
    gone = read("posts", "get_post", post.id)
    assert (gone.status, gone.type_) == (404, "/problems/not-found")
    refused = writing["joe"].call(
        "users", "put_profile", body=writing["joe"].body("PutProfileBody", handle="a-b", display_name="")
    )
    assert [each.pointer for each in refused.parsed.errors] == ["#/handle", "#/display_name"]
