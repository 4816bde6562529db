"""The nodes of the cache: which shards each one holds, and one pipeline to each node for every batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import redis
from redis.exceptions import NoScriptError

from binlog_projector.errors import CacheUnavailable
from binlog_projector.fault_points import reached
from binlog_projector.stores.cache import PROBED_KEYS, CacheStage, Client
from binlog_projector.stores.cache_scripts import PRESENT
from binlog_projector.stores.cache_values import Values, values_of
from reader.read_model.cached_values import Watermark
from reader.read_model.control import Checkpoint, JournalEntry

Entries = Mapping[CacheStage, JournalEntry]


class CacheNode:
    """The stages of the shards on one node. One thread uses it."""

    def __init__(self, client: Client, stages: Sequence[CacheStage]) -> None:
        self.client = client
        self.stages = stages
        self.documents = stages[0].documents

    @property
    def watermarks(self) -> dict[int, Watermark | None]:
        """Number of each shard -> its watermark."""
        return {stage.shard.number: stage.watermark for stage in self.stages}

    def apply(self, parts: Sequence[JournalEntry]) -> None:
        """Bring a committed batch into all shards here. A shard that is further behind replays the journal.

        `parts`: its entry for each shard of the cache.
        """
        mine = {stage: parts[stage.shard.number] for stage in self.stages}
        before = parts[0].checkpoint.seq - 1
        in_step = {stage: part for stage, part in mine.items() if _stands_at(stage, before)}
        if len(mine) > 1 and in_step:
            self._together(in_step)
        for stage, part in mine.items():
            stage.apply(part)

    def tick(self, checkpoint: Checkpoint) -> None:
        """Tell readers that nothing was missing at the checkpoint's `as_of`."""
        at = [stage for stage in self.stages if _stands_at(stage, checkpoint.seq)]
        if len(self.stages) > 1 and at:
            reached("before_tick")
            self._send(dict.fromkeys(at, JournalEntry(checkpoint, ())), Values({}))
        for stage in self.stages:
            if len(self.stages) == 1 or stage not in at:
                stage.tick(checkpoint)

    def catch_up(self) -> None:
        """Continue each shard that has no watermark. Raises CacheUnavailable, StandDown.

        A shard that Redis refuses, because its slot moves, does not keep others from being continued.
        """
        failure: CacheUnavailable | None = None
        for stage in self.stages:
            if stage.watermark is None:
                try:
                    stage.catch_up()
                except CacheUnavailable as error:
                    failure = error
                    if not isinstance(error.__cause__, redis.ResponseError):
                        break
        if failure is not None:
            raise failure

    def _together(self, entries: Entries) -> None:
        """One APPLY for each shard; before them, one probe and one read of MongoDB for all."""
        present = self._present(entries)
        left = {stage: entry for stage, entry in entries.items() if stage.watermark is not None}
        if left:
            values = values_of(self.documents, _joined([*left.values()]), present)
            reached("before_apply")
            self._send(left, values)

    def _present(self, entries: Entries) -> list[str]:
        """The keys that are present. A shard that Redis refuses is lost alone."""
        pipeline = self.client.pipeline(transaction=False)
        asked = []
        for stage, entry in entries.items():
            assert stage.watermark is not None
            for at in range(0, len(entry.touched), PROBED_KEYS):
                some = entry.touched[at : at + PROBED_KEYS]
                names = (stage.shard.cache_key(stage.watermark.epoch, key) for key in some)
                pipeline.eval_ro(PRESENT, len(some), *names)
                asked.append((stage, some))
        try:
            found = pipeline.execute(raise_on_error=False) if asked else []
        except redis.RedisError as error:
            _lose(entries, error)
            return []
        present: list[str] = []
        for (stage, some), places in zip(asked, found, strict=True):
            if isinstance(places, redis.RedisError):
                stage.lost(places)
            else:
                present += (some[place - 1] for place in places)
        return present

    def _send(self, entries: Entries, values: Values) -> None:
        """All APPLYs in one pipeline. A shard that Redis refuses is lost alone."""
        pipeline = self.client.pipeline(transaction=False)
        sent = []
        for stage, entry in entries.items():
            assert stage.watermark is not None
            mine = {key: values.bytes[key] for key in entry.touched if key in values.bytes}
            request = stage.request(stage.watermark, entry, Values(mine, values.new))
            pipeline.evalsha(stage.apply_script.sha, len(request.keys), *request.keys, *request.arguments)
            sent.append((stage, stage.watermark, entry, request))
        try:
            replies = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            _lose(entries, error)
            return
        for (stage, watermark, entry, request), reply in zip(sent, replies, strict=True):
            try:
                if isinstance(reply, NoScriptError):
                    stage.send(watermark, entry, request)
                elif isinstance(reply, redis.RedisError):
                    raise reply
                else:
                    stage.settle(watermark, entry, reply)
            except redis.RedisError as error:
                stage.lost(error)


def _stands_at(stage: CacheStage, seq: int) -> bool:
    return stage.watermark is not None and stage.watermark.seq == seq


def _joined(entries: Sequence[JournalEntry]) -> JournalEntry:
    keys = tuple(key for entry in entries for key in entry.keys)
    return replace(entries[0], keys=keys, counted=tuple(key for entry in entries for key in entry.counted))


def _lose(stages: Entries, error: redis.RedisError) -> None:
    for stage in stages:
        stage.lost(error)
