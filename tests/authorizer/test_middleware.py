"""The middleware in API Gateway's place: only public paths are reached without a token for the method."""

from __future__ import annotations

from dataclasses import replace

import pytest

from authorizer_lambda.middleware import CLAIMS, VerifiedTokens
from authorizer_lambda.tokens import Claims, InvalidToken
from tests.authorizer.asgi import Service
from tests.authorizer.attacks import ATTACKS, Attack
from tests.authorizer.forging import NOW, SETTINGS, good_token
from tests.authorizer.gateway import METHODS

GOOD = f"Bearer {good_token()}"


def _source(tokens: VerifiedTokens, token: str) -> str:
    """Judge a token as the middleware does; return the source of the answer. Raises InvalidToken."""
    values = [f"Bearer {token}".encode()]
    if tokens.recall(values):
        return "cache"
    tokens.verify(values)
    return "verify"


def test_a_good_token_reaches_the_service_with_its_claims() -> None:
    service = Service()
    assert service.request(GOOD).body == b"reached"
    assert service.reached[0][CLAIMS] == Claims("jane", frozenset({"read", "write"}), NOW + 600, NOW)
    assert CLAIMS == "tidemark.claims"


@pytest.mark.parametrize("authorization", [(), ("",), ("Basic YTpi",)])
def test_a_request_without_credentials_is_challenged_without_an_error(authorization: tuple[str, ...]) -> None:
    """RFC 6750, 3.1."""
    service = Service()
    reply = service.request(*authorization, query=f"access_token={good_token()}")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer realm="tidemark"')
    assert service.reached == [] and service.decisions == [("verify", "unauthorized")]


@pytest.mark.parametrize(
    "authorization",
    [
        ("Bearer x",),
        (GOOD, GOOD),
        (f"{GOOD},{GOOD}",),
        (f"{GOOD} ",),
        (GOOD + "x",),
        ("Bearer",),
        ("Bearer \u00e9",),
    ],
)
def test_wrong_credentials_are_an_invalid_token(authorization: tuple[str, ...]) -> None:
    service = Service()
    reply = service.request(*authorization)
    assert (reply.status, reply.headers["www-authenticate"]) == (
        401,
        'Bearer realm="tidemark", error="invalid_token"',
    )
    assert service.reached == [] and service.decisions == [("verify", "unauthorized")]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_no_attack_reaches_the_service_even_when_repeated(attack: Attack) -> None:
    service = Service()
    presented = f"Bearer {attack.token}".encode("utf-8", "replace").decode("latin-1")
    assert [service.request(presented).status for _ in range(2)] == [401, 401]
    assert service.reached == [] and service.decisions == [("verify", "unauthorized")] * 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"proxy-authorization", GOOD),
        (b"x-authorization", GOOD),
        (b"x-forwarded-authorization", GOOD),
        (b"authorization-token", GOOD),
        (b"cookie", f"authorization={GOOD}; access_token={good_token()}"),
        (b"x-api-key", good_token()),
        (b"x-sub", "jane"),
        (b"x-authz-ctx", '{"sub":"jane","scope":"read"}'),
    ],
)
def test_a_token_is_taken_from_the_one_header_only(name: bytes, value: str) -> None:
    """RFC 6750 2. A second place to look is a second place to forget."""
    service = Service()
    scope = {"type": "http", "method": "GET", "path": "/feed", "headers": [(name, value.encode())]}
    assert service.exchange(scope)[0]["status"] == 401
    assert service.reached == []


@pytest.mark.parametrize("name", [b"x-http-method-override", b"x-http-method", b"x-method-override"])
def test_a_reading_token_does_not_write_under_another_name(name: bytes) -> None:
    """CWE-436: the method that is checked is the method that is executed."""
    service = Service()
    headers = [(b"authorization", f"Bearer {good_token(scope='read')}".encode()), (name, b"DELETE")]
    service.exchange({"type": "http", "method": "GET", "path": "/feed", "headers": headers})
    assert [scope["method"] for scope in service.reached] == ["GET"]
    service.exchange(
        {"type": "http", "method": "DELETE", "path": "/feed", "headers": [headers[0], (name, b"GET")]}
    )
    assert len(service.reached) == 1


@pytest.mark.parametrize("method", [*METHODS, "OPTIONS", "TRACE", "PURGE"])
@pytest.mark.parametrize("scope", ["", "read", "write", "read write", "admin"])
def test_each_method_needs_its_scope_and_is_told_which(method: str, scope: str) -> None:
    service, needed = Service(), "read" if method in ("GET", "HEAD") else "write"
    reply = service.request(f"Bearer {good_token(scope=scope)}", method=method)
    if needed in scope.split():
        assert reply.status == 200 and service.decisions == [("verify", "allow")]
    else:
        challenge = f'Bearer realm="tidemark", error="insufficient_scope", scope="{needed}"'
        assert (reply.status, reply.headers["www-authenticate"]) == (403, challenge)
        assert service.reached == [] and service.decisions == [("verify", "forbidden")]


@pytest.mark.parametrize(
    ("authorization", "status", "name", "detail"),
    [
        ("", 401, "unauthorized", "A bearer token is needed: the Authorization scheme is not Bearer."),
        (
            f"Bearer {good_token(exp=NOW + 1, iat=NOW - 9)}",
            401,
            "unauthorized",
            "The bearer token is refused: it has expired.",
        ),
        (f"Bearer {good_token(scope='write')}", 403, "insufficient-scope", "The token lacks the scope read."),
    ],
)
def test_a_refusal_is_a_problem_that_repeats_nothing_of_the_request(
    authorization: str, status: int, name: str, detail: str
) -> None:
    service = Service()
    service.now += 10
    reply = service.request(authorization, path="/<script>/post/7")
    title = name.replace("-", " ").capitalize()
    assert reply.problem == {"type": f"/problems/{name}", "title": title, "status": status, "detail": detail}
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert "script" not in f"{reply.headers}{reply.body!r}"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/openapi.json/",
        "/openapi.jso",
        "//openapi.json",
        "/OPENAPI.JSON",
        "/x/../openapi.json",
        "/openapi.json?",
    ],
)
def test_only_the_exact_public_path_needs_no_token(path: str) -> None:
    service = Service()
    assert service.request(path="/openapi.json").status == 200
    assert service.request("Bearer nonsense", path="/openapi.json").status == 200
    assert service.decisions == []
    assert service.request(path=path).status == 401


def test_lifespan_passes_and_websockets_are_closed() -> None:
    service = Service()
    service.exchange({"type": "lifespan"})
    assert [scope["type"] for scope in service.reached] == ["lifespan"]
    headers = [(b"authorization", GOOD.encode())]
    for path in ("/feed", "/openapi.json"):
        sent = service.exchange({"type": "websocket", "path": path, "headers": headers})
        assert sent == [{"type": "websocket.close", "code": 1008}]
    assert len(service.reached) == 1


def test_a_verified_token_is_remembered_for_the_cache_time_only() -> None:
    service = Service(replace(SETTINGS, cache_seconds=30))
    for elapsed, source in ((0, "verify"), (1, "cache"), (29.9, "cache"), (30, "verify"), (31, "cache")):
        service.now = NOW + elapsed
        assert service.request(GOOD).status == 200
        assert service.decisions[-1] == (source, "allow"), elapsed


def test_a_remembered_token_does_not_outlive_its_exp() -> None:
    service, token = Service(), f"Bearer {good_token(exp=NOW + 10)}"
    for elapsed, decision in (
        (0, ("verify", "allow")),
        (9.9, ("cache", "allow")),
        (10, ("verify", "allow")),
        (14.9, ("verify", "allow")),
        (15, ("verify", "unauthorized")),
        (59, ("verify", "unauthorized")),
    ):
        service.now = NOW + elapsed
        service.request(token)
        assert service.decisions[-1] == decision, elapsed


def test_a_remembered_token_is_still_asked_for_its_scope() -> None:
    service, read_only = Service(), f"Bearer {good_token(scope='read')}"
    statuses = [
        service.request(read_only, method=method).status for method in ("GET", "POST", "HEAD", "DELETE")
    ]
    assert statuses == [200, 403, 200, 403]
    assert service.decisions == [
        ("verify", "allow"),
        ("cache", "forbidden"),
        ("cache", "allow"),
        ("cache", "forbidden"),
    ]


def test_a_cache_of_no_seconds_remembers_nothing() -> None:
    service = Service(replace(SETTINGS, cache_seconds=0))
    assert [service.request(GOOD).status for _ in range(2)] == [200, 200]
    assert service.decisions == [("verify", "allow")] * 2


def test_another_token_is_never_answered_from_the_cache() -> None:
    service = Service()
    service.request(GOOD)
    for index in range(len(GOOD) - 60, len(GOOD)):
        changed = GOOD[:index] + ("A" if GOOD[index] != "A" else "B") + GOOD[index + 1 :]
        assert service.request(changed).status == 401
    assert service.decisions.count(("cache", "allow")) == 0


def test_the_memory_is_bounded_and_drops_the_token_unused_for_longest() -> None:
    tokens = VerifiedTokens(SETTINGS, lambda: NOW, capacity=2)
    first, second, third = (good_token(sub=subject) for subject in ("first", "second", "third"))
    sources = [_source(tokens, token) for token in (first, second, first, third, first, second)]
    assert sources == ["verify", "verify", "cache", "verify", "cache", "verify"]
    assert len(tokens) == 2


def test_failures_and_expired_tokens_take_no_memory() -> None:
    now = [float(NOW)]
    tokens = VerifiedTokens(SETTINGS, lambda: now[0])
    for token in (good_token() + "x", good_token(exp=NOW - 5, iat=NOW - 60)):
        with pytest.raises(InvalidToken):
            _source(tokens, token)
    assert len(tokens) == 0
    assert _source(tokens, good_token(exp=NOW, iat=NOW - 60)) == "verify", "within the leeway"
    assert len(tokens) == 0
    _source(tokens, good_token())
    now[0] += 700
    with pytest.raises(InvalidToken):
        _source(tokens, good_token())
    assert len(tokens) == 0
