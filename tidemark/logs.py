"""Logs: one JSON line per event, or readable lines on a terminal, with the request's id if there is one."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO

# structlog imports rich, and rich pygments, for tracebacks that nobody asks for: 0.1 s of each start.
WITHOUT_RICH = {"rich", "structlog"}.isdisjoint(sys.modules)
if WITHOUT_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402
from structlog.typing import Processor  # noqa: E402

if WITHOUT_RICH:
    del sys.modules["rich"]

Event = dict[str, str]
REQUEST_ID: ContextVar[bytes] = ContextVar("request_id", default=b"")


def configure(service: str, stream: TextIO = sys.stderr, troubles: deque[Event] | None = None) -> None:
    """Send events of structlog and of the standard library to `stream`; keep warnings in `troubles` too.

    A warning that comes again is kept once, with the `times` that it came.
    """
    shared: list[Processor] = [
        _with_request_id,
        _named(service),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_keep(troubles)] if troubles is not None else []),
    ]
    final: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)  # without variables
        if stream.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    render: list[Processor] = [structlog.processors.format_exc_info] if not stream.isatty() else []
    structlog.configure(
        processors=[*shared, *render, final],
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render, final],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)


def _with_request_id(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if request_id := REQUEST_ID.get():
        event["request_id"] = request_id.decode()
    return event


def _named(service: str) -> Processor:
    """Name the service in events of every thread; a context variable would be empty in new threads."""

    def name(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return name


def _keep(troubles: deque[Event]) -> Processor:
    one_at_a_time = threading.Lock()

    def keep(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event["level"] in {"warning", "error", "critical"}:
            told = {name: str(value) for name, value in event.items()}
            with one_at_a_time:
                before = next((each for each in troubles if _alike(each, told)), None)
                if before is not None:
                    troubles.remove(before)
                    told["times"] = str(int(before.get("times", "1")) + 1)
                troubles.append(told)
        return event

    return keep


def _alike(first: Event, second: Event) -> bool:
    own = {"timestamp", "times", "request_id"}
    return {name: first.get(name) for name in first.keys() - own} == {
        name: second.get(name) for name in second.keys() - own
    }


def log_settings(effective: Mapping[str, str]) -> None:
    """Log the settings in force, once at start; secrets are masked already."""
    structlog.get_logger().info("settings", **effective)
