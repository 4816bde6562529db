"""What can go wrong, named by what has to be done about it."""

from __future__ import annotations


class ProjectorError(Exception):
    """The message says what happened, where, and what to do."""


class Retry(ProjectorError):
    """Nothing is lost: go back to the checkpoint and try again, with back-off."""


class SourceUnavailable(Retry):
    """MySQL does not answer, or closed the stream."""


class SourceDemoted(SourceUnavailable):
    """The server that was followed has become read-only: another one takes the writes now."""


class StoreUnavailable(Retry):
    """MongoDB does not answer, or did not say whether it committed."""


class SourceBehind(Retry):
    """No server has all transactions that were applied; one may be catching up, or come back."""


class ReadModelMissing(Retry):
    """MongoDB has no build that serves: no projector has finished its first snapshot yet."""


class ProjectorBehind(Retry):
    """The checkpoint does not reach what an audit read from MySQL: a projector is stopped, or far behind."""


class CheckpointMoved(Retry):
    """The checkpoint is not what this projector committed last: everything in memory is void."""


class CacheUnavailable(ProjectorError):
    """Redis does not answer: the cache stage waits at its watermark, MongoDB goes on."""


class StandDown(ProjectorError):
    """Another projector has taken over, or serves another build: stop writing, stand by."""


class ToldToStop(StandDown):
    """In the middle of something that is void now: whoever leads next begins it again."""


class Stop(ProjectorError):
    """An operator has to act; the position stays resumable."""


class SourceMisconfigured(Stop):
    """A setting of MySQL would lose changes; the message names it and the remedy."""


class PositionLost(Stop):
    """The source cannot continue from the checkpoint: its history is purged, lost or forked; rebuild."""


class NotEnoughDisk(Stop):
    """A second build beside the one that serves would fill MongoDB's disk."""


class NothingServes(Stop):
    """There is nothing to rebuild: `run` makes the first build."""


class OtherModel(Stop):
    """The build that serves was made by another release, which had other documents; rebuild."""


class UnsupportedEvent(Stop):
    """The binlog holds something that cannot be projected truthfully."""


class UnprojectableRow(Stop):
    """A row lacks a column or has a value that the projection cannot use."""


class CorruptEvent(Stop):
    """A checksum in the binlog is wrong, or missing."""
