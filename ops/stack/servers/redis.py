"""A local Redis for the cache: it evicts only keys with a TTL, has named users and an append-only file."""

import hashlib
from pathlib import Path
from typing import ClassVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ops.stack.fetch import programs
from ops.stack.fetch.programs import Program
from ops.stack.servers.ports import LOOPBACK
from ops.stack.servers.server import Server

ADMIN = "admin"


class RedisServer(Server):
    """One redis-server; its ACL file keeps the users over restarts."""

    name: ClassVar[str] = "redis"

    @property
    def admin_url(self) -> str:
        """`redis://admin:password@127.0.0.1:port/0`."""
        return f"redis://{ADMIN}:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def users(self) -> Path:
        """The ACL file; the default user is off."""
        return self.directory / "users.acl"

    def program(self) -> Program:
        """redis-server."""
        return programs.redis_server()

    def prepare(self) -> None:
        """Make the data folder and the ACL file."""
        super().prepare()
        self.data.mkdir(exist_ok=True)
        if not self.users.exists():
            digest = hashlib.sha256(self.password.encode()).hexdigest()
            self.users.touch(mode=0o600)
            self.users.write_text(f"user default off ~* &* +@all\nuser {ADMIN} on #{digest} ~* &* +@all\n")

    def command(self) -> list[str]:
        """The command; options replace a configuration file."""
        return [
            *self.program().command,
            *("--bind", LOOPBACK),
            *("--port", str(self.port)),
            *("--dir", str(self.data)),
            *("--aclfile", str(self.users)),
            *("--appendonly", "yes"),
            *("--save", ""),
            *("--maxmemory", "256mb"),
            *("--maxmemory-policy", "volatile-lfu"),
            *("--client-output-buffer-limit", "pubsub 4mb 1mb 5"),
            # A title would overwrite the environment, which has FOLDER_MARK.
            *("--set-proc-title", "no"),
            *self.options,
        ]

    def is_ready(self) -> bool:
        """Whether the server answers and has loaded its data."""
        once = Retry(NoBackoff(), 0)
        with Redis.from_url(self.admin_url, socket_timeout=2, socket_connect_timeout=2, retry=once) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False
