"""BSON as commands need it: documents with plain numbers, cluster times, and reads of one snapshot."""

from __future__ import annotations

from typing import Any

from bson import decode
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from reader.stored_scan import BsonDocument


class PlainInt(TypeDecoder):
    """Turns PyMongo's own 64-bit type, a subclass of int, into int."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        return int(value)


CODEC = CodecOptions[BsonDocument](type_registry=TypeRegistry([PlainInt()]))
RAW = CodecOptions[RawBSONDocument](document_class=RawBSONDocument)  # commands apply no TypeDecoder


def plain(document: Any) -> BsonDocument:
    """The document of a RawBSONDocument."""
    return decode(document.raw, CODEC)


def timestamp(text: str) -> Timestamp | None:
    """The cluster time of a watermark; None if it tells none."""
    seconds, _, increment = text.partition(".")
    return Timestamp(int(seconds), int(increment)) if text else None


def snapshot(time: Timestamp | None) -> BsonDocument:
    """The read concern for one snapshot: at a cluster time, or the present one."""
    return {"level": "snapshot", "atClusterTime": time} if time else {"level": "snapshot"}
