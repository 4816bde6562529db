"""The projector's errors, named by what to do."""

from __future__ import annotations

import copy
from typing import Self

from tidemark.gtid import Gtid

NO_GTID = Gtid("", 0)


class ProjectorError(Exception):
    """The message says what happened, where, and what to do."""

    def reworded(self, message: str) -> Self:
        """The same error with another message."""
        reworded = copy.copy(self)
        reworded.args = (message,)
        return reworded


class Retry(ProjectorError):
    """Nothing is lost: go back to the checkpoint and try again, with back-off."""


class SourceUnavailable(Retry):
    """MySQL does not answer, or closed the stream."""


class SourceDemoted(SourceUnavailable):
    """The followed server has become read-only: another one takes the writes now."""


class StoreUnavailable(Retry):
    """MongoDB does not answer, or the outcome of a commit is unknown."""


class SourceBehind(Retry):
    """No server has all applied transactions; one may catch up or come back."""


class ReadModelMissing(Retry):
    """MongoDB has no serving build: no projector has finished its first snapshot yet."""


class ProjectorBehind(Retry):
    """The checkpoint lacks transactions that an audit has read: the projector is stopped or far behind."""


class CheckpointMoved(Retry):
    """The checkpoint is not the last one of this projector: its memory is void."""


class CacheMoved(Retry):
    """Shards of the cache lie on other nodes now: begin again with a thread for each of these."""


class CacheUnavailable(ProjectorError):
    """Redis does not answer: the cache stage waits at its watermark, MongoDB goes on."""


class StandDown(ProjectorError):
    """Another projector has taken over, or serves another build: stop writing, stand by."""


class ToldToStop(StandDown):
    """Told to stop during unfinished work, which is void now: the next leader begins it again."""


class Stop(ProjectorError):
    """An operator must act; the position stays resumable."""


class SourceMisconfigured(Stop):
    """A setting of MySQL would lose changes; the message names it and the remedy."""


class PositionLost(Stop):
    """The source cannot continue from the checkpoint: its history is purged, lost or forked; rebuild."""


class NotEnoughDisk(Stop):
    """A second build beside the serving one would fill MongoDB's disk."""


class NothingServes(Stop):
    """No build serves, so none can be rebuilt: `run` makes the first build."""


class OtherModel(Stop):
    """Another release made the serving build, with documents of other shapes: rebuild."""


class UnsupportedEvent(Stop):
    """The binlog has an event that cannot be projected truthfully."""


class TableSwapped(UnsupportedEvent):
    """Another table has got the name of a watched one, as tools for schema changes do it."""

    def __init__(self, message: str, table: str = "", gtid: Gtid = NO_GTID) -> None:
        super().__init__(message)
        self.table = table
        self.gtid = gtid


class UnprojectableRow(Stop):
    """A row lacks a column or has a value that the projection cannot use."""


class CorruptEvent(Stop):
    """A checksum in the binlog is wrong, or missing."""
