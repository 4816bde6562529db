"""`python -m perf decode`: rows per second out of the binlog: ours, mysql-replication's loop, and bare packets."""

from __future__ import annotations

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


def decode(transactions: int, seed: int) -> dict[str, Any]:
    """Every lane reads the same binlog; ours and the packets before and after the library's, which takes long."""
    with Stack(mysql_options=NOT_DURABLE) as stack:
        urls = stack.environment()
        migrate(urls["TIDEMARK_MIGRATOR_MYSQL_URL"])
        url = urls["TIDEMARK_PROJECTOR_MYSQL_URL"]
        load_posts(urls["TIDEMARK_WRITER_MYSQL_URL"], 0, seed)
        start = executed(url)
        add_single_rows(urls["TIDEMARK_WRITER_MYSQL_URL"], transactions, seed)
        return measure(Backlog(url, start, transactions))


def measure(backlog: Backlog) -> dict[str, Any]:
    ours = [_seconds(our_loop, backlog)]
    packets = [_seconds(packet_loop, backlog)]
    library = [_seconds(library_loop, backlog)]
    ours.append(_seconds(our_loop, backlog))
    packets.append(_seconds(packet_loop, backlog))
    found = {"ours": ours, "library": library, "packets": packets}
    rates = {name: len(times) * backlog.rows / sum(times) for name, times in found.items()}
    return {
        **{f"{name}_rows_per_s": round(rate) for name, rate in rates.items()},
        "ours_to_library": round(rates["ours"] / rates["library"], 2),
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
