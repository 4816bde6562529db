"""MongoDB's control collection: its documents beside leases, their ids, and how they are encoded and decoded.

The collection says which build serves and how far each build is. It also holds the journals: the keys that
each batch touched. From any watermark that is still in the journal, the cache can catch up. All are in one
collection, so that one command writes a batch's checkpoint and its journal entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import reduce
from typing import Any

import msgspec
from msgspec import structs

from reader.read_model.cached_values import Watermark
from reader.read_model.declarations import MODEL_VERSION
from reader.read_model.entities import Document
from reader.read_model.shards import shard_number
from tidemark.gtid import Gtid, GtidSet

CONTROL = "control"
SERVING_ID = "serving"
ALLOCATIONS_ID = "allocations"  # its `build` is the number that a build got last
LEADING_ID, BUILDING_ID = "lease", "rebuild"  # of the leases: for leading, and for making builds
SNAPSHOT, STREAMING, DROPPED = "snapshot", "streaming", "dropped"  # states of a build; a streaming one serves
NOBODY = 2**62  # a lease epoch that no leader reaches
UNNAMED_MODEL = 2  # the read-model version of builds that do not name theirs
TOUCHED = {"keys": True, "counted": True}  # the fields of a journal entry that hold keys
LONG_AGO = "1970-01-01T00:00:00.000000Z"


def checkpoint_id(build: int) -> str:
    return f"checkpoint:{build}"


def epoch_field(model_version: int) -> str:
    """The checkpoint's field for the lease's epoch. Projectors of version 2, which look at no version, do not
    find theirs in a newer build, and stay out."""
    return "epoch" if model_version <= UNNAMED_MODEL else "lease_epoch"


def journal_id(build: int, seq: int) -> dict[str, int]:
    """Ids of one build's entries are in order. No other document has an id of this type."""
    return {"build": build, "seq": seq}


@dataclass(frozen=True)
class Serving:
    """The build that readers use and the epoch of its cache keys; on a cluster, that of each shard's keys."""

    build: int
    epoch: str
    epochs: tuple[str, ...] = ()

    def encode(self) -> dict[str, Any]:
        named = {"build": self.build, "epoch": self.epoch}
        return {**named, "epochs": [*self.epochs]} if self.epochs else named

    @classmethod
    def decode(cls, document: Document) -> Serving:
        return cls(document["build"], document["epoch"], tuple(document.get("epochs", ())))

    def epoch_of(self, shard: int, shards: int) -> str:
        """Empty if the cache had another number of shards: none of its keys is of this epoch."""
        if shards == 1:
            return "" if self.epochs else self.epoch
        return self.epochs[shard] if len(self.epochs) == shards else ""


@dataclass(frozen=True)
class Checkpoint:
    """Everything in `gtid_set` is in the documents of `build`, complete as of `as_of` (MySQL's clock).

    `open` and `cluster_time`: as in the watermark. They are not stored: `open` follows from the partial
    transactions, and only whoever saw the commit's answer, or a later read, knows a cluster time.
    """

    build: int
    seq: int
    batch_id: str
    as_of: str
    gtid_set: str
    model_version: int = MODEL_VERSION  # of the build
    open: bool = False
    cluster_time: str = ""

    @classmethod
    def decode(cls, document: Document) -> Checkpoint:
        unstored = {"open": bool(document.get("partials")), "cluster_time": ""}
        document = {"model_version": UNNAMED_MODEL, **document, **unstored}
        return cls(*(document[field.name] for field in fields(cls)))

    def watermark(self, epoch: str) -> Watermark:
        lineage = self.build, epoch, self.model_version, self.seq, self.batch_id
        return Watermark(*lineage, self.cluster_time, self.open, self.as_of, self.gtid_set)

    def at(self, as_of: str) -> Checkpoint:
        """The same checkpoint, complete as of a later moment."""
        return replace(self, as_of=as_of)


class Partial(msgspec.Struct, frozen=True, gc=False):
    """A transaction's first `rows` row changes, which were read or applied. `crc`: checksum of their keys."""

    gtid: Gtid
    original_commit_us: int
    rows: int
    crc: int


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """The last applied transaction. A server that has another one under this GTID has another history."""

    gtid: Gtid
    original_commit_us: int


@dataclass(frozen=True)
class Position:
    """A build's checkpoint as the projector holds it: the last commit, and where the stream continues."""

    checkpoint: Checkpoint
    epoch: int  # of the lease under which it was committed
    anchor: Anchor | None
    partials: tuple[Partial, ...] = ()  # in the documents, and not in the checkpoint's GTID set

    @property
    def gtid_set(self) -> GtidSet:
        return GtidSet.parse(self.checkpoint.gtid_set)

    @property
    def epoch_field(self) -> str:
        return epoch_field(self.checkpoint.model_version)

    @classmethod
    def decode(cls, document: Document) -> Position:
        checkpoint, last = Checkpoint.decode(document), document["last"]
        anchor = Anchor(Gtid.parse(last["gtid"]), last["original_commit_us"]) if last else None
        epoch = document[epoch_field(checkpoint.model_version)]
        return cls(checkpoint, epoch, anchor, decode_partials(document.get("partials", ())))

    def encode(self) -> dict[str, Any]:
        """The checkpoint's fields that a commit sets: all but its id, the build and the lease's epoch."""
        checkpoint, anchor = self.checkpoint, self.anchor
        return {
            **{name: getattr(checkpoint, name) for name in ("seq", "batch_id", "as_of", "gtid_set")},
            "last": {"gtid": str(anchor.gtid), "original_commit_us": anchor.original_commit_us}
            if anchor
            else None,
            "partials": encode_partials(self.partials),
        }

    def first_document(self) -> dict[str, Any]:
        """The checkpoint's document of a new, empty build."""
        build = self.checkpoint.build
        return {
            "_id": checkpoint_id(build),
            "build": build,
            "model_version": self.checkpoint.model_version,
            **self.encode(),
            self.epoch_field: self.epoch,
            "state": SNAPSHOT,
        }

    def partials_at(self, gtid_set: GtidSet, come: Partial | None) -> tuple[Partial, ...]:
        """The transactions that are still partial once `come` and all of `gtid_set` are applied."""
        known = {partial.gtid: partial for partial in (*self.partials, come) if partial}
        return tuple(partial for gtid, partial in known.items() if gtid not in gtid_set)

    @property
    def reached(self) -> GtidSet:
        """All transactions of which anything is in the documents."""
        return with_begun(self.gtid_set, self.partials)

    @property
    def rows_of(self) -> dict[str, int]:
        """How many rows are applied of each transaction that is not whole yet."""
        return {str(partial.gtid): partial.rows for partial in self.partials}


@dataclass(frozen=True)
class JournalEntry:
    """The cache keys that a committed batch made out of date, `counted` ones by counters alone."""

    checkpoint: Checkpoint
    keys: tuple[str, ...]
    partials: tuple[Partial, ...] = ()
    counted: tuple[str, ...] = ()

    @property
    def touched(self) -> tuple[str, ...]:
        return self.keys + self.counted

    def by_shard(self, count: int) -> list[JournalEntry]:
        """The entry once for each shard of the cache, with the keys that are its own."""
        if count == 1:
            return [self]
        keys, counted = (_by_shard(names, count) for names in (self.keys, self.counted))
        return [replace(self, keys=tuple(a), counted=tuple(b)) for a, b in zip(keys, counted, strict=True)]

    def encode(self, expires_at: datetime) -> dict[str, Any]:
        """All fields but the id, which names the batch."""
        checkpoint = self.checkpoint
        return {
            "batch_id": checkpoint.batch_id,
            "as_of": checkpoint.as_of,
            "gtid_set": checkpoint.gtid_set,
            "partials": encode_partials(self.partials),
            "keys": " ".join(self.keys),  # an array takes half as much again, for the numbers of its items
            "counted": " ".join(self.counted),
            "expires_at": expires_at,
        }

    @classmethod
    def decode(cls, document: Document) -> JournalEntry:
        checkpoint = Checkpoint.decode({**document, **document["_id"], "model_version": MODEL_VERSION})
        keys, counted = (tuple(document[name].split()) for name in TOUCHED)
        return cls(checkpoint, keys, decode_partials(document["partials"]), counted)


def _by_shard(keys: Iterable[str], count: int) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in range(count)]
    for key in keys:
        found[shard_number(key, count)].append(key)
    return found


def keys_of(entry: Document) -> tuple[str, ...]:
    """All keys that the batch touched. The document has at least the fields TOUCHED."""
    return tuple(key for name in TOUCHED for key in entry[name].split())


def encode_partials(partials: Iterable[Partial]) -> list[dict[str, Any]]:
    return [{**structs.asdict(partial), "gtid": str(partial.gtid)} for partial in partials]


def decode_partials(documents: Iterable[Document]) -> tuple[Partial, ...]:
    return tuple(Partial(**{**document, "gtid": Gtid.parse(document["gtid"])}) for document in documents)


def with_begun(gtid_set: GtidSet, partials: Iterable[Partial]) -> GtidSet:
    """The set with the partial transactions added."""
    return reduce(GtidSet.with_gtid, (partial.gtid for partial in partials), gtid_set)
