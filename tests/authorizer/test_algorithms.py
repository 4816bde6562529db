"""RS256, ES256 and EdDSA with fresh keys, and every attempt to use a key for another algorithm."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from authorizer_lambda.tokens import InvalidToken, verify
from tests.authorizer import keys
from tests.authorizer.forging import CLAIMS, NOW, SETTINGS, base64url, claims, header, signed

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_a_token_of_the_right_key_is_accepted(algorithm: str) -> None:
    assert verify(keys.token(algorithm), keys.settings(algorithm), NOW).subject == "jane"


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_a_token_of_another_key_is_refused(algorithm: str) -> None:
    with pytest.raises(InvalidToken, match="InvalidSignatureError"):
        verify(keys.token(algorithm, keys.generate(algorithm)), keys.settings(algorithm), NOW)


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
def test_a_changed_payload_is_refused(algorithm: str) -> None:
    head, _, signature = keys.token(algorithm).split(".")
    with pytest.raises(InvalidToken, match="InvalidSignatureError"):
        verify(f"{head}.{base64url(claims(sub='root').encode())}.{signature}", keys.settings(algorithm), NOW)


@pytest.mark.parametrize("algorithm", keys.ASYMMETRIC)
@pytest.mark.parametrize("claimed", ["HS256", "the configured one"])
@pytest.mark.parametrize("form", ["PEM", "DER", "base64 of DER", "JWK", "SSH"])
def test_a_public_key_is_never_taken_for_an_hmac_secret(algorithm: str, claimed: str, form: str) -> None:
    """RFC 8725 2.1, 3.1; CVE-2022-29217 (GHSA-ffqj-6fqr-9h24), GHSA-xgmm-8j9v-c9wx, GHSA-r6x4-923q-g947."""
    der = keys.public_der(keys.private_key(algorithm))
    public = keys.private_key(algorithm).public_key()
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    secrets = {
        "PEM": keys.public_pem(keys.private_key(algorithm)).encode(),
        "DER": der,
        "base64 of DER": base64.b64encode(der),
        "JWK": json.dumps(jwk).encode(),
        "SSH": keys.public_ssh(keys.private_key(algorithm)),
    }
    alg = claimed if claimed == "HS256" else algorithm
    with pytest.raises(InvalidToken):
        verify(signed(header(alg=alg), claims(), secrets[form]), keys.settings(algorithm), NOW)


@pytest.mark.parametrize("configured", ["HS256", *keys.ASYMMETRIC])
@pytest.mark.parametrize("made_with", keys.ASYMMETRIC)
def test_a_token_of_another_algorithm_is_refused(configured: str, made_with: str) -> None:
    """RFC 8725 3.1: the algorithm is the verifier's choice, never the token's."""
    if configured == made_with:
        made_with = {"RS256": "PS256", "ES256": "ES256K", "EdDSA": "HS256"}[configured]
        token = signed(header(alg=made_with), claims())
    else:
        token = keys.token(made_with)
    with pytest.raises(InvalidToken, match="algorithm is not the one expected"):
        verify(token, SETTINGS if configured == "HS256" else keys.settings(configured), NOW)


@pytest.mark.parametrize("other", ["RS384", "RS512", "PS256"])
def test_the_right_rsa_key_does_not_excuse_another_algorithm(other: str) -> None:
    """RFC 8725 3.1: one key, one algorithm."""
    token = jwt.encode(CLAIMS, keys.private_key("RS256"), other)
    with pytest.raises(InvalidToken, match="algorithm is not the one expected"):
        verify(token, keys.settings("RS256"), NOW)


@pytest.mark.parametrize(
    "signature",
    [
        bytes(64),
        P256_ORDER.to_bytes(32, "big") * 2,
        bytes(32) + (1).to_bytes(32, "big"),
        bytes(65),
        bytes(63),
        encode_dss_signature(1, 1),
        encode_dss_signature(0, 0),
    ],
    ids=["zeros", "r = s = n", "r = 0", "65 bytes", "63 bytes", "DER 1,1", "DER 0,0"],
)
def test_a_psychic_signature_is_refused(signature: bytes) -> None:
    """The class of CVE-2022-21449 (Java); wycheproof ecdsa SpecialCaseEs256."""
    head, body, _ = keys.token("ES256").split(".")
    with pytest.raises(InvalidToken, match="InvalidSignatureError"):
        verify(f"{head}.{body}.{base64url(signature)}", keys.settings("ES256"), NOW)


def test_the_der_form_of_a_right_es256_signature_is_refused() -> None:
    """RFC 7518 3.4: the signature is exactly r and s, 32 bytes each."""
    head, body, signature = keys.token("ES256").split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    with pytest.raises(InvalidToken, match="InvalidSignatureError"):
        verify(f"{head}.{body}.{base64url(der)}", keys.settings("ES256"), NOW)
