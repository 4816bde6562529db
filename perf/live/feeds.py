"""The memory that a watched feed of many followees costs a reader."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

import pymysql

from ops.stack.progress import say
from ops.stack.urls import mysql_arguments
from perf.dataset import UNCHECKED
from perf.measured import Reader
from perf.procfs import rss_kib

CALLERS, AUTHORS, FOLLOWEES = range(1, 101), 2_000, 1_000
FIRST_AUTHOR = 1_000_001
SETTLED_SECONDS = 1.0


def load_followees(url: str, seed: int) -> None:
    """Each caller follows FOLLOWEES of the authors."""
    chance, authors = random.Random(seed), range(FIRST_AUTHOR, FIRST_AUTHOR + AUTHORS)
    with (
        pymysql.connect(**mysql_arguments(url), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(UNCHECKED)
        cursor.executemany(
            "INSERT INTO users (id, subject, handle, display_name) VALUES (%s, %s, %s, 'Author')",
            [(n, f"author-{n}", f"author_{n}") for n in authors],
        )
        for caller in CALLERS:
            cursor.executemany(
                "INSERT INTO follows (follower_id, followee_id) VALUES (%s, %s)",
                [(caller, author) for author in chance.sample(authors, FOLLOWEES)],
            )


def kib_per_watched_feed(reader: Reader, tokens: Sequence[str]) -> float:
    """With its share of a connection, and without the replica's entries, which GETs have fetched before."""
    say(f"watching {len(tokens)} feeds of {FOLLOWEES} followees")
    with ExitStack() as stack:
        for token in tokens:
            _answer(stack, reader.url, token, "application/json")
        before = rss_kib(reader.pid)
        for token in tokens:
            answer = _answer(stack, reader.url, token, "text/event-stream")
            while answer.readline() != b"event: state\n":
                pass
        time.sleep(SETTLED_SECONDS)
        return round((rss_kib(reader.pid) - before) / len(tokens), 1)


def _answer(stack: ExitStack, url: str, token: str, accept: str) -> http.client.HTTPResponse:
    """Raises RuntimeError for a refusal."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    stack.callback(connection.close)
    connection.request("GET", "/feed", headers={"authorization": f"Bearer {token}", "accept": accept})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"GET /feed got {answer.status}: {answer.read()[:200]!r}")
    if accept == "application/json":
        answer.read()
    return answer
