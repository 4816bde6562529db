"""Tidemark's command side: `serve` takes commands, `migrate` brings MySQL's schema up to date."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import NoReturn

from tidemark import logs  # first: it decides what structlog imports

# isort: split
import uvloop

from authorizer_lambda.settings import AuthSettings
from tidemark import admin, command_line
from tidemark.command_line import end_with, fail
from tidemark.settings import SettingError, both, effective, load
from writer.app import create_admin_app, create_app
from writer.errors import DatabaseUnavailable, MigrationFailed, StatementRefused
from writer.migrate import migrate
from writer.settings import MigratorSettings, WriterSettings


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "migrate":
            _migrate(as_json=options.json, finish=options.finish)
        else:
            _serve()
    except SettingError as error:
        return fail("writer", 2, error)
    except (MigrationFailed, StatementRefused, admin.AddressUnavailable) as error:
        return fail("writer", 1, error)
    except DatabaseUnavailable as error:
        return fail("writer", 1, f"MySQL cannot be reached: {error.__cause__}")
    return 0


def _serve() -> None:
    settings, auth = both(
        lambda: load(WriterSettings, os.environ), lambda: AuthSettings.from_environ(os.environ)
    )
    logs.configure("writer")
    logs.log_settings(effective(settings))
    apps = [(create_app(settings, auth), settings.bind), (create_admin_app(settings), settings.admin_bind)]
    uvloop.run(admin.serve(apps))


def _migrate(*, as_json: bool, finish: bool) -> None:
    applied = migrate(load(MigratorSettings, os.environ).mysql_url, finish=finish)
    if as_json:
        print(json.dumps({"applied": applied}))
    else:
        print(
            "\n".join(f"applied {name}" for name in applied) or "nothing to apply: the schema is up to date"
        )


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("writer", __doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(command="serve")
    commands.add_parser("serve", help="serve HTTP until SIGTERM or SIGINT (the default)")
    migrating = commands.add_parser("migrate", help="apply the migrations that are new")
    migrating.add_argument("--finish", action="store_true", help="once no writer of an older release runs")
    migrating.add_argument("--json", action="store_true", help='print {"applied": [names]}')
    return parser


def command() -> NoReturn:
    """The installed command."""
    end_with(main)


if __name__ == "__main__":
    command()
