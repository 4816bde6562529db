"""Ids in MongoDB, and reading by ids. An edge's id is a document there, which Python cannot hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from bson import Int64, json_util
from pymongo.client_session import ClientSession
from pymongo.database import Database

from binlog_projector.domain.mutations import DocumentId
from binlog_projector.stores.mongodb import BsonDocument
from reader.read_model.scans import Collection, EdgeId

READ_TOGETHER = 500  # a pipeline may have 1,000 stages


class ForeignId(str):
    """An `_id` that no projector has written, as extended JSON."""


def encode_id(id: DocumentId) -> Any:
    if isinstance(id, EdgeId):
        return id._asdict()
    return json_util.loads(id) if isinstance(id, ForeignId) else id


def decode_id(stored: Any) -> DocumentId:
    if not isinstance(stored, Mapping):
        return stored  # type: ignore[no-any-return]
    if tuple(stored) == EdgeId._fields and {type(part) for part in stored.values()} <= {int, Int64}:
        return EdgeId(*map(int, stored.values()))
    return ForeignId(json_util.dumps(stored, json_options=json_util.CANONICAL_JSON_OPTIONS))


def find_by_ids(
    database: Database[BsonDocument],
    collection: Collection,
    build: int,
    ids: Iterable[DocumentId],
    session: ClientSession | None,
    fields: Mapping[str, bool] | None = None,
) -> dict[DocumentId, BsonDocument]:
    """Documents by id. MongoDB scans a whole clustered collection for `$in`, but not for one id."""
    name = collection.in_build(build)
    encoded = [encode_id(id) for id in ids]
    if collection.edge:
        found: Iterable[BsonDocument] = _one_by_one(database, name, encoded, session)
    else:
        found = database[name].find({"_id": {"$in": encoded}}, fields, session=session)
    return {(id := decode_id(document["_id"])): {**document, "_id": id} for document in found}


def _one_by_one(
    database: Database[BsonDocument], name: str, ids: Iterable[Any], session: ClientSession | None
) -> Iterator[BsonDocument]:
    left = iter(ids)
    while some := list(islice(left, READ_TOGETHER)):
        first, *others = ([{"$match": {"_id": id}}] for id in some)
        unions = [{"$unionWith": {"coll": name, "pipeline": one}} for one in others]
        yield from database[name].aggregate([*first, *unions], session=session)
