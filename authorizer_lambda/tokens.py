"""Strict checks of bearer tokens: those of PyJWT, and those that PyJWT lacks."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never

import jwt
from jwt.types import Options

from authorizer_lambda.jwks import KEY_ID, Jwks, KeysUnavailable, UnknownKey
from authorizer_lambda.settings import ALGORITHM, AuthSettings
from tidemark.settings import bad_value

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

MAX_TOKEN_LENGTH = 8192
SHAPE = re.compile(r"[A-Za-z0-9_-]{2,2048}\.[A-Za-z0-9_-]{2,6144}\.[A-Za-z0-9_-]{2,1024}")
AUTHORIZATION = re.compile(r"(?i:bearer) ([^\s,]+)")  # exactly one space; a comma means two joined headers
SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")  # subject and scope become header values behind API Gateway
SCOPE = re.compile(r"([\x21-\x7e]{1,64}( [\x21-\x7e]{1,64}){0,15})?")
OPTIONS: Options = {
    "require": ["exp", "iat", "sub", "aud", "iss"],
    "enforce_minimum_key_length": True,
    "verify_exp": False,  # _lifetime checks the three times, by the caller's clock
    "verify_iat": False,
    "verify_nbf": False,
}


class InvalidToken(Exception):
    """The token gives no rights. `reason` is a fixed phrase without any text of the token: it may be sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MissingToken(InvalidToken):
    """The request has no bearer token (RFC 6750, 3.1: the challenge then names no error)."""


@dataclass(frozen=True)
class Claims:
    """The claims of a verified token; times are whole Unix seconds."""

    subject: str
    scopes: frozenset[str]
    expires_at: int
    issued_at: int


def bearer_token(authorization_header_values: Sequence[bytes | str]) -> str:
    """Return the token of the only Authorization header. Raises InvalidToken, or MissingToken."""
    if not authorization_header_values:
        raise MissingToken("there is no Authorization header")
    if len(authorization_header_values) > 1:
        raise InvalidToken("there is more than one Authorization header")
    value = authorization_header_values[0]
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if match := AUTHORIZATION.fullmatch(text):
        return match[1]
    if text.split(" ")[0].lower() != "bearer":
        raise MissingToken("the Authorization scheme is not Bearer")
    raise InvalidToken("the Authorization header is not 'Bearer', one space and one token")


def verify(token: str, settings: AuthSettings, now: float | None = None) -> Claims:
    """Return the claims of a token that is valid at `now` (Unix seconds); never waits for a network.

    Raises only InvalidToken and KeysUnavailable, which is not the token's fault.
    """
    with _refusing():
        return _verify(token, settings, time.time() if now is None else now)


def key_id(token: str, settings: AuthSettings) -> str:
    """Return the `kid` of an unverified token. Raises InvalidToken."""
    with _refusing():
        return _key_id(_header(token, settings.algorithm))


@contextmanager
def _refusing() -> Iterator[None]:
    """Make any error an InvalidToken: PyJWT has let TypeErrors escape, and no token may cause a 500."""
    try:
        yield
    except (InvalidToken, KeysUnavailable):
        raise
    except Exception as error:
        raise InvalidToken(type(error).__name__) from error


def _verify(token: str, settings: AuthSettings, now: float) -> Claims:
    key = _key(_header(token, settings.algorithm), settings, now)
    payload = _STRICT_JWT.decode(
        token, key, [settings.algorithm], OPTIONS, audience=settings.audience, issuer=settings.issuer
    )
    issued_at, expires_at = _lifetime(payload, settings, now)
    subject, scope = payload["sub"], payload.get("scope", "")
    if not SUBJECT.fullmatch(subject) or not SCOPE.fullmatch(scope):
        raise InvalidToken("its sub or scope is not plain visible ASCII of a fair length")
    return Claims(subject, frozenset(scope.split()), expires_at, issued_at)


def _header(token: str, algorithm: str) -> dict[str, Any]:
    """The header; only alg, typ and kid are allowed. The key must be ours (not of jwk, jku or x5u)."""
    if len(token) > MAX_TOKEN_LENGTH or not SHAPE.fullmatch(token):
        raise InvalidToken("it does not have the shape of a JWT")
    segment = token.partition(".")[0]
    header = _json_object(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    if not header.keys() <= {"alg", "typ", "kid"}:
        raise InvalidToken("its header has members beside alg, typ and kid")
    if header.get("alg") != algorithm:
        raise InvalidToken("its algorithm is not the one expected")
    if header.get("typ", "JWT") not in ("JWT", "at+jwt") or not KEY_ID.fullmatch(header.get("kid", "-")):
        raise InvalidToken("its typ or kid is not acceptable")
    return header


def _key(header: dict[str, Any], settings: AuthSettings, now: float) -> bytes | AllowedPublicKeys:
    """The key to verify with: the only one, or the one of several that `kid` names."""
    if not isinstance(settings.key, Jwks):
        return settings.key
    try:
        return settings.key.key(_key_id(header), now)
    except UnknownKey:
        raise InvalidToken("its key is not known") from None


def _key_id(header: dict[str, Any]) -> str:
    if "kid" not in header:
        raise InvalidToken("it does not say which key it is signed with")
    kid: str = header["kid"]
    return kid


def _lifetime(payload: dict[str, Any], settings: AuthSettings, now: float) -> tuple[int, int]:
    issued_at, expires_at = _seconds(payload["iat"]), _seconds(payload["exp"])
    not_before = _seconds(payload.get("nbf", issued_at))
    if expires_at <= now - settings.leeway_seconds:
        raise InvalidToken("it has expired")
    if max(issued_at, not_before) > now + settings.leeway_seconds:
        raise InvalidToken("it is not valid yet")
    if not 0 < expires_at - issued_at <= settings.max_life_seconds:
        raise InvalidToken(f"its life is not within 1 to {settings.max_life_seconds} seconds")
    return issued_at, expires_at


def _seconds(value: object) -> int:
    """A NumericDate is a JSON number, not a string or a boolean (RFC 7519, 2)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken("one of its times is not a number")
    return math.floor(value)


def _json_object(encoded: bytes) -> dict[str, Any]:
    """Parse UTF-8 JSON; refuse NaN, and doubled names: parsers disagree about them (RFC 8259, 4 and 6)."""
    value = json.loads(encoded.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_json)
    if not isinstance(value, dict):
        raise InvalidToken("its JSON is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidToken("its JSON names a member twice")
    return members


def _not_json(constant: str) -> Never:
    raise InvalidToken("its JSON holds NaN or Infinity")


class _StrictJWT(jwt.PyJWT):
    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return _json_object(decoded["payload"])


_STRICT_JWT = _StrictJWT()


def mint(
    settings: AuthSettings, subject: str, scopes: Iterable[str], lifetime: int, now: float | None = None
) -> str:
    """Return a development token of `lifetime` seconds. Raises SettingError; InvalidToken if refused."""
    if not isinstance(settings.key, bytes):
        should = "only HS256 tokens can be minted, here is no private key"
        raise bad_value(ALGORITHM, settings.algorithm, should)
    issued_at = int(time.time() if now is None else now)
    claims = {"sub": subject, "scope": " ".join(scopes), "iss": settings.issuer, "aud": settings.audience}
    token = jwt.encode(
        {**claims, "iat": issued_at, "exp": issued_at + lifetime}, settings.key, settings.algorithm
    )
    verify(token, settings, issued_at)
    return token
