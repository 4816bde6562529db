"""Forged signatures that a careless verifier accepts, made with the right private key where that helps."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from authorizer_lambda.tokens import InvalidToken, verify
from tests.authorizer import keys
from tests.authorizer.forging import CLAIMS, NOW, base64url
from tests.authorizer.test_algorithms import P256_ORDER

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, 9.2, note 1
SHA256_INFO_WITHOUT_NULL = bytes.fromhex("302f300b06096086480165030402010420")
SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414")
SHA512_INFO = bytes.fromhex("3051300d060960864801650304020305000440")

Forgery = Callable[[bytes], bytes]


def _rsa() -> RSAPrivateKey:
    key = keys.private_key("RS256")
    assert isinstance(key, RSAPrivateKey)
    return key


def _raw(block: bytes) -> bytes:
    """RSA's private operation: a verifier's public operation gives `block` back."""
    numbers = _rsa().private_numbers()
    return pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")


def _block(end: bytes, kind: int = 1, filler: bytes = b"\xff") -> bytes:
    return bytes([0, kind]) + filler * ((253 - len(end)) // len(filler)) + b"\0" + end


def _digest(signed: bytes) -> bytes:
    return hashlib.sha256(signed).digest()


RSA_FORGERIES: dict[str, Forgery] = {
    "garbage after the digest (Bleichenbacher 2006; CVE-2006-4339)": lambda signed: _raw(
        (b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + _digest(signed)).ljust(256, b"\0")
    ),
    "padding that ends early (CVE-2006-4340)": lambda signed: _raw(
        b"\0\1" + b"\xff" * 8 + b"\0" * 194 + b"\0" + SHA256_INFO + _digest(signed)
    ),
    "padding of other bytes (RFC 8017 9.2)": lambda signed: _raw(
        _block(SHA256_INFO + _digest(signed), filler=b"\xfe")
    ),
    "an encryption block (RFC 8017 7.2.1)": lambda signed: _raw(
        _block(SHA256_INFO + _digest(signed), kind=2)
    ),
    "no digest algorithm (CVE-2014-1568, BERserk's class)": lambda signed: _raw(_block(_digest(signed))),
    "no NULL after the algorithm (wycheproof rsa_signature: MissingNull)": lambda signed: _raw(
        _block(SHA256_INFO_WITHOUT_NULL + _digest(signed))
    ),
    "SHA-1 (RFC 8725 3.2)": lambda signed: _raw(_block(SHA1_INFO + hashlib.sha1(signed).digest())),
    "SHA-512 (RFC 7518 3.3)": lambda signed: _raw(_block(SHA512_INFO + hashlib.sha512(signed).digest())),
    "PSS (RFC 7518 3.5)": lambda signed: _rsa().sign(signed, PSS(MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    "nought (wycheproof rsa_signature)": lambda signed: bytes(256),
    "one (wycheproof rsa_signature)": lambda signed: (1).to_bytes(256, "big"),
    "a zero before it (RFC 8017 8.2.2)": lambda signed: b"\0" + _raw(_block(SHA256_INFO + _digest(signed))),
    "a zero after it (RFC 8017 8.2.2)": lambda signed: _raw(_block(SHA256_INFO + _digest(signed))) + b"\0",
    "its last byte missing (RFC 8017 8.2.2)": lambda signed: _raw(_block(SHA256_INFO + _digest(signed)))[:-1],
}


def _right(algorithm: str) -> tuple[str, bytes]:
    """The signed part of a good token, and its signature."""
    signed, _, signature = jwt.encode(CLAIMS, keys.private_key(algorithm), algorithm).rpartition(".")
    return signed, base64.urlsafe_b64decode(signature + "==")


def _is_accepted(algorithm: str, signed: str, signature: bytes) -> bool:
    try:
        return verify(f"{signed}.{base64url(signature)}", keys.settings(algorithm), NOW).subject == "jane"
    except InvalidToken as refusal:
        assert refusal.reason == "InvalidSignatureError"
        return False


def test_the_forger_can_make_a_right_signature_too() -> None:
    """Otherwise the forgeries would prove nothing."""
    signed, signature = _right("RS256")
    assert _raw(_block(SHA256_INFO + _digest(signed.encode()))) == signature
    assert _is_accepted("RS256", signed, signature)


@pytest.mark.parametrize("name", RSA_FORGERIES)
def test_a_forged_rsa_signature_is_refused(name: str) -> None:
    signed, _ = _right("RS256")
    assert not _is_accepted("RS256", signed, RSA_FORGERIES[name](signed.encode()))


def test_an_rsa_signature_beyond_the_modulus_is_refused() -> None:
    """RFC 8017 5.2.2, step 1: careless arithmetic takes s + n for s."""
    signed, signature = _right("RS256")
    beyond = int.from_bytes(signature, "big") + _rsa().public_key().public_numbers().n
    assert not _is_accepted("RS256", signed, beyond.to_bytes(257, "big"))


@pytest.mark.parametrize("change", ["halves swapped", "r = n", "s = n", "first half alone", "twice"])
def test_a_changed_es256_signature_is_refused(change: str) -> None:
    """Wycheproof ecdsa_secp256r1_sha256_p1363."""
    signed, signature = _right("ES256")
    order, (r, s) = P256_ORDER.to_bytes(32, "big"), (signature[:32], signature[32:])
    changed = {
        "halves swapped": s + r,
        "r = n": order + s,
        "s = n": r + order,
        "first half alone": r,
        "twice": signature * 2,
    }
    assert not _is_accepted("ES256", signed, changed[change])


def test_the_twin_of_an_es256_token_is_another_good_token() -> None:
    """FIPS 186-5 accepts both s and n - s. Only good tokens are remembered by text; a twin is good, too."""
    signed, signature = _right("ES256")
    twin = P256_ORDER - int.from_bytes(signature[32:], "big")
    assert _is_accepted("ES256", signed, signature[:32] + twin.to_bytes(32, "big"))


@pytest.mark.parametrize(
    "change", ["S + L", "zeros", "R is the identity", "63 bytes", "65 bytes", "of another message"]
)
def test_a_changed_eddsa_signature_is_refused(change: str) -> None:
    """RFC 8032 5.1.7, 8.4; wycheproof eddsa SignatureMalleability, Compressed- and TruncatedSignature."""
    signed, signature = _right("EdDSA")
    beyond = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    changed = {
        "S + L": signature[:32] + beyond.to_bytes(32, "little"),
        "zeros": bytes(64),
        "R is the identity": (1).to_bytes(32, "little") + bytes(32),
        "63 bytes": signature[:-1],
        "65 bytes": signature + b"\0",
        "of another message": jwt.get_algorithm_by_name("EdDSA").sign(b"another", keys.private_key("EdDSA")),
    }
    assert _is_accepted("EdDSA", signed, signature)
    assert not _is_accepted("EdDSA", signed, changed[change])
