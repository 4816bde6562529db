"""The local stack: real MySQL, MongoDB and Redis on loopback ports, without Docker and without root.

`with Stack() as stack:` starts all three; `stack.environment()` holds the URLs for the services.
"""

from ops.stack.errors import DownloadFailed, NotOurs, PortTaken, ProgramMissing, ServerFailed, StackError
from ops.stack.local_stack import Stack
from ops.stack.servers.mongodb import MongoDbServer
from ops.stack.servers.mysql import MySqlServer
from ops.stack.servers.redis import RedisServer
from ops.stack.servers.server import Server

__all__ = [
    "DownloadFailed",
    "MongoDbServer",
    "MySqlServer",
    "NotOurs",
    "PortTaken",
    "ProgramMissing",
    "RedisServer",
    "Server",
    "ServerFailed",
    "Stack",
    "StackError",
]
