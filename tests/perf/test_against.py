"""Two checkouts are measured by the same benchmark, each with its own services."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ops.child import ROOT
from perf.__main__ import main
from perf.against import run_in
from perf.machine import versions

PACKAGES = ("tidemark", "writer", "binlog_projector", "reader", "authorizer_lambda", "ops")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our packages once more, but not `perf`."""
    folder = tmp_path_factory.mktemp("checkout")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.server
def test_a_benchmark_finds_the_packages_of_the_checkout(checkout: Path) -> None:
    programs = checkout / "ops" / "stack" / "fetch" / "programs.py"
    programs.write_text(programs.read_text() + '\ndef wrk() -> Program:\n    return Program((), "99.9")\n')
    assert run_in(checkout, versions, {})["wrk"] == "99.9"
    assert run_in(ROOT, versions, {})["wrk"] != "99.9"


@pytest.mark.long
@pytest.mark.server
def test_both_checkouts_and_their_ratio_are_told(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "--json", "--transactions", "500", "--against", str(checkout)]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["rows"] == {"here": 500, "there": 500, "ratio": 1}
    assert found["ours_rows_per_s"].keys() == {"here", "there", "ratio"}
