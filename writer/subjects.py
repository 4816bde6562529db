"""The user of a command's subject, and the refusals if there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tidemark.problem import Problem
from writer.database import Session
from writer.errors import MissingRow


def user_id(db: Session, subject: str) -> int:
    """Raises Problem 409."""
    for (id,) in db.rows("SELECT id FROM users WHERE subject = %s", subject):
        return int(id)
    raise unknown_user(db, subject)


def unknown_user(db: Session, subject: str) -> Problem:
    refuse_deleted(db, subject)
    return Problem(409, "unknown-user", "You have no profile yet: create it with PUT /user/me.")


def refuse_deleted(db: Session, subject: str) -> None:
    """Raises Problem 409 while rows of a deleted profile are left."""
    if db.rows("SELECT user_id FROM user_deletions WHERE subject = %s", subject):
        raise Problem(
            409, "being-deleted", "Your profile is being deleted: repeat DELETE /user/me until 204."
        )


@contextmanager
def named(db: Session, subject: str) -> Iterator[None]:
    """The row that an INSERT misses may be the subject's own, deleted meanwhile: that is no 404."""
    try:
        yield
    except MissingRow:
        user_id(db, subject)
        raise
