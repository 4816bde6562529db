"""`python -m ops.run`: all of Tidemark in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ops.services import SERVICES
from ops.shore.front import shore
from ops.stack import StackError
from ops.stack.__main__ import external_urls
from ops.stack.fetch.swagger_ui import swagger_ui
from ops.stack.progress import say
from ops.system import System, interrupt_on_signals

DIRECTORY = Path(".tidemark/run")
SHELL_SETTINGS = "env"
TOKEN_SECONDS = 86_400
CHECK_SECONDS = 0.2
AGAIN_AFTER_SECONDS = 1.0
API_PAGES = "TIDEMARK_API_PAGES"

INVITATION = """
Open     {shore}   jane and joe, and the way of each write

writer   {writer}   (its API: {writer}/docs, {writer}/openapi.json)
reader   {reader}   (its API: {reader}/docs, {reader}/openapi.json)
console  {console}
{admin_ports}
logs     {logs}

Try it in another terminal (the token is jane's, for a day; the file has the services' settings too):

. {env}
curl -w '\\n' -X PUT $WRITER/user/me -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
     -d '{{"handle": "jane", "display_name": "Jane"}}'
curl -w '\\n' -X POST $WRITER/post -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
     -d '{{"body": "Hello #tidemark"}}'
curl -i -w '\\n' $READER/post/1 -H "Authorization: Bearer $TOKEN"    # the id that the last answer gave

Ctrl-C stops all of it; the data stays in {directory}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until Ctrl-C (exit status 0); status 1 if a process could not be started, or ended."""
    parsed = _parser().parse_args(arguments)
    interrupt_on_signals()
    try:
        with (
            System(with_api_pages(os.environ), parsed.dir, external_urls(os.environ)) as system,
            shell_settings(system),
            shore(system) as controls,
        ):
            print(invitation(system), flush=True)
            return stay(system, keep_going=parsed.keep_going, wait=controls.carry_out)
    except (StackError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was started is stopped")
        return 130


def with_api_pages(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with Swagger UI for /docs, unless it says otherwise or the download fails."""
    try:
        return {**environ, API_PAGES: environ.get(API_PAGES) or str(swagger_ui())}
    except StackError as error:
        say(f"/docs is off: {error}")
        return dict(environ)


def invitation(system: System) -> str:
    """All addresses, and lines to copy."""
    admin_ports = [f"admin    {system.admin_url(each.name)}/metrics   {each.name}" for each in SERVICES]
    return INVITATION.format(
        writer=system.url("writer"),
        shore=system.url("shore"),
        console=system.admin_url("projector"),
        reader=system.url("reader"),
        admin_ports="\n".join(admin_ports),
        logs=system.stack.directory / "*.log",
        env=system.stack.directory / SHELL_SETTINGS,
        directory=system.stack.directory,
    ).strip()


@contextlib.contextmanager
def shell_settings(system: System) -> Iterator[None]:
    """A file for a shell's `.` command: addresses, a token, the services' settings; removed at the end."""
    addresses = {
        "WRITER": system.url("writer"),
        "READER": system.url("reader"),
        "CONSOLE": system.admin_url("projector"),
    }
    settings = {name: value for name, value in system.environment().items() if name.startswith("TIDEMARK_")}
    everything = {**addresses, "TOKEN": system.token("jane", TOKEN_SECONDS), **settings}
    path = system.stack.directory / SHELL_SETTINGS
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in everything.items()))
    try:
        yield
    finally:
        path.unlink()


def stay(system: System, *, keep_going: bool = False, wait: Callable[[float], None] = time.sleep) -> int:
    """Return 0 on Ctrl-C. Tell of each process that has ended, and start it again or raise ServerFailed."""
    try:
        while True:
            for failure in system.failures():
                say(failure.reason)
                if not keep_going:
                    raise failure
                _start_again(system, failure.server)
            system.rotate_logs()
            wait(CHECK_SECONDS)
    except KeyboardInterrupt:
        return 0


def _start_again(system: System, name: str) -> None:
    time.sleep(AGAIN_AFTER_SECONDS)
    try:
        system.start_again(name)
    except (StackError, OSError) as error:
        say(str(error))
    else:
        say(f"{name} is started again")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.run", description=__doc__)
    parser.add_argument(
        "--dir", type=Path, default=DIRECTORY, help="the folder of the data (default: %(default)s)"
    )
    parser.add_argument("--keep-going", action="store_true", help="start a process that ends again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
