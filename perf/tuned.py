"""Servers that are set up as one would for load."""

from __future__ import annotations

import pymysql
from redis import Redis

from ops.stack.urls import mysql_arguments
from ops.system import System

BUFFER_POOL_BYTES = 512 * 2**20
REDIS_MEMORY = "4gb"


def tune(system: System) -> None:
    """MySQL gets memory for all rows, Redis for all entries. Redis keeps no log.

    MySQL and MongoDB flush the disk at every commit. An append-only file on that disk stops Redis, and so all
    readers, for milliseconds at a time. A cache needs no such file.
    """
    with (
        pymysql.connect(**mysql_arguments(system.stack.mysql.admin_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET GLOBAL innodb_buffer_pool_size = %s", (BUFFER_POOL_BYTES,))
    with Redis.from_url(system.stack.redis.admin_url) as redis:
        redis.config_set("appendonly", "no")
        redis.config_set("maxmemory", REDIS_MEMORY)
