"""Tidemark's authorizer: `mint` prints a development token, `serve` decides for a reverse proxy."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from typing import Any, NoReturn

from authorizer_lambda.forward_auth import ForwardAuth
from authorizer_lambda.settings import AuthSettings
from authorizer_lambda.tokens import InvalidToken, mint
from tidemark import command_line
from tidemark.command_line import end_with, fail
from tidemark.settings import Address, SettingError, address

EPILOG = """
Reads TIDEMARK_AUTH_ALGORITHM (HS256), TIDEMARK_AUTH_SECRET, TIDEMARK_AUTH_ISSUER and TIDEMARK_AUTH_AUDIENCE:
the same values as the services that must accept the token. Exit status 2 if one is missing, or if the token
would not be accepted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = AuthSettings.from_environ(os.environ)
        if options.command == "serve":
            _serve(settings, options.bind)
        else:
            print(mint(settings, options.sub, options.scope.split(), options.lifetime))
    except SettingError as error:
        return fail("authorizer_lambda", 2, error)
    except InvalidToken as error:
        return fail("authorizer_lambda", 2, f"such a token would not be accepted: {error.reason}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("authorizer_lambda", __doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    minting = commands.add_parser("mint", help="print a development token", epilog=EPILOG)
    minting.add_argument(
        "--sub", required=True, help="whose token: any visible ASCII text, up to 128 characters"
    )
    minting.add_argument("--scope", default="read", help='"read", "write" or "read write" (default: read)')
    minting.add_argument("--lifetime", type=int, default=3600, help="seconds, up to 86400 (default: 3600)")
    serving = commands.add_parser("serve", help="answer a reverse proxy that asks whether a request may pass")
    serving.add_argument(
        "--bind", type=address, default="127.0.0.1:8003", help="host:port (default: %(default)s)"
    )
    return parser


def _serve(settings: AuthSettings, bind: Address) -> None:
    import uvicorn  # not in the Lambda's package, which does not need this command

    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends at SIGTERM, and then raises it again
    options: dict[str, Any] = {"access_log": False, "log_level": "warning", "server_header": False}
    uvicorn.run(
        ForwardAuth(settings), host=bind.host, port=bind.port, lifespan="off", proxy_headers=False, **options
    )


def command() -> NoReturn:
    """The installed command."""
    end_with(main)


if __name__ == "__main__":
    command()
