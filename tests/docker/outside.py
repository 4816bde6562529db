"""The Compose files without an engine: each service's own command, environment and health check.

All listen on the loopback. Two parts of the images are replaced: the programs, by those of the local stack,
and the administrators' accounts, which the images of MySQL and MongoDB make at their first start.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymongo import MongoClient

from ops.stack import MongoDbServer, MySqlServer
from ops.stack.cluster import BUS
from ops.stack.fetch import programs
from ops.stack.fetch.programs import Program
from ops.stack.servers import tether
from ops.stack.servers.mysql import BINLOG
from ops.stack.servers.ports import free_port
from ops.stack.urls import mysql_arguments
from tests.docker.compose import compose, stages
from tests.docker.nginx import write_configuration
from tests.support.harness import wait_until
from tests.support.secrecy import leaks

PLACE = re.compile(r"\b([a-z][a-z0-9-]*|0\.0\.0\.0|127\.0\.0\.1):([0-9]{4,5})\b")
HEALTHY_WITHIN_SECONDS = 60


class BareMySql(MySqlServer):
    """MySQL with the binlog that its options configure."""

    def command(self) -> list[str]:
        return [option for option in super().command() if option not in BINLOG or option in self.options]


class LoneMongoDb(MongoDbServer):
    """MongoDB as its image starts it to make the first account: in no replica set, open to this machine."""

    def command(self) -> list[str]:
        mine = ("--replSet", "--keyFile")
        return [option for option in super().command() if not option.startswith(mine)]


class Outside:
    """The services of the compose file: `up` starts them, `down` stops them; `secrets` is docker/.env.

    `on_top`: more Compose files.
    """

    def __init__(self, folder: Path, secrets: Mapping[str, str], *on_top: Path) -> None:
        self.folder = folder
        self.document = compose(secrets, *on_top)
        everything: Mapping[str, Any] = self.document["services"]
        self.services = {name: its for name, its in everything.items() if "profiles" not in its}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[tuple[str, str], int] = {}
        self._secrets = secrets
        self._mysql = BareMySql(
            folder / "mysql", port=self.port("mysql", "3306"), options=self._options("mysql")
        )
        self._bin = folder / "bin"
        self._bin.mkdir(exist_ok=True)

    def port(self, service: str, port: str) -> int:
        """A service's port on the loopback; beside a Redis' one, its port for other nodes is free as well."""
        beside = BUS if port == "6379" else 0
        return self.ports.setdefault((service, port), free_port(beside))

    def up(self, *names: str) -> None:
        """Start these services, or all, once their dependencies have met their conditions."""
        for name in self.services:
            (self.folder / name).mkdir(exist_ok=True)
        self._make_programs()
        for name in self._in_order(names or [*self.services]):
            if name == "mysql":
                self._start_mysql()
            else:
                if name == "mongodb":
                    self._make_root_of_mongodb()
                self._start(name)
            self._wait(name)

    def down(self) -> dict[str, int]:
        """Stop all services, last started first; return their exit statuses."""
        running = [name for name in reversed(self.processes) if self.processes[name].poll() is None]
        for name in running:
            self.processes[name].send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[name].wait(30)
            self.processes[name].kill()
        self._mysql.stop()
        for name in self.processes:
            assert not (found := leaks(self.log(name), self.environment(name))), (name, found)
        return {name: process.wait(10) for name, process in self.processes.items()}

    def run(self, name: str, *command: str) -> str:
        """Run another command in a service's environment, like `docker compose exec`."""
        done = subprocess.run(
            [self._program(command[0]), *command[1:]],
            env=self.environment(name),
            cwd=self.folder / name,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _in_order(self, names: Sequence[str]) -> list[str]:
        order: dict[str, None] = {}

        def add(name: str) -> None:
            for needed in self.services[name].get("depends_on", ()):
                add(needed)
            order[name] = None

        for name in names:
            add(name)
        return list(order)

    def _start(self, name: str) -> None:
        service = self.services[name]
        command = service.get("command") or stages()[service["build"]["target"]].command
        translated = [self._outside(name, part) for part in [*service.get("entrypoint", ()), *command]]
        tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), self._program(translated[0])]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*tied, *translated[1:]],
                env=self.environment(name),
                cwd=self.folder / name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _wait(self, name: str) -> None:
        """Wait for the service's successful end if a dependant needs it, otherwise for its health check."""
        depending = [service.get("depends_on", {}).get(name, {}) for service in self.services.values()]
        if {"condition": "service_completed_successfully"} in depending:
            assert self.processes[name].wait(HEALTHY_WITHIN_SECONDS) == 0, self.log(name)
        elif name not in ("mysql", "mongodb"):  # their health checks use programs of their images
            wait_until(lambda: self._is_healthy(name), f"{name} to be healthy", HEALTHY_WITHIN_SECONDS)

    def _is_healthy(self, name: str) -> bool:
        assert self.processes[name].poll() is None, self.log(name)
        service = self.services[name]
        test = service["healthcheck"]["test"] if "healthcheck" in service else None
        kind, *words = test or ["CMD", *(stages()[service["build"]["target"]].healthcheck or ())]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        translated = [self._outside(name, word) for word in command]
        asked = subprocess.run(
            [self._program(translated[0]), *translated[1:]],
            env=self.environment(name),
            capture_output=True,
            check=False,
        )
        return asked.returncode == 0

    def environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        of_image = stages()[service["build"]["target"]].environment if "build" in service else {}
        given = {**of_image, **service.get("environment", {})}
        path = os.pathsep.join([str(self._bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        outside = {key: self._outside(name, str(value)) for key, value in given.items()}
        of_node = {"PORT": str(self.port(name, "6379")), "HOSTNAME": "localhost"}
        return {**outside, **of_node, "PATH": path}

    def _outside(self, name: str, text: str) -> str:
        """The same text with addresses and folders of this machine."""

        def place(found: re.Match[str]) -> str:
            host, port = found.groups()
            known = host in self.services or host in ("0.0.0.0", "127.0.0.1")
            return (
                f"127.0.0.1:{self.port(host if host in self.services else name, port)}" if known else found[0]
            )

        own = str(self.folder / name)
        return PLACE.sub(place, text).replace("/data/db", own).replace("--bind_ip_all", "--bind_ip=127.0.0.1")

    def _program(self, name: str) -> str:
        for folder in (self._bin, Path(sys.executable).parent, Path("/bin"), Path("/usr/bin")):
            if (folder / name).exists():
                return str(folder / name)
        raise FileNotFoundError(name)

    def _make_programs(self) -> None:
        redis = programs.redis_server()
        cli = Program(
            (*redis.command[:-1], str(Path(redis.command[-1]).with_name("redis-cli"))), redis.version
        )
        self._script(
            "mongod",
            programs.mongod(),
            after=("--port", str(self.port("mongodb", "27017")), "--dbpath", "data"),
        )
        here = '--port "$PORT" --bind 127.0.0.1'
        self._write("redis-server", f'exec {shlex.join(redis.command)} "$@" {here}')
        self._write("redis-cli", f'exec {shlex.join(cli.command)} -p "$PORT" "$@"')
        nginx_port = self.port("nginx", "8080")
        write_configuration(self.folder / "nginx", nginx_port, lambda text: self._outside("nginx", text))
        self._script("nginx", programs.nginx(), before=("-p", str(self.folder / "nginx"), "-c", "nginx.conf"))
        self._write("docker-entrypoint.sh", 'exec "$@"')
        self._write("chown", "exit 0")

    def _script(
        self, name: str, program: Program, before: Sequence[str] = (), after: Sequence[str] = ()
    ) -> None:
        self._write(name, f'exec {shlex.join([*program.command, *before])} "$@" {shlex.join(after)}')

    def _write(self, name: str, line: str) -> None:
        (self._bin / name).write_text(f"#!/bin/sh\n{line}\n")
        (self._bin / name).chmod(0o755)

    def _options(self, name: str) -> Sequence[str]:
        return tuple(self.services[name]["command"])

    def _start_mysql(self) -> None:
        self._mysql.start()
        with (
            pymysql.connect(**mysql_arguments(self._mysql.admin_url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("CREATE USER root@'%%' IDENTIFIED BY %s", (self._secrets["MYSQL_ROOT_PASSWORD"],))
            cursor.execute("GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION")

    def _make_root_of_mongodb(self) -> None:
        lone = LoneMongoDb(self.folder / "mongodb-first")
        lone.start()
        client: MongoClient[dict[str, Any]]
        with MongoClient(port=lone.port) as client:
            client.admin.command(
                "createUser", "root", pwd=self._secrets["MONGODB_ROOT_PASSWORD"], roles=["root"]
            )
        lone.stop()
        lone.data.rename(self.folder / "mongodb/data")
