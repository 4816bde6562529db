"""Input of attackers with a token of their own is text or refused; it changes only what is theirs."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binlog_projector.mysql.connections import Connection
from ops.stack import Stack
from tests.conftest import empty_stores
from tests.reader.conftest import plain_client
from tests.support.harness import Process, admin_connection, rows, run_sql, wait_until_caught_up, watermark
from tests.support.services import Services, running_services
from tests.support.tokens import bearer, token
from writer.endpoints import ENDPOINTS
from writer.schema import TABLES

SQL = (
    "' OR '1'='1' -- ",
    '"; DROP TABLE users; --',
    "1); DELETE FROM posts; --",
    "%s %(a)s %d",
    "\\' OR 1=1 #",
    "`;`",
)
MONGODB = ('{"$gt": ""}', '{"$where": "sleep(9999)"}', "[$ne]=1", "$$ROOT", "a.b.$", "__proto__")
REDIS = ("\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "tidemark:watermark", "x' redis.call('FLUSHALL') --")
LOGS = (
    '\n{"level": "critical", "event": "forged"}',
    "\x1b[2J\x1b[31mforged",
    "\r\x08forged",
    "${jndi:ldap://x/a}",
)
PAGES = ("<script>alert(1)</script>", "{{7*7}}", "\u202egnihsif", "../../etc/passwd", "a\u0301\ufeff")
PAYLOADS = (*SQL, *MONGODB, *REDIS, *LOGS, *PAGES)
COLUMNS = sorted({column for table in TABLES.values() for column in table.columns})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["$gt", "$where", "_id"]), inner)
    ),
    max_leaves=5,
)
QUICKLY = settings(max_examples=60, suppress_health_check=[*HealthCheck])


@pytest.fixture(scope="module")
def services(shared_stack: Stack) -> Iterator[Services]:
    """Jane (user 1, post 1, comment 1) and mallory (user 2)."""
    empty_stores(shared_stack)
    with running_services(shared_stack) as services:
        for name in ("jane", "mallory"):
            answer = services.write(name, "PUT", "/user/me", {"handle": name, "display_name": name})
            assert answer.status_code == 201
        assert services.write("jane", "POST", "/post", {"body": "jane's"}).headers["location"] == "/post/1"
        assert services.write("jane", "POST", "/post/1/comment", {"body": "hers too"}).status_code == 201
        yield services


@pytest.fixture
def connection(shared_stack: Stack) -> Iterator[Connection]:
    with admin_connection(shared_stack) as connection:
        yield connection


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_text_is_only_text_all_the_way(services: Services, payload: str) -> None:
    profile = {"handle": "mallory", "display_name": payload[:80], "bio": payload}
    assert services.write("mallory", "PUT", "/user/me", profile).status_code == 200
    written = services.write("mallory", "POST", "/post", {"body": f"x {payload}"})
    assert written.status_code == 201
    path, token = written.headers["location"], {"consistency-token": written.headers["consistency-token"]}
    read = services.read(path, headers=token).json()
    assert (read["body"], read["author"]["display_name"]) == (f"x {payload}", payload[:80])
    assert services.read("/user/2", headers=token).json()["bio"] == payload


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_bad_id_or_page_is_refused_in_every_parameter(services: Services, payload: str) -> None:
    text = quote(payload, safe="")
    for path in (
        "/post/{}",
        "/post/{}/comments",
        "/post/{}/likes",
        "/user/{}",
        "/user/{}/posts",
        "/user/{}/followers",
    ):
        assert services.read(path.format(text)).status_code == 404
    for path in ("/feed", "/user/1/posts", "/post/1/likes", "/hashtag/x"):
        for parameter in ("limit", "cursor"):
            answer = services.read(f"{path}?{parameter}={text}")
            assert (answer.status_code, answer.json()["field"]) == (400, parameter)
        assert services.read(f"{path}?limit[$gt]=1&cursor[$ne]=x&{text}=1").status_code == 200
    assert services.read(f"/hashtag/{text}").status_code in (200, 404)  # a slash in it makes it another path
    for method, path in (("PUT", "/post/{}/like"), ("DELETE", "/comment/{}"), ("PUT", "/user/{}/follow")):
        assert services.write("mallory", method, path.format(text)).status_code == 404


def test_a_misplaced_token_gives_no_rights_and_is_not_logged(services: Services) -> None:
    """When the processes end, their logs are searched for tokens."""
    stolen = token("jane")
    for url in (services.reader_url, services.writer_url):
        with plain_client(url, {}) as client:
            for path in (f"/post/1?access_token={stolen}", f"/post/{stolen}", f"/hashtag/{stolen}"):
                assert client.get(path, headers={"Cookie": f"token={stolen}"}).status_code == 401
            for value in (
                f"Bearer {stolen}x",
                f"Basic {stolen}",
                f"Bearer {stolen}, Bearer {stolen}",
                stolen,
            ):
                assert client.get("/post/1", headers={"Authorization": value}).status_code == 401
    for name in ("X-Request-Id", "Idempotency-Key", "Consistency-Token", "Prefer", "If-None-Match"):
        services.read("/post/1", headers={name: stolen})
        services.client("writer", "mallory").post("/post", json={"body": stolen}, headers={name: stolen})


@pytest.mark.parametrize(
    "subject", ["'OR'1'='1", '{"$gt":""}', "tidemark:watermark", "$where", "*", "jane'--", "JANE"]
)
def test_a_subject_is_compared_and_never_interpreted(services: Services, subject: str) -> None:
    assert services.write(subject, "DELETE", "/post/1").status_code == 409  # a stranger, not jane
    feed = services.read("/feed", subject)
    assert (feed.status_code, feed.json()["items"]) == (200, [])


def test_nobody_sets_what_only_the_service_sets(services: Services, connection: Connection) -> None:
    before = (
        rows(connection, "SELECT * FROM posts ORDER BY id"),
        rows(connection, "SELECT * FROM users ORDER BY id"),
    )
    proper = {"handle": "mallory", "display_name": "M", "body": "x"}
    for endpoint in ENDPOINTS:
        if not endpoint.body:
            continue
        allowed = set(endpoint.body.__struct_fields__)
        fields = {name: proper[name] for name in allowed & proper.keys()}
        for more in sorted({*COLUMNS, "like_count", "v", "_id", "__class__", "scope"} - allowed):
            answer = services.write(
                "mallory", endpoint.method, endpoint.path.format(id=1), {**fields, more: 1}
            )
            faults = [each["detail"] for each in answer.json()["errors"]]
            assert answer.status_code == 422 and f"{more}: no field of this request" in faults, endpoint
    after = (
        rows(connection, "SELECT * FROM posts ORDER BY id"),
        rows(connection, "SELECT * FROM users ORDER BY id"),
    )
    assert before == after


def test_an_unexpected_body_changes_nothing_of_other_users(
    services: Services, connection: Connection
) -> None:
    for path in ("/post/1/like", "/user/1/follow"):
        body = {"user_id": 1, "follower_id": 1, "subject": "jane", "post_id": 2}
        assert services.write("mallory", "PUT", path, body).status_code == 204
    assert rows(connection, "SELECT post_id, user_id FROM likes") == [(1, 2)]
    assert rows(connection, "SELECT follower_id, followee_id FROM follows") == [(2, 1)]


def test_rows_of_other_users_stay_as_they_are(services: Services, connection: Connection) -> None:
    tables = ("posts", "comments")
    before = [rows(connection, f"SELECT * FROM {table} WHERE author_id = 1") for table in tables]
    for method, path, body in (
        ("PATCH", "/post/1", {"body": "mine now"}),
        ("DELETE", "/post/1", None),
        ("DELETE", "/comment/1", None),
    ):
        answer = services.write("mallory", method, path, body)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/not-yours")
    client = services.client("writer", "mallory")
    for header in ("X-HTTP-Method-Override", "X-Original-Method", "X-Authz-Principal", "X-Tidemark-Subject"):
        assert client.delete("/post/1", headers={header: "jane"}).status_code == 403
    for path in ("/user/1", "/user/me/1"):
        assert client.put(path, json={"handle": "x", "display_name": "x"}).status_code == 404
    assert before == [rows(connection, f"SELECT * FROM {table} WHERE author_id = 1") for table in tables]


@given(JSON)
@QUICKLY
def test_no_cursor_that_somebody_made_up_breaks_anything(services: Services, made_up: Any) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(made_up).encode()).decode().rstrip("=")
    for path in ("/user/1/followers", "/user/1/posts"):
        answer = services.read(f"{path}?cursor={cursor}")
        assert answer.status_code == 400 or answer.json()["items"] is not None


def test_a_consistency_token_with_any_letter_changed_is_refused(services: Services) -> None:
    token = services.write("mallory", "POST", "/post", {"body": "x"}).headers["consistency-token"]
    for at in range(len(token)):
        forged = f"{token[:at]}{'B' if token[at] != 'B' else 'C'}{token[at + 1 :]}"
        assert services.read("/post/1", headers={"consistency-token": forged}).status_code == 400
    for forged in (token[:-1], token + "A", token + "=", "A" * 5000, "", bearer("jane")["Authorization"]):
        assert services.read("/post/1", headers={"consistency-token": forged}).status_code == 400
    assert services.read("/post/1", headers={"consistency-token": token}).status_code == 200


@pytest.mark.parametrize(
    ("media_type", "more", "body", "status"),
    [
        ("application/xml", {}, b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', 415),
        (
            "multipart/form-data; boundary=x",
            {},
            b'--x\r\nContent-Disposition: form-data; name="body"\r\n\r\nx',
            415,
        ),
        ("application/x-www-form-urlencoded", {}, b"body=x", 415),
        ("application/json; charset=utf-16", {}, '{"body": "x"}'.encode("utf-16"), 400),
        ("application/json", {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", 415),
        ("application/json", {"Content-Encoding": "gzip"}, b'{"body": "x"}', 415),
        ("application/json", {}, b'{"body": "x", "body": "x"}', 400),
        ("application/json", {}, b'{"body": NaN}', 400),
        ("application/json", {}, b'{"body": "x"}' + b" " * 32_768, 413),
    ],
)
def test_other_kinds_of_bodies_are_refused(
    services: Services, media_type: str, more: dict[str, str], body: bytes, status: int
) -> None:
    headers = {"Content-Type": media_type, **more}
    answer = services.client("writer", "mallory").post("/post", content=body, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_many_who_never_finish_their_bodies_keep_nobody_out(services: Services) -> None:
    where = urlsplit(services.writer_url)
    head = f"POST /post HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('mallory')['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 9999999999999\r\n\r\n{"
    with ExitStack() as connections:
        for _ in range(200):
            stalled = socket.create_connection((where.hostname or "", where.port or 0), 5)
            connections.enter_context(stalled).sendall(head.encode())
        assert services.write("jane", "PATCH", "/post/1", {"body": "jane's still"}).status_code == 200


@pytest.mark.parametrize("name", ["writer", "reader"])
def test_a_head_without_end_is_431_and_not_kept(services: Services, name: str) -> None:
    where = urlsplit({"writer": services.writer_url, "reader": services.reader_url}[name])
    before = resident_bytes(services.processes[name])
    with socket.create_connection((where.hostname or "", where.port or 0), 5) as connection:
        with suppress(ConnectionError):
            connection.sendall(b"GET /post/1 HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 50_000_000)
        assert connection.recv(12) == b"HTTP/1.1 431"
        assert resident_bytes(services.processes[name]) - before < 5_000_000


def resident_bytes(process: Process) -> int:
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_a_huge_body_of_a_read_is_not_read(services: Services) -> None:
    where = urlsplit(services.reader_url)
    head = f"GET /post/1 HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('mallory')['Authorization']}\r\n"
    with socket.create_connection((where.hostname or "", where.port or 0), 5) as connection:
        connection.sendall(
            f"{head}Content-Length: 9999999999\r\nConnection: close\r\n\r\n".encode() + b"x" * 100_000
        )
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/healthz", "/post/../metrics", "//metrics", "/openapi.json/x"]
)
def test_the_admin_port_is_not_on_the_public_one(services: Services, path: str) -> None:
    assert services.read(path).status_code == 404
    assert services.client("writer", "jane").get(path).status_code in (404, 405)


def test_after_all_attacks_everything_is_where_it_was(
    shared_stack: Stack, services: Services, connection: Connection
) -> None:
    wait_until_caught_up(shared_stack, connection)
    assert {name for (name,) in rows(connection, "SHOW TABLES")} >= TABLES.keys()
    assert rows(connection, "SELECT id, handle, subject FROM users") == [
        (1, "jane", "jane"),
        (2, "mallory", "mallory"),
    ]
    assert watermark(shared_stack) is not None
    with redis.Redis.from_url(shared_stack.redis.admin_url, decode_responses=True) as cache:
        assert all(key.startswith("tidemark:") for key in cache.scan_iter())


def test_each_line_of_a_log_is_an_event_of_ours(services: Services) -> None:
    headers = {"X-Request-Id": 'a"\\', "User-Agent": LOGS[0].strip(), "Idempotency-Key": LOGS[3]}
    services.client("writer", "mallory").post("/post", json={"body": "x"}, headers=headers)
    for name, process in services.processes.items():
        lines = process.log.read_text().splitlines()
        assert lines
        for line in lines:
            assert json.loads(line)["service"] == name
            assert "forged" not in line


def test_a_failure_inside_tells_the_client_no_more_than_its_number(
    services: Services, connection: Connection
) -> None:
    client = services.client("writer", "mallory")
    run_sql(connection, "RENAME TABLE idempotency_keys TO hidden")
    try:
        answer = client.post("/post", json={"body": "x"}, headers={"Idempotency-Key": "k"})
    finally:
        run_sql(connection, "RENAME TABLE hidden TO idempotency_keys")
    assert answer.status_code == 500
    assert answer.json().keys() <= {"type", "title", "status", "detail"}
    for inside in ("Traceback", "File ", "idempotency", "SELECT", "INSERT", "pymysql", "1146", "writer/"):
        assert inside not in answer.text
    assert answer.headers["x-request-id"] in services.processes["writer"].log.read_text()
