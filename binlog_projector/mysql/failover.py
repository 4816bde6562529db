"""Chooses the MySQL server to follow: the first that takes writes, passes all checks, and has our history."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from binlog_projector.binlog.statements import Passes, no_swap
from binlog_projector.errors import PositionLost, ProjectorError, Retry, SourceBehind, SourceUnavailable, Stop
from binlog_projector.mysql.checks import check_source, demand, retention_seconds
from binlog_projector.mysql.connections import Connection
from binlog_projector.mysql.source import MySqlSource, Stream
from binlog_projector.settings import server_urls
from reader.read_model.control import Position

PATIENCE_SECONDS = 30.0
T = TypeVar("T")
log = structlog.get_logger()


class Servers:
    """One server, or a source and its replicas; any of them may be the source now."""

    def __init__(self, sources: Sequence[MySqlSource], retention_hours: int) -> None:
        self.sources = sources
        self.retention_hours = retention_hours
        self.unusable_since: float | None = None
        self.retention_seconds = 0.0  # of the server that was found last

    @classmethod
    def of(cls, url: str, server_id: int, retention_hours: int) -> Servers:
        urls = server_urls(url)
        sources = [MySqlSource(each, server_id, must_be_writable=len(urls) > 1) for each in urls]
        return cls(sources, retention_hours)

    def connect(self) -> Connection:
        """Connect to the first server that answers. Raises SourceUnavailable."""
        for source in self.sources[:-1]:
            with contextlib.suppress(SourceUnavailable):
                return source.connect()
        return self.sources[-1].connect()

    def usable(self) -> MySqlSource:
        """A server for a snapshot. Raises SourceUnavailable and Stop."""
        return self._first(lambda source: source)

    def stream(self, position: Position, passes: Passes = no_swap) -> Stream:
        """The stream right behind `position`. Raises SourceUnavailable, SourceBehind and Stop.

        The message has the problem of each server. If some server may still come back, catch up or be
        promoted, the error is a Retry. After PATIENCE_SECONDS it becomes a Stop, if another server cannot
        continue.
        """
        applied, anchor, partials = position.gtid_set, position.anchor, position.partials
        return self._first(lambda source: source.stream(applied, anchor, partials, passes))

    def _first(self, use: Callable[[MySqlSource], T]) -> T:
        refusals: list[ProjectorError] = []
        for source in self.sources:
            try:
                source.demand_writable()
                checks = check_source(source, self.retention_hours)
                demand(checks)
                used = use(source)
            except (Retry, Stop) as error:
                refusals.append(type(error)(f"{source.address}: {error}"))
                continue
            log.info("following", server=source.address)
            self.unusable_since, self.retention_seconds = None, retention_seconds(checks)
            return used
        raise self._verdict(refusals)

    def _verdict(self, refusals: Sequence[ProjectorError]) -> ProjectorError:
        reasons = "; ".join(map(str, refusals))
        if all(isinstance(refusal, SourceUnavailable) for refusal in refusals):
            return SourceUnavailable(reasons)
        stops = [refusal for refusal in refusals if isinstance(refusal, Stop)]
        if len(stops) == len(refusals):
            return type(stops[0])(reasons)
        self.unusable_since = self.unusable_since or time.monotonic()
        if time.monotonic() - self.unusable_since <= PATIENCE_SECONDS:
            return SourceBehind(reasons)
        return PositionLost(
            f"{reasons}; that has not changed for {PATIENCE_SECONDS:.0f} s: transactions that were applied "
            "are lost; point the projector at a server that has them, "
            "or run `python -m binlog_projector rebuild`"
        )
