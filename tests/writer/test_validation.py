"""Unacceptable input is refused with a problem that names the field, and changes nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.tokens import bearer
from tests.writer.mysql import MySql
from tests.writer.people import Person, Writer
from writer.commands import EditComment, WriteComment
from writer.endpoints import ENDPOINTS

OK_PROFILE = {"handle": "jane_1", "display_name": "Jane", "bio": ""}
TEXTS: dict[str, Any] = {
    "empty": "",
    "blank": " \n\t",
    "blank in unicode": "\u2003\u3000",
    "NUL": "a\x00b",
    "NUL at the end": "a\x00",
    "number": 1,
    "null": None,
    "list": ["a"],
}


@pytest.fixture(scope="module")
def jane(writer: Writer) -> Person:
    return writer.person()


@pytest.fixture(scope="module")
def post(jane: Person) -> str:
    return jane.post()


def refused(answer: Any, status: int, field: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field", "") == field
    assert answer.json()["detail"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_text_must_say_something(jane: Person, post: str, text: Any) -> None:
    refused(jane.send("POST", "/post", {"body": text}), 422, "body")
    refused(jane.send("PATCH", f"/post/{post}", {"body": text}), 422, "body")
    refused(jane.send("POST", f"/post/{post}/comment", {"body": text}), 422, "body")
    refused(jane.send("PUT", "/user/me", {**OK_PROFILE, "display_name": text}), 422, "display_name")


@pytest.mark.parametrize("character", ["x", "é", "👩"])
def test_lengths_are_counted_in_characters(jane: Person, post: str, character: str) -> None:
    for path, most in (("/post", 2000), (f"/post/{post}/comment", 1000)):
        assert jane.send("POST", path, {"body": character * most}).status_code == 201
        refused(jane.send("POST", path, {"body": character * (most + 1)}), 422, "body")
    profile = {
        "handle": jane.subject[-20:].replace("|", "_"),
        "display_name": character * 80,
        "bio": character * 500,
    }
    assert jane.send("PUT", "/user/me", profile).status_code == 200
    refused(jane.send("PUT", "/user/me", {**profile, "display_name": character * 81}), 422, "display_name")
    refused(jane.send("PUT", "/user/me", {**profile, "bio": character * 501}), 422, "bio")


@pytest.mark.parametrize(
    "handle", ["ab", "a" * 31, "with space", "with-dash", "né", "jane\n", "", " jane", 5, None]
)
def test_a_handle_is_3_to_30_letters_digits_and_underscores(jane: Person, handle: Any) -> None:
    refused(jane.send("PUT", "/user/me", {**OK_PROFILE, "handle": handle}), 422, "handle")


def test_all_faults_are_named_at_once_each_with_its_rule(jane: Person) -> None:
    answer = jane.send("PUT", "/user/me", {"handle": "a-b", "bio": 5, "a/b": 1})
    refused(answer, 422, "handle")
    assert answer.json()["errors"] == [
        {"pointer": "#/handle", "detail": "handle: 3 to 30 letters, digits or underscores"},
        {
            "pointer": "#/display_name",
            "detail": "display_name: missing; 1 to 80 characters, not all blank, without NUL",
        },
        {"pointer": "#/bio", "detail": "bio: up to 500 characters, without NUL"},
        {"pointer": "#/a~1b", "detail": "a/b: no field of this request"},
    ]
    assert answer.json()["detail"] == "; ".join(each["detail"] for each in answer.json()["errors"]) + "."


def test_of_many_faults_the_first_are_named_and_the_others_counted(jane: Person) -> None:
    answer = jane.send("POST", "/post", {f"f{number}": 1 for number in range(2000)})
    refused(answer, 422, "body")
    pointers = [each["pointer"] for each in answer.json()["errors"]]
    assert pointers == ["#/body", *(f"#/f{number}" for number in range(19))]
    assert answer.json()["detail"].endswith("; f18: no field of this request; and 1981 more.")


@pytest.mark.parametrize("value", [5, None, True, "", "a-b\x00", [], {}, {"x": 1}])
def test_every_rule_is_in_words_and_no_type_of_python_shows(jane: Person, value: Any) -> None:
    for endpoint in ENDPOINTS:
        fields = endpoint.body.__struct_fields__ if endpoint.body else ()
        if fields and not (value == "" and "bio" in fields):
            answer = jane.send(endpoint.method, endpoint.path.format(id=1), dict.fromkeys(fields, value))
            assert [each["pointer"] for each in answer.json()["errors"]] == [f"#/{name}" for name in fields]
            assert not re.search(r"`|Expected|not acceptable|\b(str|int|array|object)\b", answer.text)


def test_missing_and_unknown_fields_are_named(jane: Person) -> None:
    refused(jane.send("POST", "/post", {}), 422, "body")
    refused(jane.send("POST", "/post", {"body": "x", "author_id": 1}), 422, "author_id")
    refused(jane.send("POST", "/post", {"body": "x", "subject": "somebody else"}), 422, "subject")
    refused(jane.send("PATCH", "/post/1", {"body": "x", "id": 2}), 422, "id")
    refused(jane.send("POST", "/post", ["body"]), 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"body": "x"} more',
        b"{'body': 'x'}",
        b'{"body": "\\ud800"}',
        b'{"body": "\xed\xa0\x80"}',
        b'{"body": "\xff"}',
        b'\xef\xbb\xbf{"body": "x"}',
        '{"body": "x"}'.encode("utf-16"),
    ],
    ids=repr,
)
def test_a_body_that_is_not_json_in_utf_8_is_malformed(jane: Person, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refused(jane.send("POST", "/post", content=body, headers=headers), 400)


@pytest.mark.parametrize(
    "body",
    [b"[" * 16_000, b'{"body":' + b"[" * 16_000, b'{"x":' * 3_000],
    ids=["array", "in a field", "in an unknown field"],
)
def test_deep_nesting_is_refused_like_any_other_nonsense(jane: Person, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = jane.send("POST", "/post", content=body, headers=headers)
    refused(answer, 400)
    assert "nested too deeply" in answer.json()["detail"]


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""]
)
def test_a_body_that_is_not_declared_as_json_is_refused(jane: Person, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    refused(jane.send("POST", "/post", content=b'{"body":"x"}', headers=headers), 415)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON ; charset=utf-8"])
def test_the_media_type_may_have_parameters_and_capitals(jane: Person, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert jane.send("POST", "/post", content=b'{"body":"x"}', headers=headers).status_code == 201


@pytest.mark.parametrize("coding", ["gzip", "br", "aes128gcm", "identity, gzip", "GZIP"])
def test_a_body_with_a_content_encoding_is_refused(jane: Person, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = jane.send("POST", "/post", content=b'{"body":"x"}', headers=headers)
    refused(answer, 415)
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", ""])
def test_no_content_encoding_may_be_said_in_words(jane: Person, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    assert jane.send("POST", "/post", content=b'{"body":"x"}', headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "places"),
    [
        ("POST", "/post", '{"body":"x","body":"x"}', "body", (1, 2)),
        ("POST", "/post", '{"body":"x","b\\u006fdy":"y"}', "body", (1, 2)),
        ("PUT", "/user/me", '{"handle":"abc","bio":"","display_name":"x","bio":""}', "bio", (2, 4)),
    ],
)
def test_a_member_that_is_there_twice_is_named_with_its_places(
    jane: Person, method: str, path: str, body: str, field: str, places: tuple[int, int]
) -> None:
    answer = jane.send(method, path, content=body.encode(), headers={"Content-Type": "application/json"})
    refused(answer, 400, field)
    assert answer.json()["type"] == "/problems/duplicate-member"
    assert [each["pointer"] for each in answer.json()["errors"]] == [f"#/{field}"]
    assert all(f"member {place}" in answer.json()["detail"] for place in places)


def test_the_longest_texts_may_be_escaped_in_any_way(jane: Person, post: str) -> None:
    emoji = "".join(f"\\u{unit:04X}" for unit in (0xD83D, 0xDC69))  # twelve bytes a character
    comment = jane.send("POST", f"/post/{post}/comment", {"body": "x"}).json()["id"]
    lengths = {"body": 2000, "handle": 30, "display_name": 80, "bio": 500}
    for endpoint in ENDPOINTS:
        fields = endpoint.body.__struct_fields__ if endpoint.body else ()
        name_of = {name: "".join(f"\\u{ord(letter):04x}" for letter in name) for name in fields}
        text_of = {name: (emoji if name != "handle" else "\\u0061") * lengths.get(name, 0) for name in fields}
        if "until" in fields:
            text_of["until"] = "".join(f"\\u{ord(letter):04x}" for letter in "2026-11-30T10:23:02.901337Z")
        if endpoint.command in (WriteComment, EditComment):
            text_of["body"] = emoji * 1000
        body = ",\n".join(f'  "{name_of[name]}" : "{text_of[name]}"' for name in fields)
        headers = {"Content-Type": "application/json"}
        path = endpoint.path.format(id=comment if endpoint.command is EditComment else post)
        if fields:
            answer = jane.send(endpoint.method, path, content=f"{{\n{body}\n}}".encode(), headers=headers)
            assert answer.status_code in (200, 201, 204), answer.text


def test_a_body_over_32_kib_is_refused(jane: Person) -> None:
    def padded(size: int) -> bytes:
        return json.dumps({"body": "x"}).encode().ljust(size)

    headers = {"Content-Type": "application/json"}
    assert jane.send("POST", "/post", content=padded(32 * 1024), headers=headers).status_code == 201
    refused(jane.send("POST", "/post", content=padded(32 * 1024 + 1), headers=headers), 413)


@pytest.mark.parametrize("id", ["0", "01", "-1", "+1", "1.0", "1e3", "abc", "\uff11", "%31%00", "1" * 20])
def test_a_bad_id_is_not_found(jane: Person, id: str) -> None:
    refused(jane.send("PUT", f"/post/{id}/like"), 404)
    refused(jane.send("DELETE", f"/comment/{id}"), 404)
    refused(jane.send("PATCH", f"/post/{id}", {"body": "x"}), 404)
    refused(jane.send("PUT", f"/user/{id}/follow"), 404)


def test_a_path_with_a_slash_too_many_is_not_found(jane: Person) -> None:
    refused(jane.send("POST", "/post/", {"body": "x"}), 404)


def test_a_wrong_method_is_answered_with_the_right_ones(jane: Person) -> None:
    answer = jane.send("PUT", "/post/1", {"body": "x"})
    refused(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"PATCH", "DELETE"}


def test_writing_needs_a_token_with_the_scope_write(writer: Writer) -> None:
    reader = bearer("jane", "read")
    assert writer.http.post("/post", json={"body": "x"}).status_code == 401
    assert writer.http.post("/post", json={"body": "x"}, headers=reader).status_code == 403


def test_refused_requests_change_nothing(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    executed = mysql.value("SELECT @@global.gtid_executed")
    for body in ({"body": ""}, {"body": "x", "y": 1}, {}):
        jane.send("POST", "/post", body, headers={"Idempotency-Key": "k"})
    jane.send("POST", "/post/9999999/comment", {"body": "x"}, headers={"Idempotency-Key": "k"})
    assert mysql.value("SELECT @@global.gtid_executed") == executed
