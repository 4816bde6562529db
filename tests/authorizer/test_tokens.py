"""A good token's claims, a token's place in a request, and development tokens."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from authorizer_lambda.tokens import Claims, InvalidToken, MissingToken, bearer_token, mint, verify
from tests.authorizer import keys
from tests.authorizer.forging import NOW, SETTINGS, claims, claims_without, good_token, header, signed
from tidemark.settings import SettingError


def test_a_good_token_yields_its_claims() -> None:
    assert verify(good_token(), SETTINGS, NOW) == Claims("jane", frozenset({"read", "write"}), NOW + 600, NOW)


@pytest.mark.parametrize("token", [signed(header(), claims_without("scope")), good_token(scope="")])
def test_a_token_without_scope_is_good_for_nothing(token: str) -> None:
    assert verify(token, SETTINGS, NOW).scopes == frozenset()


@pytest.mark.parametrize(
    ("seconds_after_exp", "accepted"), [(-1, True), (0, True), (4.9, True), (5, False), (6, False)]
)
def test_a_token_is_accepted_until_its_leeway_is_over(seconds_after_exp: float, accepted: bool) -> None:
    token, now = good_token(exp=NOW + 60), NOW + 60 + seconds_after_exp
    if accepted:
        assert verify(token, SETTINGS, now).expires_at == NOW + 60
    else:
        with pytest.raises(InvalidToken, match="expired"):
            verify(token, SETTINGS, now)


def test_without_a_time_given_the_clock_decides() -> None:
    now = int(time.time())
    assert verify(good_token(iat=now, exp=now + 60), SETTINGS).subject == "jane"
    with pytest.raises(InvalidToken, match="expired"):
        verify(good_token(iat=now - 60, exp=now - 30), SETTINGS)


@pytest.mark.parametrize(
    "value", [b"Bearer a.b.c", "Bearer a.b.c", "bearer a.b.c", b"BEARER a.b.c", "bEaReR a.b.c"]
)
def test_the_scheme_may_be_written_in_any_case(value: bytes | str) -> None:
    assert bearer_token([value]) == "a.b.c"


@pytest.mark.parametrize(
    "values",
    [
        ["Bearer  a.b.c"],
        ["Bearer a.b.c "],
        ["Bearer a.b.c\n"],
        ["Bearer a.b.c, Bearer a.b.c"],
        [b"Bearer a.b.c,Bearer a.b.c"],
        ["Bearer a.b.c,d.e.f"],
        ["Bearer"],
        ["Bearer "],
        ["Bearer a b"],
        ["Bearer a\u00a0b"],
        ["Bearer a.b.c", "Bearer a.b.c"],
        [b"Bearer a.b.c", b"Basic YTpi"],
    ],
)
def test_anything_but_one_header_one_space_one_token_is_invalid(values: list[bytes | str]) -> None:
    with pytest.raises(InvalidToken) as refusal:
        bearer_token(values)
    assert not isinstance(refusal.value, MissingToken)


@pytest.mark.parametrize(
    "values", [[], [""], ["Basic YTpi"], [" Bearer a.b.c"], ["Bearer\ta.b.c"], ["a.b.c"]]
)
def test_a_request_without_a_bearer_token_is_told_apart(values: list[bytes | str]) -> None:
    with pytest.raises(MissingToken):
        bearer_token(values)


def test_a_minted_token_is_accepted_for_its_lifetime() -> None:
    token = mint(SETTINGS, "jane", ["read", "write"], 120, NOW)
    assert verify(token, SETTINGS, NOW + 120) == Claims("jane", frozenset({"read", "write"}), NOW + 120, NOW)


@pytest.mark.parametrize(
    ("subject", "scopes", "lifetime"),
    [
        ("", ["read"], 60),
        ("jane doe", ["read"], 60),
        ("jane", ["re\nad"], 60),
        ("jane", ["read"], 86_401),
        ("jane", [], 0),
    ],
)
def test_a_token_that_would_be_refused_is_not_minted(subject: str, scopes: list[str], lifetime: int) -> None:
    with pytest.raises(InvalidToken):
        mint(SETTINGS, subject, scopes, lifetime, NOW)


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_only_hs256_tokens_are_minted(algorithm: str) -> None:
    with pytest.raises(SettingError, match=f"TIDEMARK_AUTH_ALGORITHM={algorithm!r}: only HS256"):
        mint(keys.settings(algorithm), "jane", ["read"], 60, NOW)


def test_a_weak_secret_verifies_nothing_even_in_settings_made_in_code() -> None:
    """RFC 7518 3.2: an attacker who guesses the secret can sign."""
    weak = b"x" * 31
    with pytest.raises(InvalidToken, match="InvalidKeyError"):
        verify(signed(header(), claims(), weak), replace(SETTINGS, key=weak), NOW)


def test_a_token_for_another_deployment_is_refused() -> None:
    for other in (replace(SETTINGS, issuer="https://other"), replace(SETTINGS, audience="other")):
        with pytest.raises(InvalidToken):
            verify(mint(other, "jane", ["read"], 60, NOW), SETTINGS, NOW)
