"""The parts that the OpenAPI documents of writer and reader share: their head, and the meaning of fields."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec

from tidemark.problem import ProblemDocument

Json = dict[str, Any]
REF = "#/components/schemas/{name}"
TIME = "A time in UTC, with six decimals"
TAGS = {
    "posts": "Posts, their comments and likes",
    "users": "Profiles, who follows whom, notifications",
    "comments": "Comments",
    "feed": "The posts of those whom the caller follows",
    "hashtag": "Posts with a hashtag",
    "about": "The service itself",
}
FIELDS: dict[str, tuple[str, object]] = {  # name -> meaning, example
    "id": ("A number, as a string", "17"),
    "post_id": ("The post's id; null if there is none", "17"),
    "comment_id": ("The comment's id; null if there is none", "5"),
    "handle": ("The unique name, equal in any case", "jane"),
    "display_name": ("The name that people see", "Jane"),
    "bio": ("A few words of the user", "I like tides."),
    "body": ("The text", "High #water at noon"),
    "hashtags": ("The tags of the text, in lower case", ["water"]),
    "created_at": (TIME, "2026-11-30T10:23:02.901337Z"),
    "updated_at": (f"{TIME}: the latest change", "2026-11-30T10:25:41.114902Z"),
    "until": ("Notifications up to this time are read", "2026-11-30T10:23:02.901337Z"),
    "like_count": ("How many users like the post", 3),
    "comment_count": ("How many comments the post has", 2),
    "post_count": ("How many posts the user has", 12),
    "follower_count": ("How many users follow the user", 40),
    "following_count": ("How many users the user follows", 35),
    "author": ("Who wrote it; null if the user is gone", None),
    "actor": ("Who did it; null if the user is gone", None),
    "kind": ("The deed", "like"),
    "liked": ("Whether the caller likes it", True),
    "following": ("Whether the caller follows the user", True),
    "followed_by": ("Whether the user follows the caller", False),
    "items": ("One page, in the order of the list", []),
    "next": ("The `cursor` of the next page; null on the last", "WzE3XQ"),
    "complete": ("Whether all followed users count", True),
    "unread_count": ("Of the newest 50, those that are not read", 4),
    "type": ("A path; GET it for what to do", "/problems/handle-taken"),
    "title": ("The type in words", "Handle taken"),
    "status": ("The HTTP status", 409),
    "detail": ("The fault in words", "Another user has this handle."),
    "field": ("The first field, parameter or header at fault", "handle"),
    "errors": ("All faults of the request", []),
    "pointer": ("A JSON pointer to the faulty field of the body", "#/handle"),
    "parameter": ("The faulty parameter of the query or the path", "limit"),
    "header": ("The faulty header", "Idempotency-Key"),
}


def document(title: str, description: str, scope: str, paths: Json, components: Json) -> Json:
    """A whole document; `scope` is the one that its tokens need."""
    used = {tag for item in paths.values() for operation in item.values() for tag in operation["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version("tidemark"),
            "description": description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The host that serves this document"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items() if name in used],
        "security": [{"bearer": [scope]}],
        "paths": paths,
        "components": {
            **components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def tag_of(path: str) -> str:
    """The tag of a path: its first segment."""
    first = path.split("/")[1]
    return next((tag for tag in (first, f"{first}s") if tag in TAGS), "about")


def schemas(types: Iterable[Any]) -> Json:
    """Their schemas by name. A field without a description of its own gets that of its name in FIELDS."""
    _, found = msgspec.json.schema_components([*types, ProblemDocument], ref_template=REF)
    for schema in found.values():
        for name, field in schema.get("properties", {}).items():
            meaning, example = FIELDS.get(name, ("", None))
            if meaning and "$ref" not in field:
                field.setdefault("description", meaning)
            if example is not None:
                field.setdefault("examples", [example])
            if "pattern" in field:  # Python's $ lets a final newline pass, JSON Schema's does not
                field["pattern"] = field["pattern"].replace(r"(?![\s\S])", "$")
    return found
