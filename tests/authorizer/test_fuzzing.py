"""Every random input is refused: no other exception, and never an allow."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authorizer_lambda.handler import authorize
from authorizer_lambda.jwks import FAMILIES, Jwks, KeysUnavailable, usable_keys
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import SCOPE, SUBJECT, InvalidToken, bearer_token, verify
from tests.authorizer import keys
from tests.authorizer.asgi import Service
from tests.authorizer.forging import CLAIMS, HEADER, NOW, SETTINGS, good_token, signed
from tests.authorizer.gateway import STAGE, token_event
from tests.authorizer.jwks_server import nobody_listens

GOOD = good_token()
FUZZ = settings(max_examples=100)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([NOW, NOW + 60, GOOD]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
BEARER = st.sampled_from(["Bearer ", "bearer ", "Basic ", ""])
HEADER_VALUES = st.lists(
    st.binary(max_size=60) | st.text(max_size=60) | st.builds(str.__add__, BEARER, st.text(max_size=60)),
    max_size=3,
)
ARNS = st.text(max_size=30) | st.builds(
    str.__add__, st.sampled_from([STAGE, f"{STAGE}/", "arn:aws:"]), st.text(max_size=30)
)
EVENTS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["TOKEN", "REQUEST"]) | JSON,
        "version": st.sampled_from(["1.0", "2.0"]) | JSON,
        "authorizationToken": st.builds(str.__add__, BEARER, st.text()) | JSON,
        "headers": st.dictionaries(st.sampled_from(["authorization", "Authorization"]), JSON) | JSON,
        "multiValueHeaders": st.dictionaries(st.just("Authorization"), st.lists(JSON, max_size=3)) | JSON,
        "methodArn": ARNS | JSON,
        "requestContext": JSON | st.just({"http": {"method": "GET"}}),
    },
)

JWKS_DOCUMENTS = st.fixed_dictionaries(
    {
        "keys": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "kty": st.sampled_from(["RSA", "EC", "oct", "OKP"]) | JSON,
                    "kid": st.just("kid") | JSON,
                    "n": st.sampled_from(["AQAB", "AA", ""]) | JSON,
                    "e": st.sampled_from(["AQAB", "AA", ""]) | JSON,
                    "use": st.sampled_from(["sig", "enc"]) | JSON,
                    "key_ops": JSON,
                    "alg": st.sampled_from(list(FAMILIES)) | JSON,
                },
            ),
            max_size=3,
        )
    }
)
NOWHERE = nobody_listens()
KID_TOKENS = [
    f"Bearer {jwt.encode(CLAIMS, keys.private_key('ES256'), 'ES256', headers={'kid': kid})}"
    for kid in ("a", "b", "../a")
]
REFUSED = {"isAuthorized": False, "context": {}}


def _authorize(event: Any, settings: AuthSettings = SETTINGS) -> dict[str, Any] | None:
    """The answer; None for API Gateway's 401. Any other exception fails the test."""
    try:
        return authorize(event, settings, NOW)
    except Exception as error:
        if type(error) is not Exception or error.args != ("Unauthorized",):
            raise
        return None


@FUZZ
@given(HEADER_VALUES)
def test_no_header_is_more_than_an_invalid_token(values: list[bytes | str]) -> None:
    try:
        verify(bearer_token(values), SETTINGS, NOW)
    except InvalidToken:
        return
    raise AssertionError(f"accepted: {values!r}")


@FUZZ
@given(st.lists(st.binary(max_size=300), max_size=3), st.text(max_size=10), st.text(max_size=20))
def test_no_request_without_a_good_token_reaches_the_service(
    values: list[bytes], method: str, path: str
) -> None:
    service = Service()
    headers = [(b"authorization", value) for value in values]
    start, _ = service.exchange({"type": "http", "method": method, "path": path, "headers": headers})
    assert start["status"] == 401
    assert service.reached == []


@pytest.mark.parametrize(("simple_responses", "answers"), [(True, (None, REFUSED)), (False, (None,))])
@FUZZ
@given(event=EVENTS)
def test_no_event_without_a_good_token_is_allowed(
    event: Any, simple_responses: bool, answers: tuple[object, ...]
) -> None:
    assert _authorize(event, replace(SETTINGS, simple_responses=simple_responses)) in answers


@FUZZ
@given(EVENTS | st.builds(token_event, st.sampled_from(KID_TOKENS)))
def test_no_event_is_allowed_without_keys_nor_fetches_them_too_often(event: Any) -> None:
    jwks = Jwks(NOWHERE, "ES256", 3600)
    try:
        assert _authorize(event, replace(SETTINGS, algorithm="ES256", key=jwks)) in (None, REFUSED)
    except KeysUnavailable:
        assert not jwks.is_due("any", NOW), "a fetch was just tried"


@FUZZ
@given(st.binary(max_size=200) | st.builds(json.dumps, JSON | JWKS_DOCUMENTS).map(str.encode))
def test_no_document_is_taken_for_keys(document: bytes) -> None:
    try:
        usable_keys(document, "RS256")
    except ValueError:
        return
    raise AssertionError(f"accepted: {document!r}")


@FUZZ
@given(ARNS)
def test_no_method_arn_widens_the_rights_of_a_good_token(arn: str) -> None:
    answer = _authorize(
        {"type": "TOKEN", "authorizationToken": f"Bearer {good_token(scope='read')}", "methodArn": arn}
    )
    if answer is not None:
        (statement,) = answer["policyDocument"]["Statement"]
        stage = statement["Resource"][0].removesuffix("/GET/*")
        assert statement["Resource"] == [f"{stage}/GET/*", f"{stage}/HEAD/*"]
        assert arn.startswith(f"{stage}/") and stage.count("/") == 1 and not set(stage) & set("*?")


@FUZZ
@given(
    st.integers(0, len(GOOD) - 1),
    st.sampled_from("AZaz09-_.=+/ \0\n\u00e9"),
    st.sampled_from(["put", "insert", "cut"]),
)
def test_a_good_token_with_one_character_changed_is_refused(index: int, character: str, change: str) -> None:
    middle = {"put": character, "insert": character + GOOD[index], "cut": ""}[change]
    changed = GOOD[:index] + middle + GOOD[index + 1 :]
    assume(changed != GOOD)
    try:
        verify(changed, SETTINGS, NOW)
    except InvalidToken:
        return
    raise AssertionError(f"accepted: {changed!r}")


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64"]), JSON, max_size=1),
    st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "jti"]), JSON, max_size=2),
)
def test_even_the_owner_of_the_secret_cannot_provoke_anything_else(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    try:
        accepted = verify(signed(json.dumps(HEADER | header), json.dumps(CLAIMS | claims)), SETTINGS, NOW)
    except InvalidToken:
        return
    assert SUBJECT.fullmatch(accepted.subject) and SCOPE.fullmatch(" ".join(accepted.scopes))
    assert NOW - 5 < accepted.expires_at <= accepted.issued_at + 86_400 and accepted.issued_at <= NOW + 5
    assert {**HEADER, **header}["alg"] == "HS256"
