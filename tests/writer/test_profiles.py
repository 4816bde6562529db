"""A person's own profile."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from tests.writer.mysql import MySql
from tests.writer.people import Writer, at_once, new_handle

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def profile(**changes: Any) -> dict[str, Any]:
    return {"handle": new_handle(), "display_name": "Jane Doe", "bio": "I write.", **changes}


def test_the_first_put_creates_the_profile_and_says_where_it_is(writer: Writer) -> None:
    wanted = profile()
    answer = writer.stranger().send("PUT", "/user/me", wanted)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/user/{answer.json()['id']}"
    assert answer.json().keys() == {*wanted, "id", "created_at", "updated_at"}
    assert answer.json().items() >= wanted.items()


def test_ids_are_strings_and_times_have_six_decimals_in_utc(writer: Writer, mysql: MySql) -> None:
    created = writer.stranger().send("PUT", "/user/me", profile()).json()
    mysql.execute("UPDATE users SET created_at = '2026-01-02 03:04:05' WHERE id = %s", int(created["id"]))
    assert isinstance(created["id"], str)
    assert TIME.fullmatch(created["created_at"])
    assert TIME.fullmatch(created["updated_at"])


def test_a_time_without_fraction_has_six_decimals_too(writer: Writer, mysql: MySql) -> None:
    jane = writer.person()
    mysql.execute("UPDATE users SET created_at = '2026-01-02 03:04:05' WHERE subject = %s", jane.subject)
    assert jane.send("PUT", "/user/me", profile()).json()["created_at"] == "2026-01-02T03:04:05.000000Z"


def test_a_second_put_replaces_the_whole_profile(writer: Writer) -> None:
    jane, before = writer.stranger(), profile()
    created = jane.send("PUT", "/user/me", before).json()
    answer = jane.send("PUT", "/user/me", {"handle": before["handle"], "display_name": "J."})
    assert answer.status_code == 200
    assert answer.json()["id"] == created["id"]
    assert (answer.json()["display_name"], answer.json()["bio"]) == ("J.", "")
    assert answer.json()["updated_at"] > created["updated_at"]


def test_putting_the_same_profile_again_changes_nothing(writer: Writer) -> None:
    jane, wanted = writer.stranger(), profile()
    created = jane.send("PUT", "/user/me", wanted)
    again = jane.send("PUT", "/user/me", wanted)
    assert (again.status_code, again.json()) == (200, created.json())


@pytest.mark.parametrize(
    "change",
    [{"handle": new_handle()}, {"display_name": "J."}, {"bio": ""}, {"bio": "B", "display_name": "J"}],
)
def test_a_patch_changes_only_what_it_is_given(writer: Writer, change: dict[str, str]) -> None:
    jane = writer.stranger()
    before = jane.send("PUT", "/user/me", profile()).json()
    answer = jane.send("PATCH", "/user/me", change)
    assert answer.status_code == 200
    assert answer.json() == {**before, **change, "updated_at": answer.json()["updated_at"]}
    assert answer.json()["updated_at"] > before["updated_at"]
    assert jane.send("PATCH", "/user/me", change).json() == answer.json()


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, None), ({"name": "J"}, "name"), ({"bio": None}, "bio"), ({"display_name": " "}, "display_name")],
    ids=str,
)
def test_a_patch_without_a_good_field_is_refused(writer: Writer, body: Any, field: str | None) -> None:
    answer = writer.person().send("PATCH", "/user/me", body)
    assert (answer.status_code, answer.json().get("field")) == (422, field)


@pytest.mark.parametrize("change", [str, str.upper], ids=["same", "other case"])
def test_a_handle_belongs_to_one_user(writer: Writer, change: Any) -> None:
    taken = profile()
    writer.stranger().send("PUT", "/user/me", taken)
    sent = [(writer.stranger(), "PUT"), (writer.person(), "PUT"), (writer.person(), "PATCH")]
    for other, method in sent:
        answer = other.send(method, "/user/me", profile(handle=change(taken["handle"])))
        assert (answer.status_code, answer.json()["field"]) == (409, "handle")


def test_one_subjects_first_requests_at_once_make_one_user(writer: Writer, mysql: MySql) -> None:
    for _ in range(5):
        jane = writer.stranger()
        answers = at_once(*(partial(jane.send, "PUT", "/user/me", profile()) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 200, 201]
        assert mysql.value("SELECT COUNT(*) FROM users WHERE subject = %s", jane.subject) == 1


def test_everything_but_the_profile_needs_a_profile(writer: Writer) -> None:
    stranger, post = writer.stranger(), writer.person().post()
    for method, path, body in (
        ("PATCH", "/user/me", {"bio": "x"}),
        ("POST", "/post", {"body": "x"}),
        ("PATCH", f"/post/{post}", {"body": "x"}),
        ("DELETE", f"/post/{post}", None),
        ("POST", f"/post/{post}/comment", {"body": "x"}),
        ("PATCH", "/comment/1", {"body": "x"}),
        ("DELETE", "/comment/1", None),
        ("PUT", f"/post/{post}/like", None),
        ("DELETE", f"/post/{post}/like", None),
        ("PUT", "/user/1/follow", None),
        ("DELETE", "/user/1/follow", None),
    ):
        answer = stranger.send(method, path, body)
        assert answer.status_code == 409
        assert "PUT /user/me" in answer.json()["detail"]
