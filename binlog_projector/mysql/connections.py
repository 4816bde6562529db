"""One connection to MySQL: its settings, its errors as the projector's, and a statement's rows."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from binlog_projector.errors import PositionLost, SourceUnavailable
from tidemark.mysql_url import MySqlUrl
from writer.schema import SCHEMA

if TYPE_CHECKING:
    Connection = pymysql.connections.Connection[Any]
else:
    Connection = pymysql.connections.Connection  # generic in its type stubs only


CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 10  # heartbeats come each second, so a server that is silent for so long is gone
PURGED = 1236


def connection_settings(url: str) -> dict[str, Any]:
    """The arguments for PyMySQL."""
    server = MySqlUrl.parse(url)
    certificate = server.options.get("ssl_ca")
    return {
        **server.arguments(),
        "database": server.schema or SCHEMA,
        "charset": "utf8mb4",
        "conv": {**conversions, FIELD_TYPE.DATETIME: _moment},
        "autocommit": True,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
        "write_timeout": READ_TIMEOUT_SECONDS,
        "init_command": "SET SESSION time_zone='+00:00', net_write_timeout=86400",
        **(
            {"ssl": ssl.create_default_context(cafile=certificate)} if certificate else {"ssl_disabled": True}
        ),
    }


def _moment(text: str) -> datetime | str:
    """Twice as fast as PyMySQL's conversion. As there, text that is no date (0000-00-00) stays text."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


@contextlib.contextmanager
def unavailable(what: str) -> Iterator[None]:
    """Raise PyMySQL's errors as PositionLost for a purged position, else as SourceUnavailable."""
    try:
        yield
    except pymysql.err.MySQLError as error:
        code = error.args[0] if error.args else 0
        if code == PURGED and "same server" not in str(error):
            raise PositionLost(
                f"the source cannot continue from our position: {error}; "
                "run `python -m binlog_projector rebuild` (readers are served meanwhile)"
            ) from error
        raise SourceUnavailable(f"{what}: {error}") from error
    except OSError as error:
        raise SourceUnavailable(f"{what}: {error}") from error


def execute(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def query_row(connection: Connection, statement: str, arguments: Sequence[object] = ()) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        row: tuple[Any, ...] = cursor.fetchone()
        return row


def query_value(connection: Connection, statement: str, arguments: Sequence[object] = ()) -> Any:
    return query_row(connection, statement, arguments)[0]


def query_rows(
    connection: Connection, statement: str, arguments: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments)
        return list(cursor.fetchall())
