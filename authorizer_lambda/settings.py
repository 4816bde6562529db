"""The authorizer's settings: the one algorithm, its keys, and the issuer and audience that it trusts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jwt

from authorizer_lambda.jwks import Jwks

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

ALGORITHM = "TIDEMARK_AUTH_ALGORITHM"
SECRET = "TIDEMARK_AUTH_SECRET"
PUBLIC_KEY = "TIDEMARK_AUTH_PUBLIC_KEY"
JWKS_URL = "TIDEMARK_AUTH_JWKS_URL"
JWKS_STALE_SECONDS = "TIDEMARK_AUTH_JWKS_STALE_SECONDS"
ISSUER = "TIDEMARK_AUTH_ISSUER"
AUDIENCE = "TIDEMARK_AUTH_AUDIENCE"
CACHE_SECONDS = "TIDEMARK_AUTH_CACHE_SECONDS"
SIMPLE_RESPONSES = "TIDEMARK_AUTH_SIMPLE_RESPONSES"
DEFAULTS = {CACHE_SECONDS: "60", JWKS_STALE_SECONDS: "3600", SIMPLE_RESPONSES: "true"}

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
MAX_CACHE_SECONDS = 60
MIN_STALE_SECONDS, MAX_STALE_SECONDS = 300, 86_400
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingsError(ValueError):
    """A TIDEMARK_AUTH_* variable is missing or wrong; the message names it and never shows a secret."""


@dataclass(frozen=True)
class AuthSettings:
    """One algorithm and its key: the bytes of an HS256 secret; a public key or a JWKS for the other three.

    `simple_responses` is what an HTTP API's authorizer of format 2.0 says under EnableSimpleResponses.
    """

    algorithm: str
    key: bytes | AllowedPublicKeys | Jwks = field(repr=False)
    issuer: str
    audience: str
    cache_seconds: int = int(DEFAULTS[CACHE_SECONDS])
    simple_responses: bool = True
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
            key=_key(environ, algorithm),
            issuer=_required(environ, ISSUER),
            audience=_required(environ, AUDIENCE),
            cache_seconds=_seconds(environ, CACHE_SECONDS, 0, MAX_CACHE_SECONDS),
            simple_responses=_simple_responses(environ),
        )


def _required(environ: Mapping[str, str], variable: str) -> str:
    text = environ.get(variable)
    if not text:
        raise SettingsError(f"{variable} is not set; it has no default.")
    return text


def _seconds(environ: Mapping[str, str], variable: str, least: int, most: int) -> int:
    text = environ.get(variable) or DEFAULTS[variable]
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise SettingsError(f"{variable} is {text!r}; it must be a whole number, {least} to {most}.")
    return int(text)


def _simple_responses(environ: Mapping[str, str]) -> bool:
    text = environ.get(SIMPLE_RESPONSES) or DEFAULTS[SIMPLE_RESPONSES]
    if text not in ("true", "false"):
        raise SettingsError(f"{SIMPLE_RESPONSES} is {text!r}; it must be true or false.")
    return text == "true"


def _key(environ: Mapping[str, str], algorithm: str) -> bytes | AllowedPublicKeys | Jwks:
    if algorithm == "HS256":
        return _secret(environ)
    return _jwks(environ, algorithm) if environ.get(JWKS_URL) else _public_key(environ, algorithm)


def _jwks(environ: Mapping[str, str], algorithm: str) -> Jwks:
    """Only made here; it is fetched when a token first needs it."""
    _refuse_beside_it(environ, (SECRET, PUBLIC_KEY), algorithm, JWKS_URL)
    _family(algorithm)
    stale_seconds = _seconds(environ, JWKS_STALE_SECONDS, MIN_STALE_SECONDS, MAX_STALE_SECONDS)
    return Jwks(_jwks_url(environ[JWKS_URL]), algorithm, stale_seconds)


def _jwks_url(text: str) -> str:
    """Whoever answers in the place of this URL can make tokens, so it is https, or does not leave the machine."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise SettingsError(f"{JWKS_URL} is not a URL.") from None
    if not re.fullmatch(r"[\x21-\x7e]+", text) or not host or parts.fragment or "@" in parts.netloc:
        raise SettingsError(f"{JWKS_URL} must be a URL with a host, without user, password or fragment.")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise SettingsError(f"{JWKS_URL} is {text!r}; it must start with https://.")
    return text


def _secret(environ: Mapping[str, str]) -> bytes:
    text = _required(environ, SECRET)
    _refuse_beside_it(environ, (PUBLIC_KEY, JWKS_URL), "HS256", SECRET)
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
    if not environ.get(PUBLIC_KEY):
        raise SettingsError(f"{PUBLIC_KEY} is not set, nor {JWKS_URL}; {algorithm} needs one of them.")
    text = environ[PUBLIC_KEY].replace("\\n", "\n").strip()  # env files cannot hold line breaks
    _refuse_beside_it(environ, (SECRET,), algorithm, PUBLIC_KEY)
    if "PRIVATE KEY" in text:
        raise SettingsError(f"{PUBLIC_KEY} holds a private key; give the public one, and replace the exposed key pair.")
    if not text.startswith("-----BEGIN PUBLIC KEY-----"):
        raise SettingsError(f"{PUBLIC_KEY} must be PEM text that starts with -----BEGIN PUBLIC KEY-----.")
    return _parsed(text, algorithm)


def _family(algorithm: str) -> jwt.algorithms.Algorithm:
    try:
        return jwt.get_algorithm_by_name(algorithm)
    except NotImplementedError:
        raise SettingsError(f"{ALGORITHM} is {algorithm}, which needs the package cryptography installed.") from None


def _parsed(pem: str, algorithm: str) -> AllowedPublicKeys:
    family = _family(algorithm)
    from cryptography.exceptions import UnsupportedAlgorithm  # HS256 works without this package

    try:
        key: AllowedPublicKeys = family.prepare_key(pem)
    except (jwt.InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(f"{PUBLIC_KEY} is not a public key for {algorithm}.") from None
    if weakness := family.check_key_length(key):
        raise SettingsError(f"{PUBLIC_KEY}: {weakness}")
    return key


def _refuse_beside_it(environ: Mapping[str, str], others: Sequence[str], algorithm: str, used: str) -> None:
    """Key material of two algorithms at once is how HS/RS confusion begins (RFC 8725, 2.1)."""
    for other in others:
        if environ.get(other):
            raise SettingsError(f"{other} is set, but {algorithm} uses {used} alone; unset it.")
