"""The system under load: its addresses, tokens for anybody, and MySQL to count in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self

import pymysql

from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import mint
from ops.stack.urls import mysql_arguments
from tidemark.settings import Address, address

TOKEN_SECONDS = 600
MYSQL_URL = "PERF_MYSQL_URL"  # the baseline's name for it
Report = Callable[..., None]


class NotDone(Exception):
    """The load could not do its work; the message says why."""


@dataclass(frozen=True)
class Target:
    writer: Address
    reader: Address
    auth: AuthSettings
    environment: Mapping[str, str]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        writer, reader = (address(environ[f"TIDEMARK_{name}_BIND"]) for name in ("WRITER", "READER"))
        return cls(writer, reader, AuthSettings.from_environ(environ), environ)

    def token(self, subject: str) -> str:
        return mint(self.auth, subject, ("read", "write"), TOKEN_SECONDS)

    def sql(self, statement: str, many: Sequence[Sequence[Any]] | None = None) -> Sequence[Sequence[Any]]:
        """Run one statement in a transaction of its own; `many`: once for each of these rows."""
        given = {**mysql_arguments(self.environment[MYSQL_URL]), "autocommit": True}
        with closing(pymysql.connect(**given)) as connection, connection.cursor() as cursor:
            cursor.execute(statement) if many is None else cursor.executemany(statement, many)
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows
