"""Commands: `python -m writer` serves, `python -m writer migrate` brings the schema up to date."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from tidemark import logs  # first: it decides what structlog imports

# isort: split
import uvloop

from authorizer_lambda.settings import AuthSettings
from tidemark import admin
from tidemark.settings import SettingError, effective, load
from writer.app import create_admin_app, create_app
from writer.errors import DatabaseUnavailable, MigrationFailed, StatementRefused
from writer.migrate import migrate
from writer.settings import MigratorSettings, WriterSettings

EPILOG = """
Settings are read from TIDEMARK_* variables: see docs/configuration.md. Exit status 2: a bad setting.
1: a migration that failed, or an address that is taken.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "migrate":
            _migrate(as_json=options.json, finish=options.finish)
        else:
            _serve()
    except SettingError as error:
        return _fail(2, str(error))
    except (MigrationFailed, StatementRefused, admin.AddressUnavailable) as error:
        return _fail(1, str(error))
    except DatabaseUnavailable as error:
        return _fail(1, f"MySQL cannot be reached: {error.__cause__}")
    return 0


def _serve() -> None:
    settings, auth = load(WriterSettings, os.environ), AuthSettings.from_environ(os.environ)
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
    parser = argparse.ArgumentParser(
        prog="python -m writer", description="Tidemark's command side.", epilog=EPILOG
    )
    commands = parser.add_subparsers(dest="command")
    parser.set_defaults(command="serve")
    commands.add_parser("serve", help="serve HTTP (the default)")
    migrating = commands.add_parser("migrate", help="apply the migrations that are new")
    migrating.add_argument("--finish", action="store_true", help="once no writer of an older release runs")
    migrating.add_argument("--json", action="store_true", help='print {"applied": [names]}')
    return parser


def _fail(status: int, message: str) -> int:
    print(f"writer: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
