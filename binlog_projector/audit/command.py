"""`python -m binlog_projector audit`: one pass with its report, or one pass after the other with metrics."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import structlog

from binlog_projector.audit.audit import Audit, Pace
from binlog_projector.audit.cached import Cached
from binlog_projector.audit.samples import ReaderClient, Samples
from binlog_projector.audit.settling import Settling
from binlog_projector.errors import CacheUnavailable, Retry
from binlog_projector.metrics import AuditMetrics
from binlog_projector.mysql.failover import Servers
from binlog_projector.settings import AuditSettings
from binlog_projector.stores import mongodb
from binlog_projector.stores.audit_store import AuditStore, RepairQueue
from tidemark.admin import AdminThread, Readiness, admin_app

BETWEEN_PASSES_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 5.0
PROGRESS_SECONDS = 5.0
log = structlog.get_logger()


def add_to(commands: Any) -> None:
    """Add the command and its options to the parser's commands."""
    added = commands.add_parser("audit", help="compare the read model with MySQL while both change")
    added.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    added.add_argument(
        "--continuous", action="store_true", help="again and again, with metrics, until SIGTERM"
    )
    added.add_argument("--repair", action="store_true", help="have the running projector repair what differs")
    added.add_argument(
        "--rows-per-s",
        type=_at_least_one,
        default=2_000,
        help="documents and rows read per second (%(default)s)",
    )
    added.add_argument(
        "--samples", type=int, default=200, help="cache entries and answers per pass (%(default)s)"
    )
    added.add_argument(
        "--after",
        type=_seconds,
        default="1,10,60",
        help="look at the samples after so many seconds (%(default)s)",
    )


def run(settings: AuditSettings, options: argparse.Namespace) -> int:
    """Exit status 0: all is as in MySQL, or was repaired. 1: a difference remains, or a change hid one."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with _audit(settings, options, stopping) as audit:
        if options.continuous:
            return _run_continuously(audit, settings)
        with _telling(audit):
            report = audit.run()
    print(json.dumps(report.as_json()) if options.json else "\n".join(report.lines()))
    return 0 if report.verified_through else 1


@contextlib.contextmanager
def _telling(audit: Audit) -> Iterator[None]:
    """Say on stderr how far the pass is, as long as it runs."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            print(f"audit: {audit.progress()}", file=sys.stderr)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _run_continuously(audit: Audit, settings: AuditSettings) -> int:
    metrics = AuditMetrics()

    async def ready() -> Readiness:
        return Readiness.of({"audit": "ok"})

    with AdminThread(admin_app(metrics.registry, ready), settings.audit_admin_bind):
        while not audit.stopping.is_set():
            try:
                report = audit.run()
                report.count(metrics)
                log.info("pass", **report.as_json())
                audit.stopping.wait(BETWEEN_PASSES_SECONDS)
            except (Retry, CacheUnavailable) as error:
                log.warning("retrying", kind=type(error).__name__, error=str(error))
                audit.stopping.wait(AFTER_FAILURE_SECONDS)
    return 0


@contextlib.contextmanager
def _audit(
    settings: AuditSettings, options: argparse.Namespace, stopping: threading.Event
) -> Iterator[Audit]:
    with contextlib.ExitStack() as open_clients:
        client = open_clients.enter_context(mongodb.connect(settings.mongodb_url))
        reader = None
        if settings.reader_url:
            reader = open_clients.enter_context(
                contextlib.closing(ReaderClient(settings.reader_url, settings.reader_token))
            )
        source = Servers.of(settings.mysql_url, settings.server_id, settings.retention_hours).usable()
        queue = RepairQueue(client) if options.repair else None
        settling = Settling(source, AuditStore(client), queue, stopping)
        samples = Samples(settling, Cached(settings.redis_url), reader, options.samples, options.after)
        yield Audit(settling, samples, Pace(options.rows_per_s, stopping))


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("should be a whole number from 1 on")
    return int(text)


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))
