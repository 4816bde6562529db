"""The product without one of its rules. The schedules must find each mutation, or they prove nothing."""

from __future__ import annotations

import inspect
import pkgutil
import textwrap
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from binlog_projector.domain.batch import Batch
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.cache_scripts import APPLY
from binlog_projector.stores.cache_values import Values
from binlog_projector.stores.document_store import DocumentStore as ProjectorDocuments
from binlog_projector.stores.read_back import Moment, is_ours
from reader.cache import FILL
from reader.read_model.cached_values import Watermark
from reader.read_model.control import CONTROL, Checkpoint, JournalEntry
from tests.verification.schedules.actors import Product
from tests.verification.schedules.faults import (
    CRASHED,
    DEPOSED,
    FAILED_OVER,
    FORGOTTEN,
    KILLED,
    LEASES_EXPIRED,
    MESSAGE_LOST,
    PROJECTORS,
    RESTORED,
    SILENT,
    TAKEN_OVER,
    UNSUBSCRIBED,
    WATERMARK_LOST,
)
from tidemark.gtid import GtidSet


def with_other(script: str, code: str, instead: str) -> str:
    """The script with `instead` for `code`. Fails if the script no longer contains `code`."""
    assert script.count(code) == 1, f"the script has not exactly one {code!r}"
    return script.replace(code, instead)


def changed(name: str, *changes: tuple[str, str]) -> Product:
    """The product whose function of this name has other code in some places."""
    function = pkgutil.resolve_name(name)
    source = textwrap.dedent(inspect.getsource(function))
    for code, instead in changes:
        source = with_other(source, code, instead)
    made: dict[str, object] = {}
    exec(compile(source, name, "exec"), function.__globals__, made)
    return Product(patches={name: made[function.__name__]})


def apply_with(code: str, instead: str) -> dict[str, object]:
    return {"binlog_projector.stores.cache.APPLY": with_other(APPLY, code, instead)}


class SkipsAbsentKeys(CacheStage):
    """Gives APPLY only the keys that were present at the probe."""

    def _apply(self, watermark: Watermark, entry: JournalEntry) -> None:
        present = self._present(watermark.epoch, entry.touched)
        super()._apply(watermark, replace(entry, keys=tuple(present), counted=()))


class SkipsReplay(CacheStage):
    """Takes MongoDB's checkpoint for the cache's position."""

    def _replay(self) -> None:
        assert self.watermark is not None
        self._send(self.watermark, JournalEntry(self.documents.position.checkpoint, ()), Values({}))


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


READ_AND_STORE = "reader.fetching.Fetching._read_and_store"
MOVE_ON = "reader.fetching.Fetching._move_on"


@dataclass(frozen=True)
class Mutation:
    """A changed product, and the faults that it needs to break a promise.

    `seed`: the first schedule that finds it. `within`: how many schedules to try if `seed` no longer does.
    """

    product: Product
    faults: tuple[str, ...] = ()
    seed: int = 0
    within: int = 400


MUTATIONS = {
    "a fill needs no lease": Mutation(
        Product(
            patches={
                "reader.cache.FILL": with_other(
                    FILL, "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end", ""
                )
            }
        ),
    ),
    "a lease has no token of its own": Mutation(
        Product(patches={"reader.cache.secrets": SimpleNamespace(token_hex=lambda count: "0" * 2 * count)}),
        (LEASES_EXPIRED,),
        within=400,
        seed=194,
    ),
    "a lease has the watermark from before it": Mutation(
        changed(
            "reader.cache.Cache.lease",
            (
                "list(keys)\n",
                "list(keys)\n    before, position = following.tide, following.position\n",
            ),
            ("held, following.tide, following.position", "held, before, position"),
        ),
        seed=36,
    ),
    "a fill reads at present": Mutation(
        changed(READ_AND_STORE, ("self._moments.at(lease.watermark)", "self._moments.present()")), seed=3
    ),
    "the checkpoint of a fill is not compared": Mutation(
        changed(
            "reader.document_store.DocumentStore.at",
            ("if moment.proof.lineage != watermark.lineage:", "if False:"),
        ),
        (FORGOTTEN,),
        seed=26,
    ),
    "the reader keeps its fill after a message has named it": Mutation(
        changed(
            READ_AND_STORE,
            ("not following.named.between((key,), lease.position, following.position)", "True"),
        ),
        seed=8,
    ),
    "a fill outlives a reset": Mutation(
        changed("reader.named.Named.reset", ("self.position.life + 1", "self.position.life")),
        (MESSAGE_LOST, KILLED),
        seed=42,
    ),
    "a reply of another lineage is taken": Mutation(
        changed(
            "reader.following.Following._check",
            ("text is None or not text.startswith(_lineage(self.tide))", "text is None"),
        ),
        (MESSAGE_LOST,),
        seed=25,
    ),
    "a message that does not continue the tide is taken": Mutation(
        changed(
            "reader.following.Following._continue",
            ("message.found != self.tide.lineage", "False"),
        ),
        (MESSAGE_LOST,),
        seed=5,
    ),
    "the subscription's end is ignored": Mutation(
        changed("reader.following.Following._pushed", ('b"sunsubscribe"', 'b"never"')),
        (UNSUBSCRIBED,),
        seed=28,
    ),
    "the watermark is read before subscribing": Mutation(
        changed(
            "reader.following.Following._follow",
            ("await connection.send_packed_command(SUBSCRIBE)", "await self._send(ASK, Request(1))"),
            (
                "    await self._send(ASK, Request(1))\n    asking",
                "    await connection.send_packed_command(SUBSCRIBE)\n    asking",
            ),
        ),
        seed=29,
    ),
    "an idle connection does not ask": Mutation(
        changed("reader.following.Following._ask_when_idle", ("if not self._pending:", "if False:")),
        (WATERMARK_LOST,),
        seed=1,
    ),
    "a message drops nothing": Mutation(
        changed("reader.following.Following._continue", ("self.replica.drop(names)", "pass")), seed=1
    ),
    "a kept answer outlives its parts": Mutation(
        changed("reader.replica.Replica.answer", ("if self.get(key) is not entry:", "if False:")), seed=312
    ),
    "a composition does not hold its moment": Mutation(
        changed(
            MOVE_ON,
            ("or following.named.between(view.parts, began, now)", ""),
            (
                "or any(following.named.between((key,), one.position, now) for key, one in found.items())",
                "",
            ),
        )
    ),
    "a part that a message has named counts at the new moment": Mutation(
        changed(MOVE_ON, ("following.named.between(view.parts, began, now)", "False"))
    ),
    "a found part counts at any moment": Mutation(
        changed(
            "reader.fetching.Fetching._through_cache",
            ("not self._following.named.between((key,), position, at)", "True"),
        )
    ),
    "what a message has named since is taken from a replica": Mutation(
        changed(MOVE_ON, ("names = following.named.names(began, now)", "names = {'nothing'}")), seed=39
    ),
    "an answer is older than one at present before it": Mutation(
        changed(
            "reader.consistency.Consistency._reaches_floor",
            ("self._floor_of(self._following.position.life)", "EMPTY"),
        ),
        (FORGOTTEN, SILENT),
        seed=897,
    ),
    "APPLY leaves leases alone": Mutation(
        Product(patches=apply_with("if head ~= '' or", "if string.sub(head .. 'L', 1, 1) ~= 'L' or")),
    ),
    "APPLY leaves alone what is not absent": Mutation(
        Product(patches=apply_with("if head ~= '' or", "if string.sub(head .. 'V', 1, 1) ~= 'V' or"))
    ),
    "APPLY keeps what it has no bytes for": Mutation(
        Product(patches=apply_with("redis.call('DEL', unpack(KEYS, i, math.min(i + 999, #KEYS)))", "0")),
        seed=11,
    ),
    "APPLY does not compare the lineage": Mutation(
        Product(patches=apply_with("~= ARGV[1] then", "== false then")), (TAKEN_OVER, FAILED_OVER), seed=1
    ),
    "absent keys are not applied": Mutation(Product(stage=SkipsAbsentKeys), (DEPOSED,), within=1_000, seed=3),
    "the journal is not replayed": Mutation(Product(stage=SkipsReplay), (FAILED_OVER, CRASHED), seed=1),
    "the checkpoint of a part contains its transaction": Mutation(
        Product(patches={"binlog_projector.domain.batch.Batch.gtid_set": property(with_begun)}), within=400
    ),
    "a transaction that was begun begins again": Mutation(
        Product(patches={"reader.read_model.control.decode_partials": lambda documents: ()}),
        (TAKEN_OVER, CRASHED),
        within=800,
        seed=1,
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
        seed=21,
    ),
    "read-back not verified": Mutation(unverified(at_its_time=True), PROJECTORS, within=800, seed=14),
    "replay without the journal's word": Mutation(
        unverified(at_its_time=False), (TAKEN_OVER, RESTORED), within=2_000, seed=245
    ),
}
