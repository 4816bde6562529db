"""Where a build is: what was committed last, and what each batch means for the cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from msgspec import structs

from binlog_projector.changes import Anchor, Partial
from reader.read_model import Checkpoint
from tidemark.gtid import Gtid, GtidSet


@dataclass(frozen=True)
class Position:
    """A build's checkpoint as the projector holds it: what it committed last, and what it will ask the source for."""

    checkpoint: Checkpoint
    epoch: int  # of the lease under which it was committed
    anchor: Anchor | None
    partials: tuple[Partial, ...] = ()  # what is in the documents of transactions that are not in its GTID set

    @property
    def gtid_set(self) -> GtidSet:
        return GtidSet.parse(self.checkpoint.gtid_set)

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Position:
        last = document["last"]
        anchor = Anchor(Gtid.parse(last["gtid"]), last["original_commit_us"]) if last else None
        return cls(
            Checkpoint.decode(document), document["epoch"], anchor, decode_partials(document.get("partials", ()))
        )

    def encode(self) -> dict[str, Any]:
        """The fields of a checkpoint's document that a commit sets: all but the build and the lease's epoch."""
        checkpoint, anchor = self.checkpoint, self.anchor
        return {
            **{name: getattr(checkpoint, name) for name in ("seq", "batch_id", "as_of", "gtid_set")},
            "last": {"gtid": str(anchor.gtid), "original_commit_us": anchor.original_commit_us} if anchor else None,
            "partials": encode_partials(self.partials),
        }

    def partials_at(self, gtid_set: GtidSet, come: Partial | None) -> tuple[Partial, ...]:
        """What is still partial once `come` and all of `gtid_set` are applied, too."""
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
    """What a committed batch means for the cache: the keys that it made out of date.

    `partials`: what is in the documents although its checkpoint does not contain it.
    """

    checkpoint: Checkpoint
    keys: tuple[str, ...]
    partials: tuple[Partial, ...] = ()

    def encode(self) -> dict[str, Any]:
        """Without its id, of which batch it is."""
        checkpoint = self.checkpoint
        return {
            "batch_id": checkpoint.batch_id,
            "as_of": checkpoint.as_of,
            "gtid_set": checkpoint.gtid_set,
            "partials": encode_partials(self.partials),
            "keys": list(self.keys),
        }

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> JournalEntry:
        checkpoint = Checkpoint.decode({**document, **document["_id"]})
        return cls(checkpoint, tuple(document["keys"]), decode_partials(document["partials"]))


def encode_partials(partials: Iterable[Partial]) -> list[dict[str, Any]]:
    return [{**structs.asdict(partial), "gtid": str(partial.gtid)} for partial in partials]


def decode_partials(documents: Iterable[Mapping[str, Any]]) -> tuple[Partial, ...]:
    return tuple(Partial(**{**document, "gtid": Gtid.parse(document["gtid"])}) for document in documents)


def with_begun(gtid_set: GtidSet, partials: Iterable[Partial]) -> GtidSet:
    """The set, and what is there in part only."""
    return reduce(GtidSet.with_gtid, (partial.gtid for partial in partials), gtid_set)
