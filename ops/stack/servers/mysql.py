"""A local MySQL with the projector's binlog: GTIDs, row events, full images and full metadata."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import ClassVar

import pymysql

from ops.stack.errors import ServerFailed, StackError
from ops.stack.fetch import programs
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.programs import Program
from ops.stack.servers.ports import LOOPBACK
from ops.stack.servers.server import Server
from ops.stack.urls import mysql_arguments

ADMIN = "admin"
SOCKET = "mysqld.sock"
SMALL = (
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-buffer-size=8M",
    "--table-open-cache=400",
    "--table-definition-cache=400",
)
QUICK = (
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--innodb-use-native-aio=OFF",  # many servers on one machine exhaust the kernel's aio requests
)
BINLOG = (  # --binlog-format=ROW is the default, and the option is deprecated
    "--log-bin=binlog",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
)


class MySqlServer(Server):
    """One mysqld with little memory and MySQL's default durability (each commit reaches the disk).

    `options` cannot change the initialisation of the data folder (`--lower-case-table-names`).
    """

    name: ClassVar[str] = "mysql"

    @property
    def admin_url(self) -> str:
        """`mysql://admin:password@127.0.0.1:port/`."""
        return f"mysql://{ADMIN}:{self.password}@{LOOPBACK}:{self.port}/"

    @property
    def first_sql(self) -> Path:
        """The file with the statements of the first start; removed afterwards."""
        return self.directory / "first_start.sql"

    def program(self) -> Program:
        """mysqld."""
        return programs.mysqld()

    def prepare(self) -> None:
        """Copy the cache's initialised data folder; each copy gets its own server uuid."""
        super().prepare()
        # A killed mysqld leaves this file. mysqld refuses to start if any process has the pid in the file.
        (self.data / f"{SOCKET}.lock").unlink(missing_ok=True)
        if not self.data.exists():
            template = data_template(self.log_path)
            self.first_sql.touch(mode=0o600)
            self.first_sql.write_text(_admin_account(self.password))
            completed(self.data, lambda folder: _copy(template, folder))

    def command(self) -> list[str]:
        """The command; the socket's path is relative, as a path may have only 107 characters."""
        return [
            *_base_command(),
            f"--datadir={self.data}",
            f"--bind-address={LOOPBACK}",
            f"--port={self.port}",
            f"--server-id={self.port}",
            f"--socket={SOCKET}",
            "--pid-file=mysqld.pid",
            "--skip-name-resolve",
            "--default-time-zone=+00:00",
            "--character-set-server=utf8mb4",
            *BINLOG,
            *SMALL,
            *QUICK,
            *([f"--init-file={self.first_sql}"] if self.first_sql.exists() else []),
            *self.options,
        ]

    def is_ready(self) -> bool:
        """Whether the administrator can log in."""
        try:
            pymysql.connect(**mysql_arguments(self.admin_url), connect_timeout=2, read_timeout=2).close()
        except pymysql.MySQLError:
            return False
        self.first_sql.unlink(missing_ok=True)
        return True


def _base_command() -> list[str]:
    program = programs.mysqld()
    command = [*program.command, "--no-defaults", "--secure-file-priv=NULL", "--mysqlx=OFF"]
    if program.home is not None:
        usr = program.home / "usr"
        command += [
            f"--basedir={usr}",
            f"--lc-messages-dir={usr}/share/mysql",
            f"--plugin-dir={usr}/lib/mysql/plugin",
        ]
        command += [f"--character-sets-dir={usr}/share/mysql/charsets"]
    return [*command, "--user=root"] if os.geteuid() == 0 else command


def data_template(log_path: Path) -> Path:
    """An initialised, empty data folder of this MySQL version in the cache: a copy saves seconds.

    Raises ServerFailed with the output of mysqld, which is kept at `log_path`.
    """
    version = hashlib.sha256(programs.mysqld().version.encode()).hexdigest()[:12]

    def initialise(folder: Path) -> None:
        command = [
            *_base_command(),
            "--initialize-insecure",
            f"--datadir={folder}",
            "--innodb-redo-log-capacity=8M",
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            log_path.write_bytes(done.stdout)
            raise ServerFailed("mysql", "could not initialise a data folder", log_path)
        (folder / "auto.cnf").unlink()

    return completed(cache_folder() / f"mysql-data-{version}", initialise)


def _copy(template: Path, folder: Path) -> None:
    command = ["cp", "-a", "--reflink=auto", "--sparse=always", f"{template}/.", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"mysql has no data folder: {done.stderr.splitlines()[0]}")


def _admin_account(password: str) -> str:
    return (
        "SET SESSION sql_log_bin = 0;\n"
        f"CREATE USER IF NOT EXISTS '{ADMIN}'@'%' IDENTIFIED BY '{password}';\n"
        f"GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION;\n"
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n"
    )
