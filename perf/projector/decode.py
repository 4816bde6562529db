"""`python -m perf decode`: rows per second from the binlog: ours, mysql-replication, and bare packets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from binlog_projector.mysql.connections import connection_settings
from ops.stack import Stack
from ops.stack.progress import say
from perf.dataset import load_posts
from perf.projector.backlog import SERVER_ID, Backlog, executed
from perf.projector.workload import NOT_DURABLE, add_single_rows
from writer.migrate import migrate
from writer.schema import SCHEMA, TABLES

ROUNDS = 3


def decode(transactions: int, seed: int) -> dict[str, Any]:
    """All lanes read the same binlog; medians of three rounds in turn."""
    with Stack(mysql_options=NOT_DURABLE) as stack:
        urls = stack.environment()
        migrate(urls["TIDEMARK_MIGRATOR_MYSQL_URL"])
        url = urls["TIDEMARK_PROJECTOR_MYSQL_URL"]
        load_posts(urls["TIDEMARK_WRITER_MYSQL_URL"], 0, seed)
        start = executed(url)
        add_single_rows(stack, transactions, seed)
        return measure(Backlog(url, start, transactions))


def measure(backlog: Backlog) -> dict[str, Any]:
    loops = {"ours": our_loop, "library": library_loop, "packets": packet_loop}
    rounds = [
        {name: backlog.rows / _seconds(loop, backlog) for name, loop in loops.items()} for _ in range(ROUNDS)
    ]
    rates = {name: statistics.median(one[name] for one in rounds) for name in loops}
    return {
        **{f"ours_to_{name}": round(rates["ours"] / rates[name], 2) for name in ("library", "packets")},
        **{f"{name}_rows_per_s": round(rate) for name, rate in rates.items()},
        "rows": backlog.rows,
    }


def our_loop(backlog: Backlog) -> int:
    return backlog.count()


def library_loop(backlog: Backlog) -> int:
    """As its README and examples show it."""
    stream = _library(backlog, only_events=[DeleteRowsEvent, WriteRowsEvent, UpdateRowsEvent])
    rows = sum(_count(event.rows) for event in stream if event.schema == SCHEMA and event.table in TABLES)
    stream.close()
    return rows


def packet_loop(backlog: Backlog) -> int:
    """PyMySQL reads packets until there are no more, and nobody looks at them."""
    stream = _library(backlog)
    stream._BinLogStreamReader__connect_to_stream()
    while not stream._stream_connection._read_packet().is_eof_packet():
        pass
    stream.close()
    return backlog.rows


def _library(backlog: Backlog, **options: Any) -> Any:
    return BinLogStreamReader(
        connection_settings=connection_settings(backlog.url),
        server_id=SERVER_ID,
        auto_position=str(backlog.start),
        enable_logging=False,
        **options,
    )


def _count(rows: Iterable[object]) -> int:
    return sum(1 for _ in rows)


def _seconds(loop: Callable[[Backlog], int], backlog: Backlog) -> float:
    began = time.perf_counter()
    rows = loop(backlog)
    seconds = time.perf_counter() - began
    if rows != backlog.rows:
        raise RuntimeError(f"{loop.__name__} found {rows} rows of {backlog.rows}")
    say(f"{loop.__name__}: {rows / seconds:,.0f} rows/s")
    return seconds
