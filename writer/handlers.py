"""One function per command: its statements, inside one transaction of MySQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec import UNSET, structs

from tidemark.problem import Problem, fault
from writer.commands import (
    Answer,
    Command,
    Comment,
    DeleteComment,
    DeletePost,
    EditComment,
    EditPost,
    EditProfile,
    FollowUser,
    LikePost,
    Post,
    Profile,
    PutProfile,
    ReadNotifications,
    UnfollowUser,
    UnlikePost,
    WriteComment,
    WritePost,
)
from writer.database import Rows, Session
from writer.deletion import OF_POST
from writer.errors import Contended, Duplicate, MissingRow
from writer.mentions import mention, no_longer_mention
from writer.subjects import named, refuse_deleted, unknown_user, user_id

NO_CONTENT = Answer(204)
POST_AUTHOR = "COALESCE((SELECT author_id FROM posts WHERE id = %s), 0)"  # the foreign key refuses 0
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
Authored = TypeVar("Authored", Post, Comment)


def put_profile(db: Session, profile: PutProfile) -> Answer:
    """Create or replace one's own profile."""
    known = db.rows("SELECT id FROM users WHERE subject = %s FOR UPDATE", profile.subject)
    fields = (profile.handle, profile.display_name, profile.bio, profile.subject)
    try:
        if known:
            db.execute(
                "UPDATE users SET handle = %s, display_name = %s, bio = %s WHERE subject = %s", *fields
            )
        else:
            refuse_deleted(db, profile.subject)
            db.insert(
                "INSERT INTO users (handle, display_name, bio, subject) VALUES (%s, %s, %s, %s)", *fields
            )
    except Duplicate as error:
        raise _taken(error) from error
    stored = _profile(db, profile.subject)
    return _changed(stored) if known else _created(stored, f"/user/{stored.id}")


def edit_profile(db: Session, edit: EditProfile) -> Answer:
    """Change the given fields of one's own profile."""
    fields = {name: value for name, value in structs.asdict(edit).items() if value is not UNSET}
    subject = fields.pop("subject")
    if not fields:
        raise Problem(422, "nothing-given", "Give at least one field of the profile.")
    places = ", ".join(f"{name} = %s" for name in fields)
    try:
        db.execute(f"UPDATE users SET {places} WHERE subject = %s", *fields.values(), subject)  # noqa: S608
    except Duplicate as error:
        raise _taken(error) from error
    return _changed(_profile(db, subject))


def write_post(db: Session, post: WritePost) -> Answer:
    """Write a post."""
    post_id = _insert(db, "posts", post)
    mention(db, post.subject, post.body, post_id)
    return _created(_stored(db, Post, "posts", post_id), f"/post/{post_id}")


def edit_post(db: Session, edit: EditPost) -> Answer:
    """Change the text of one's own post."""
    _demand_mine(db, edit.subject, "posts", edit.post_id)
    db.execute("UPDATE posts SET body = %s WHERE id = %s", edit.body, edit.post_id)
    no_longer_mention(db, edit.body, edit.post_id)
    mention(db, edit.subject, edit.body, edit.post_id)
    return _changed(_stored(db, Post, "posts", edit.post_id))


def delete_post(db: Session, command: DeletePost) -> Answer:
    """Delete one's own post with its likes and comments. While the post is locked nobody can add to them."""
    me = user_id(db, command.subject)
    if _is_mine(me, db.rows("SELECT author_id FROM posts WHERE id = %s FOR UPDATE", command.post_id)):
        for table in OF_POST:
            db.execute(f"DELETE FROM {table} WHERE post_id = %s", command.post_id)  # noqa: S608
        db.execute("DELETE FROM posts WHERE id = %s", command.post_id)
    return NO_CONTENT


def write_comment(db: Session, comment: WriteComment) -> Answer:
    """Comment on a post."""
    comment_id = _insert(db, "comments", comment, of_post=comment.post_id)
    mention(db, comment.subject, comment.body, comment.post_id, comment_id)
    return _created(_stored(db, Comment, "comments", comment_id), f"/comment/{comment_id}")


def edit_comment(db: Session, edit: EditComment) -> Answer:
    """Change the text of one's own comment."""
    _demand_mine(db, edit.subject, "comments", edit.comment_id)
    db.execute("UPDATE comments SET body = %s WHERE id = %s", edit.body, edit.comment_id)
    stored = _stored(db, Comment, "comments", edit.comment_id)
    no_longer_mention(db, edit.body, int(stored.post_id), edit.comment_id)
    mention(db, edit.subject, edit.body, int(stored.post_id), edit.comment_id)
    return _changed(stored)


def delete_comment(db: Session, command: DeleteComment) -> Answer:
    """Delete one's own comment."""
    me = user_id(db, command.subject)
    if _is_mine(me, db.rows("SELECT author_id FROM comments WHERE id = %s FOR UPDATE", command.comment_id)):
        db.execute("DELETE FROM mentions WHERE comment_id = %s", command.comment_id)
        db.execute("DELETE FROM comments WHERE id = %s", command.comment_id)
    return NO_CONTENT


def like_post(db: Session, like: LikePost) -> Answer:
    """Like a post; again changes nothing."""
    with named(db, like.subject):
        added = db.execute(
            f"INSERT INTO likes (post_id, user_id, post_author_id) SELECT %s, id, {POST_AUTHOR}"  # noqa: S608
            " FROM users WHERE subject = %s ON DUPLICATE KEY UPDATE user_id = likes.user_id",
            like.post_id,
            like.post_id,
            like.subject,
        )
    if not added:  # the like is there already, or there is no such user
        user_id(db, like.subject)
    return NO_CONTENT


def unlike_post(db: Session, like: UnlikePost) -> Answer:
    """Take a like back; without one nothing changes."""
    me = user_id(db, like.subject)
    db.execute("DELETE FROM likes WHERE post_id = %s AND user_id = %s", like.post_id, me)
    return NO_CONTENT


def follow_user(db: Session, follow: FollowUser) -> Answer:
    """Follow a user; again changes nothing."""
    me = user_id(db, follow.subject)
    if follow.user_id == me:
        raise fault(422, "self-follow", "Nobody can follow themselves.", parameter="id")
    with named(db, follow.subject):
        db.execute(
            "INSERT INTO follows (follower_id, followee_id) VALUES (%s, %s)"
            " ON DUPLICATE KEY UPDATE follower_id = follower_id",
            me,
            follow.user_id,
        )
    return NO_CONTENT


def unfollow_user(db: Session, follow: UnfollowUser) -> Answer:
    """Stop following a user; otherwise nothing changes."""
    me = user_id(db, follow.subject)
    db.execute("DELETE FROM follows WHERE follower_id = %s AND followee_id = %s", me, follow.user_id)
    return NO_CONTENT


def read_notifications(db: Session, read: ReadNotifications) -> Answer:
    """Mark one's own notifications as read up to a moment. An earlier one changes nothing."""
    until = max(EARLIEST, min(read.until, LATEST)).astimezone(UTC).replace(tzinfo=None)
    changed = db.execute(
        "INSERT INTO notification_reads (user_id, until)"
        " SELECT id, LEAST(%s, CURRENT_TIMESTAMP(6)) AS sent FROM users WHERE subject = %s"
        " ON DUPLICATE KEY UPDATE until = GREATEST(notification_reads.until, VALUES(until))",
        until.isoformat(" ", "microseconds"),
        read.subject,
    )
    if not changed:  # the mark is there already, or there is no such user
        user_id(db, read.subject)
    return NO_CONTENT


def _created(resource: Profile | Post | Comment, location: str) -> Answer:
    return Answer(201, msgspec.json.encode(resource), location)


def _changed(resource: Profile | Post | Comment) -> Answer:
    return Answer(200, msgspec.json.encode(resource))


def _is_mine(me: int, authors: Rows) -> bool:
    """False if there is no such row. Raises Problem 403 if another user wrote it."""
    if any(author != (me,) for author in authors):
        raise Problem(403, "not-yours", "Only its author may change or delete it.")
    return bool(authors)


def _demand_mine(db: Session, subject: str, table: str, id: int) -> None:
    """Lock a row. Raises Problem 403 if another user wrote it, 404 if there is none."""
    me = user_id(db, subject)
    if not _is_mine(me, db.rows(f"SELECT author_id FROM {table} WHERE id = %s FOR UPDATE", id)):  # noqa: S608
        raise MissingRow(table)


def _taken(error: Duplicate) -> Problem:
    """Two first requests of one subject at once collide in the key of subjects: one of them is repeated."""
    if error.key == "users.users_handle":
        return fault(409, "handle-taken", "Another user has this handle.", pointer="#/handle")
    return Contended("same_subject")


def _profile(db: Session, subject: str) -> Profile:
    """Raises Problem 409 if there is none."""
    for id, *rest in db.rows(
        "SELECT id, handle, display_name, bio, created_at, updated_at FROM users WHERE subject = %s", subject
    ):
        return Profile(str(id), *rest)
    raise unknown_user(db, subject)


def _insert(db: Session, table: str, command: Command, *, of_post: int | None = None) -> int:
    """Insert a row of the subject and return its id. Its columns are the command's other fields."""
    values = structs.asdict(command)
    subject = values.pop("subject")
    places = ["%s"] * len(values)
    if of_post is not None:
        values["post_author_id"] = of_post
        places.append(POST_AUTHOR)
    columns = ", ".join(values)
    found = f"SELECT {', '.join(places)}, id FROM users WHERE subject = %s"  # noqa: S608 - our own names
    with named(db, subject):
        id = db.insert(f"INSERT INTO {table} ({columns}, author_id) {found}", *values.values(), subject)
    if not id:
        raise unknown_user(db, subject)
    return id


def _stored(db: Session, kind: type[Authored], table: str, id: int) -> Authored:
    """A row as the answer's body: the type's fields are the columns, and ids become text."""
    names = kind.__struct_fields__
    (row,) = db.rows(f"SELECT {', '.join(names)} FROM {table} WHERE id = %s", id)  # noqa: S608
    return kind(
        **{name: str(value) if name.endswith("id") else value for name, value in zip(names, row, strict=True)}
    )
