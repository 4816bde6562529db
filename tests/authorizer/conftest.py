"""The deployment packages, built once for all tests that read or run them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from ops.aws_lambda.package import MACHINES
from tests.authorizer.processes import ROOT


@pytest.fixture(scope="session")
def zips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both zips, made by the command behind `make lambda-zip`."""
    folder = tmp_path_factory.mktemp("zips")
    command = [sys.executable, "-m", "ops.aws_lambda", "zip", "--into", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for architecture, line in zip(MACHINES, done.stdout.splitlines(), strict=True):
        path = folder / f"authorizer-{architecture}.zip"
        assert line.startswith(f"{path}  python3.") and line.endswith(
            hashlib.sha256(path.read_bytes()).hexdigest()
        )
    return folder
