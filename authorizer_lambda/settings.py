"""The authorizer's settings: the one algorithm, key, issuer and audience that it trusts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jwt

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

ALGORITHM = "TIDEMARK_AUTH_ALGORITHM"
SECRET = "TIDEMARK_AUTH_SECRET"
PUBLIC_KEY = "TIDEMARK_AUTH_PUBLIC_KEY"
ISSUER = "TIDEMARK_AUTH_ISSUER"
AUDIENCE = "TIDEMARK_AUTH_AUDIENCE"
CACHE_SECONDS = "TIDEMARK_AUTH_CACHE_SECONDS"

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
MAX_CACHE_SECONDS = 60


class SettingsError(ValueError):
    """A TIDEMARK_AUTH_* variable is missing or wrong; the message names it and never shows a secret."""


@dataclass(frozen=True)
class AuthSettings:
    """One algorithm and its key: the bytes of an HS256 secret, or a public key object for the other three."""

    algorithm: str
    key: bytes | AllowedPublicKeys = field(repr=False)
    issuer: str
    audience: str
    cache_seconds: int = 60
    leeway_seconds: int = 5
    max_life_seconds: int = 86_400

    def __post_init__(self) -> None:
        if not 0 <= self.cache_seconds <= MAX_CACHE_SECONDS:
            raise SettingsError(f"{CACHE_SECONDS} is {self.cache_seconds}; it must be 0 to {MAX_CACHE_SECONDS}.")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> AuthSettings:
        """Read TIDEMARK_AUTH_*; an empty variable counts as not set. Raises SettingsError."""
        algorithm = _required(environ, ALGORITHM)
        if algorithm not in ALGORITHMS:
            raise SettingsError(f"{ALGORITHM} is {algorithm!r}; it must be exactly one of {', '.join(ALGORITHMS)}.")
        return cls(
            algorithm=algorithm,
            key=_secret(environ) if algorithm == "HS256" else _public_key(environ, algorithm),
            issuer=_required(environ, ISSUER),
            audience=_required(environ, AUDIENCE),
            cache_seconds=_cache_seconds(environ),
        )


def _required(environ: Mapping[str, str], variable: str) -> str:
    text = environ.get(variable)
    if not text:
        raise SettingsError(f"{variable} is not set; it has no default.")
    return text


def _cache_seconds(environ: Mapping[str, str]) -> int:
    text = environ.get(CACHE_SECONDS) or str(AuthSettings.cache_seconds)
    if not re.fullmatch("[0-9]{1,9}", text):
        raise SettingsError(f"{CACHE_SECONDS} is {text!r}; it must be a whole number, 0 to {MAX_CACHE_SECONDS}.")
    return int(text)


def _secret(environ: Mapping[str, str]) -> bytes:
    text = _required(environ, SECRET)
    _refuse_beside_it(environ, PUBLIC_KEY, "HS256", SECRET)
    try:
        secret: bytes = jwt.get_algorithm_by_name("HS256").prepare_key(text)
    except (jwt.InvalidKeyError, UnicodeEncodeError):
        raise SettingsError(
            f"{SECRET} holds a PEM, certificate, SSH key or JWK; HS256 needs a random secret."
        ) from None
    if len(secret) < 32:
        raise SettingsError(f"{SECRET} has {len(secret)} bytes; HS256 needs at least 32 random ones (RFC 7518, 3.2).")
    return secret


def _public_key(environ: Mapping[str, str], algorithm: str) -> AllowedPublicKeys:
    text = _required(environ, PUBLIC_KEY).replace("\\n", "\n").strip()  # env files cannot hold line breaks
    _refuse_beside_it(environ, SECRET, algorithm, PUBLIC_KEY)
    if "PRIVATE KEY" in text:
        raise SettingsError(f"{PUBLIC_KEY} holds a private key; give the public one, and replace the exposed key pair.")
    if not text.startswith("-----BEGIN PUBLIC KEY-----"):
        raise SettingsError(f"{PUBLIC_KEY} must be PEM text that starts with -----BEGIN PUBLIC KEY-----.")
    return _parsed(text, algorithm)


def _parsed(pem: str, algorithm: str) -> AllowedPublicKeys:
    try:
        family = jwt.get_algorithm_by_name(algorithm)
    except NotImplementedError:
        raise SettingsError(f"{ALGORITHM} is {algorithm}, which needs the package cryptography installed.") from None
    from cryptography.exceptions import UnsupportedAlgorithm  # HS256 works without this package

    try:
        key: AllowedPublicKeys = family.prepare_key(pem)
    except (jwt.InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(f"{PUBLIC_KEY} is not a public key for {algorithm}.") from None
    if weakness := family.check_key_length(key):
        raise SettingsError(f"{PUBLIC_KEY}: {weakness}")
    return key


def _refuse_beside_it(environ: Mapping[str, str], other: str, algorithm: str, used: str) -> None:
    """Key material of two algorithms at once is how HS/RS confusion begins (RFC 8725, 2.1)."""
    if environ.get(other):
        raise SettingsError(f"{other} is set, but {algorithm} uses {used} alone; unset it.")
