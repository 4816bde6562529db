"""`python -m perf stages`: the cost of each stage of the projector, one after the other in one thread."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from binlog_projector.binlog.parts import MAX_ROWS
from binlog_projector.domain.batch import Batch
from binlog_projector.domain.changes import Transaction
from binlog_projector.domain.projections import project
from binlog_projector.leading.lease import Standby
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.cache import CacheStage
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from ops.stack import Stack
from ops.stack.progress import say
from perf.dataset import load_posts
from perf.projector.backlog import Backlog, executed
from perf.projector.performance import PAGE, conditions, write_place
from perf.projector.projecting import backlog_stack, projecting
from perf.projector.workload import add_single_rows, add_updates, posts_of_lanes

UPDATED_POSTS = 2_000
ALONE = 500  # transactions that are a batch of their own
JOURNAL_HOURS = 1
STAGES = ("decode", "project", "fold", "commit", "apply")
Figures = dict[str, dict[str, float]]


class Stopwatch:
    """Seconds in which this thread computed and in which it waited, by stage."""

    def __init__(self) -> None:
        self.computed: dict[str, float] = defaultdict(float)
        self.waited: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began, computed = time.perf_counter(), time.thread_time()
        yield
        computed = time.thread_time() - computed
        self.computed[name] += computed
        self.waited[name] += max(0.0, time.perf_counter() - began - computed)

    def figures(self, rows: int) -> Figures:
        """Microseconds per row, and a stage's share of all computing."""
        total = sum(self.computed.values())
        return {
            name: {
                "computes_us": round(1e6 * self.computed[name] / rows, 2),
                "percent": round(100 * self.computed[name] / total),
                "waits_us": round(1e6 * self.waited[name] / rows, 2),
            }
            for name in STAGES
        }


def stages(transactions: int, seed: int) -> dict[str, Figures]:
    """Run three backlogs and write the page. Raises StackError, RuntimeError."""
    with backlog_stack() as stack:
        url = stack.environment()["TIDEMARK_WRITER_MYSQL_URL"]
        load_posts(url, 0, seed)
        with projecting(stack) as before:
            before.wait_until_caught_up()
        inserted = _measure(stack, MAX_ROWS, transactions, lambda: add_single_rows(stack, transactions, seed))
        posts = min(UPDATED_POSTS, posts_of_lanes(url))
        found = {
            "insert": inserted,
            "update": _measure(
                stack, MAX_ROWS, transactions, lambda: add_updates(url, transactions, seed, posts)
            ),
            "alone": _measure(stack, 1, ALONE, lambda: add_updates(url, ALONE, seed + 1, posts)),
        }
    write_place(PAGE, "stages", table(found), conditions())
    return found


def _measure(stack: Stack, rows_per_batch: int, rows: int, write: Callable[[], None]) -> Figures:
    url = stack.environment()["TIDEMARK_PROJECTOR_MYSQL_URL"]
    start = executed(url)
    write()
    say(f"projecting {rows} transactions, {rows_per_batch} or more in a batch")
    with (
        _opened(stack) as (documents, applied),
        contextlib.closing(Backlog(url, start, rows).reader()) as reader,
    ):
        watch, batch, done = Stopwatch(), Batch(documents.position.gtid_set), 0
        while done < rows:
            with watch.stage("decode"):
                found = reader.read()
            for at in range(0, len(found), rows_per_batch):
                some = found[at : at + rows_per_batch]
                _take(batch, some, watch)
                done += len(some)
                if batch.rows >= rows_per_batch or done == rows:
                    _finish(batch, documents, applied, watch)
                    batch = Batch(documents.position.gtid_set)
    return watch.figures(rows)


def _take(batch: Batch, transactions: list[Transaction], watch: Stopwatch) -> None:
    with watch.stage("project"):
        projected = [[one for change in each.changes for one in project(change)] for each in transactions]
    with watch.stage("fold"):
        for transaction, mutations in zip(transactions, projected, strict=True):
            batch.add(transaction, mutations)


def _finish(batch: Batch, documents: DocumentStore, applied: CacheStage, watch: Stopwatch) -> None:
    with watch.stage("commit"):
        entry = documents.commit(batch, documents.position.checkpoint.as_of)
    with watch.stage("apply"):
        applied.apply(entry)


@contextlib.contextmanager
def _opened(stack: Stack) -> Iterator[tuple[DocumentStore, CacheStage]]:
    """The serving build and its cache, as a projector has them."""
    urls = stack.environment()
    with (
        mongodb.connect(urls["TIDEMARK_PROJECTOR_MONGODB_URL"]) as client,
        contextlib.closing(cache.connect(urls["TIDEMARK_PROJECTOR_REDIS_URL"])) as redis,
    ):
        control = ControlStore(client, JOURNAL_HOURS)
        with Standby(control.lease).leadership(threading.Event()) as lease:
            documents = control.open_serving(lease.epoch) if lease else None
            if documents is None:
                raise RuntimeError("there is no read model")
            applied = CacheStage(redis, documents, ProjectorMetrics(), random.Random())
            applied.catch_up()
            yield documents, applied


def table(found: Mapping[str, Figures]) -> str:
    lines = [
        f"| {kind} | {stage} | {each['computes_us']:,} | {each['percent']} % | {each['waits_us']:,} |"
        for kind, figures in found.items()
        for stage, each in figures.items()
    ]
    return "\n".join(
        [
            "| row | stage | computes, us | of all computing | waits, us |",
            "| --- | --- | ---: | ---: | ---: |",
            *lines,
        ]
    )
