"""Keys from a URL: rotated without a restart, kept for a limited time in an outage, fetched within limits."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

from authorizer_lambda import jwks as module
from authorizer_lambda.handler import authorize
from authorizer_lambda.jwks import (
    COOLDOWN_SECONDS,
    FRESH_SECONDS,
    MAX_BYTES,
    RETRY_SECONDS,
    Jwks,
    KeysUnavailable,
    UnknownKey,
    usable_keys,
)
from authorizer_lambda.settings import AuthSettings
from tests.authorizer import keys
from tests.authorizer.forging import CLAIMS, NOW
from tests.authorizer.gateway import STAGE, allows, http_api_2_event, token_event
from tests.authorizer.jwks_server import JwksServer, jwk, jwks, nobody_listens, serving
from tests.support.certificates import Authority

STALE = 3600
NEXT = keys.generate("ES256")


@pytest.fixture
def server() -> Iterator[JwksServer]:
    with serving(jwk("ES256", "first")) as serving_keys:
        yield serving_keys


def _settings(url: str, algorithm: str = "ES256") -> AuthSettings:
    environ = keys.environment(algorithm) | {"TIDEMARK_AUTH_PUBLIC_KEY": "", "TIDEMARK_AUTH_JWKS_URL": url}
    return AuthSettings.from_environ(environ)


def _event(
    kid: str | None, key: keys.PrivateKey | None = None, algorithm: str = "ES256", now: float = NOW
) -> Any:
    claims = CLAIMS | {"iat": int(now), "exp": int(now) + 600}
    header = {"kid": kid} if kid is not None else None
    return token_event(
        f"Bearer {jwt.encode(claims, key or keys.private_key(algorithm), algorithm, headers=header)}"
    )


def _is_allowed(
    settings: AuthSettings, kid: str | None, now: float = NOW, key: keys.PrivateKey | None = None
) -> bool:
    """False for API Gateway's 401; KeysUnavailable goes to the caller."""
    try:
        return allows(authorize(_event(kid, key, now=now), settings, now), f"{STAGE}/GET/feed")
    except Exception as error:
        if type(error) is not Exception:
            raise
        assert error.args == ("Unauthorized",)
        return False


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_each_token_is_verified_with_the_key_that_it_names(algorithm: str) -> None:
    other = keys.generate(algorithm)
    with serving(jwk(algorithm, "a"), jwk(algorithm, "b", other)) as server:
        settings = _settings(server.url, algorithm)
        for kid, key, right in (
            ("a", None, True),
            ("b", other, True),
            ("a", other, False),
            ("b", None, False),
        ):
            event = _event(kid, key, algorithm)
            if right:
                assert allows(authorize(event, settings, NOW), f"{STAGE}/GET/feed")
            else:
                with pytest.raises(Exception, match=r"^Unauthorized$"):
                    authorize(event, settings, NOW)
        assert server.paths == ["/keys?tenant=1"]


def test_new_keys_are_found_and_removed_ones_forgotten_without_a_restart(server: JwksServer) -> None:
    settings = _settings(server.url)
    assert _is_allowed(settings, "first")
    server.body = jwks(jwk("ES256", "first"), jwk("ES256", "next", NEXT))
    assert not _is_allowed(settings, "next", NOW + COOLDOWN_SECONDS - 1, NEXT), "fetched a moment ago"
    assert _is_allowed(settings, "next", NOW + COOLDOWN_SECONDS, NEXT)
    assert _is_allowed(settings, "first", NOW + COOLDOWN_SECONDS)
    server.body = jwks(jwk("ES256", "next", NEXT))
    assert _is_allowed(settings, "first", NOW + COOLDOWN_SECONDS + FRESH_SECONDS - 1), "no fetch is due yet"
    assert not _is_allowed(settings, "first", NOW + COOLDOWN_SECONDS + FRESH_SECONDS)
    assert server.fetches == 3


def test_a_key_replaced_under_the_same_name_is_replaced_here_too(server: JwksServer) -> None:
    settings = _settings(server.url)
    assert _is_allowed(settings, "first")
    server.body = jwks(jwk("ES256", "first", NEXT))
    later = NOW + FRESH_SECONDS
    assert _is_allowed(settings, "first", later, NEXT) and not _is_allowed(settings, "first", later)


def test_a_flood_of_unknown_names_is_one_fetch_per_cooldown(server: JwksServer) -> None:
    settings = _settings(server.url)
    for seconds in range(2 * COOLDOWN_SECONDS):
        assert not _is_allowed(settings, f"unknown-{seconds}", NOW + seconds)
    assert server.fetches == 2


@pytest.mark.parametrize("event", [_event(None), _event("../first"), token_event("Bearer x.y.z"), {}])
def test_a_token_that_names_no_possible_key_fetches_nothing(server: JwksServer, event: Any) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize(event, _settings(server.url), NOW)
    assert server.fetches == 0


def test_the_last_good_keys_outlast_an_outage_for_a_limited_time(
    server: JwksServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(server.url)
    assert _is_allowed(settings, "first")
    server.status = 503
    for seconds in (FRESH_SECONDS, FRESH_SECONDS + COOLDOWN_SECONDS - 1, STALE):
        assert _is_allowed(settings, "first", NOW + seconds)
    assert server.fetches == 3, "one when the keys were old, one after the cooldown"
    with pytest.raises(KeysUnavailable):
        _is_allowed(settings, "first", NOW + STALE + 1)
    server.status = 200
    assert _is_allowed(settings, "first", NOW + STALE + RETRY_SECONDS)
    assert f"ValueError: the answer is 503 with {len(server.body)} bytes" in caplog.messages[0]
    assert caplog.messages[0].endswith("the last good ones: 300 s old")


@pytest.mark.parametrize("event", [_event("first"), http_api_2_event(_event("first")["authorizationToken"])])
def test_without_keys_the_function_fails_and_neither_allows_nor_refuses(
    event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(nobody_listens())
    with caplog.at_level(logging.WARNING), pytest.raises(KeysUnavailable):
        authorize(event, settings, NOW)
    assert "ConnectionRefusedError" in caplog.text and "the last good ones: none" in caplog.text
    assert "Bearer" not in caplog.text and "eyJ" not in caplog.text


def test_a_clock_set_back_neither_stops_fetching_nor_drops_keys(server: JwksServer) -> None:
    settings = _settings(server.url)
    assert _is_allowed(settings, "first", NOW + 100_000)
    assert _is_allowed(settings, "first", NOW)
    assert server.fetches == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"x" * (MAX_BYTES + 1), f"200 with {MAX_BYTES + 1} bytes"),
        (b"", "JSONDecodeError"),
        (b"<html>", "JSONDecodeError"),
        (b"\xff\xfe", "UnicodeDecodeError"),
        (b"[" * 60_000, "RecursionError"),
        (b"[]", "this is not a JWKS"),
        (b'{"keys":{}}', "this is not a JWKS"),
        (b'{"keys":[]}', "it holds no public ES256 key"),
    ],
    ids=["too long", "empty", "HTML", "not UTF-8", "deep", "a list", "keys an object", "no keys"],
)
def test_a_wrong_answer_changes_nothing(
    server: JwksServer, body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = _settings(server.url)
    assert _is_allowed(settings, "first")
    server.body = body
    assert _is_allowed(settings, "first", NOW + FRESH_SECONDS)
    assert server.fetches == 2 and said in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: JwksServer, status: int) -> None:
    """GHSA-993g-76c3-p5m4 of PyJWT: an attacker who can redirect the URL would choose the keys."""
    with serving(jwk("ES256", "first")) as elsewhere:
        server.status, server.headers = status, [("Location", elsewhere.url)]
        with pytest.raises(KeysUnavailable):
            _is_allowed(_settings(server.url), "first")
        assert (server.fetches, elsewhere.fetches) == (1, 0)


@pytest.mark.parametrize("drips", ["head", "body"])
def test_an_answer_that_drips_is_cut_off(
    server: JwksServer, drips: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte would restart a socket's own timeout; CWE-400."""
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.3)
    server.drips = drips
    with pytest.raises(KeysUnavailable):
        _is_allowed(_settings(server.url), "first")
    assert server.cut_off.wait(10)


def test_an_answer_that_never_comes_is_not_waited_for(
    server: JwksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.3)
    server.hold.clear()
    with pytest.raises(KeysUnavailable):
        _is_allowed(_settings(server.url), "first")
    assert server.fetches == 1 and not server.hold.is_set()


def test_over_https_the_server_must_prove_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    for address, trusted, allowed in (
        ("127.0.0.1", True, True),
        ("127.0.0.1", False, False),
        ("127.0.0.2", True, False),
    ):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("server", address))
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        else:
            monkeypatch.delenv("SSL_CERT_FILE")
        with serving(jwk("ES256", "first"), tls=tls) as server:
            if allowed:
                assert _is_allowed(_settings(server.url), "first")
            else:
                with pytest.raises(KeysUnavailable):
                    _is_allowed(_settings(server.url), "first")


RSA_1024, RSA_2047 = (generate_rsa(public_exponent=65537, key_size=bits) for bits in (1024, 2047))
PRIVATE = jwt.get_algorithm_by_name("ES256").to_jwk(keys.private_key("ES256"), as_dict=True)
P_384 = jwt.get_algorithm_by_name("ES384").to_jwk(generate_ec(SECP384R1()).public_key(), as_dict=True)
OCT = {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "kid": "x"}


@pytest.mark.parametrize(
    ("algorithm", "other"),
    [
        ("ES256", jwk("ES256", "x", use="enc")),
        ("ES256", jwk("ES256", "x", alg="ES384")),
        ("ES256", jwk("ES256", "x", key_ops=["sign"])),
        ("ES256", jwk("ES256", "x", crv="P-384")),
        ("ES256", jwk("ES256", "x", x="AAAA")),
        (
            "ES256",
            jwt.get_algorithm_by_name("ES384").to_jwk(generate_ec(SECP384R1()).public_key(), True)
            | {"kid": "x"},
        ),
        ("ES256", jwk("RS256", "x")),
        ("ES256", jwk("EdDSA", "x")),
        ("ES256", PRIVATE | {"kid": "x"}),
        ("ES256", OCT),
        ("RS256", OCT | {"alg": "RS256"}),
        ("RS256", jwk("RS256", "x", RSA_1024)),
        ("RS256", jwk("RS256", "x", RSA_2047)),
        ("RS256", jwk("RS256", "x", alg="RS512")),
        ("EdDSA", jwk("EdDSA", "x", crv="X25519")),
        ("EdDSA", jwk("EdDSA", "x", crv="Ed448")),
        ("ES256", jwk("ES256", "../x")),
        ("ES256", {key: value for key, value in jwk("ES256", "x").items() if key != "kid"}),
        ("ES256", jwk("ES256", "x") | {"kid": 5}),
        ("ES256", "a string"),
        ("ES256", None),
    ],
)
def test_a_key_of_another_kind_is_passed_over(algorithm: str, other: Any) -> None:
    """RFC 7517 4; wycheproof json_web_key: mixed families, short keys, wrong alg, use, kty and curve."""
    found = usable_keys(jwks(other, jwk(algorithm, "right")), algorithm)
    assert found.keys() == {"right"}
    with pytest.raises(ValueError, match=f"no public {algorithm} key"):
        usable_keys(jwks(other), algorithm)


def test_two_keys_of_one_name_are_refused_but_not_two_families() -> None:
    """RFC 7517 4.5; wycheproof json_web_key: duplicate kid."""
    with pytest.raises(ValueError, match="same kid"):
        usable_keys(jwks(jwk("ES256", "x"), jwk("ES256", "x", NEXT)), "ES256")
    assert usable_keys(jwks(jwk("ES256", "x"), jwk("RS256", "x")), "ES256").keys() == {"x"}


@pytest.mark.parametrize("kid", ["2026-11.key_1", "1iVjbVbPCXgPPRz7+9xhJ6RzJAEJP4Ui/eC6IzZPvdM=", "a" * 64])
def test_the_names_that_providers_give_are_taken(kid: str) -> None:
    bare = {key: value for key, value in jwk("ES256", kid).items() if key not in ("use", "alg")}
    assert usable_keys(json.dumps({"keys": [bare], "more": 1}).encode(), "ES256").keys() == {kid}


def test_looking_up_never_fetches(server: JwksServer) -> None:
    found = Jwks(server.url, "ES256", STALE)
    with pytest.raises(KeysUnavailable):
        found.key("first", NOW)
    found.fetch(NOW)
    with pytest.raises(UnknownKey):
        found.key("other", NOW + COOLDOWN_SECONDS)
    assert server.fetches == 1
