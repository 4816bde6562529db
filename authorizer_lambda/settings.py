"""The authorizer's settings: one algorithm, its keys, and the trusted issuer and audience."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jwt

from authorizer_lambda.jwks import Jwks
from tidemark.settings import SettingError, bad_value, both, load, one_of, variable, whole_number

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

ALGORITHM = "TIDEMARK_AUTH_ALGORITHM"
SECRET = "TIDEMARK_AUTH_SECRET"
PUBLIC_KEY = "TIDEMARK_AUTH_PUBLIC_KEY"
JWKS_URL = "TIDEMARK_AUTH_JWKS_URL"
CACHE_SECONDS = "TIDEMARK_AUTH_CACHE_SECONDS"

LOOPBACK = ("127.0.0.1", "::1", "localhost")
cache_seconds_of = whole_number(0, 60)


@dataclass(frozen=True)
class KeyVariables:
    """The algorithm decides which of the three keys is needed."""

    algorithm: str = variable(ALGORITHM, one_of("HS256", "RS256", "ES256", "EdDSA"))
    secret: str = variable(SECRET, str, "", secret=True)
    public_key: str = variable(PUBLIC_KEY, str, "", secret=True)  # someone may set a private key by mistake
    jwks_url: str = variable(JWKS_URL, str, "", secret=True)
    jwks_stale_seconds: int = variable("TIDEMARK_AUTH_JWKS_STALE_SECONDS", whole_number(300, 86_400), "3600")


@dataclass(frozen=True)
class AuthVariables:
    """The others of TIDEMARK_AUTH_*, as they are set."""

    issuer: str = variable("TIDEMARK_AUTH_ISSUER", str)
    audience: str = variable("TIDEMARK_AUTH_AUDIENCE", str)
    cache_seconds: int = variable(CACHE_SECONDS, cache_seconds_of, "60")
    simple_responses: str = variable("TIDEMARK_AUTH_SIMPLE_RESPONSES", one_of("true", "false"), "true")


@dataclass(frozen=True)
class AuthSettings:
    """One algorithm and its key: the bytes of an HS256 secret; a public key or a JWKS for the other three.

    `simple_responses` is EnableSimpleResponses of an HTTP API's authorizer of format 2.0.
    """

    algorithm: str
    key: bytes | AllowedPublicKeys | Jwks = field(repr=False)
    issuer: str
    audience: str
    cache_seconds: int = 60
    simple_responses: bool = True
    leeway_seconds: int = 5
    max_life_seconds: int = 86_400

    def __post_init__(self) -> None:
        try:
            cache_seconds_of(str(self.cache_seconds))
        except ValueError as error:
            raise bad_value(CACHE_SECONDS, str(self.cache_seconds), error) from None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> AuthSettings:
        """Read TIDEMARK_AUTH_*; an empty variable counts as not set. Raises SettingError."""
        (algorithm, key), given = both(
            lambda: _algorithm_and_key(load(KeyVariables, environ)), lambda: load(AuthVariables, environ)
        )
        return cls(
            algorithm=algorithm,
            key=key,
            issuer=given.issuer,
            audience=given.audience,
            cache_seconds=given.cache_seconds,
            simple_responses=given.simple_responses == "true",
        )


def _algorithm_and_key(given: KeyVariables) -> tuple[str, bytes | AllowedPublicKeys | Jwks]:
    if given.algorithm == "HS256":
        return given.algorithm, _secret(given)
    return given.algorithm, _jwks(given) if given.jwks_url else _public_key(given)


def _jwks(given: KeyVariables) -> Jwks:
    """The keys are fetched when a token first needs them, not here."""
    _refuse_other_keys(given, JWKS_URL)
    _family(given.algorithm)
    if fault := _fault_of_url(given.jwks_url):
        raise bad_value(JWKS_URL, given.jwks_url, fault, secret=True)
    return Jwks(given.jwks_url, given.algorithm, given.jwks_stale_seconds)


def _fault_of_url(text: str) -> str:
    """The fault of a JWKS URL, or "". Only https and loopback are safe from forged keys."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "should be a URL"
    visible = text.isascii() and text.isprintable() and " " not in text
    if not visible or not host or parts.fragment or "@" in parts.netloc:
        return "should be a URL with a host, without user, password or fragment"
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        return "should start with https://"
    return ""


def _secret(given: KeyVariables) -> bytes:
    if not given.secret:
        raise SettingError(f"{SECRET} is not set")
    _refuse_other_keys(given, SECRET)
    try:
        secret: bytes = jwt.get_algorithm_by_name("HS256").prepare_key(given.secret)
    except (jwt.InvalidKeyError, UnicodeEncodeError):
        should = "should be a random secret, not a PEM, certificate, SSH key or JWK"
        raise bad_value(SECRET, given.secret, should, secret=True) from None
    if len(secret) < 32:
        should = f"should have at least 32 random bytes (RFC 7518, 3.2), not {len(secret)}"
        raise bad_value(SECRET, given.secret, should, secret=True)
    return secret


def _public_key(given: KeyVariables) -> AllowedPublicKeys:
    if not given.public_key:
        raise SettingError(f"{PUBLIC_KEY} is not set, nor {JWKS_URL}: {given.algorithm} needs one of them")
    _refuse_other_keys(given, PUBLIC_KEY)
    text = given.public_key.replace("\\n", "\n").strip()  # env files have no line breaks in values
    if "PRIVATE KEY" in text:
        raise _bad_public_key("is a private key: give the public one, and replace the exposed key pair")
    if not text.startswith("-----BEGIN PUBLIC KEY-----"):
        raise _bad_public_key("should be PEM text that starts with -----BEGIN PUBLIC KEY-----")
    return _parsed(text, given.algorithm)


def _family(algorithm: str) -> jwt.algorithms.Algorithm:
    try:
        return jwt.get_algorithm_by_name(algorithm)
    except NotImplementedError:
        raise bad_value(ALGORITHM, algorithm, "needs the package cryptography installed") from None


def _parsed(pem: str, algorithm: str) -> AllowedPublicKeys:
    family = _family(algorithm)
    from cryptography.exceptions import UnsupportedAlgorithm  # HS256 works without this package

    try:
        key: AllowedPublicKeys = family.prepare_key(pem)
    except (jwt.InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm):
        raise _bad_public_key(f"should be a public key for {algorithm}") from None
    if weakness := family.check_key_length(key):
        raise _bad_public_key(weakness)
    return key


def _bad_public_key(should: str) -> SettingError:
    return SettingError(f"{PUBLIC_KEY}='***': {should}")


def _refuse_other_keys(given: KeyVariables, used: str) -> None:
    """Raises SettingError for keys of a second algorithm: HS/RS confusion begins so (RFC 8725, 2.1)."""
    for name, text in ((SECRET, given.secret), (PUBLIC_KEY, given.public_key), (JWKS_URL, given.jwks_url)):
        if text and name != used:
            raise bad_value(
                name, text, f"should not be set, {given.algorithm} uses {used} alone", secret=True
            )
