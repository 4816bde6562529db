"""A server's own client, logged in as administrator. `ps` shows no password: it is in the environment."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ops.stack.errors import StackError
from ops.stack.fetch.clients import MONGOSH, MYSQL, REDIS_CLI
from ops.stack.fetch.programs import Wanted
from ops.stack.state import StackState
from ops.stack.urls import mysql_arguments

CONNECT = "db = connect(process.env.MONGODB_URL)"


@dataclass(frozen=True)
class Login:
    """Options and variables for a client; `interactive`: more options for one without commands."""

    options: Sequence[str]
    variables: Mapping[str, str]
    interactive: Sequence[str] = ()


def run_shell(state: StackState, store: str, arguments: Sequence[str]) -> int:
    """Become the client: this returns only if it cannot. `arguments` are the client's own."""
    server = state.of(store)
    if server is None or not server.is_running():
        raise StackError(f"{store} is not up in {state.path.parent}: python -m ops.stack up --dir ...")
    wanted, log_in = CLIENTS[store]
    login = log_in(server.admin_url)
    options = [*login.options, *(arguments or login.interactive)]
    command = [*wanted.find().command, *options]
    os.execvpe(command[0], command, {**os.environ, **login.variables})


def _mysql(url: str) -> Login:
    server = mysql_arguments(url)
    where = [f"--host={server['host']}", f"--port={server['port']}", f"--user={server['user']}"]
    return Login(["--no-defaults", "--protocol=TCP", *where], {"MYSQL_PWD": server["password"]})


def _redis(url: str) -> Login:
    parts = urlsplit(url)
    where = ["-h", parts.hostname or "", "-p", str(parts.port or 6379), "--user", parts.username or "default"]
    return Login([*where, "-c", "--no-auth-warning"], {"REDISCLI_AUTH": unquote(parts.password or "")})


def _mongodb(url: str) -> Login:
    return Login(["--nodb", "--quiet", "--eval", CONNECT], {"MONGODB_URL": url}, ["--shell"])


CLIENTS: Mapping[str, tuple[Wanted, Callable[[str], Login]]] = {
    "mysql": (MYSQL, _mysql),
    "mongodb": (MONGOSH, _mongodb),
    "redis": (REDIS_CLI, _redis),
}
