"""Commands, checked by their types, and the answers to them; OpenAPI is generated from both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tidemark.handles import HANDLE
from tidemark.ids import Id

NOT_BLANK = r"^\s*[^\s\x00][^\x00]*$"
NO_NUL = r"^[^\x00]*$"

# A description is the rule in words: for the one who breaks it, and in the OpenAPI document.
Handle = Annotated[str, Meta(pattern=HANDLE, description="3 to 30 letters, digits or underscores")]
DisplayName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=80,
        pattern=NOT_BLANK,
        description="1 to 80 characters, not all blank, without NUL",
    ),
]
Bio = Annotated[str, Meta(max_length=500, pattern=NO_NUL, description="up to 500 characters, without NUL")]
PostBody = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2000,
        pattern=NOT_BLANK,
        description="1 to 2,000 characters, not all blank, without NUL",
    ),
]
CommentBody = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=1000,
        pattern=NOT_BLANK,
        description="1 to 1,000 characters, not all blank, without NUL",
    ),
]
Instant = Annotated[
    datetime,
    Meta(tz=True, description="a time with its offset from UTC, such as 2026-11-30T10:23:02.901337Z"),
]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]  # UTC, six decimals, Z


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`subject` comes from the token, ids from the path (same names as there), the rest from the body."""

    subject: str


class PutProfile(Command, frozen=True):
    handle: Handle
    display_name: DisplayName
    bio: Bio = ""


class EditProfile(Command, frozen=True):
    handle: Handle | UnsetType = UNSET
    display_name: DisplayName | UnsetType = UNSET
    bio: Bio | UnsetType = UNSET


class DeleteProfile(Command, frozen=True):
    pass


class WritePost(Command, frozen=True):
    body: PostBody


class EditPost(Command, frozen=True):
    post_id: int = msgspec.field(name="id")
    body: PostBody


class DeletePost(Command, frozen=True):
    post_id: int = msgspec.field(name="id")


class WriteComment(Command, frozen=True):
    post_id: int = msgspec.field(name="id")
    body: CommentBody


class EditComment(Command, frozen=True):
    comment_id: int = msgspec.field(name="id")
    body: CommentBody


class DeleteComment(Command, frozen=True):
    comment_id: int = msgspec.field(name="id")


class LikePost(Command, frozen=True):
    post_id: int = msgspec.field(name="id")


class UnlikePost(LikePost, frozen=True):
    pass


class FollowUser(Command, frozen=True):
    user_id: int = msgspec.field(name="id")


class UnfollowUser(FollowUser, frozen=True):
    pass


class ReadNotifications(Command, frozen=True):
    until: Instant


class Profile(msgspec.Struct, frozen=True):
    id: Id
    handle: str
    display_name: str
    bio: str
    created_at: Time
    updated_at: Time


class Post(msgspec.Struct, frozen=True):
    id: Id
    body: str
    created_at: Time
    updated_at: Time


class Comment(msgspec.Struct, frozen=True):
    id: Id
    post_id: Id
    body: str
    created_at: Time
    updated_at: Time


@dataclass(frozen=True)
class Answer:
    """The answer to a client; `body` is JSON or empty. `replayed`: an earlier request got this answer."""

    status: int
    body: bytes = b""
    location: str | None = None
    replayed: bool = False
