"""Fresh key pairs for the three asymmetric algorithms, made once per test run."""

from __future__ import annotations

import functools
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from authorizer_lambda.settings import AuthSettings
from tests.authorizer.forging import AUDIENCE, CLAIMS, ISSUER

ASYMMETRIC = ("RS256", "ES256", "EdDSA")
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


def generate(algorithm: str) -> PrivateKey:
    if algorithm == "RS256":
        return generate_rsa(public_exponent=65537, key_size=2048)
    return generate_ec(SECP256R1()) if algorithm == "ES256" else Ed25519PrivateKey.generate()


@functools.cache
def private_key(algorithm: str) -> PrivateKey:
    return generate(algorithm)


def public_pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_der(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def environment(algorithm: str) -> dict[str, str]:
    """TIDEMARK_AUTH_* as a deployment sets them."""
    return {
        "TIDEMARK_AUTH_ALGORITHM": algorithm,
        "TIDEMARK_AUTH_PUBLIC_KEY": public_pem(private_key(algorithm)),
        "TIDEMARK_AUTH_ISSUER": ISSUER,
        "TIDEMARK_AUTH_AUDIENCE": AUDIENCE,
    }


def settings(algorithm: str) -> AuthSettings:
    return AuthSettings.from_environ(environment(algorithm))


def token(algorithm: str, key: PrivateKey | None = None, **changes: Any) -> str:
    return jwt.encode(CLAIMS | changes, key or private_key(algorithm), algorithm)


def public_ssh(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
