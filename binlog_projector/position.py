"""Where a build is: what was committed last, and what each batch means for the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from binlog_projector.changes import Anchor
from reader.read_model import Checkpoint
from tidemark.gtid import Gtid, GtidSet


@dataclass(frozen=True)
class Position:
    """A build's checkpoint as the projector holds it: what it committed last, and what it will ask the source for."""

    checkpoint: Checkpoint
    epoch: int  # of the lease under which it was committed
    anchor: Anchor | None

    @property
    def gtid_set(self) -> GtidSet:
        return GtidSet.parse(self.checkpoint.gtid_set)

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Position:
        last = document["last"]
        anchor = Anchor(Gtid.parse(last["gtid"]), last["original_commit_us"]) if last else None
        return cls(Checkpoint.decode(document), document["epoch"], anchor)


@dataclass(frozen=True)
class JournalEntry:
    """What a committed batch means for the cache: the keys that it made out of date."""

    checkpoint: Checkpoint
    keys: tuple[str, ...]
