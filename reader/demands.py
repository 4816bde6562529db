"""The demands of a request: a consistency token, how long to wait for it, and an age."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import cookie_parser

from reader.read_model.cached_values import Watermark
from tidemark.consistency_token import COOKIE, HEADER, ConsistencyKeys, InvalidConsistencyToken, verify
from tidemark.gtid import GtidSet
from tidemark.problem import fault

WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d+(?:\.\d+)?)\"?\s*(?:;[^,]*)?(?=,|$)", re.IGNORECASE)
MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})\"?\s*(?=,|$)", re.IGNORECASE)
ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')
IF_NONE_MATCH = b"if-none-match"
CONDITIONS = frozenset({IF_NONE_MATCH, b"cache-control", b"consistency-token", b"cookie", b"prefer"})
DEFAULT_WAIT_SECONDS = 0.15  # many times the usual lag of the projector


@dataclass(frozen=True)
class Need:
    """The GTIDs that an answer must contain, and how long to wait for them.

    `preferred`: the client named the time itself, with `Prefer: wait`. `in_cookie`: the token came in one.
    """

    gtids: GtidSet
    wait_seconds: float
    preferred: bool
    in_cookie: bool = False

    def is_met_by(self, proof: Watermark) -> bool:
        return GtidSet.parse(proof.gtid_set) >= self.gtids


@dataclass(frozen=True)
class Demands:
    """The demands of a request: what the answer must contain, and the time before which it may not be.

    `not_before`: in the form of `as_of`; empty if the request names no `max-age`.
    """

    need: Need | None = None
    not_before: str = ""


NO_DEMANDS = Demands()


def conditions_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """The values of the headers that an answer depends on, by name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in CONDITIONS:
            found.setdefault(name, []).append(value)
    return found


def is_known(known: Sequence[bytes], tag: bytes) -> bool:
    """If-None-Match compares weakly (RFC 9110, 13.1.2): a W/ before a tag is ignored."""
    if not known:
        return False
    tags = b", ".join(known)
    return tags in (b"*", tag) or tags.strip() == b"*" or tag in ENTITY_TAG.findall(tags)


def demands_of(
    headers: Mapping[bytes, Sequence[bytes]], keys: ConsistencyKeys, now: float, max_wait_seconds: float
) -> Demands:
    """The demands that a request states: by a token (the header's, else the cookie's) and by `max-age`.

    `headers`: values by lower-case name. `max-age=0` and `no-cache` demand nothing: browsers send them on
    reload, and no answer is of this very moment. Raises Problem 400 for a bad token.
    """
    token, in_cookie = _token(headers)
    need = None if token is None else _need(token, in_cookie, headers, keys, now, max_wait_seconds)
    ages = MAX_AGE.findall(b",".join(headers.get(b"cache-control", ())).decode("latin-1"))
    seconds = min((int(age) for age in ages), default=0)
    oldest = datetime.fromtimestamp(max(0.0, now - seconds), UTC)
    return Demands(need, oldest.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if seconds else "")


def _need(
    token: str,
    in_cookie: bool,
    headers: Mapping[bytes, Sequence[bytes]],
    keys: ConsistencyKeys,
    now: float,
    max_wait_seconds: float,
) -> Need:
    try:
        gtids = verify(token, keys, now)
    except InvalidConsistencyToken as error:
        detail = f"{str(error).capitalize()}."
        raise fault(400, "invalid-consistency-token", detail, header=HEADER) from error
    preferred = WAIT.search(b",".join(headers.get(b"prefer", ())).decode("latin-1"))
    wished = float(preferred[1]) if preferred else DEFAULT_WAIT_SECONDS
    return Need(gtids, min(wished, max_wait_seconds), preferred is not None, in_cookie)


def _token(headers: Mapping[bytes, Sequence[bytes]]) -> tuple[str | None, bool]:
    """The token, and whether it came in the cookie."""
    tokens = headers.get(HEADER.lower().encode(), ())
    if len(tokens) > 1:
        raise fault(400, "invalid-consistency-token", "There may be one token only.", header=HEADER)
    if tokens:
        return tokens[0].decode("latin-1"), False
    if b"cookie" not in headers:
        return None, False
    return cookie_parser(b"; ".join(headers[b"cookie"]).decode("latin-1")).get(COOKIE), True
