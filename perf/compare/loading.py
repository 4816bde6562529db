"""The dataset in MySQL and in the read model, on servers that are set up as one would for load."""

from __future__ import annotations

import pymysql
from redis import Redis

from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.compare.contenders import wait_until_caught_up
from perf.compare.crowd import Crowd
from perf.compare.steps import Steps

BUFFER_POOL_BYTES = 512 * 2**20


def load(system: System, crowd: Crowd, progress: Steps) -> None:
    """Load the dataset and wait until it is served. MySQL gets memory for all rows; Redis keeps no log.

    MySQL and MongoDB flush the disk at every commit. An append-only file on that disk stops Redis, and so all
    readers, for milliseconds at a time. A cache needs no such file.
    """
    progress.next(f"loading {crowd.posts} posts and what people do with them")
    with (
        pymysql.connect(**mysql_arguments(system.stack.mysql.admin_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET GLOBAL innodb_buffer_pool_size = %s", (BUFFER_POOL_BYTES,))
    with Redis.from_url(system.stack.redis.admin_url) as redis:
        redis.config_set("appendonly", "no")
    crowd.load(system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"])
    progress.next("waiting for the projector")
    wait_until_caught_up(system)
