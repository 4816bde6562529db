"""The middleware and its keys: a known key waits for no fetch; without keys no request passes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import jwt
import pytest

from authorizer_lambda.forward_auth import ForwardAuth
from authorizer_lambda.jwks import COOLDOWN_SECONDS, FRESH_SECONDS, RETRY_SECONDS, Jwks
from authorizer_lambda.middleware import Message
from authorizer_lambda.settings import AuthSettings
from tests.authorizer import keys
from tests.authorizer.asgi import Service
from tests.authorizer.forging import CLAIMS, NOW
from tests.authorizer.jwks_server import JwksServer, jwk, jwks, nobody_listens, serving
from tests.support.harness import wait_until

FIRST, NEXT = keys.private_key("ES256"), keys.generate("ES256")


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with serving(jwk("ES256", "first", FIRST)) as serving_keys:
        yield serving_keys


def _service(url: str) -> Service:
    settings: AuthSettings = keys.settings("ES256")
    return Service(replace(settings, key=Jwks(url, "ES256", 3600), cache_seconds=60))


def _bearer(kid: str, subject: str = "jane") -> str:
    key = FIRST if kid == "first" else NEXT
    return f"Bearer {jwt.encode(CLAIMS | {'sub': subject}, key, 'ES256', headers={'kid': kid})}"


async def _asked(server: JwksServer, fetches: int) -> None:
    await asyncio.to_thread(wait_until, lambda: server.fetches >= fetches, f"fetch {fetches}")


def test_a_known_key_is_answered_while_others_wait_for_one_fetch(server: JwksServer) -> None:
    service = _service(server.url)

    async def scenario() -> None:
        assert (await service.reply(_bearer("first"))).status == 200
        service.now += COOLDOWN_SECONDS
        server.body = jwks(jwk("ES256", "next", NEXT), jwk("ES256", "first", FIRST))
        server.hold.clear()
        waiting = [
            asyncio.create_task(service.reply(_bearer("next", f"jane-{number}"))) for number in range(5)
        ]
        await _asked(server, 2)
        for token in (_bearer("first"), _bearer("first", "john")):
            assert (await service.reply(token)).status == 200
        assert not any(task.done() for task in waiting)
        waiting.pop().cancel()  # a client that leaves takes nothing from the others
        server.hold.set()
        assert [(await task).status for task in waiting] == [200] * 4

    asyncio.run(scenario())
    assert server.fetches == 2


def test_keys_that_are_old_are_fetched_again_behind_the_request(server: JwksServer) -> None:
    service = _service(server.url)

    async def scenario() -> None:
        assert (await service.reply(_bearer("first"))).status == 200
        service.now += FRESH_SECONDS
        server.hold.clear()
        assert (await service.reply(_bearer("first"))).status == 200
        await _asked(server, 2)
        server.hold.set()

    asyncio.run(scenario())


def test_a_token_that_was_verified_asks_for_no_keys(server: JwksServer) -> None:
    service, token = _service(server.url), _bearer("first")
    for elapsed in (0, FRESH_SECONDS - 30, FRESH_SECONDS):
        service.now = NOW + elapsed
        assert service.request(token).status == 200
    assert server.fetches == 1 and service.decisions[-1] == ("cache", "allow")


def test_without_keys_the_service_is_unavailable_and_says_for_how_long() -> None:
    service = _service(nobody_listens())
    reply = service.request(_bearer("first"))
    assert (reply.status, reply.headers["retry-after"]) == (503, str(RETRY_SECONDS))
    assert reply.problem["detail"] == "Tokens cannot be verified now: there are no keys."
    assert "www-authenticate" not in reply.headers
    assert service.reached == [] and service.decisions == [("verify", "unavailable")]


def test_the_service_is_back_as_soon_as_keys_are(server: JwksServer) -> None:
    service = _service(server.url)
    server.status = 500
    assert service.request(_bearer("first")).status == 503
    server.status = 200
    assert service.request(_bearer("first")).status == 503, "no fetch is due yet"
    service.now += RETRY_SECONDS
    assert service.request(_bearer("first")).status == 200


@pytest.mark.parametrize(
    ("kid", "answered", "status"), [("first", True, 204), ("next", True, 401), ("first", False, 503)]
)
def test_a_reverse_proxy_is_told_a_wrong_token_from_missing_keys(
    server: JwksServer, kid: str, answered: bool, status: int
) -> None:
    server.status = 200 if answered else 500
    key = FIRST if kid == "first" else NEXT
    claims = CLAIMS | {"iat": int(time.time()), "exp": int(time.time()) + 60}
    token = f"Bearer {jwt.encode(claims, key, 'ES256', headers={'kid': kid})}"
    settings = replace(keys.settings("ES256"), key=Jwks(server.url, "ES256", 3600))
    assert _asked_by_a_proxy(settings, token) == status


def test_an_unforeseen_error_is_no_refusal_and_its_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(keys.settings("ES256"), key=Jwks("", "ES256", "60"))  # type: ignore[arg-type]
    assert _asked_by_a_proxy(broken, authorization := _bearer("first")) == 500
    assert re.search(r"undecided: TypeError at \S+jwks.py:\d+", caplog.text)
    assert authorization not in caplog.text


def _asked_by_a_proxy(settings: AuthSettings, authorization: str) -> int:
    """The status of the answer."""
    headers = [(b"authorization", authorization.encode()), (b"x-original-method", b"GET")]
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(
        ForwardAuth(settings)({"type": "http", "path": "/authorize", "headers": headers}, receive, send)
    )
    return int(sent[0]["status"])


@pytest.mark.parametrize("token", ["Bearer x.y.z", "Bearer", _bearer("first") + "x", _bearer("unknown")])
def test_a_wrong_token_is_the_callers_fault_whatever_the_keys(server: JwksServer, token: str) -> None:
    service = _service(server.url)
    assert service.request(token).status == 401
    assert service.reached == []
