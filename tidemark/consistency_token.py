"""Consistency tokens: the GTIDs of a client's own write, signed and short-lived. A read can wait for them.

Without a signature, anybody could make readers wait for transactions that never come.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from tidemark.gtid import GtidSet
from tidemark.settings import secret_key

LIFETIME_SECONDS = 60
MAX_TOKEN_BYTES = 4096
MAC_BYTES = 16
HEADER = "Consistency-Token"
COOKIE = "__Host-consistency-token"
COOKIE_ATTRIBUTES = f"HttpOnly; Max-Age={LIFETIME_SECONDS}; Path=/; SameSite=lax; Secure"


class InvalidConsistencyToken(Exception):
    """Forged, malformed or expired; the message says which."""


@dataclass(frozen=True)
class ConsistencyKeys:
    """The first key signs, all verify. A new key is put first; the old one can go a minute later."""

    keys: tuple[bytes, ...]

    @classmethod
    def parse(cls, text: str) -> ConsistencyKeys:
        """Keys separated by commas, each of at least 32 bytes. Raises ValueError."""
        return cls(tuple(secret_key(key).encode() for key in text.split(",")))

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__


def sign(gtids: GtidSet, keys: ConsistencyKeys, now: float) -> str:
    """An opaque token for `gtids`, valid for LIFETIME_SECONDS from `now` (seconds since 1970)."""
    payload = f"{int(now) + LIFETIME_SECONDS}|{gtids}".encode()
    return _text(_mac(payload, keys.keys[0]) + payload)


def cookie(token: str) -> str:
    """The value of `Set-Cookie` for browsers."""
    return f"{COOKIE}={token}; {COOKIE_ATTRIBUTES}"


def verify(token: str, keys: ConsistencyKeys, now: float) -> GtidSet:
    """The GTIDs that a read must contain. Raises InvalidConsistencyToken."""
    raw = _bytes(token)
    mac, payload = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if not _signed(mac, payload, keys.keys):
        raise InvalidConsistencyToken("the token was not issued here")
    expires, _, gtids = payload.decode().partition("|")
    if int(expires) <= now:
        raise InvalidConsistencyToken("the token has expired")
    return GtidSet.parse(gtids)


def _signed(mac: bytes, payload: bytes, keys: Sequence[bytes]) -> bool:
    return any([hmac.compare_digest(mac, _mac(payload, key)) for key in keys])


def _mac(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"tidemark consistency token|" + payload, hashlib.sha256)[:MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(token: str) -> bytes:
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise InvalidConsistencyToken("the token is malformed")
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidConsistencyToken("the token is malformed") from error
    if len(raw) <= MAC_BYTES or _text(raw) != token:
        raise InvalidConsistencyToken("the token is malformed")
    return raw
