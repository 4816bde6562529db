"""Logs: one JSON line per event, or readable lines on a terminal, with the request id where there is one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import Processor


def configure(service: str, stream: TextIO = sys.stderr) -> None:
    """Send structlog's and the standard library's events of this process to `stream`."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: Processor = (
        structlog.dev.ConsoleRenderer() if stream.isatty() else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    render: list[Processor] = [structlog.processors.format_exc_info] if not stream.isatty() else []
    structlog.configure(
        processors=[*shared, *render, final],
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render, final],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)


def log_settings(effective: Mapping[str, str]) -> None:
    """Say once, at start, which settings are in force (secrets are already masked)."""
    structlog.get_logger().info("settings", **effective)
