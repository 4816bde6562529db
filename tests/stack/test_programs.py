"""The right program on PATH is used; for a wrong one the reason is printed and the next source tried."""

import re
import subprocess
from pathlib import Path

import pytest

from ops.stack import ProgramMissing
from ops.stack.fetch.programs import MONGOD, MYSQLD, NGINX, REDIS, Program, Wanted

DOWNLOADED = Program(("/cache/server",), "downloaded")


def on_path(wanted: Wanted, folder: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> Wanted:
    """The same program on a PATH where its `--version` prints `says`."""
    program = folder / wanted.executable
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return Wanted(wanted.product, wanted.executable, wanted.version, wanted.oldest, lambda: DOWNLOADED)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (MYSQLD, "/usr/sbin/mysqld  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"),
        (MYSQLD, "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))"),
        (MONGOD, "db version v7.0.14"),
        (REDIS, "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=d81bf8e2e7b1"),
        (NGINX, "nginx version: nginx/1.22.1"),
    ],
)
def test_the_right_program_on_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Wanted, says: str
) -> None:
    found = on_path(wanted, tmp_path, monkeypatch, says).find()
    assert found == Program((str(tmp_path / wanted.executable),), says)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            MYSQLD,
            "/usr/sbin/mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)",
        ),
        (MYSQLD, "mysqld  Ver 5.7.44 for Linux on x86_64 (MySQL Community Server (GPL))"),
        (MONGOD, "db version v4.4.29"),
        (REDIS, "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64 build=6d95e1af3a2c082a"),
    ],
)
def test_a_wrong_program_on_path_is_explained_and_the_next_tried(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: Wanted,
    says: str,
) -> None:
    assert on_path(wanted, tmp_path, monkeypatch, says).find() == DOWNLOADED
    told = capsys.readouterr().err
    assert says in told
    assert f"{wanted.product} {wanted.oldest} or newer" in told


def test_without_a_program_on_path_the_download_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Wanted("MySQL", "mysqld", re.compile(r"(\d+)"), 8, lambda: DOWNLOADED).find() == DOWNLOADED


def test_a_machine_without_a_mongod_to_download_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ProgramMissing, match=r"no mongod to download for aarch64 \(only for x86_64\)"):
        MONGOD.download()


@pytest.mark.server
def test_the_downloaded_mongod_is_the_last_patch_of_its_release() -> None:
    found = MONGOD.download()
    assert found.version == "db version v6.0.27"


@pytest.mark.server
def test_the_downloaded_mongod_brings_its_openssl() -> None:
    program = MONGOD.download().command
    says = subprocess.check_output([*program, "--version"], env={}, text=True)
    assert "OpenSSL 1.1.1w" in says
