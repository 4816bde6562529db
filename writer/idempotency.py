"""Idempotency-Key: a command that arrives twice runs once, and both requests get the same answer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from starlette.requests import Request

from tidemark.problem import fault
from writer.commands import Answer
from writer.database import Session
from writer.errors import Duplicate

HEADER = "Idempotency-Key"
KEY = re.compile(r"[\x20-\x7e]{1,255}")
PURGE_ROWS = 1000


@dataclass(frozen=True)
class IdempotencyKey:
    """The `key` that `subject` chose for a request, and the SHA-256 of its method, path and body."""

    subject: str
    key: str
    request_hash: bytes

    @classmethod
    def of(cls, request: Request, subject: str, body: bytes) -> Self | None:
        """The key of this request, None if it has none. Raises Problem 400."""
        keys = request.headers.getlist(HEADER)
        if not keys:
            return None
        if len(keys) > 1 or not KEY.fullmatch(keys[0]):
            detail = "It must be one value of 1 to 255 printable ASCII characters."
            raise fault(400, "malformed-key", detail, header=HEADER)
        line = f"{request.method} {request.scope['path']}\n"
        return cls(subject, keys[0], hashlib.sha256(line.encode() + body).digest())


def once(db: Session, key: IdempotencyKey, work: Callable[[Session], Answer]) -> Answer:
    """Answer as before if `key` was used before, else do `work` and keep the answer, in one transaction.

    The key's row is written first: a second request with this key waits until the first commits or fails.
    """
    try:
        db.execute(
            "INSERT INTO idempotency_keys (subject, idempotency_key, request_hash) VALUES (%s, %s, %s)",
            key.subject,
            key.key,
            key.request_hash,
        )
    except Duplicate:
        return _stored(db, key)
    answer = work(db)
    db.execute(
        "UPDATE idempotency_keys SET status = %s, location = %s, body = %s"
        " WHERE subject = %s AND idempotency_key = %s",
        answer.status,
        answer.location,
        answer.body,
        key.subject,
        key.key,
    )
    return answer


def _stored(db: Session, key: IdempotencyKey) -> Answer:
    """The kept answer. The row cannot vanish: the refused INSERT holds a shared lock on it."""
    ((request_hash, status, location, body),) = db.rows(
        "SELECT request_hash, status, location, body FROM idempotency_keys"
        " WHERE subject = %s AND idempotency_key = %s",
        key.subject,
        key.key,
    )
    if request_hash != key.request_hash:
        detail = "This key was used for another request; choose a new one."
        raise fault(422, "key-reused", detail, header=HEADER)
    return Answer(status, body, location, replayed=True)


def purge_expired(db: Session) -> bool:
    """Delete some keys that are older than a day; return whether there may be more."""
    expired = "DELETE FROM idempotency_keys WHERE created_at < NOW(6) - INTERVAL 24 HOUR LIMIT %s"
    return db.execute(expired, PURGE_ROWS) == PURGE_ROWS
