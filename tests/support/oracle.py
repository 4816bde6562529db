"""The expected read side, computed from MySQL alone by the declared projections and counters."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Mapping
from typing import Any
from unicodedata import category, normalize

import msgspec
import redis
from pymongo import MongoClient

from binlog_projector.domain.changes import Row
from binlog_projector.domain.projections import COUNTERS, PROJECTIONS, document_id
from binlog_projector.mysql.connections import Connection
from binlog_projector.stores.document_ids import decode_id
from ops.stack import Stack
from reader.read_model.cached_values import Watermark, decode, encode_cursor, encode_entity
from reader.read_model.declarations import COLLECTIONS, ENTITIES, LISTS
from reader.read_model.entities import is_present
from reader.read_model.scans import TextList, microseconds, time_text
from reader.read_model.shards import Shard
from tests.support.caches import caches
from writer.schema import TABLES

KINDS = {**dict.fromkeys(("Lu", "Ll", "Lt", "Lm", "Lo", "Nl", "Nd", "Pc"), "c"), "Mn": "m", "Mc": "m"}
OF_THEIR_OWN = {
    **dict.fromkeys("#\ufe5f\uff03", "#"),
    **dict.fromkeys("\u200c\u200d", "j"),
    "&": "&",
    "\u00b7": "c",
}
TAG = re.compile("(?<![cm&])#(c[cm]*(?:j[cm]+)*)")  # in the kinds of a text's characters
DEEDS = {"likes": "user_id", "comments": "author_id"}  # table -> the column of whoever does it
Documents = dict[str, dict[Any, dict[str, Any]]]  # collection -> _id -> document


def expected_documents(connection: Connection) -> Documents:
    """Every document, stubs included, as of one consistent view of MySQL."""
    tables = read_tables(connection)
    documents: Documents = {name: {} for name in COLLECTIONS}
    for name, rows in tables.items():
        for row in rows:
            key = document_id(name, row)
            documents[name][key] = {"_id": key, **PROJECTIONS[name](row)}  # an edge has nothing else
            if name == "posts":
                documents[name][key]["hashtags"] = hashtags_of(row["body"])
            if name in DEEDS:
                own = row["post_author_id"] == row[DEEDS[name]]
                documents[name][key]["told"] = None if own else row["post_author_id"]
    tallies = {counter: Tally(row[counter.by] for row in tables[counter.table]) for counter in COUNTERS}
    for counter, tally in tallies.items():
        for key in tally:
            documents[counter.collection].setdefault(key, {"_id": key})
    for counter, tally in tallies.items():
        for key, document in documents[counter.collection].items():
            document[counter.field] = tally[key]
    return documents


def hashtags_of(body: str) -> list[str]:
    """Hashtags by the characters' general categories. The product goes by Unicode's rules for identifiers."""
    text = normalize("NFC", body)
    kinds = "".join(OF_THEIR_OWN.get(one) or KINDS.get(category(one), " ") for one in text)
    tags = [text[slice(*found.span(1))].lower() for found in TAG.finditer(kinds)]
    return list(dict.fromkeys(normalize("NFC", tag) for tag in tags))[:30]


HOT_FEED = """
    SELECT id FROM (
        SELECT id, created_at, LENGTH(BIN(points)) - 1 AS b, points FROM (
            SELECT id, created_at,
                1 + (SELECT COUNT(*) FROM likes WHERE post_id = posts.id)
                + 2 * (SELECT COUNT(*) FROM comments WHERE post_id = posts.id) AS points
            FROM posts
            WHERE author_id = %(user)s
                OR author_id IN (SELECT followee_id FROM follows WHERE follower_id = %(user)s)
            ORDER BY id DESC LIMIT 100
        ) AS newest
    ) AS counted
    ORDER BY TO_SECONDS(created_at) + 1693 * (8 * b + ((points << 3) >> b) - 8) DESC, id DESC"""


def hot_feed(connection: Connection, user: int) -> list[int]:
    """The ids of a user's ranked feed, by SQL alone."""
    with connection.cursor() as cursor:
        cursor.execute(HOT_FEED, {"user": user})
        return [id for (id,) in cursor.fetchall()]


def read_tables(connection: Connection) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    with connection.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        for table in TABLES.values():
            cursor.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}")
            found[table.name] = [dict(zip(table.columns, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute("COMMIT")
    return found


def actual_documents(stack: Stack) -> Documents:
    """Every document of the serving build, without its version."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        serving = client["tidemark"]["control"].find_one({"_id": "serving"})
    assert serving is not None
    return documents_of_build(stack, serving["build"])


def documents_of_build(stack: Stack, build: int) -> Documents:
    """Every document of a build, without its version."""
    with MongoClient[dict[str, Any]](stack.mongodb.admin_url) as client:
        return {
            name: {
                (id := decode_id(document["_id"])): {**document, "_id": id}
                for document in client["tidemark"][collection.in_build(build)].find({}, {"v": False})
            }
            for name, collection in COLLECTIONS.items()
        }


def present(documents: Documents, collection: str) -> list[dict[str, Any]]:
    """The documents without stubs; edges have the columns of their ids."""
    edge, found = COLLECTIONS[collection].edge, documents[collection].values()
    if edge is None:
        return [document for document in found if is_present(document)]
    return [
        {**document, **edge.pair(document["_id"]), edge.t: time_text(document["_id"].t)} for document in found
    ]


def assert_cache_is_true(stack: Stack, documents: Documents) -> int:
    """Every entry of the current epoch agrees with `documents`. Returns the number of entries."""
    with caches(stack) as shards:
        return sum(_assert_shard_is_true(shard, cache, documents) for shard, cache in shards)


def _assert_shard_is_true(shard: Shard, cache: redis.Redis, documents: Documents) -> int:
    raw = cache.get(shard.watermark_key)
    assert isinstance(raw, bytes), "there is no watermark"
    prefix = shard.cache_key(Watermark.decode(raw).epoch, "")
    entries = 0
    for key in cache.scan_iter(match=f"{prefix}*", count=1000):
        value = cache.get(key)
        entry = decode(value if isinstance(value, bytes) else None)
        if entry is None:
            continue
        entries += 1
        name = key.decode().removeprefix(prefix)
        expected = _expected_entry(name, documents)
        assert (entry.present, entry.head, entry.body) == expected, f"{name} is stale: {value!r}"
    return entries


def _expected_entry(name: str, documents: Documents) -> tuple[bool, bytes, bytes]:
    entity_name, _, rest = name.partition(":")
    parent, _, list_name = rest.partition(":")
    if list_name == "notifications":
        return expected_notifications(int(parent), documents)
    if list_name:
        return _expected_list(f"{entity_name}_{list_name}", int(parent), documents)
    if name == "everybody:posts":
        return _expected_list("everybody", "", documents)
    if entity_name not in ENTITIES:
        return _expected_list(entity_name, bytes.fromhex(rest).decode(), documents)
    entity = ENTITIES[entity_name]
    document = documents[entity.collection].get(int(rest))
    if document is None or not is_present(document):
        return False, b"", b""
    entry = decode(encode_entity(entity, {**document, "v": 0}))
    assert entry is not None
    return True, entry.head, entry.body


def told(user: int, documents: Documents) -> list[tuple[str, str, int, int, int, int | None]]:
    """All notifications of a user, newest first: time, kind, id, post (or the user), actor, comment."""
    follows, likes, comments, mentions = (
        present(documents, name) for name in ("follows", "likes", "comments", "mentions")
    )
    found = [
        *(
            (row["created_at"], "1 follow", row["follower_id"], user, row["follower_id"], None)
            for row in follows
            if row["followee_id"] == user
        ),
        *(
            (row["created_at"], "2 like", row["user_id"], row["post_id"], row["user_id"], None)
            for row in likes
            if row["told"] == user
        ),
        *(
            (row["created_at"], "3 comment", row["_id"], row["post_id"], row["author_id"], row["_id"])
            for row in comments
            if row["told"] == user
        ),
        *(
            (row["created_at"], "4 mention", row["id"], row["post_id"], row["author_id"], row["comment_id"])
            for row in mentions
            if row["user_id"] == user
        ),
    ]
    return sorted((each for each in found if each[4] != user), reverse=True, key=lambda each: each[:4])


def read_until(user: int, documents: Documents) -> str:
    marks = present(documents, "notification_reads")
    return next((mark["until"] for mark in marks if mark["user_id"] == user), time_text(0))


def expected_notifications(user: int, documents: Documents) -> tuple[bool, bytes, bytes]:
    found = [
        [microseconds(at), int(kind[0]), id, of, actor, comment or 0]
        for at, kind, id, of, actor, comment in told(user, documents)
    ]
    cursor = encode_cursor([time_text(found[49][0]), *found[49][1:4]]) if len(found) > 50 else ""
    until = microseconds(read_until(user, documents))
    return True, cursor.encode(), msgspec.json.encode([until, found[:50]])


def _expected_list(label: str, value: int | str, documents: Documents) -> tuple[bool, bytes, bytes]:
    one = next(one for one in LISTS if one.label == label)
    edges = [edge for edge in present(documents, one.collection) if _is_in(edge, one.by, value)]
    edges.sort(key=lambda edge: [edge[field] for field, _ in one.order], reverse=True)
    shown = edges[: one.limit]
    more = len(edges) > one.limit
    cursor = encode_cursor([shown[-1][field] for field, _ in one.order]).encode() if more else b""
    is_list = not isinstance(one, TextList) or shown != []
    return is_list, cursor, b",".join(b"%d" % edge[one.item_id] for edge in shown)


def _is_in(document: Mapping[str, Any], by: str, value: int | str) -> bool:
    """Whether a document is in the list of this value. Of handles, only ASCII ones are in any."""
    match by:
        case "":
            return True
        case "hashtags":
            return value in document["hashtags"]
        case "handles":
            handle: str = document["handle"]
            return all(one <= "\x7f" for one in handle) and handle.casefold() == value
    return bool(document[by] == value)
