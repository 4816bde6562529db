"""A steady load of single-row transactions: a fifth posts, a fifth comments, three fifths likes.

MySQL itself writes them, or clients of the writer do.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

import pymysql

from ops.stack.urls import mysql_arguments
from ops.system import System
from perf.dataset import USERS, body, sentence
from writer.schema import SCHEMA

POSTS = 2_000  # that are there before
MARKED = 1  # the post that no load touches
LANES = 15  # connections: one alone waits for the disk at each commit
CONNECT_SECONDS = 0.2
WRITE_STEADILY = """
CREATE PROCEDURE write_steadily(
  posts INT, users INT, lane INT, lanes INT, first INT, begun DOUBLE, rate DOUBLE, seconds DOUBLE,
  post_body TEXT, comment_body TEXT
)
BEGIN
  DECLARE written, place INT DEFAULT 0;
  WHILE written / rate < seconds AND UNIX_TIMESTAMP(SYSDATE(6)) < begun + seconds DO
    DO SLEEP(GREATEST(0, begun + written / rate - UNIX_TIMESTAMP(SYSDATE(6))));
    SET place = (first + written) * lanes + lane;
    CASE (written + lane) % 5
      WHEN 0 THEN INSERT INTO posts (author_id, body) VALUES (1 + place % users, post_body);
      WHEN 1 THEN
        INSERT INTO comments (post_id, author_id, body)
        VALUES (2 + place % posts, 1 + place % users, comment_body);
      ELSE
        INSERT INTO likes (post_id, user_id) VALUES (2 + place % posts, 1 + place DIV posts % users);
    END CASE;
    SET written = written + 1;
  END WHILE;
  SELECT written;
END
"""  # a client that sends 500 statements per second takes a fifth of a core from the services


class Load(ABC):
    """`rate` transactions per second, evenly spaced. No like is written twice, however often it runs."""

    def __init__(self, rate: float, seed: int) -> None:
        self.rate = rate
        chance = random.Random(seed)
        self.post, self.comment = body(chance), sentence(chance, 12)
        self._written = 0  # by the busiest lane, in all runs

    @contextlib.contextmanager
    def running(self, seconds: float) -> Iterator[list[Future[int]]]:
        """Futures of how many transactions each lane wrote; the block's end waits for the last one."""
        begun = time.time() + CONNECT_SECONDS
        with ThreadPoolExecutor(LANES) as threads:
            lanes = [
                threads.submit(self.lane, lane, self._written, begun + lane / self.rate, seconds)
                for lane in range(LANES)
            ]
            yield lanes
        self._written += max(lane.result() for lane in lanes)

    @abstractmethod
    def lane(self, lane: int, first: int, begun: float, seconds: float) -> int:
        """Write every LANES-th transaction from the `first` on; returns how many."""


class MySqlLoad(Load):
    """A procedure in MySQL writes, so that no client takes time from what is measured."""

    def __init__(self, system: System, rate: float, seed: int) -> None:
        super().__init__(rate, seed)
        self._url = system.stack.mysql.admin_url
        with pymysql.connect(**mysql_arguments(self._url)) as connection, connection.cursor() as cursor:
            connection.select_db(SCHEMA)
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(WRITE_STEADILY)

    def lane(self, lane: int, first: int, begun: float, seconds: float) -> int:
        numbers = (POSTS - 1, USERS, lane, LANES, first, begun, self.rate / LANES, seconds)
        with (
            pymysql.connect(**mysql_arguments(self._url), autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            connection.select_db(SCHEMA)
            cursor.callproc("write_steadily", (*numbers, self.post, self.comment))
            ((written,),) = cursor.fetchall()
        return int(written)


class WriterLoad(Load):
    """Clients send commands to the writer."""

    def __init__(self, system: System, rate: float, seed: int) -> None:
        super().__init__(rate, seed)
        self._address = urlsplit(system.url("writer"))
        self._people = [
            {"authorization": f"Bearer {system.token(f'perf-{n}')}", "content-type": "application/json"}
            for n in range(1, USERS + 1)
        ]

    def lane(self, lane: int, first: int, begun: float, seconds: float) -> int:
        """Raises RuntimeError for an answer that is no success."""
        written = 0
        with contextlib.closing(
            http.client.HTTPConnection(str(self._address.hostname), self._address.port, timeout=30)
        ) as connection:
            while written * LANES / self.rate < seconds and time.time() < begun + seconds:
                time.sleep(max(0.0, begun + written * LANES / self.rate - time.time()))
                self._send(connection, (written + lane) % 5, (first + written) * LANES + lane)
                written += 1
        return written

    def _send(self, connection: http.client.HTTPConnection, kind: int, place: int) -> None:
        post, person = f"/post/{2 + place % (POSTS - 1)}", self._people[place % USERS]
        if kind == 0:
            connection.request("POST", "/post", json.dumps({"body": self.post}), person)
        elif kind == 1:
            connection.request("POST", f"{post}/comment", json.dumps({"body": self.comment}), person)
        else:
            connection.request("PUT", f"{post}/like", None, self._people[place // (POSTS - 1) % USERS])
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"the writer answered {answer.status}: {said[:200]!r}")
