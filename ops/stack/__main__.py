"""The local stack: a folder's servers, a client for each, and the services' accounts on servers of others."""

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ops.stack.accounts.given import make_given_accounts
from ops.stack.errors import StackError
from ops.stack.fetch.cache import locked
from ops.stack.local_stack import Stack
from ops.stack.progress import say
from ops.stack.servers.process import launch_detached, launched_below, stop_processes
from ops.stack.servers.redis_cluster import FEWEST_PRIMARIES, PROGRAMS
from ops.stack.servers.server import STOPPED_WITHIN_SECONDS
from ops.stack.shell import run_shell
from ops.stack.state import STORES, StackState
from tidemark import command_line
from tidemark.command_line import end_with

DIRECTORY = Path(".tidemark/stack")


def up(arguments: argparse.Namespace) -> int:
    """Start the servers that are not up, and print their addresses; they live until `down`."""
    directory: Path = arguments.dir.absolute()
    with locked(directory / "lock"):
        ports = {store: port for store in STORES if (port := getattr(arguments, f"{store}_port")) is not None}
        stack = Stack(
            directory,
            ports=ports,
            external=external_urls(os.environ),
            cluster=arguments.cluster,
            launch=launch_detached,
        )
        state = stack.state
        if state.is_up():
            say(f"already up in {directory}")
        else:
            if running := stack.adopt():
                say(f"already up: {', '.join(running)}")
            stack.start()
    print(json.dumps(state.public(), indent=2) if arguments.json else _description(state))
    return 0


def down(arguments: argparse.Namespace) -> int:
    """Stop every server of the folder; data, ports and passwords stay for the next `up`."""
    directory: Path = arguments.dir.absolute()
    with locked(directory / "lock"):
        state = StackState.read(directory)
        stopped = [
            name for name, server in state.servers.items() if server.process and server.process.is_alive()
        ]
        stop_processes([*{*state.processes(), *launched_below(directory)}], STOPPED_WITHIN_SECONDS)
        if state.servers:
            state.forget_processes()
    if arguments.json:
        print(json.dumps({"directory": str(directory), "stopped": stopped}))
    else:
        print(f"stopped {', '.join(stopped)}" if stopped else f"nothing is up in {directory}")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """Print the running servers; exit status 0 if all run, else 1."""
    directory: Path = arguments.dir.absolute()
    state = StackState.read(directory)
    word = "up" if state.is_up() else "partly up" if state.processes() else "down"
    if arguments.json:
        servers = {name: server.summary() for name, server in state.servers.items()}
        print(json.dumps({"state": word, "directory": str(directory), **servers}))
    else:
        print(f"{word} ({directory})", _table(state), sep="\n")
    return 0 if word == "up" else 1


def shell(arguments: argparse.Namespace) -> int:
    """Open a server's own client as administrator; what follows the server's name is for the client."""
    return run_shell(StackState.read(arguments.dir.absolute()), arguments.store, arguments.arguments)


def accounts(arguments: argparse.Namespace) -> int:
    """Make the services' accounts, as TIDEMARK_*_URL names them, on the servers of TIDEMARK_*_ADMIN_URL."""
    made = make_given_accounts(external_urls(os.environ), os.environ)
    print(json.dumps({"accounts": made}) if arguments.json else "\n".join(made))
    return 0


def external_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """Store -> the administrator's URL of a server to use instead of starting one."""
    names = {store: f"TIDEMARK_{store.upper()}_ADMIN_URL" for store in STORES}
    return {store: environment[name] for store, name in names.items() if environment.get(name)}


def _description(state: StackState) -> str:
    exports = [f"export {name}={shlex.quote(url)}" for name, url in state.environment.items()]
    return "\n".join([_table(state), "", *exports])


def _table(state: StackState) -> str:
    rows = [(name, server.summary()) for name, server in state.servers.items()]
    return "\n".join(_row(name, summary) for name, summary in rows)


def _row(name: str, summary: dict[str, Any]) -> str:
    if summary["log"] is None:
        return f"{name:<8} at the URL that was given"
    process = f"pid {summary['pid']}" if summary["running"] else "not running"
    return f"{name:<8} 127.0.0.1:{summary['port']:<6} {process:<12} {summary['log']}"


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("ops.stack", __doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (up, down, status, shell, accounts):
        one = commands.add_parser(command.__name__, help=command.__doc__)
        one.set_defaults(command=command)
        if command is not shell:
            one.add_argument("--json", action="store_true", help="print one JSON object")
        if command is not accounts:
            one.add_argument(
                "--dir", type=Path, default=DIRECTORY, help="the stack's folder (default: %(default)s)"
            )
        if command is shell:
            one.add_argument("store", choices=STORES)
            one.add_argument(
                "arguments", nargs=argparse.REMAINDER, help="for the client, such as -e or --eval"
            )
        if command is up:
            redis = one.add_mutually_exclusive_group()
            for store in STORES:
                to = redis if store == "redis" else one
                to.add_argument(f"--{store}-port", type=int, help="a port instead of a free one")
            for engine in PROGRAMS:
                redis.add_argument(
                    f"--{engine}-cluster",
                    dest="cluster",
                    metavar="PRIMARIES",
                    type=partial(_cluster, engine),
                    help="in place of one Redis, a cluster with a replica of each primary",
                )
    return parser


def _cluster(engine: str, primaries: str) -> tuple[str, int]:
    if int(primaries) < FEWEST_PRIMARIES:
        raise argparse.ArgumentTypeError(f"a cluster needs {FEWEST_PRIMARIES} primaries")
    return engine, int(primaries)


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)  # raises, so that a half-started stack is stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except (StackError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was started is stopped")
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start ignoring it
    end_with(main)
