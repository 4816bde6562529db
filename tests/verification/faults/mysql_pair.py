"""A second MySQL that replicates the first one, and may be promoted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pymysql

from binlog_projector.mysql.connections import Connection, connection_settings, query_value
from ops.stack import MySqlServer, Stack
from ops.stack.accounts.create import create_accounts
from tests.support.harness import admin_connection, run_sql, wait_until
from tidemark.gtid import GtidSet

RECEIVED = "SELECT received_transaction_set FROM performance_schema.replication_connection_status"
WRITABLE = ("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")


@contextlib.contextmanager
def replica_of(stack: Stack, folder: Path, *options: str) -> Iterator[MySqlServer]:
    """A running replica with the services' accounts, other binlog file names and other table ids.

    At the end of the block the primary runs again.
    """
    primary = stack.mysql
    try:
        with successor_of(stack, folder, *options) as replica:
            yield replica
    finally:
        primary.start()


@contextlib.contextmanager
def successor_of(stack: Stack, folder: Path, *options: str) -> Iterator[MySqlServer]:
    """As `replica_of`, but the primary may stay away."""
    replica = MySqlServer(folder, options=("--log-bin=second", *options), password=stack.mysql.password)
    replica.start()
    try:
        create_accounts("mysql", replica.admin_url, stack.state.passwords["mysql"])
        with admin_of(replica) as connection:
            run_sql(
                connection,
                *(f"CREATE TABLE tidemark.other{number} (id INT)" for number in range(5)),
                "DROP DATABASE tidemark",
                "RESET BINARY LOGS AND GTIDS",
                f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {stack.mysql.port},"
                f" SOURCE_USER = 'admin', SOURCE_PASSWORD = '{replica.password}', SOURCE_AUTO_POSITION = 1,"
                " GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1",
                "SET GLOBAL super_read_only = ON",
                "START REPLICA",
            )
            wait_until_replicated(stack, connection)
        yield replica
    finally:
        replica.kill()


@contextlib.contextmanager
def admin_of(server: MySqlServer) -> Iterator[Connection]:
    """An autocommitting connection as the administrator."""
    with pymysql.connect(**{**connection_settings(server.admin_url), "database": None}) as connection:
        yield connection


def wait_until_replicated(stack: Stack, replica: Connection) -> None:
    """Waits until the replica has received every transaction that its source has now."""
    with admin_connection(stack) as connection:
        executed = GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed"))
    wait_until(lambda: received(replica) >= executed, f"the replica to receive {executed}", 100)


def received(replica: Connection) -> GtidSet:
    """The transactions in the replica's relay log and those executed."""
    executed = GtidSet.parse(query_value(replica, "SELECT @@global.gtid_executed"))
    return executed | GtidSet.parse(query_value(replica, RECEIVED))


def promote(replica: MySqlServer) -> None:
    """The replica executes every received transaction, and takes writes from now on."""
    with admin_of(replica) as connection:
        run_sql(connection, "STOP REPLICA IO_THREAD", "START REPLICA SQL_THREAD")
        known = received(connection)
        wait_until(
            lambda: GtidSet.parse(query_value(connection, "SELECT @@global.gtid_executed")) >= known,
            "the replica to execute all that it has received",
        )
        run_sql(
            connection,
            "STOP REPLICA",
            "RESET REPLICA ALL",
            *WRITABLE,
        )
