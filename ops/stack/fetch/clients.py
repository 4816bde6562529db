"""The servers' own clients, for people: the one on PATH if it is recent, else a download into the cache."""

import re
import shutil
import subprocess
from pathlib import Path

from ops.stack.errors import DownloadFailed, ProgramMissing
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.programs import Program, Wanted, from_packages

MONGOSH_VERSION = "2.12.0"


def _mysql_from_packages() -> Program:
    return from_packages("mysql", "mysql-client-core", "mysql-client-core-8.4", "mysql-client-core-8.0")


def _redis_cli_from_packages() -> Program:
    return from_packages("redis-cli", "redis-server")


def _mongosh_from_npm() -> Program:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise ProgramMissing(
            "there is no mongosh on PATH, and no node and npm to get one: install mongosh or Node.js 20. "
            'Without them, PyMongo runs commands: .venv/bin/python -c "import os, pymongo; '
            "print(pymongo.MongoClient(os.environ['TIDEMARK_READER_MONGODB_URL'])"
            ".admin.command('hello'))\""
        )

    def install(folder: Path) -> None:
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder)]
        command = [npm, "install", *options, f"mongosh@{MONGOSH_VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DownloadFailed(f"npm could not install mongosh: {(done.stderr or done.stdout)[-500:]}")

    home = completed(cache_folder() / f"mongosh-{MONGOSH_VERSION}", install)
    return Program((node, str(home / "node_modules/.bin/mongosh")), MONGOSH_VERSION, home)


MYSQL = Wanted(
    "MySQL's client (not MariaDB's)",
    "mysql",
    re.compile(r"^(?!.*MariaDB).*Ver (\d+)\."),
    8,
    _mysql_from_packages,
)
REDIS_CLI = Wanted(
    "Redis' client", "redis-cli", re.compile(r"redis-cli (\d+)\."), 7, _redis_cli_from_packages
)
MONGOSH = Wanted("MongoDB's shell", "mongosh", re.compile(r"^(\d+)\."), 2, _mongosh_from_npm)
