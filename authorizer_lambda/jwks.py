"""Public keys from a JWKS URL (RFC 7517): new keys need no restart, and an outage is bridged for a while.

PyJWT parses the keys, but its PyJWKClient does not fetch them. PyJWKClient drops expired keys even if the URL
fails, reads answers of any size for any time, and makes all callers wait for one lock. Its clock stands still
while a Lambda is frozen.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import jwt

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

LOG = logging.getLogger(__name__)

FRESH_SECONDS = 300  # older keys are fetched again
COOLDOWN_SECONDS = 30  # between two fetches while there are trusted keys, even if unknown `kid`s arrive
RETRY_SECONDS = 5  # between two fetches without trusted keys
FETCH_SECONDS = 2.0  # to connect, and again for the whole answer
MAX_BYTES = 65_536
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}|[A-Za-z0-9+/]{1,64}={0,2}")  # Cognito's are base64; never a path
FAMILIES = {
    "RS256": {"kty": "RSA"},
    "ES256": {"kty": "EC", "crv": "P-256"},
    "EdDSA": {"kty": "OKP", "crv": "Ed25519"},
}


class KeysUnavailable(Exception):
    """No keys are young enough to trust: the JWKS URL must answer again. The caller is not to blame."""


class UnknownKey(Exception):
    """No key has the token's `kid`."""


class Jwks:
    """The keys for one algorithm from one URL. All times are Unix seconds, given by the caller.

    `fetch` waits for the network, all else does not. `stale_seconds` after the last successful fetch, no key
    is trusted any more.
    """

    def __init__(self, url: str, algorithm: str, stale_seconds: int) -> None:
        self.url = url
        self.algorithm = algorithm
        self.stale_seconds = stale_seconds
        self._keys: dict[str, AllowedPublicKeys] = {}
        self._fetched_at = self._tried_at = -math.inf
        self._one_fetch = threading.Lock()

    def key(self, kid: str, now: float) -> AllowedPublicKeys:
        """Raises UnknownKey, KeysUnavailable."""
        if not self._is_trusted(now):
            raise KeysUnavailable(f"no keys from {self.url} for more than {self.stale_seconds} seconds")
        if kid not in self._keys:
            raise UnknownKey
        return self._keys[kid]

    def has(self, kid: str, now: float) -> bool:
        """Whether `key` would return one."""
        return kid in self._keys and self._is_trusted(now)

    def is_due(self, kid: str, now: float) -> bool:
        """Whether to fetch before `kid` is looked up: the keys are old, or `kid` is unknown."""
        fresh = kid in self._keys and abs(now - self._fetched_at) < FRESH_SECONDS
        return not fresh and not self._is_cooling(now)

    def _is_cooling(self, now: float) -> bool:
        return abs(now - self._tried_at) < (COOLDOWN_SECONDS if self._is_trusted(now) else RETRY_SECONDS)

    def _is_trusted(self, now: float) -> bool:
        return now - self._fetched_at <= self.stale_seconds

    def fetch(self, now: float) -> None:
        """Fetch, unless another thread just did. A failure is logged and leaves the keys as they are."""
        with self._one_fetch:
            if self._is_cooling(now):
                return
            self._tried_at = now
            try:
                self._keys = usable_keys(_get(self.url), self.algorithm)
                self._fetched_at = now
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                what = f"{type(error).__name__}: {error}"
                LOG.warning("keys from %s: %s; the last good ones: %s", self.url, what, self._age(now))

    def _age(self, now: float) -> str:
        return f"{now - self._fetched_at:.0f} s old" if self._keys else "none"


def usable_keys(document: bytes, algorithm: str) -> dict[str, AllowedPublicKeys]:
    """The public signature keys for `algorithm` in a JWKS, by `kid`; others in it are passed over.

    Raises ValueError if the document is no JWKS, has no such key, or has two keys with one `kid`.
    """
    content = json.loads(document.decode("utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("keys"), list):
        raise ValueError("this is not a JWKS")
    found = [(jwk["kid"], key) for jwk in content["keys"] if (key := _key(jwk, algorithm)) is not None]
    keys = dict(found)
    if len(keys) != len(found):
        raise ValueError("two keys have the same kid")
    if not keys:
        raise ValueError(
            f"it holds no public {algorithm} key with a kid, for signatures, of a sufficient length"
        )
    return keys


def _key(jwk: Any, algorithm: str) -> AllowedPublicKeys | None:
    if not isinstance(jwk, dict) or not _is_meant(jwk, algorithm):
        return None
    try:
        found = jwt.PyJWK(jwk, algorithm)
    except jwt.PyJWTError:
        return None
    return None if found.Algorithm.check_key_length(found.key) else found.key


def _is_meant(jwk: dict[str, Any], algorithm: str) -> bool:
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    return (
        isinstance(kid, str)
        and KEY_ID.fullmatch(kid) is not None
        and all(jwk.get(member) == value for member, value in FAMILIES[algorithm].items())
        and jwk.get("alg", algorithm) == algorithm
        and jwk.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in jwk  # a published private key proves nothing
    )


def _get(url: str) -> bytes:
    """The body at exactly this URL: redirects are not followed, and proxies are not used."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(parts.netloc, timeout=FETCH_SECONDS)) as connection:
        connection.connect()
        deadline = time.monotonic() + FETCH_SECONDS
        with _cut_off(connection.sock):
            connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")))
            response = connection.getresponse()
            body = response.read(MAX_BYTES + 1)
    if time.monotonic() > deadline:
        raise TimeoutError(f"the answer took longer than {FETCH_SECONDS} seconds")
    if response.status != http.HTTPStatus.OK or len(body) > MAX_BYTES:
        raise ValueError(
            f"the answer is {response.status} with {len(body)} bytes, not 200 with {MAX_BYTES} at most"
        )
    return body


@contextlib.contextmanager
def _cut_off(connected: socket.socket) -> Iterator[None]:
    """Close the connection after FETCH_SECONDS: a socket's own timeout starts anew with every byte."""
    alarm = threading.Timer(FETCH_SECONDS, _shut, (connected,))
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _shut(connected: socket.socket) -> None:
    """Shut down the TCP socket: SSLSocket.shutdown would drop the TLS state that a thread still uses."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
