"""The projector's own Redis connection and document store, with a turn before each command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis
from pymongo import MongoClient
from pymongo.client_session import ClientSession

from binlog_projector.domain.batch import Batch
from binlog_projector.stores.document_store import DocumentStore
from binlog_projector.stores.read_back import Found, Listed
from reader.read_model.control import Checkpoint, JournalEntry, Position, Serving
from tests.verification.schedules.redis_commands import CHANGING, described
from tests.verification.schedules.scheduler import pause

BsonDocument = dict[str, Any]
JOURNAL_HOURS = 24


class ProjectorConnection(redis.Connection):
    """Waits for a turn before a command or a pipeline. The answer may be lost."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._greeting = False
        self._loses_answer = False

    def on_connect_check_health(self, check_health: bool = True) -> None:
        self._greeting = True
        super().on_connect_check_health(check_health)
        self._greeting = False

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> Any:
        asked = list(commands)
        self._await_turn("; ".join(map(described, asked)), changes_redis=False)
        return super().pack_commands(asked)  # type: ignore[no-untyped-call]

    def send_command(self, *arguments: Any, **options: Any) -> None:
        if not self._greeting:
            self._await_turn(described(arguments), arguments[0] in CHANGING)
        super().send_command(*arguments, **options)  # type: ignore[no-untyped-call]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        answer = super().read_response(*arguments, **options)
        if self._loses_answer:
            self._loses_answer = False
            raise redis.exceptions.ConnectionError("the answer was lost")
        return answer

    def _await_turn(self, action: str, changes_redis: bool) -> None:
        worker = pause(action, changes_redis)
        if worker is not None:
            self._loses_answer, worker.loses_answer = worker.loses_answer, False


class Restored:
    """MongoDB's last restore. All that it had at the time of a lost batch is what the restore left."""

    def __init__(self) -> None:
        self.at = ""

    def seen(self, batch: Checkpoint) -> Checkpoint:
        """The batch with the time at which the restored MongoDB has to be asked."""
        time = max(batch.cluster_time, self.at, key=_ticks) if batch.cluster_time else ""
        return replace(batch, cluster_time=time)


def _ticks(time: str) -> list[int]:
    return [int(part) for part in time.split(".") if part]


class ProjectorStore(DocumentStore):
    """The projector's document store, with a turn before each transaction and each read."""

    def __init__(
        self,
        client: MongoClient[BsonDocument],
        session: ClientSession,
        position: Position,
        committed: list[JournalEntry],
        restored: Restored,
    ) -> None:
        super().__init__(client, session, position, JOURNAL_HOURS)
        self._committed = committed
        self._restored = restored

    def commit(self, batch: Batch, as_of: str) -> JournalEntry:
        pause("commit " + " ".join((*batch.keys, *batch.counted)))
        entry = super().commit(batch, as_of)
        self._committed.append(entry)
        return entry

    def tick(self, as_of: str) -> None:
        pause("tick the checkpoint")
        super().tick(as_of)

    def new_cache_epoch(self, shard: int = 0) -> Serving:
        pause("new cache epoch")
        return super().new_cache_epoch(shard)

    def serving(self) -> Serving:
        pause("find serving")
        return super().serving()

    def read_back(
        self, batch: Checkpoint, wanted: Mapping[str, Iterable[int]], lists: Sequence[Listed] = ()
    ) -> Found:
        names = (*wanted, *(kind.label for kind, _ in lists))
        pause(f"read back {'' if batch.cluster_time else 'at present '}{' '.join(names)}")
        return super().read_back(self._restored.seen(batch), wanted, lists)

    def journal(self, after: int, limit: int) -> list[JournalEntry]:
        pause(f"find journal after {after}")
        return super().journal(after, limit)

    def batch_id(self, seq: int) -> str | None:
        pause(f"find journal {seq}")
        return super().batch_id(seq)
