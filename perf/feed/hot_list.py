"""One list that gets 200 comments a second, read through two reader processes as often as they can."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
from pymysql.cursors import Cursor

from ops.system import System
from perf.catching_up import metrics
from perf.dataset import sentence
from perf.feed import people
from perf.feed.steady import steadily
from perf.measured import Reader

WRITES_PER_S = 200
POST = 1
COMMENT = "INSERT INTO comments (post_id, author_id, body) VALUES (%s, %s, %s)"
BATCHES = "tidemark_projector_batch_transactions_count"
READS = "tidemark_mongodb_reads_total"


def hot_list(system: System, readers: Sequence[Reader], ids: Path, seconds: float) -> dict[str, Any]:
    """Reads of MongoDB by both readers for each batch of the projector, and what the first one does."""

    def load(seconds: float) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(len(readers)) as threads:
            under_way = [
                threads.submit(reader.load, "hot list", ids, seconds, path="/post/%s/comments")
                for reader in readers
            ]
            return [each.result() for each in under_way]

    def reads() -> float:
        return sum(reader.counts().get(READS, 0.0) for reader in readers)

    url = system.stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
    load(1.0)
    with httpx2.Client(timeout=30, trust_env=False) as http:
        projector = f"{system.admin_url('projector')}/metrics"
        with steadily(url, WRITES_PER_S, POST, _comment) as written:
            batches, before = metrics(http, projector)[BATCHES], reads()
            first, *_ = load(seconds)
            done, spent = metrics(http, projector)[BATCHES] - batches, reads() - before
    return {
        **first,
        "writes_per_s": written.per_s,
        "batches": int(done),
        "mongodb_reads_per_batch": round(spent / max(1.0, done), 3),
    }


def _comment(cursor: Cursor, chance: random.Random) -> None:
    cursor.execute(COMMENT, (POST, chance.randint(1, people.AUTHORS), sentence(chance, 12)))
