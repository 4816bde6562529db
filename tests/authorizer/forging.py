"""Tokens made by hand: right ones, and wrong ones that a library would refuse to make."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from authorizer_lambda.settings import AuthSettings

NOW = 1_800_000_000
ISSUER = "https://id.example"
AUDIENCE = "tidemark"
SECRET = b"0123456789abcdef0123456789ABCDEF"
SETTINGS = AuthSettings("HS256", SECRET, ISSUER, AUDIENCE)
ENVIRONMENT = {
    "TIDEMARK_AUTH_ALGORITHM": "HS256",
    "TIDEMARK_AUTH_SECRET": SECRET.decode(),
    "TIDEMARK_AUTH_ISSUER": ISSUER,
    "TIDEMARK_AUTH_AUDIENCE": AUDIENCE,
}
HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS = {"iss": ISSUER, "aud": AUDIENCE, "sub": "jane", "scope": "read write", "iat": NOW, "exp": NOW + 600}


def base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def claims(**changes: Any) -> str:
    """The JSON of a good payload with some claims changed."""
    return json.dumps(CLAIMS | changes)


def claims_without(name: str) -> str:
    return json.dumps({key: value for key, value in CLAIMS.items() if key != name})


def claims_of_size(octets: int) -> str:
    return claims() + " " * (octets - len(claims()))


def claims_with_raw(name: str, raw_json: str) -> str:
    """A payload in which one claim is JSON text that json.dumps would not write: NaN, 1e400, 5,000 digits."""
    return claims(**{name: "RAW"}).replace('"RAW"', raw_json)


def header(**changes: Any) -> str:
    return json.dumps(HEADER | changes)


def signed(header_json: str | bytes, payload_json: str | bytes, secret: bytes = SECRET) -> str:
    """A compact JWS with a right HMAC-SHA256 over any header and payload."""
    parts = (part.encode() if isinstance(part, str) else part for part in (header_json, payload_json))
    signing_input = ".".join(map(base64url, parts))
    return f"{signing_input}.{base64url(hmac.new(secret, signing_input.encode(), hashlib.sha256).digest())}"


def good_token(**changes: Any) -> str:
    return signed(header(), claims(**changes))
