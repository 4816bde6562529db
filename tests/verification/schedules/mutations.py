"""The product without one of its rules. The schedules must find each mutation, or they prove nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from binlog_projector.domain.batch import Batch
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.cache_scripts import APPLY
from binlog_projector.stores.document_store import DocumentStore as ProjectorDocuments
from binlog_projector.stores.read_back import Moment, is_ours
from reader.cache import FILL, Cache, FillLease
from reader.document_store import DocumentStore, View
from reader.parts import Wanted
from reader.read_model.cached_values import Watermark
from reader.read_model.control import CONTROL, Checkpoint, JournalEntry
from reader.read_through import ReadThrough
from tests.verification.schedules.actors import Product
from tests.verification.schedules.faults import (
    CRASHED,
    DEPOSED,
    FAILED_OVER,
    LEASES_EXPIRED,
    PROJECTORS,
    RESTORED,
    TAKEN_OVER,
    WATERMARK_LOST,
)
from tidemark.gtid import GtidSet


def with_other(script: str, code: str, instead: str) -> str:
    """The script with `instead` for `code`. Fails if the script no longer contains `code`."""
    assert script.count(code) == 1, f"the script has not exactly one {code!r}"
    return script.replace(code, instead)


def apply_with(code: str, instead: str) -> dict[str, object]:
    return {"binlog_projector.stores.cache.APPLY": with_other(APPLY, code, instead)}


class WatermarkBeforeLease(Cache):
    """A batch applied between the two finds no lease to end, and the watermark lacks it."""

    async def lease(self, keys: Iterable[str], epoch: str) -> FillLease:
        before = await super().lease([], epoch)
        return replace(await super().lease(keys, epoch), watermark=before.watermark)


class FillsBehindWatermark(DocumentStore):
    """Accepts documents that are older than the watermark, or of another history."""

    async def view(self, watermark: Watermark | None = None) -> View:
        return replace(await super().view(watermark), continues=True)


class CheckpointAfterDocument(ReadThrough):
    """Proves a document with a checkpoint that may be newer."""

    async def _read(
        self, wanted: Sequence[Wanted], watermark: Watermark | None = None
    ) -> tuple[View, dict[str, bytes]]:
        _, values = await super()._read(wanted, watermark)
        return await self._documents.view(watermark), values


class SkipsAbsentKeys(CacheStage):
    """Gives APPLY only the keys that were present at the probe."""

    def _apply(self, watermark: Watermark, entry: JournalEntry) -> None:
        present = self._present(watermark.epoch, entry.touched)
        super()._apply(watermark, replace(entry, keys=tuple(present), counted=()))


class SkipsReplay(CacheStage):
    """Takes MongoDB's checkpoint for the cache's position."""

    def _replay(self) -> None:
        assert self.watermark is not None
        self._send(self.watermark, JournalEntry(self.documents.position.checkpoint, ()), {})


class DocumentsAtPresent(Moment):
    """Verifies the batch at its own time, and reads documents at present."""

    def find(self, collection: str, query: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        if collection == CONTROL:
            return super().find(collection, query, **options)
        return Moment(self.database, "").find(collection, query, **options)


def unverified(*, at_its_time: bool) -> Product:
    """Takes for granted that MongoDB's history has the batch, at the batch's time or in a replay."""

    def seems_ours(moment: Moment, batch: Checkpoint, *, pinned: bool) -> bool:
        return is_ours(moment, batch, pinned=pinned) or pinned == at_its_time

    return Product(patches={"binlog_projector.stores.read_back.is_ours": seems_ours}, asked=False)


def with_begun(batch: Batch) -> GtidSet:
    """Counts a transaction as applied after its first part."""
    return batch.gtids.current().with_gtid(batch.partial.gtid) if batch.partial else batch.gtids.current()


@dataclass(frozen=True)
class Mutation:
    """A changed product, and the faults that it needs to break a promise.

    `seed`: the first schedule that finds it. `within`: how many schedules to try if `seed` no longer does.
    """

    product: Product
    faults: tuple[str, ...] = ()
    seed: int = 0
    within: int = 150


MUTATIONS = {
    "a fill needs no lease": Mutation(
        Product(
            patches={
                "reader.cache.FILL": with_other(
                    FILL, "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end", ""
                )
            }
        ),
        seed=56,
    ),
    "a lease has no token of its own": Mutation(
        Product(patches={"reader.cache.secrets": SimpleNamespace(token_hex=lambda count: "0" * 2 * count)}),
        (LEASES_EXPIRED,),
        within=400,
        seed=70,
    ),
    "the watermark is read before the lease is taken": Mutation(
        Product(cache=WatermarkBeforeLease), (DEPOSED,), seed=120
    ),
    "a fill may be behind the watermark": Mutation(
        Product(documents=FillsBehindWatermark), (DEPOSED,), seed=65
    ),
    "the checkpoint is read after the document": Mutation(
        Product(read_through=CheckpointAfterDocument), seed=81
    ),
    "APPLY leaves leases alone": Mutation(
        Product(patches=apply_with("if head ~= '' then", "if string.sub(head .. 'L', 1, 1) ~= 'L' then")),
        seed=73,
    ),
    "APPLY leaves alone what is not absent": Mutation(
        Product(patches=apply_with("if head ~= '' then", "if string.sub(head .. 'V', 1, 1) ~= 'V' then"))
    ),
    "APPLY replaces what is newer": Mutation(
        Product(patches=apply_with("not newer and ", "")), (TAKEN_OVER, CRASHED), within=800, seed=330
    ),
    "APPLY keeps what it has no bytes for": Mutation(
        Product(patches=apply_with("redis.call('DEL', unpack(KEYS, i, math.min(i + 999, #KEYS)))", "0")),
        seed=1,
    ),
    "APPLY does not compare the lineage": Mutation(
        Product(patches=apply_with("~= ARGV[1] then", "== false then")), (TAKEN_OVER, FAILED_OVER), seed=2
    ),
    "absent keys are not applied": Mutation(
        Product(stage=SkipsAbsentKeys), (DEPOSED,), within=1_000, seed=711
    ),
    "the journal is not replayed": Mutation(Product(stage=SkipsReplay), (FAILED_OVER, CRASHED)),
    "the checkpoint of a part contains its transaction": Mutation(
        Product(patches={"binlog_projector.domain.batch.Batch.gtid_set": property(with_begun)}), within=400
    ),
    "a transaction that was begun begins again": Mutation(
        Product(patches={"reader.read_model.control.decode_partials": lambda documents: ()}),
        (TAKEN_OVER, CRASHED),
        within=800,
        seed=4,
    ),
    "an epoch is used again": Mutation(
        Product(
            patches={
                f"{ProjectorDocuments.__module__}.DocumentStore.new_cache_epoch": ProjectorDocuments.serving
            }
        ),
        (WATERMARK_LOST,),
        seed=1,
    ),
    "read back at present": Mutation(
        Product(patches={"binlog_projector.stores.read_back.Moment": DocumentsAtPresent}, asked=False),
        (TAKEN_OVER,),
        within=400,
    ),
    "read-back not verified": Mutation(unverified(at_its_time=True), PROJECTORS, within=800, seed=171),
    "replay without the journal's word": Mutation(
        unverified(at_its_time=False), (TAKEN_OVER, RESTORED), within=2_000, seed=207
    ),
}
