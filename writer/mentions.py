"""Mentions: the users whom a text names by `@handle`, one row each."""

from __future__ import annotations

import re

from writer.database import Session
from writer.errors import Contended, MissingRow

MAX_MENTIONS = 10  # of one text
MENTION = re.compile("(?<![A-Za-z0-9_@])@([A-Za-z0-9_]{3,30})(?![A-Za-z0-9_@])")


def handles(text: str) -> list[str]:
    """The first ten distinct handles of a text, in lower case, without the @. Mail addresses have none."""
    return list(dict.fromkeys(handle.lower() for handle in MENTION.findall(text)))[:MAX_MENTIONS]


def mention(db: Session, subject: str, text: str, post_id: int, comment_id: int | None = None) -> None:
    """Add the mentions that are not there yet: of known handles, and not of the author."""
    if not (named := handles(text)):
        return
    try:
        db.execute(
            "INSERT INTO mentions (user_id, author_id, post_id, comment_id)"  # noqa: S608 - only places
            " SELECT users.id, author.id, %s, %s FROM users JOIN users AS author ON author.subject = %s"
            f" WHERE users.handle IN ({_places(named)}) AND users.id <> author.id AND NOT EXISTS"
            " (SELECT 1 FROM mentions AS known WHERE known.user_id = users.id"
            " AND known.post_id = %s AND known.comment_id <=> %s)",
            *(post_id, comment_id, subject, *named, post_id, comment_id),
        )
    except MissingRow as error:  # the mentioned user is being deleted: next time it is unknown
        raise Contended("mentioned_user_gone") from error


def no_longer_mention(db: Session, text: str, post_id: int, comment_id: int | None = None) -> None:
    """Delete the mentions that an edited text does not have."""
    named = handles(text)
    kept = f"SELECT id FROM users WHERE handle IN ({_places(named)})" if named else "0"  # noqa: S608
    db.execute(
        "DELETE FROM mentions WHERE post_id = %s AND comment_id <=> %s"  # noqa: S608 - only places
        f" AND user_id NOT IN ({kept})",
        *(post_id, comment_id, *named),
    )


def _places(values: list[str]) -> str:
    return ", ".join(["%s"] * len(values))
