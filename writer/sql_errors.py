"""MySQL's errors as the writer's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pymysql
import structlog
from pymysql.constants import CR, ER

from writer.errors import (
    Contended,
    DatabaseUnavailable,
    Duplicate,
    IdsExhausted,
    MissingRow,
    StatementRefused,
)

log = structlog.get_logger()

CONTENTION = {ER.LOCK_DEADLOCK: "deadlock", ER.LOCK_WAIT_TIMEOUT: "lock_wait_timeout"}


CLOSED = 0  # PyMySQL's code for a command on a connection that is closed already
SERVER_ENDED_CONNECTION = (
    4031  # wait_timeout, https://dev.mysql.com/doc/mysql-errors/en/server-error-reference.html
)
AUTO_INCREMENT_EXHAUSTED = 1467
DEAD = frozenset({CLOSED, SERVER_ENDED_CONNECTION, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST})
GONE = DEAD | frozenset(
    {
        CR.CR_CONNECTION_ERROR,
        CR.CR_CONN_HOST_ERROR,
        ER.CON_COUNT_ERROR,
        ER.SERVER_SHUTDOWN,
        ER.QUERY_INTERRUPTED,
        ER.OPTION_PREVENTS_STATEMENT,  # read_only: a failover is under way
    }
)
PARENT = re.compile(r"REFERENCES `(?:\w+`\.`)?(\w+)`")


@contextmanager
def translated() -> Iterator[None]:
    """Raise the driver's errors as the writer's own."""
    try:
        yield
    except pymysql.MySQLError as error:
        raise _translation(error) from error


def _translation(error: pymysql.MySQLError) -> Exception:
    code, text = error.args[0], str(error.args[-1])
    if code in CONTENTION:
        return Contended(CONTENTION[code])
    if code in GONE:
        log.warning("mysql connection lost", code=code, error=text)
        return DatabaseUnavailable()
    if code == AUTO_INCREMENT_EXHAUSTED:
        return IdsExhausted()
    if code == ER.DUP_ENTRY:
        return Duplicate(text.rpartition("for key ")[2].strip("'"))
    if code in (ER.NO_REFERENCED_ROW, ER.NO_REFERENCED_ROW_2):
        parent = PARENT.search(text)
        return MissingRow(parent[1] if parent else "row")
    return StatementRefused(f"MySQL answered {code}: {text}")
