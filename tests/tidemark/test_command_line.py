"""Every `python -m PACKAGE` has the same shape, names all faults at once, and ends quietly with its pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.harness import ROOT

PACKAGES = ("authorizer_lambda", "binlog_projector", "ops.stack", "perf", "reader", "writer")


def run(package: str, *arguments: str, **more: int) -> subprocess.CompletedProcess[str]:
    """With no setting of ours, and with a buffered stdout."""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
    environment = {**foreign, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", package, *arguments]
    stdout = more.get("stdout", subprocess.PIPE)
    return subprocess.run(
        command, cwd=ROOT, env=environment, text=True, check=False, stdout=stdout, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_version_and_a_help_that_lists_its_commands(package: str) -> None:
    said = run(package, "--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert re.fullmatch(r"Tidemark \d+\.\d+\.\d+, Python 3\.\S+\n", said.stdout)
    said = run(package, "--help")
    assert said.returncode == 0
    assert re.match(
        rf"usage: python -m {package} \[-h\] \[--version\] (\[--json\] )?COMMAND \.\.\.", said.stdout
    )
    assert "TIDEMARK_*" in said.stdout and "COMMAND\n" in said.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_a_pipe_that_is_closed_early_is_no_error(package: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    said = run(package, "--help", stdout=writing)
    os.close(writing)
    assert (said.returncode, said.stderr) == (141, "")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("writer", "serve"), ("WRITER_MYSQL_URL", "CONSISTENCY_SECRET", "AUTH_ISSUER", "AUTH_ALGORITHM")),
        (("reader", "serve"), ("READER_MONGODB_URL", "READER_REDIS_URL", "AUTH_AUDIENCE", "AUTH_ALGORITHM")),
        (
            ("binlog_projector", "run"),
            ("PROJECTOR_MYSQL_URL", "PROJECTOR_MONGODB_URL", "PROJECTOR_REDIS_URL"),
        ),
        (("authorizer_lambda", "serve"), ("AUTH_ISSUER", "AUTH_AUDIENCE", "AUTH_ALGORITHM")),
    ],
)
def test_all_missing_settings_are_named_at_once(command: tuple[str, str], missing: tuple[str, ...]) -> None:
    said = run(*command)
    assert (said.returncode, said.stdout) == (2, "")
    lines = said.stderr.splitlines()
    assert {f"{command[0]}: TIDEMARK_{name} is not set" for name in missing} <= {*lines}
    assert all(line.startswith(f"{command[0]}: TIDEMARK_") for line in lines)
