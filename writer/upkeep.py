"""Work that no request does: expired keys are purged, and deletions that nobody repeats are finished."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from tidemark.problem import Problem
from writer.database import Database, Session
from writer.errors import StatementRefused

PAUSE_SECONDS = 60
log = structlog.get_logger()


async def keep_doing(database: Database, *works: Callable[[Session], bool]) -> None:
    """Do each of `works`, now and every minute, until cancelled. It is repeated while it returns True."""
    while True:
        for work in works:
            try:
                while (await database.run(work, repeatable=True)).result:
                    pass
            except (Problem, StatementRefused) as error:
                log.warning("upkeep waits for the next attempt", work=work.__name__, error=str(error))
        await anyio.sleep(PAUSE_SECONDS)
