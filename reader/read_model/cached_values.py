"""The contents of Redis: keys, TTLs, cached values and the watermark, encoded and decoded.

Versions are 16 hex digits, so that Lua in Redis can compare them as strings (its numbers are doubles).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from reader.read_model.declarations import ENTITIES, LISTS
from reader.read_model.entities import Document, Entity, OwnedList
from reader.read_model.notifications import NOTIFICATIONS, Told
from reader.read_model.scans import CachedList, TextList

VALUE, ABSENT, LEASE = b"V", b"N", b"L"
WATERMARK_KEY = "tidemark:watermark"
TIDE_CHANNEL = "tidemark:tide"  # of announcements
VALUE_TTL_MS = 3_600_000  # +- 10 %
ABSENT_TTL_MS = (10_000, 30_000)
LEASE_TTL_MS = 2_000
MAX_VALUE_BYTES = 256 * 1024
BatchName = tuple[int, int, str]  # build, number, id
OrderValue = int | str  # an id, or a time as the documents hold it
ENTITY_KEY = re.compile(r"([a-z]+):([0-9]{1,19})")
LIST_OF = {
    (one.parent.name, one.name) if isinstance(one, OwnedList) else (one.name, ""): one for one in LISTS
} | {("user", NOTIFICATIONS.name): NOTIFICATIONS}


def cache_key(epoch: str, key: str) -> str:
    return f"tidemark:e{epoch}:{key}"


def entity_of(key: str) -> tuple[Entity, int] | None:
    """The entity whose name a key begins with, and its id. None for a key of any other kind."""
    found = ENTITY_KEY.fullmatch(key)
    return (ENTITIES[found[1]], int(found[2])) if found and found[1] in ENTITIES else None


def list_of(key: str) -> tuple[CachedList, int | str] | None:
    """The declared list that is cached under a key, and its value. None for a key of any other kind."""
    name, _, rest = key.partition(":")
    text, _, list_name = rest.partition(":")
    found = LIST_OF.get((name, list_name))
    try:
        return (found, found.value(text)) if found else None
    except ValueError:
        return None


def value_ttl_ms(fraction: float) -> int:
    """An hour +- 10 % for `fraction` in [0, 1): entries filled together do not expire together."""
    return int(VALUE_TTL_MS * (0.9 + 0.2 * fraction))


def absent_ttl_ms(fraction: float) -> int:
    least, most = ABSENT_TTL_MS
    return int(least + (most - least) * fraction)


def encode_version(version: int) -> bytes:
    return b"%016x" % version


def encode_entity(entity: Entity, document: Document) -> bytes:
    """V, version, head, newline, JSON. JSON escapes newlines, so the first one ends the head."""
    body = msgspec.json.encode(entity.to_json(document))
    return VALUE + encode_version(document["v"]) + entity.to_head(document) + b"\n" + body


def encode_absent(version: int) -> bytes:
    return ABSENT + encode_version(version)


def encode_list(kept: CachedList, version: int, ids: list[int], next_cursor: str | None) -> bytes:
    if not ids and isinstance(kept, TextList):
        return encode_absent(version)  # anybody can ask for any text: not for an hour
    return encode_page(version, ids, next_cursor)


def encode_cursor(values: Sequence[OrderValue]) -> str:
    """The order values of the last item, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def encode_page(version: int, ids: list[int], next_cursor: str | None) -> bytes:
    """V, version, cursor of the next page (empty: none), newline, ids separated by commas."""
    return (
        VALUE
        + encode_version(version)
        + (next_cursor or "").encode()
        + b"\n"
        + b",".join(b"%d" % id for id in ids)
    )


def encode_notifications(version: int, told: Told, next_cursor: str | None) -> bytes:
    """As a page, but with JSON behind the newline."""
    return VALUE + encode_version(version) + (next_cursor or "").encode() + b"\n" + msgspec.json.encode(told)


class Entry(msgspec.Struct, frozen=True, dict=True):
    """A cached value taken apart. `present` is False for a known absence."""

    present: bool
    version: int
    head: bytes = b""
    body: bytes = b""

    @cached_property
    def first(self) -> int:
        """The first id of a list; 0 if it is empty. Cached: a feed compares those of thousands of lists."""
        return int(self.body.partition(b",")[0] or 0)

    @property
    def author_id(self) -> int:
        """Of a post or comment: its head begins with this number."""
        return int(self.head.partition(b" ")[0])

    def ids(self) -> list[int]:
        return [int(id) for id in self.body.split(b",")] if self.body else []

    def told(self) -> Told:
        return msgspec.json.decode(self.body, type=Told)


def decode(value: bytes | None) -> Entry | None:
    """The entry of a cached value, or None if the key was missing or held a lease."""
    if value is None or value[:1] == LEASE:
        return None
    version = int(value[1:17], 16)
    if value[:1] == ABSENT:
        return Entry(False, version)
    head, _, body = value[17:].partition(b"\n")
    return Entry(True, version, head, body)


@dataclass(frozen=True)
class Watermark:
    """The tide mark: everything up to `seq` of this build is in the cache.

    `cluster_time`: a time of MongoDB's clock ("seconds.increment") at which the build's checkpoint was this
    one; empty if unknown. `open`: a part of a transaction is in the cache, and its end is not. `as_of`: the
    time (MySQL's clock) as of which the cache is complete. `lineage`: must match, or the cache does not
    continue MongoDB's history.
    """

    build: int
    epoch: str
    model_version: int
    seq: int
    batch_id: str
    cluster_time: str
    open: bool
    as_of: str
    gtid_set: str

    @property
    def lineage(self) -> str:
        return f"{self.build}|{self.epoch}|{self.model_version}|{self.seq}|{self.batch_id}|"

    @property
    def batch(self) -> BatchName:
        """Its name in all shards. The number alone is none: histories differ."""
        return self.build, self.seq, self.batch_id

    def encode(self) -> str:
        return f"{self.lineage}{self.cluster_time}|{self.open:d}|{self.as_of}|{self.gtid_set}"

    @classmethod
    def decode(cls, text: bytes | str) -> Watermark:
        """Raises ValueError for the shape of another release."""
        build, epoch, model_version, seq, batch_id, cluster_time, open, as_of, gtid_set = (
            text.decode() if isinstance(text, bytes) else text
        ).split("|")
        lineage = int(build), epoch, int(model_version), int(seq), batch_id
        return cls(*lineage, cluster_time, bool(int(open)), as_of, gtid_set)


def with_author(body: bytes, author: bytes | None) -> bytes:
    """The JSON of a post or comment, with its author's JSON (`None`: the author is gone)."""
    return body[:-1] + b',"author":' + (author or b"null") + b"}"


def page_body(items: list[bytes], next_cursor: str | None, *, complete: bool = True) -> bytes:
    """The JSON of one page of a list: items in order, and the next page's cursor."""
    end = b"}" if complete else b',"complete":false}'
    return b'{"items":[' + b",".join(items) + b'],"next":' + msgspec.json.encode(next_cursor) + end
