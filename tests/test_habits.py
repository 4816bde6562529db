"""Every way to check a change runs the same checks: by hand, before a commit, on the forge."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.harness import ROOT

WORKFLOW = ROOT / ".github/workflows/ci.yml"


def hooks() -> list[dict[str, Any]]:
    return [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]


def test_a_commit_is_checked_by_all_parts_of_make_check() -> None:
    parts = re.search(r"^check: (.*?) ##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert parts
    assert [hook["entry"] for hook in hooks()] == [f"make {part}" for part in parts[1].split()]


def test_the_forge_runs_what_ci_runs() -> None:
    check = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        "--builtin-schema",
        "vendor.github-workflows",
    ]
    done = subprocess.run([*check, str(WORKFLOW)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    steps = [
        step.get("run")
        for job in yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
        for step in job["steps"]
    ]
    assert "bash .ci/run" in steps
