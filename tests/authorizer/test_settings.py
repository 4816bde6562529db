"""A wrong setting stops the start with the variable's name; a secret is never shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

from authorizer_lambda.jwks import Jwks
from authorizer_lambda.settings import AuthSettings
from tests.authorizer import keys
from tests.authorizer.forging import ENVIRONMENT, SECRET, SETTINGS
from tidemark.settings import SettingError

P = "TIDEMARK_AUTH_"


def _refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingError) as refusal:
        AuthSettings.from_environ(environ)
    return str(refusal.value)


def test_settings_are_read_from_the_environment() -> None:
    assert AuthSettings.from_environ(ENVIRONMENT) == SETTINGS
    assert (SETTINGS.cache_seconds, SETTINGS.leeway_seconds, SETTINGS.max_life_seconds) == (60, 5, 86_400)


@pytest.mark.parametrize("name", ["ALGORITHM", "SECRET", "ISSUER", "AUDIENCE"])
@pytest.mark.parametrize("empty", [True, False])
def test_nothing_required_has_a_default(name: str, empty: bool) -> None:
    environ = {key: value for key, value in ENVIRONMENT.items() if key != P + name}
    assert _refusal(environ | ({P + name: ""} if empty else {})) == f"{P}{name} is not set"


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_an_asymmetric_algorithm_needs_its_public_key(algorithm: str) -> None:
    assert _refusal(keys.environment(algorithm) | {P + "PUBLIC_KEY": ""}).startswith(
        P + "PUBLIC_KEY is not set"
    )


@pytest.mark.parametrize(
    "algorithm", ["none", "hs256", "HS512", "HS256,RS256", "HS256 RS256", "PS256", "RS256,"]
)
def test_exactly_one_known_algorithm_is_taken(algorithm: str) -> None:
    assert f"{P}ALGORITHM='{algorithm}': should be one of HS256" in _refusal(
        ENVIRONMENT | {P + "ALGORITHM": algorithm}
    )


def test_two_kinds_of_key_at_once_are_refused() -> None:
    both = keys.environment("RS256") | {P + "SECRET": SECRET.decode()}
    assert _refusal(both).startswith(P + "SECRET='***': should not be set, RS256 uses")
    assert _refusal(both | {P + "ALGORITHM": "HS256"}).startswith(
        P + "PUBLIC_KEY='***': should not be set, HS256 uses"
    )


@pytest.mark.parametrize("secret", ["a", "short-secret", "x" * 31, "\u00e9" * 15])
def test_a_secret_below_32_bytes_is_refused_and_not_shown(secret: str) -> None:
    message = _refusal(ENVIRONMENT | {P + "SECRET": secret})
    assert message.startswith(f"{P}SECRET='***': should have at least 32 random bytes")
    assert message.endswith(f"not {len(secret.encode())}")
    assert len(secret) == 1 or secret not in message


def test_a_key_is_no_hs256_secret() -> None:
    for algorithm in keys.ASYMMETRIC:
        private, jwk = (
            keys.private_key(algorithm),
            '{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}',
        )
        for text in (
            keys.public_pem(private),
            keys.private_pem(private),
            keys.public_ssh(private).decode(),
            jwk,
        ):
            message = _refusal(ENVIRONMENT | {P + "SECRET": text})
            assert message.startswith(P + "SECRET='***': should be a random secret")
            assert text.splitlines()[-1] not in message


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_a_private_key_is_refused_where_the_public_one_belongs(algorithm: str) -> None:
    private = keys.private_pem(keys.private_key(algorithm))
    public = keys.public_pem(keys.private_key(algorithm))
    for text in (private, public + private):
        message = _refusal(keys.environment(algorithm) | {P + "PUBLIC_KEY": text})
        assert message.startswith(P + "PUBLIC_KEY='***': is a private key")
        assert text.splitlines()[1] not in message


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
@pytest.mark.parametrize("family", keys.ASYMMETRIC)
def test_a_public_key_of_another_family_is_refused(algorithm: str, family: str) -> None:
    environ = keys.environment(algorithm) | {P + "PUBLIC_KEY": keys.public_pem(keys.private_key(family))}
    if family == algorithm:
        assert AuthSettings.from_environ(environ).algorithm == algorithm
    else:
        assert _refusal(environ) == f"{P}PUBLIC_KEY='***': should be a public key for {algorithm}"


def test_a_weak_key_or_another_curve_is_refused() -> None:
    rsa_1024 = keys.public_pem(generate_rsa(public_exponent=65537, key_size=1024))
    assert "1024 bits" in _refusal(keys.environment("RS256") | {P + "PUBLIC_KEY": rsa_1024})
    for curve in (SECP384R1(), SECP256K1()):
        pem = keys.public_pem(generate_ec(curve))
        assert "should be a public key for ES256" in _refusal(
            keys.environment("ES256") | {P + "PUBLIC_KEY": pem}
        )


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
@pytest.mark.parametrize(
    "text", ["x", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_a_public_key_that_is_no_pem_is_refused(algorithm: str, text: str) -> None:
    assert _refusal(keys.environment(algorithm) | {P + "PUBLIC_KEY": text}).startswith(
        P + "PUBLIC_KEY='***': "
    )


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_a_public_key_in_another_form_is_refused_naming_the_form(algorithm: str) -> None:
    ssh = keys.public_ssh(keys.private_key(algorithm)).decode()
    assert "starts with -----BEGIN PUBLIC KEY-----" in _refusal(
        keys.environment(algorithm) | {P + "PUBLIC_KEY": ssh}
    )


def test_a_public_key_may_be_written_on_one_line() -> None:
    environ = keys.environment("ES256")
    one_line = environ | {P + "PUBLIC_KEY": environ[P + "PUBLIC_KEY"].replace("\n", "\\n")}
    assert AuthSettings.from_environ(one_line).key == AuthSettings.from_environ(environ).key


def _jwks_environment(url: str, **changes: str) -> dict[str, str]:
    return keys.environment("ES256") | {P + "PUBLIC_KEY": "", P + "JWKS_URL": url} | changes


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/.well-known/jwks.json",
        "https://id.example:8443/keys?tenant=1",
        "http://127.0.0.1:8080/keys",
        "http://localhost/keys",
        "http://[::1]:8080/keys",
    ],
)
def test_keys_may_come_from_an_https_url_or_from_this_machine(url: str) -> None:
    key = AuthSettings.from_environ(_jwks_environment(url)).key
    assert isinstance(key, Jwks)
    assert (key.url, key.algorithm, key.stale_seconds) == (url, "ES256", 3600)


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "http://10.0.0.1/keys",
        "http://127.0.0.1.example/keys",
        "http://localhost.example/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/keys",
        "data:application/json,{}",
        "/etc/keys",
        "id.example/keys",
        "https://",
        "https:///keys",
        "https://id.example/keys#x",
        "https://id.example/ keys",
        "https://id.example/keys\r\nX: y",
        "https://id.example:port/keys",
        "https://[::1/keys",
        "https://id.ex\u00e4mple/keys",
    ],
)
def test_any_other_url_of_keys_is_refused(url: str) -> None:
    assert _refusal(_jwks_environment(url)).startswith(P + "JWKS_URL=")


def test_a_password_in_the_keys_url_is_refused_and_not_shown() -> None:
    assert "hunter2" not in _refusal(_jwks_environment("https://jane:hunter2@id.example/keys"))


def test_keys_come_from_one_place() -> None:
    url = "https://id.example/keys"
    pem = keys.environment("ES256")[P + "PUBLIC_KEY"]
    assert "PUBLIC_KEY='***': should not be set, ES256 uses" in _refusal(
        _jwks_environment(url, **{P + "PUBLIC_KEY": pem})
    )
    assert "SECRET='***': should not be set, ES256 uses" in _refusal(
        _jwks_environment(url, **{P + "SECRET": SECRET.decode()})
    )
    assert f"JWKS_URL={url!r}: should not be set, HS256 uses" in _refusal(ENVIRONMENT | {P + "JWKS_URL": url})


@pytest.mark.parametrize("seconds", ["300", "86400"])
def test_keys_may_be_old_for_a_while(seconds: str) -> None:
    environ = _jwks_environment("https://id.example/keys", **{P + "JWKS_STALE_SECONDS": seconds})
    key = AuthSettings.from_environ(environ).key
    assert isinstance(key, Jwks) and key.stale_seconds == int(seconds)


@pytest.mark.parametrize("seconds", ["299", "86401", "-1", "x"])
def test_keys_may_not_be_old_for_longer(seconds: str) -> None:
    environ = _jwks_environment("https://id.example/keys", **{P + "JWKS_STALE_SECONDS": seconds})
    assert (
        _refusal(environ) == f"{P}JWKS_STALE_SECONDS={seconds!r}: should be a whole number from 300 to 86400"
    )


@pytest.mark.parametrize(("text", "expected"), [("", True), ("true", True), ("false", False)])
def test_simple_responses_are_on_or_off(text: str, expected: bool) -> None:
    assert (
        AuthSettings.from_environ(ENVIRONMENT | {P + "SIMPLE_RESPONSES": text}).simple_responses is expected
    )


@pytest.mark.parametrize("text", ["yes", "1", "True", "iam"])
def test_anything_else_for_simple_responses_is_refused(text: str) -> None:
    assert _refusal(ENVIRONMENT | {P + "SIMPLE_RESPONSES": text}).startswith(
        f"{P}SIMPLE_RESPONSES='{text}': should be one of true, false"
    )


@pytest.mark.parametrize("seconds", ["0", "1", "60"])
def test_the_cache_may_be_at_most_a_minute(seconds: str) -> None:
    assert AuthSettings.from_environ(ENVIRONMENT | {P + "CACHE_SECONDS": seconds}).cache_seconds == int(
        seconds
    )


@pytest.mark.parametrize("seconds", ["61", "-1", "300", "1.5", "1_0", " 5", "abc", "9" * 5000, "\u0665"])
def test_a_wrong_cache_time_is_named_with_its_value(seconds: str) -> None:
    message = _refusal(ENVIRONMENT | {P + "CACHE_SECONDS": seconds})
    assert message.startswith(f"{P}CACHE_SECONDS=")
    assert seconds in message


def test_settings_made_in_code_keep_the_cache_limit_too() -> None:
    with pytest.raises(SettingError, match="CACHE_SECONDS='61': should be a whole number from 0 to 60"):
        replace(SETTINGS, cache_seconds=61)


def test_neither_repr_nor_str_shows_the_key() -> None:
    for settings in (SETTINGS, *map(keys.settings, keys.ASYMMETRIC)):
        assert "key" not in repr(settings) and SECRET.decode() not in f"{settings!r}{settings}"
