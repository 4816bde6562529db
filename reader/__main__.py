"""Tidemark's read side: `serve` answers reads."""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence
from typing import NoReturn

from tidemark import logs  # first: it decides what structlog imports

# isort: split
import uvloop
from starlette.types import ASGIApp

from authorizer_lambda.settings import AuthSettings
from reader.app import Reader
from reader.metrics import ReaderMetrics
from reader.settings import ReaderSettings
from tidemark import command_line
from tidemark.admin import AddressUnavailable, admin_app, serve
from tidemark.command_line import end_with, fail
from tidemark.settings import SettingError, both, effective, load
from tidemark.workers import serve_as_worker, serve_workers

OBJECTS_PER_COLLECTION = 50_000


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logs.configure("reader")
    try:
        settings, auth = both(
            lambda: load(ReaderSettings, os.environ), lambda: AuthSettings.from_environ(os.environ)
        )
    except SettingError as error:
        return fail("reader", 2, error)
    if options.worker:
        reader, admin = _apps(settings, auth)
        shared, path = options.worker
        uvloop.run(serve_as_worker(reader.app, admin, shared, path, end_streams=reader.end_streams))
        return 0
    logs.log_settings(effective(settings))
    try:
        return _serve(settings, auth, options.workers)
    except AddressUnavailable as error:
        return fail("reader", 1, error)


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("reader", __doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(command="serve", workers=1, worker=None)
    serving = commands.add_parser("serve", help="serve HTTP until SIGTERM or SIGINT (the default)")
    serving.add_argument(
        "--workers", type=int, default=1, help="processes behind the one address (default: 1)"
    )
    serving.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)  # the parent passes it to each worker
    return parser


def _serve(settings: ReaderSettings, auth: AuthSettings, workers: int) -> int:
    if workers > 1:
        metrics = ReaderMetrics()
        return serve_workers(
            workers, settings.bind, settings.admin_bind, metrics.registry, metrics.worker_restarts
        )
    reader, admin = _apps(settings, auth)
    public = reader.app, settings.bind
    uvloop.run(serve([public, (admin, settings.admin_bind)], end_streams=reader.end_streams))
    return 0


def _apps(settings: ReaderSettings, auth: AuthSettings) -> tuple[Reader, ASGIApp]:
    reader = Reader(settings, auth)
    _spare_garbage_collection()
    return reader, admin_app(reader.metrics.registry, reader.ready)


def _spare_garbage_collection() -> None:
    """Collect rarely, and only new objects: requests leave few cycles. A read takes a fifth less time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_COLLECTION)


def command() -> NoReturn:
    """The installed command."""
    end_with(main)


if __name__ == "__main__":
    command()
