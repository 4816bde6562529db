"""`python -m reader` serves reads until SIGTERM or SIGINT."""

from __future__ import annotations

import os
import sys

import uvloop

from authorizer_lambda.settings import AuthSettings, SettingsError
from reader.app import Reader
from reader.settings import ReaderSettings
from tidemark import logs
from tidemark.admin import AddressUnavailable, admin_app, serve
from tidemark.settings import SettingError, effective, load


def main() -> int:
    logs.configure("reader")
    try:
        settings = load(ReaderSettings, os.environ)
        auth = AuthSettings.from_environ(os.environ)
    except (SettingError, SettingsError) as error:
        print(f"reader: {error}", file=sys.stderr)
        return 2
    logs.log_settings(effective(settings))
    reader = Reader(settings, auth)
    admin = admin_app(reader.metrics.registry, reader.ready)
    try:
        uvloop.run(serve([(reader.app, settings.bind), (admin, settings.admin_bind)]))
    except AddressUnavailable as error:
        print(f"reader: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
