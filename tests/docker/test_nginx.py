"""nginx before the services: allowed requests and headers pass; no service sees any other."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from ops.stack.servers.ports import free_port
from tests.conftest import AUTH
from tests.docker.nginx import Gateway, Witness, running_nginx
from tests.reader.conftest import plain_client
from tests.support.harness import Process, process, wait_until
from tests.support.tokens import bearer
from tests.tidemark.raw_http import answer
from tidemark.problem import title_of
from tidemark.problems import TYPES
from tidemark.settings import Address

pytestmark = pytest.mark.server

READS = bearer("subject-1", "read")
WRITES = bearer("subject-1", "write")
PASSED_ON = {
    *(
        "authorization",
        "accept",
        "content-type",
        "content-encoding",
        "cookie",
        "if-none-match",
        "last-event-id",
        "prefer",
        "consistency-token",
    ),
    *("idempotency-key", "x-request-id", "host", "content-length"),
    *("origin", "access-control-request-method", "access-control-request-headers"),
}


@contextlib.contextmanager
def running_authorizer() -> Iterator[tuple[int, Process]]:
    port = free_port()
    with process(AUTH, "-m", "authorizer_lambda", "serve", "--bind", f"127.0.0.1:{port}") as started:
        wait_until(lambda: answers(port), "the authorizer to answer")
        yield port, started


def answers(port: int) -> bool:
    with contextlib.suppress(httpx2.TransportError), plain_client(f"http://127.0.0.1:{port}", {}) as client:
        return client.get("/healthz").status_code == 204
    return False


def places(**ports: int) -> Callable[[str], str]:
    """A translation of the upstreams' addresses; a service without a port is down."""
    known = {name.replace("_", "-"): port for name, port in ports.items()}

    def outside(text: str) -> str:
        return re.sub(
            r"\b([a-z][a-z0-9-]*):800\d\b", lambda m: f"127.0.0.1:{known.get(m[1]) or free_port()}", text
        )

    return outside


@pytest.fixture(scope="module")
def authorizer() -> Iterator[int]:
    with running_authorizer() as (port, _):
        yield port


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Witness, Callable[[int], Callable[[str], str]]]]:
    """Writer and readers that record their requests, and the translation of their addresses for nginx."""
    witness = Witness()
    with witness.serving("writer") as writer, witness.serving("reader") as reader:
        yield witness, lambda port: places(writer=writer, reader_1=reader, reader_2=reader, authorizer=port)


Services = tuple[Witness, Callable[[int], Callable[[str], str]]]


@pytest.fixture(scope="module")
def gateway(
    services: Services, authorizer: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """nginx with a hundredth of its timeouts."""
    outside = services[1](authorizer)
    with running_nginx(
        tmp_path_factory.mktemp("nginx"), lambda text: outside(text).replace(" 10s;", " 100ms;")
    ) as it:
        yield it


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx2.Client]:
    with plain_client(gateway.url, {}) as client:
        yield client


@pytest.fixture
def witness(services: Services) -> Witness:
    services[0].seen.clear()
    return services[0]


def test_what_a_problem_means_needs_no_token(client: httpx2.Client, witness: Witness) -> None:
    assert client.get("/problems/unauthorized").text == "ok"
    assert witness.seen[0].service == "reader"


ORIGIN = "https://app.example.org"


def test_a_preflight_has_no_token_and_reaches_the_service_that_it_asks_about(
    client: httpx2.Client, witness: Witness
) -> None:
    for method, service in (("GET", "reader"), ("POST", "writer")):
        asked = {
            "origin": ORIGIN,
            "access-control-request-method": method,
            "access-control-request-headers": "authorization",
        }
        assert client.options("/post", headers=asked).status_code == 200
        assert witness.seen[-1].service == service
        assert asked.items() <= dict(witness.seen[-1].headers).items()
    assert client.options("/post", headers={"origin": ORIGIN}).status_code == 401
    assert len(witness.seen) == 2


def test_own_refusals_name_the_listed_origin_only(
    services: Services, authorizer: int, witness: Witness, tmp_path: Path
) -> None:
    outside = services[1](authorizer)
    listed = f'"{ORIGIN}" $http_origin;'
    with (
        running_nginx(tmp_path, lambda text: outside(text).replace(f"# {listed}", listed)) as gateway,
        plain_client(gateway.url, {"origin": ORIGIN}) as client,
    ):
        for status, headers in ((401, {}), (403, WRITES)):
            answer = client.get("/post/1", headers=headers)
            refused(answer, status)
            assert answer.headers["access-control-allow-origin"] == ORIGIN
        other = client.get("/post/1", headers={"origin": f"{ORIGIN}.evil"})
        assert "access-control-allow-origin" not in other.headers


def raw(gateway: Gateway, request: str) -> str:
    return answer(Address("127.0.0.1", gateway.port), request.encode().replace(b"\n", b"\r\n")).decode()


def refused(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    name = problem["type"].removeprefix("/problems/")
    assert str(status) in TYPES[name][0] and problem["title"] == title_of(name)
    assert answer.headers["server"] == "nginx"  # and no version


def test_reads_and_writes_reach_their_service_with_a_token_for_them(
    client: httpx2.Client, witness: Witness
) -> None:
    assert client.get("/post/1?x=1", headers=READS).text == "ok"
    assert client.head("/post/1", headers=READS).status_code == 200
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, "/post", headers=WRITES, content=b"{}").status_code == 200
    assert [seen.service for seen in witness.seen] == [
        "reader",
        "reader",
        "writer",
        "writer",
        "writer",
        "writer",
    ]
    assert witness.seen[0].line == "GET /post/1?x=1 HTTP/1.1"
    assert witness.seen[2].body == b"{}"


def test_without_a_token_for_it_nothing_gets_through(client: httpx2.Client, witness: Witness) -> None:
    forged = READS["Authorization"][:-4] + "AAAA"
    for authorization, error in (
        ("", ""),
        ("Basic eA==", ""),
        ("Bearer x.y.z", ', error="invalid_token"'),
        (forged, ', error="invalid_token"'),
    ):
        answer = client.get("/post/1", headers={"authorization": authorization} if authorization else {})
        refused(answer, 401)
        assert answer.headers.get_list("www-authenticate") == [f'Bearer realm="tidemark"{error}']
    refused(client.get("/post/1", headers=WRITES), 403)
    answer = client.post("/post", headers={**READS, "x-original-method": "GET"})
    refused(answer, 403)
    assert 'error="insufficient_scope", scope="write"' in answer.headers["www-authenticate"]
    assert not witness.seen


def test_a_token_in_the_query_string_is_neither_used_nor_logged(
    client: httpx2.Client, gateway: Gateway, witness: Witness
) -> None:
    secret = READS["Authorization"].removeprefix("Bearer ")
    refused(client.get("/post/1", params={"access_token": secret}), 401)
    assert client.get("/post/1", params={"access_token": secret}, headers=READS).status_code == 200
    wait_until(lambda: gateway.log.read_text().count('"path":"/post/1"') >= 2, "the log")
    assert secret not in gateway.log.read_text()


def test_only_listed_headers_are_passed_on_and_only_one_authorization(
    client: httpx2.Client, gateway: Gateway, witness: Witness
) -> None:
    listed = dict.fromkeys(PASSED_ON - {"host", "content-length", "authorization"}, "x")
    others = (
        "x-forwarded-for",
        "forwarded",
        "x-authz-principal",
        "x-original-uri",
        "upgrade",
        "x-http-method-override",
    )
    client.post("/post", headers={**listed, **dict.fromkeys(others, "1"), **WRITES}, content=b"{}")
    [seen] = witness.seen
    assert {name for name, _ in seen.headers} == PASSED_ON
    assert dict(seen.headers)["authorization"] == WRITES["Authorization"]
    line = f"Authorization: {READS['Authorization']}"
    assert " 400 " in raw(gateway, f"GET /post/1 HTTP/1.1\nHost: h\n{line}\n{line}\nConnection: close\n\n")
    assert len(witness.seen) == 1


@pytest.mark.parametrize(
    "path",
    [
        *("//post/1", "/post//1", "/openapi/../post/1", "/openapi/./reader.json", "/post/..", "/post/1;x"),
        *(
            "/post/%2e%2e/x",
            "/openapi/%2E%2E/post/1",
            "/post%2f1",
            "/post%5C1",
            "/post\\1",
            "/post/1%00",
            "/post/%0a",
        ),
        *(
            "/post/1%3fx",
            "/post/1%23x",
            "/post/%252e%252e/x",
            "/openapi/writer.json%00",
            "/_authorize/../post/1",
        ),
    ],
)
def test_a_path_that_two_could_read_differently_is_refused(
    gateway: Gateway, witness: Witness, path: str
) -> None:
    head = f"Host: h\nAuthorization: {READS['Authorization']}\nConnection: close\n\n"
    assert raw(gateway, f"GET {path} HTTP/1.1\n{head}").startswith("HTTP/1.1 400 ")
    assert not witness.seen


def test_other_letters_in_a_path_arrive_as_they_were_sent(client: httpx2.Client, witness: Witness) -> None:
    assert client.get("/hashtag/%E6%B5%B7?cursor=..//;", headers=READS).status_code == 200
    assert witness.seen[0].line == "GET /hashtag/%E6%B5%B7?cursor=..//; HTTP/1.1"


def test_the_authorizer_cannot_be_asked_from_outside(client: httpx2.Client, witness: Witness) -> None:
    assert client.get("/_authorize", headers=READS).status_code == 404
    assert client.get("/authorize", headers={}).status_code == 401
    assert not witness.seen


def test_the_host_that_the_client_named_goes_on_with_its_port(gateway: Gateway, witness: Witness) -> None:
    head = f"Authorization: {READS['Authorization']}\nConnection: close\n\n"
    assert " 200 " in raw(gateway, f"GET /post/1 HTTP/1.1\nHost: pub.example:8443\n{head}")
    assert " 200 " in raw(gateway, f"GET /post/1 HTTP/1.0\n{head}")
    assert [dict(seen.headers)["host"] for seen in witness.seen] == ["pub.example:8443", "reader"]


def test_bodies_over_32_kib_reach_nobody_announced_or_not(client: httpx2.Client, witness: Witness) -> None:
    refused(client.post("/post", headers=WRITES, content=b"x" * 32_769), 413)
    refused(client.post("/post", headers=WRITES, content=iter([b"x" * 32_000, b"x" * 769])), 413)
    assert not witness.seen
    assert client.post("/post", headers=WRITES, content=b"x" * 32_768).status_code == 200


@pytest.mark.parametrize("fields", ["A: " + "x" * 11_000, "\n".join(["A: " + "x" * 9_000] * 6)])
def test_large_heads_are_431_and_reach_nobody(gateway: Gateway, witness: Witness, fields: str) -> None:
    head = f"GET /post/1 HTTP/1.1\nHost: h\nAuthorization: {READS['Authorization']}\nConnection: close\n"
    answer = raw(gateway, f"{head}{fields}\n\n")
    assert answer.startswith("HTTP/1.1 431 ") and "application/problem+json" in answer
    assert not witness.seen


def test_slow_heads_and_bodies_are_ended_before_a_service_sees_them(
    gateway: Gateway, witness: Witness
) -> None:
    head = f"POST /post HTTP/1.1\nHost: h\nAuthorization: {WRITES['Authorization']}\n"
    started = time.monotonic()
    for request in (head, f"{head}Content-Length: 10\n\nx", f"{head}Transfer-Encoding: chunked\n\n1\nx"):
        assert raw(gateway, request)[:12] in ("", "HTTP/1.1 408")
    assert time.monotonic() - started < 5
    assert not witness.seen


def test_a_request_of_two_lengths_is_refused(gateway: Gateway, witness: Witness) -> None:
    head = f"POST /post HTTP/1.1\nHost: h\nAuthorization: {WRITES['Authorization']}\n"
    for lengths in ("Content-Length: 1\nTransfer-Encoding: chunked", "Content-Length: 1\nContent-Length: 2"):
        assert raw(gateway, f"{head}{lengths}\nConnection: close\n\n0\n\n").startswith("HTTP/1.1 400 ")
    assert not witness.seen


def test_too_many_requests_at_once_are_told_to_slow_down(
    services: Services, authorizer: int, tmp_path: Path
) -> None:
    with running_nginx(tmp_path, services[1](authorizer)) as gateway, plain_client(gateway.url, {}) as client:
        started = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            answered = list(threads.map(lambda _: client.get("/post/1", headers=READS), range(500)))
        passed = sum(answer.status_code == 200 for answer in answered)
        assert 200 < passed <= 202 + 100 * (time.monotonic() - started)
        late = next(answer for answer in answered if answer.status_code != 200)
        assert (late.status_code, late.headers["retry-after"]) == (429, "1")


def test_no_decision_is_kept_and_without_an_authorizer_nobody_gets_through(
    services: Services, witness: Witness, tmp_path: Path
) -> None:
    with (
        running_authorizer() as (port, authorizer),
        running_nginx(tmp_path, services[1](port)) as gateway,
        plain_client(gateway.url, READS) as client,
    ):
        assert client.get("/post/1").status_code == 200
        authorizer.stop()
        answer = client.get("/post/1")
        refused(answer, 503)
        assert answer.headers["retry-after"] == "1"
    assert len(witness.seen) == 1
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in kept} <= {"nginx.conf", "nginx.log", "nginx.pid"}


def test_a_service_that_is_down_is_a_503(authorizer: int, tmp_path: Path) -> None:
    with (
        running_nginx(tmp_path, places(authorizer=authorizer)) as gateway,
        plain_client(gateway.url, {}) as client,
    ):
        refused(client.get("/post/1", headers=READS), 503)
        refused(client.post("/post", headers=WRITES), 503)
