"""Deleting a user with everything that is theirs, in transactions that readers see in one step each.

The row of the user goes in the first transaction: from then on readers have no such user, and the foreign
keys refuse new rows of theirs. All of a small account goes with it. What is left of a large one is found by
the row in `user_deletions`.
"""

from __future__ import annotations

from writer.commands import Answer, DeleteProfile
from writer.database import Session

ALLOWANCE = 3_800  # of a transaction: below what the projector applies in one batch (4,000 rows, 4 MiB)
TEXT, POST = 4, 16  # what a comment (up to 4 KB in the binlog) and a post (8 KB, 30 hashtags) take of it
# Tables that refer to posts, and what a row takes.
OF_POST = {"likes": 1, "mentions": 1, "comments": TEXT}
OF_USER = (  # first the rows that show a user in lists of others: counters and lists change together
    ("likes", "user_id", 1),
    ("follows", "follower_id", 1),
    ("follows", "followee_id", 1),
    ("mentions", "user_id", 1),
    ("mentions", "author_id", 1),
    ("notification_reads", "user_id", 1),
    ("comments", "author_id", TEXT),
)


class Rows:
    """The rows that a transaction may still delete."""

    def __init__(self, db: Session) -> None:
        self.db = db
        self.left = ALLOWANCE

    def all_deleted(self, table: str, column: str, value: object, each: int) -> bool:
        """Delete rows as far as allowed; return whether none is left."""
        limit = self.left // each
        statement = f"DELETE FROM {table} WHERE {column} = %s LIMIT %s"  # noqa: S608 - our own names
        deleted = self.db.execute(statement, value, limit)
        self.left -= each * deleted
        return deleted < limit


def delete_profile(db: Session, command: DeleteProfile) -> Answer:
    """Delete one's own profile with everything that is one's own. 202: repeat it, there is more."""
    for (user_id,) in db.rows("SELECT id FROM users WHERE subject = %s FOR UPDATE", command.subject):
        db.execute("INSERT INTO user_deletions VALUES (%s, %s)", user_id, command.subject)
        db.execute("DELETE /*+ SET_VAR(foreign_key_checks = OFF) */ FROM users WHERE id = %s", user_id)
    pending = db.rows(
        "SELECT user_id, subject FROM user_deletions WHERE subject = %s FOR UPDATE", command.subject
    )
    finished = not pending or (_is_finished(db, *pending[0]) and len(pending) == 1)
    return Answer(204 if finished else 202)


def finish_a_deletion(db: Session) -> bool:
    """Go on with a deletion that nobody is at; return whether there is one."""
    pending = db.rows("SELECT user_id, subject FROM user_deletions LIMIT 1 FOR UPDATE SKIP LOCKED")
    for deletion in pending:
        _is_finished(db, *deletion)
    return bool(pending)


def _is_finished(db: Session, user_id: int, subject: str) -> bool:
    """Delete rows of a deleted user; return whether none is left."""
    rows = Rows(db)
    finished = (
        all(rows.all_deleted(table, column, user_id, each) for table, column, each in OF_USER)
        and _posts_are_deleted(rows, user_id)
        and rows.all_deleted("idempotency_keys", "subject", subject, POST)
    )
    if finished:
        db.execute("DELETE FROM user_deletions WHERE user_id = %s", user_id)
    return finished


def _posts_are_deleted(rows: Rows, user_id: int) -> bool:
    """Delete posts, each with all that belongs to it; return whether none is left.

    Only a post with more rows than a transaction may have loses them step by step, and goes last.
    """
    limit = rows.left // POST
    posts = rows.db.rows("SELECT id FROM posts WHERE author_id = %s LIMIT %s FOR UPDATE", user_id, limit)
    for (post_id,) in posts:
        before = rows.left
        rows.db.execute("SAVEPOINT post")
        of_post = (*((table, "post_id", each) for table, each in OF_POST.items()), ("posts", "id", POST))
        if not all(rows.all_deleted(table, column, post_id, each) for table, column, each in of_post):
            if before < ALLOWANCE:
                rows.db.execute("ROLLBACK TO post")
            return False
    return len(posts) < limit
