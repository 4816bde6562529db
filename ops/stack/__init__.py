"""The local stack: real MySQL, MongoDB and Redis on loopback ports, without Docker and without root.

`with Stack() as stack:` starts all three; `stack.environment()` holds the URLs for the services.
Names are loaded on first use, so that `python3 -m ops.stack.prerequisites` needs nothing but the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import DownloadFailed, NotOurs, PortTaken, ProgramMissing, ServerFailed, StackError
    from .local_stack import Stack
    from .mongodb_server import MongoDbServer
    from .mysql_server import MySqlServer
    from .prerequisites import PrerequisiteMissing, require
    from .redis_server import RedisServer
    from .server import Server

__all__ = [
    "DownloadFailed",
    "MongoDbServer",
    "MySqlServer",
    "NotOurs",
    "PortTaken",
    "PrerequisiteMissing",
    "ProgramMissing",
    "RedisServer",
    "Server",
    "ServerFailed",
    "Stack",
    "StackError",
    "require",
]

_HOMES = {
    "local_stack": ("Stack",),
    "mysql_server": ("MySqlServer",),
    "mongodb_server": ("MongoDbServer",),
    "redis_server": ("RedisServer",),
    "prerequisites": ("PrerequisiteMissing", "require"),
    "server": ("Server",),
    "errors": ("DownloadFailed", "NotOurs", "PortTaken", "ProgramMissing", "ServerFailed", "StackError"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
