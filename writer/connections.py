"""The writer's connections to MySQL, and the variables of each session."""

from __future__ import annotations

from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions

from tidemark.mysql_url import MySqlUrl
from writer.sql_errors import translated

# READ COMMITTED is enough: no command reads a row twice, and its decisions depend on locked rows only.
# Without gap locks there are fewer deadlocks, and inserts of others do not wait.
# Waits for locks of rows and (lock_wait_timeout) of tables end before READ_SECONDS. So a read timeout means
# a dead server, and a migration that waits for a table's lock gives up, and blocks no commands any longer.
SESSION = (
    "SET SESSION time_zone = '+00:00', sql_mode = 'TRADITIONAL', transaction_isolation = 'READ-COMMITTED',"
    " innodb_lock_wait_timeout = 3, lock_wait_timeout = 3, session_track_gtids = OWN_GTID"
)
CONNECT_SECONDS, READ_SECONDS, WRITE_SECONDS = 2, 5, 5
CLIENT_SESSION_TRACK = 1 << 23  # PyMySQL has no name for it


def connect(url: str, **arguments: Any) -> pymysql.Connection[Any]:
    with translated():
        return pymysql.connect(**{**connection_arguments(url), **arguments})


def connection_arguments(url: str) -> dict[str, Any]:
    """The arguments for PyMySQL; without `ssl_ca` in the URL, no TLS."""
    server = MySqlUrl.parse(url)
    ca = server.options.get("ssl_ca")
    return {
        **server.arguments(),
        "charset": "utf8mb4",
        "autocommit": True,
        "client_flag": CLIENT_SESSION_TRACK,
        "init_command": SESSION,
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "write_timeout": WRITE_SECONDS,
        "conv": {**conversions, FIELD_TYPE.DATETIME: _rfc3339},
        **(
            {"ssl_ca": ca, "ssl_verify_cert": True, "ssl_verify_identity": True}
            if ca
            else {"ssl_disabled": True}
        ),
    }


def _rfc3339(moment: str) -> str:
    return f"{moment.replace(' ', 'T')}Z"
