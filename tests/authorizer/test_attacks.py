"""Every known attack is refused for the right reason; unusual but lawful tokens are accepted."""

from __future__ import annotations

import pytest

from authorizer_lambda.tokens import InvalidToken, verify
from tests.authorizer.attacks import ATTACKS, GOOD, Attack
from tests.authorizer.forging import AUDIENCE, NOW, SETTINGS, claims, claims_with_raw, header, signed


@pytest.mark.parametrize(
    "attack", [pytest.param(attack, id=f"{attack.name} [{attack.source}]") for attack in ATTACKS]
)
def test_a_known_attack_is_refused_with_its_reason(attack: Attack) -> None:
    with pytest.raises(InvalidToken) as refusal:
        verify(attack.token, SETTINGS, NOW)
    assert attack.refused_with in refusal.value.reason
    assert str(refusal.value) == refusal.value.reason


def test_the_token_that_the_attacks_are_made_from_is_accepted() -> None:
    assert verify(GOOD, SETTINGS, NOW).subject == "jane"


@pytest.mark.parametrize(
    "token",
    [
        signed('{"alg":"HS256"}', claims()),
        signed(header(typ="at+jwt"), claims()),
        signed(header(kid="2026-11.key_1"), claims()),
        signed(header(), claims(aud=["other", AUDIENCE])),
        signed(header(), claims_with_raw("exp", f"{NOW + 600}.5")),
        signed(header(), claims(iat=NOW - 60, exp=NOW - 4)),
        signed(header(), claims(nbf=NOW + 5)),
        signed(header(), claims(iat=NOW, exp=NOW + 86_400)),
        signed(header(), claims(email="j\u00e4ne@id.example", roles=["a", {"b": None}])),
    ],
    ids=[
        "no typ",
        "at+jwt",
        "kid",
        "aud list",
        "fraction",
        "leeway exp",
        "leeway nbf",
        "a whole day",
        "other claims",
    ],
)
def test_an_unusual_but_lawful_token_is_accepted(token: str) -> None:
    assert verify(token, SETTINGS, NOW).scopes == {"read", "write"}


@pytest.mark.parametrize("nonsense", [None, 5, b"a.b.c", ["a"], {}, object()])
def test_a_token_that_is_not_text_is_invalid(nonsense: object) -> None:
    with pytest.raises(InvalidToken):
        verify(nonsense, SETTINGS, NOW)  # type: ignore[arg-type]


def test_no_reason_quotes_the_token() -> None:
    for attack in ATTACKS:
        with pytest.raises(InvalidToken) as refusal:
            verify(attack.token, SETTINGS, NOW)
        quotable = [part for part in attack.token.split(".") if len(part) > 1]
        assert not any(part in refusal.value.reason for part in (*quotable, "attacker", "root", "jane"))
