"""The release: what is built from a commit, and that it is built the same again."""

import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from ops.release import DIST, ROOT, main

SHIPPED = ("tidemark", "writer", "binlog_projector", "reader", "authorizer_lambda", "ops", "perf")
FOR_CHECKOUTS = (
    *("ops/grafana/", "ops/kubernetes/", "ops/prometheus/", "perf/results/"),
    *(
        "ops/aws_lambda/awslambdaric.txt",
        "authorizer_lambda/requirements.txt",
        "authorizer_lambda/template.yaml",
    ),
)


@pytest.fixture(scope="module")
def wheel() -> Path:
    assert main(["build"]) == 0
    (found,) = DIST.glob("*.whl")
    return found


@pytest.mark.server
def test_two_builds_of_a_commit_are_the_same_files(wheel: Path) -> None:
    """`build` has made both twice, and compared them."""
    (sdist,) = DIST.glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        assert {(one.uname, one.uid) for one in files} == {("", 0)}
        assert len({one.mtime for one in files}) == 1


@pytest.mark.server
def test_the_wheel_has_every_module_and_asset(wheel: Path) -> None:
    command = ["git", "ls-files", "--", *SHIPPED]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    with zipfile.ZipFile(wheel) as files:
        missing = set(tracked) - set(files.namelist())
    assert [name for name in missing if not name.startswith(FOR_CHECKOUTS) and "README" not in name] == []


@pytest.mark.server
def test_installed_commands_run_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path)
    (stated,) = tmp_path.glob("*.dist-info/entry_points.txt")
    commands = ConfigParser()
    commands.read(stated)
    for name, target in commands["console_scripts"].items():
        script = tmp_path / name
        module, _, function = target.partition(":")
        script.write_text(f"from {module} import {function}\n{function}()\n")
        command = [sys.executable, str(script), "--help"]  # Python looks for modules beside a script first
        shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert shown.startswith(f"usage: {name} ")
