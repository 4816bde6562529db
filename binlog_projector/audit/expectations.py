"""Expectations: the value that a cache key must hold, and the reader's right answer, according to MySQL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from binlog_projector.audit.source import SourceView
from binlog_projector.domain.mutations import DocumentId
from binlog_projector.domain.truth import Truth
from reader.read_model.cached_values import Entry, encode_entity, entity_of, list_of
from reader.read_model.cached_values import decode as decode_value
from reader.read_model.declarations import AUTHORED, COMMENT, USER
from reader.read_model.entities import PAGE_LIMIT, Entity, Listing
from reader.read_model.notifications import NOTIFICATIONS, Told

Truths = dict[tuple[str, DocumentId], Truth]


@dataclass(frozen=True)
class Expectation:
    """The right `entry` under `key`, and the right `answer` to `path`, which is made of the keys in `parts`.

    An answer is a JSON body, or the ids of a page's items, or None for 404. `path` None: not asked. Ids
    of a list below `floor` are not known. `entry` of a list: its ids, or notifications.
    """

    key: str
    truth: Truth | None
    entry: tuple[bool, bytes, bytes] | tuple[int, ...] | Told
    path: str | None
    answer: Any
    parts: frozenset[str]
    floor: int = 0

    def is_entry(self, found: Entry) -> bool:
        if isinstance(self.entry, Told):
            return found.body == msgspec.json.encode(self.entry)
        if self.truth is None:
            return tuple(id for id in found.ids() if id >= self.floor) == self.entry
        return (found.present, found.head, found.body) == self.entry

    def is_answer(self, status: int, body: bytes) -> bool:
        if self.answer is None or status != 200:
            return (self.answer is None) == (status == 404) and status in (200, 404)
        found = msgspec.json.decode(body)
        return bool(
            self.answer
            == (tuple(int(item["id"]) for item in found["items"]) if self.truth is None else found)
        )


def expectations(keys: Iterable[str], source: SourceView) -> dict[str, Expectation]:
    """Key -> its expectation, for keys of entities and lists. Other keys are left out."""
    keys = list(keys)
    entities = {key: found for key in keys if (found := entity_of(key))}
    lists = {key: listed for key in keys if (listed := list_of(key))}
    told = {key: lists.pop(key)[1] for key in [*lists] if lists[key][0] is NOTIFICATIONS}
    firsts = {key: source.first_ids(one, value) for key, (one, value) in lists.items()}
    shown: set[tuple[str, DocumentId]] = {(entity.collection, id) for entity, id in entities.values()}
    for key, (one, value) in lists.items():
        if isinstance(one, Listing):
            shown |= {(one.item.collection, id) for id in firsts[key][0][:PAGE_LIMIT]}
            shown |= {(one.parent.collection, value)}
    truths = _truths(shown, source)
    authors = {one.fields["author_id"] for one in truths.values() if one.fields and "author_id" in one.fields}
    truths |= _truths({(USER.collection, id) for id in authors}, source)
    return {
        **{key: _of_entity(key, entity, id, truths) for key, (entity, id) in entities.items()},
        **{
            key: _of_listing(key, one, value, firsts[key][0], truths)
            if isinstance(one, Listing) and isinstance(value, int)
            else Expectation(key, None, firsts[key][0], None, None, frozenset({key}), firsts[key][1])
            for key, (one, value) in lists.items()
        },
        **{
            key: Expectation(key, None, source.told(int(user)), None, None, frozenset({key}))
            for key, user in told.items()
        },
    }


def _truths(wanted: Iterable[tuple[str, DocumentId]], source: SourceView) -> Truths:
    ids: dict[str, list[DocumentId]] = {}
    for name, id in wanted:
        ids.setdefault(name, []).append(id)
    return {(name, id): truth for name in ids for id, truth in source.truths(name, ids[name]).items()}


def _of_entity(key: str, entity: Entity, id: int, truths: Truths) -> Expectation:
    truth, path = truths[entity.collection, id], f"/{entity.name}/{id}" if entity is not COMMENT else None
    if truth.fields is None:
        return Expectation(key, truth, (False, b"", b""), path, None, frozenset({key}))
    value = decode_value(encode_entity(entity, {**truth.document, "v": 0}))
    assert value is not None
    answer, parts = entity.to_json(truth.document), {key}
    if entity.name in AUTHORED:
        author = truth.fields["author_id"]
        found = truths[USER.collection, author]
        answer = {
            **answer,
            "author": msgspec.json.decode(USER.to_head(found.document)) if found.fields else None,
        }
        parts |= {USER.key(author)}
    return Expectation(key, truth, (True, value.head, value.body), path, answer, frozenset(parts))


def _of_listing(
    key: str, listing: Listing, parent_id: int, ids: tuple[int, ...], truths: Truths
) -> Expectation:
    """The reader leaves out deleted items, and answers 404 for the list of a deleted parent."""
    parent = truths[listing.parent.collection, parent_id]
    page = ids[:PAGE_LIMIT]
    answer = tuple(id for id in page if truths[listing.item.collection, id].fields)
    parts = {key, listing.parent.key(parent_id), *(listing.item.key(id) for id in page)}
    path = listing.path.format(id=parent_id)
    return Expectation(key, None, ids, path, answer if parent.fields else None, frozenset(parts))
