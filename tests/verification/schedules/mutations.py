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
        skipped = JournalEntry(self.documents.position.checkpoint, ())
        self.send(self.watermark, skipped, self.request(self.watermark, skipped, Values({})))


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


def by_seq() -> Product:
    """Compares the numbers of batches: they are no proof of one history."""
    reply = changed(
        "reader.following.Following._check",
        ("not text.startswith(strand.lineage.encode())", "text.split(b'|')[3] != b'%d' % strand.at.seq"),
    )
    message = changed(
        "reader.following.Following.received",
        ("message.found != strand.lineage", "message.found.split('|')[3] != str(strand.at.seq)"),
    )
    return both(reply, message)


def both(one: Product, other: Product) -> Product:
    return Product(patches={**one.patches, **other.patches})


INSTALL = "reader.live.hub.Hub._install"
IS_PENDING = "reader.live.subscription.Subscription.is_pending"
COMPLETE_TO = "reader.live.subscription.Subscription.complete_to"
FOLLOWS = "reader.live.connection.follows"
TELL = "reader.live.connection.Connection._tell"
REFRESH = "reader.refreshing.Refreshing.refresh"
REFRESHES = "reader.refreshing.Refreshing._work"
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
        )
    ),
    "a lease has no token of its own": Mutation(
        Product(patches={"reader.cache.secrets": SimpleNamespace(token_hex=lambda count: "0" * 2 * count)}),
        (LEASES_EXPIRED,),
        within=400,
        seed=29,
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
        seed=6,
    ),
    "a fill reads at present": Mutation(
        changed(READ_AND_STORE, ("self._moments.at(lease.watermark)", "self._moments.present()"))
    ),
    "the checkpoint of a fill is not compared": Mutation(
        changed(
            "reader.document_store.DocumentStore.at",
            ("if moment.proof.batch != watermark.batch or", "if"),
        ),
        (FORGOTTEN,),
        seed=7,
    ),
    "the reader keeps its fill after a message has named it": Mutation(
        changed(
            READ_AND_STORE,
            ("not following.named.between((key,), lease.position, following.position)", "True"),
        ),
        seed=3,
    ),
    "a fill outlives a reset": Mutation(
        both(
            changed("reader.named.Named.reset", ("self.position.life + 1", "self.position.life")),
            changed("reader.strand.Strand.reset", ("self.life += 1", "pass")),
        ),
        (MESSAGE_LOST, KILLED),
        seed=7,
    ),
    "a reply of another lineage is taken": Mutation(
        changed(
            "reader.following.Following._check",
            ("text is None or not text.startswith(strand.lineage.encode())", "text is None"),
        ),
        (MESSAGE_LOST,),
        seed=7,
    ),
    "a message that does not continue the tide is taken": Mutation(
        changed("reader.following.Following.received", ("message.found != strand.lineage", "False")),
        (MESSAGE_LOST,),
        seed=21,
    ),
    "the subscription's end is ignored": Mutation(
        changed("reader.node.Node._pushed", ('b"sunsubscribe"', 'b"never"')),
        (UNSUBSCRIBED,),
        seed=1,
    ),
    "the watermark is read before subscribing": Mutation(
        changed(
            "reader.node.Node._begin",
            ("self.send(strand.subscribe,", "self.send(strand.none,"),
            ("self.send(strand.ask,", "self.send(strand.subscribe,"),
            ("self.send(strand.none,", "self.send(strand.ask,"),
        ),
        seed=5,
    ),
    "an idle connection does not ask": Mutation(
        changed("reader.node.Node._ask", ("if idle:", "if False:")),
        (WATERMARK_LOST,),
        seed=1,
    ),
    "a message drops nothing": Mutation(
        changed("reader.following.Following.received", ("self.replica.drop(names)", "pass")), seed=3
    ),
    "a kept answer outlives its parts": Mutation(
        changed("reader.replica.Replica.answer", ("if self._gone(kept):", "if False:")), seed=27
    ),
    "a composition does not hold its moment": Mutation(
        changed(
            MOVE_ON,
            ("or view.depends_on(names)", ""),
            (
                "or any(following.named.between((key,), one.position, now) for key, one in found.items())",
                "",
            ),
        )
    ),
    "a part that a message has named counts at the new moment": Mutation(
        changed(MOVE_ON, ("view.depends_on(names)", "False"))
    ),
    "a found part counts at any moment": Mutation(
        changed(
            "reader.fetching.Fetching._through_cache",
            ("not self._following.named.between((key,), position, at)", "True"),
        ),
        seed=10,
    ),
    "what a message has named since is taken from a replica": Mutation(
        changed(MOVE_ON, ("names = following.named.names(began, now)", "names = {'nothing'}"))
    ),
    "an answer is older than one at present before it": Mutation(
        changed(
            "reader.consistency.Consistency._reaches_floor",
            ("self._floor_of(self._following.position.life)", "EMPTY"),
        ),
        (FORGOTTEN, SILENT),
        seed=526,
        within=926,
    ),
    "compared by seq instead of lineage": Mutation(by_seq(), (WATERMARK_LOST,), seed=417, within=817),
    "a state is sent before its batch": Mutation(
        changed(
            "reader.live.subscription.Subscription.state",
            ("self.watch.before is None and contains(tide, state.moment)", "True"),
        ),
        seed=7,
    ),
    "the tide is ahead of a due state": Mutation(
        changed(COMPLETE_TO, ("self.watch.before or tide if lacks is None else lacks.before", "tide")), seed=7
    ),
    "the tide waits for GTIDs": Mutation(changed(COMPLETE_TO, ("own.as_of > moment.as_of and ", "")), seed=7),
    "the tide is sent before the first state": Mutation(
        changed(COMPLETE_TO, ("return None", "return tide")), seed=7
    ),
    "a touch is lost between a read and the subscription to its keys": Mutation(
        changed(INSTALL, ("or named.between(keys, position, named.position)", "")), seed=7
    ),
    "keys of a former composition": Mutation(
        changed(INSTALL, ("self._depend(watch, keys)", "self._depend(watch, watch.keys or keys)")), seed=79
    ),
    "a touch while a state is made is forgotten": Mutation(
        changed("reader.live.hub.Hub._composed", ("if watch.before is not None:", "if False:")), seed=7
    ),
    "as_of goes back after a failover": Mutation(
        changed(FOLLOWS, ("moment.as_of >= other.as_of and ", "")), (FAILED_OVER,), seed=13
    ),
    "a state is older than a tide": Mutation(
        changed(
            "reader.live.connection.Connection._next_state",
            ("follows(moment, self._shown, self._told)", "True"),
        ),
        (FAILED_OVER,),
        seed=7,
    ),
    "a client gets what another one may get": Mutation(
        changed(TELL, ("id(shown), id(told), ", "")), (FAILED_OVER,), seed=29
    ),
    "a reset forgets a watch": Mutation(
        Product(patches={"reader.live.hub.Hub.reset": lambda hub: None}), (MESSAGE_LOST, KILLED), seed=106
    ),
    "counters name no read": Mutation(
        Product(patches={"reader.live.watch.Watch.ignores": lambda watch, name: True}), seed=157
    ),
    "an ETag is not looked at": Mutation(
        changed("reader.live.subscription.Subscription.begin", ("state.etag in known", "False")), seed=29
    ),
    "refreshing asks for what nobody had": Mutation(
        changed(REFRESH, ("self._keys |= dict.fromkeys(dropped)", "self._keys |= dict.fromkeys(names)")),
        seed=2,
    ),
    "a list comes again without its new items": Mutation(
        changed(REFRESH, ("any(map(list_of, dropped))", "False")), seed=7
    ),
    "refreshing forgets what is named meanwhile": Mutation(
        changed(
            REFRESHES,
            ("self._replica.unread(keys)", "self._replica.unread(keys)\n                self._keys.clear()"),
        ),
        seed=111,
    ),
    "two lookups of refreshing at a time": Mutation(
        changed(REFRESH, ("if self._task is None:", "if True:")), seed=78
    ),
    "refreshing stores what it found in a later turn": Mutation(
        changed(
            REFRESHES,
            (
                "await self._cache.get(keys)\n",
                "found, _ = await self._cache.get(keys)\n"
                "                for key, entry in found.items():\n"
                "                    if entry is not None:\n"
                "                        self._replica.put(key, entry)\n",
            ),
        ),
        seed=208,
    ),
    "APPLY leaves leases alone": Mutation(
        Product(patches=apply_with("if head ~= '' or", "if string.sub(head .. 'L', 1, 1) ~= 'L' or"))
    ),
    "APPLY leaves alone what is not absent": Mutation(
        Product(patches=apply_with("if head ~= '' or", "if string.sub(head .. 'V', 1, 1) ~= 'V' or"))
    ),
    "APPLY keeps what it has no bytes for": Mutation(
        Product(patches=apply_with("redis.call('DEL', unpack(KEYS, i, math.min(i + 999, #KEYS)))", "0")),
        seed=3,
    ),
    "APPLY does not compare the lineage": Mutation(
        Product(patches=apply_with("~= ARGV[1] then", "== false then")), (TAKEN_OVER, FAILED_OVER), seed=1
    ),
    "absent keys are not applied": Mutation(Product(stage=SkipsAbsentKeys), (DEPOSED,), within=1_000, seed=3),
    "the journal is not replayed": Mutation(Product(stage=SkipsReplay), (FAILED_OVER, CRASHED)),
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
                f"{ProjectorDocuments.__module__}.DocumentStore.new_cache_epoch": lambda documents, shard: (
                    documents.serving()
                )
            }
        ),
        (WATERMARK_LOST,),
        seed=1,
    ),
    "read back at present": Mutation(
        Product(patches={"binlog_projector.stores.read_back.Moment": DocumentsAtPresent}, asked=False),
        (TAKEN_OVER,),
        within=400,
        seed=27,
    ),
    "read-back not verified": Mutation(unverified(at_its_time=True), PROJECTORS, within=800, seed=21),
    "replay without the journal's word": Mutation(
        unverified(at_its_time=False), (TAKEN_OVER, RESTORED), within=2_000, seed=27
    ),
}
